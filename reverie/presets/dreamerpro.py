"""DreamerPro: small sizes for two CPU cores, whose numbers are ours, and its official code's for Control."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerpro import DreamerProConfig
from reverie.agents.prototypes import PrototypesConfig
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets import dreamerv2_small as dreamerv2
from reverie.presets.parts import before_films, by_kind, inherited
from reverie.presets.task import Kind, Preset, Task


def cpu(task: Task) -> Config:
    """DreamerPro with small networks for two CPU cores, by the environment's pictures."""
    kinds: dict[Kind, Preset] = {"toy": toy, "pixels": pixels, "control": control, "vectors": toy}
    return by_kind(task.default("toy/catch"), kinds)


def toy(task: Task) -> Config:
    """DreamerPro on images of a few cells, for two CPU cores: DreamerV2's size, 64 prototypes, moved by a pixel."""
    return _small(dreamerv2.toy(task), shift=1.0)


def pixels(task: Task) -> Config:
    """DreamerPro on pixels, for two CPU cores: DreamerV2's size, 64 prototypes that stay for 500 learner_steps."""
    return _small(dreamerv2.pixels(task), shift=3.0)


def control(task: Task) -> Config:
    """DreamerPro on control from small images, for two CPU cores: DreamerV2's size, 64 prototypes, moved by 2."""
    return _small(dreamerv2.control(task), shift=2.0)


def _small(base: Config, shift: float) -> Config:
    """A small DreamerV2 with prototypes; observations weigh 1: they are nats of an assignment, not of pixels."""
    prototypes = PrototypesConfig(count=64, size=16, frozen=500, shift=shift)
    settings = inherited(base.agent, "observation_scale")
    return replace(base, name="dreamerpro", agent=DreamerProConfig(**settings, prototypes=prototypes))


def dmc_vision(task: Task) -> Config:
    """DreamerPro on 1M frames of the control suite (github.com/fdeng18/dreamer-pro, configs.yaml: dmc norm_off).

    Gaussian latents of 32, deter = hidden = 200, heads of 400, batches of 50 x 51, an update per 5 env_steps, 5000
    random ones first, eps 0.0125, no norm loss. Its dreams have 15 states with that of the start: a horizon of 14. The
    curves that are published end at 1M frames.
    """
    head = HeadConfig(layers=4, units=400)
    agent = DreamerProConfig(
        rssm=RSSMConfig(deter=200, hidden=200, latent="gaussian", stoch=32),
        reward=head,
        actor=head,
        critic=head,
        continuous="tanh_normal",
        prototypes=PrototypesConfig(eps=0.0125, norm_scale=0.0),
        kl_scale=1.0,
        kl_free=1.0,
        predict_discount=False,
        reward_transform="identity",
        grad_heads=("decoder", "reward"),
        gamma=0.99,
        horizon=14,
        entropy=1e-4,
        actor_grad="dynamics",
        model_opt=OptimConfig(lr=3e-4),
        actor_opt=OptimConfig(lr=8e-5),
        critic_opt=OptimConfig(lr=8e-5),
    )
    return Config(
        name="dreamerpro",
        preset="dmc-vision",
        agent=agent,
        env=EnvConfig(task.default("dmc/walker-walk").id, 1, "dmc-vision"),
        replay=ReplayConfig(50, WindowConfig(learn=51), store=StoreConfig(12_000_000_000)),
        run=RunConfig(
            frames=1_000_000,
            prefill=5000,
            pretrain=100,
            train_ratio=510.0,
            checkpoint_every=10_000,
            eval_every=10_000,
            eval_episodes=10,
        ),
    )


def dmc_distracting(task: Task) -> Config:
    """DreamerPro where much is seen that does not matter (configs.yaml: dmc reward_1000): rewards weigh 1000-fold.

    Published on walker and others before moving films, see `dmc_background`; this is for control tasks whose look
    changes at every reset. The norm loss counts.
    """
    config = dmc_vision(task)
    prototypes = replace(config.agent.prototypes, norm_scale=1.0)
    agent = replace(config.agent, reward_scale=1000.0, prototypes=prototypes)
    return replace(config, agent=agent, env=replace(config.env, protocol="dmc-remastered"))


def dmc_background(task: Task) -> Config:
    """DreamerPro on 1M frames of the control suite before moving films, as `dmc_distracting` otherwise.

    The release trains before a hundred Kinetics videos and tests before others; here both are drawn, and
    ``dmc-background-held-out`` is the test.
    """
    return before_films(dmc_distracting, task)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "cpu-control": control,
    "dmc-vision": dmc_vision,
    "dmc-distracting": dmc_distracting,
    "dmc-background": dmc_background,
}
