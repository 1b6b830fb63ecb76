"""PlaNet: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and its official code's."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.planet import PlaNetConfig
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets.parts import by_kind, control_run, dreaming_run, planet_repeat
from reverie.presets.task import Kind, Preset, Task


def cpu(task: Task) -> Config:
    """PlaNet with small networks and a short search for two CPU cores, by the environment's spaces."""
    kinds: dict[Kind, Preset] = {"toy": control, "pixels": control, "vectors": continuous, "continuous": continuous}
    return by_kind(task.default("Pendulum-v1"), kinds)


def _small(task: Task, width: int, stoch: int, num_envs: int) -> Config:
    """Configuration that all small sizes have in common: ELU, a learning rate that does not rise, a smaller search."""
    head = HeadConfig(layers=2, units=width)
    base = PlaNetConfig()
    agent = replace(
        base,
        encoder=EncoderConfig(depth=16, layers=2, units=width, bits=5),
        decoder=EncoderConfig(depth=16, layers=2, units=width),
        rssm=RSSMConfig(width, width, "gaussian", stoch, std="softplus", cell="reset_before"),
        reward=head,
        plan=replace(base.plan, iterations=4, candidates=100, elites=10),
        model_opt=OptimConfig(lr=1e-3, eps=1e-5, shrink=0.0),
    )
    return Config(name="planet", preset="cpu", agent=agent, env=task.env(num_envs))


def continuous(task: Task) -> Config:
    """PlaNet on vectors, for two CPU cores: observations count 20-fold, the KL little, no free nats."""
    config = _small(task.default("Pendulum-v1"), width=64, stoch=8, num_envs=4)
    agent = replace(
        config.agent,
        observation_scale=20.0,
        reward_scale=5.0,
        kl_scale=0.02,
        kl_free=0.0,
        plan=replace(config.agent.plan, horizon=20),
    )
    return dreaming_run(replace(config, agent=agent), 8000, 1000, 64, checkpoint_every=2500, eval_episodes=10)


def control(task: Task) -> Config:
    """PlaNet on control from small images, for two CPU cores: 32x32 pixels, which count 20-fold."""
    task = task.default("dmc/cartpole-swingup")
    config = _small(task, width=96, stoch=16, num_envs=1)
    agent = replace(config.agent, observation_scale=20.0)
    return control_run(replace(config, agent=agent), task)


def dmc_vision(task: Task) -> Config:
    """PlaNet on the control suite from 64x64 pixels, as released (github.com/google-research/planet, configs.py).

    Action repeat by domain (`planet_repeat`), 5 random episodes, then 100 updates of 50 x 50 rows per episode of 1000
    frames: 250 trained rows per env_step and frame of the repeat. Adam 1e-3 after 200 updates of ramp (there
    10 000 / batch). 1M frames are the 1000 episodes of the paper's table.
    """
    task = task.default("dmc/cartpole-swingup")
    repeat = planet_repeat(task)
    return Config(
        name="planet",
        preset="dmc-vision",
        agent=PlaNetConfig(),
        env=EnvConfig(task.id, 1, "dmc-vision", {"action_repeat": repeat}),
        replay=ReplayConfig(50, WindowConfig(learn=50), store=StoreConfig(12_000_000_000)),
        run=RunConfig(
            frames=1_000_000,
            prefill=5 * 1000 // repeat,
            pretrain=100,
            train_ratio=250.0 * repeat,
            log_every=1000 // repeat,
            checkpoint_every=10_000 // repeat,
            eval_every=50_000 // repeat,
            eval_episodes=10,
        ),
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-continuous": continuous,
    "cpu-control": control,
    "dmc-vision": dmc_vision,
}
