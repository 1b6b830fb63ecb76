"""Dreamer V1: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and its official code's."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerv1 import DreamerV1Config, adam
from reverie.agents.exploration import ActionNoise
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets.parts import before_films, by_kind, control_run, dreaming_run
from reverie.presets.task import Kind, Preset, Task


def cpu(task: Task) -> Config:
    """Dreamer V1 with small networks for two CPU cores: toys, pixels or vectors, by the environment's spaces."""
    kinds: dict[Kind, Preset] = {"toy": toy, "pixels": pixels, "vectors": vectors, "continuous": continuous}
    return by_kind(task.default("toy/catch"), {**kinds, "control": control})


def _small(task: Task, width: int, depth: int, stoch: int) -> Config:
    """Configuration that all small sizes have in common: DreamerV2's widths and learning rates, ELU everywhere."""
    head = HeadConfig(layers=2, units=width)
    code = EncoderConfig(depth=depth, layers=2, units=width)
    agent = DreamerV1Config(
        encoder=code,
        decoder=code,
        rssm=RSSMConfig(width, width, "gaussian", stoch, std="softplus", cell="reset_after"),
        reward=head,
        discount=head,
        predict_discount=True,
        kl_free=1.0,
        kl_scale=1.0,
        discount_scale=1.0,
        actor=head,
        critic=head,
        model_opt=adam(1e-3),
        actor_opt=adam(5e-4),
        critic_opt=adam(1e-3),
    )
    return Config(name="dreamerv1", preset="cpu", agent=agent, env=task.env(4))


def toy(task: Task) -> Config:
    """Dreamer V1 on images of a few cells, for two CPU cores: rewards count 10-fold, the actor's entropy counts.

    Dreams must be right where random play hardly ever gets: hence a wide memory, no free nats, noise that stays, rates
    that fall, and twice as many updates as DreamerV2's. The entropy's scale falls too. Dreams are short: the surer a
    model is, the flatter it is almost everywhere, and the fewer of its steps slopes have to come through the better.
    """
    config = _small(task.default("toy/catch"), width=96, depth=8, stoch=30)
    agent = replace(
        config.agent,
        rssm=replace(config.agent.rssm, deter=256, hidden=256),
        reward_scale=10.0,
        kl_scale=1.0,
        kl_free=0.0,
        model_opt=replace(adam(1e-3), lr_over=1.0),
        actor_opt=replace(adam(1e-3), lr_over=1.0),
        critic_opt=replace(adam(1e-3), lr_over=1.0),
        gamma=0.97,
        horizon=4,
        entropy=0.1,
        entropy_end=0.003,
        entropy_over=0.5,
        explore=ActionNoise(0.4),
    )
    return dreaming_run(replace(config, agent=agent), frames=30_000, prefill=5000, train_ratio=40)


def vectors(task: Task) -> Config:
    """Dreamer V1 on vectors, for two CPU cores: observations count 20-fold, the KL little."""
    config = _small(task.default("CartPole-v1"), width=128, depth=16, stoch=16)
    agent = replace(
        config.agent,
        observation_scale=20.0,
        discount_scale=5.0,
        kl_scale=0.05,
        actor_opt=adam(3e-4),
        gamma=0.99,
        horizon=15,
        explore=ActionNoise(0.4, 0.25, 0.1),
    )
    return dreaming_run(replace(config, agent=agent), frames=20_000, prefill=1000, train_ratio=64)


def continuous(task: Task) -> Config:
    """Dreamer V1 on vectors with continuous actions, for two CPU cores: a small model."""
    config = _small(task.default("Pendulum-v1"), width=128, depth=16, stoch=8)
    agent = replace(
        config.agent,
        rssm=RSSMConfig(64, 64, "gaussian", 8, std="softplus", cell="reset_after"),
        predict_discount=False,
        observation_scale=20.0,
        reward_scale=5.0,
        kl_scale=0.02,
        actor_opt=adam(3e-4),
        gamma=0.97,
        horizon=15,
    )
    return dreaming_run(replace(config, agent=agent), frames=8000, prefill=1000, train_ratio=64)


def pixels(task: Task) -> Config:
    """Dreamer V1 on pixels, for two CPU cores: the numbers of DreamerV2's preset for them; not measured."""
    config = _small(task.default("ALE/Pong-v5"), width=200, depth=16, stoch=30)
    agent = replace(
        config.agent,
        encoder=replace(config.agent.encoder, standardise=True),
        kl_scale=0.6,
        kl_free=1.0,
        observation_scale=30.0,
        reward_scale=30.0,
        discount_scale=30.0,
        reward_transform="tanh",
        gamma=0.99,
        horizon=10,
        actor_opt=adam(2e-4),
        critic_opt=adam(4e-4),
        explore=ActionNoise(0.4, 0.1, 0.1),
    )
    config = replace(config, agent=agent)
    return dreaming_run(config, 400_000, 2000, 32, learn=32, budget=2_000_000_000, eval_episodes=4, eval_envs=1)


def control(task: Task) -> Config:
    """Dreamer V1 on control from small images, for two CPU cores: 32x32 pixels count 20-fold, rewards 10-fold.

    The actor's entropy counts, less and less: without it no slope is left once actions are at their bounds, where the
    first dreams send them.
    """
    task = task.default("dmc/cartpole-swingup")
    config = _small(task, width=96, depth=16, stoch=16)
    agent = replace(
        config.agent,
        observation_scale=20.0,
        reward_scale=10.0,
        predict_discount=False,
        gamma=0.98,
        entropy=0.1,
        entropy_end=0.01,
        entropy_over=1.0,
        actor_opt=adam(3e-4),
        critic_opt=adam(3e-4),
    )
    return control_run(replace(config, agent=agent), task, frames=40_000)


def dmc_vision(task: Task) -> Config:
    """Dreamer V1 on the control suite from 64x64 pixels, as released (github.com/danijar/dreamer, define_config).

    Action repeat 2, 5000 random frames (2500 env_steps), 100 updates of 50 x 50 rows per 1000 frames: 500 trained rows
    per env_step. 5M frames, evaluated every 10k frames.
    """
    return Config(
        name="dreamerv1",
        preset="dmc-vision",
        agent=DreamerV1Config(),
        env=EnvConfig(task.default("dmc/walker-walk").id, 1, "dmc-vision"),
        replay=ReplayConfig(50, WindowConfig(learn=50), store=StoreConfig(12_000_000_000)),
        run=RunConfig(
            frames=5_000_000,
            prefill=2500,
            pretrain=100,
            train_ratio=500.0,
            checkpoint_every=10_000,
            eval_every=5000,
            eval_episodes=10,
        ),
    )


def dmc_background(task: Task) -> Config:
    """Dreamer V1 on 1M frames of the control suite before moving films, beside RePo and Denoised MDP.

    As `dmc_vision`, with other pictures.
    """
    config = before_films(dmc_vision, task)
    return replace(config, run=replace(config.run, frames=1_000_000))


def atari(task: Task) -> Config:
    """Dreamer V1 on Atari by the flags that its users ran (github.com/danijar/dreamer, issues 33 and 48).

    One-hot actor, horizon 10, KL scale 0.1, discount head, epsilon-greedy from 0.4, halved every 100k frames, down to
    0.1; all else as `dmc_vision`. Environment as the code makes it: 64x64 in colour, sticky actions, a lost life is an
    end. Action repeat 4, as the paper has for Atari; the flags leave it at 2.
    """
    config = dmc_vision(task.default("ALE/Pong-v5"))
    agent = replace(
        config.agent, kl_scale=0.1, predict_discount=True, horizon=10, explore=ActionNoise(0.4, 25_000, 0.1)
    )
    env = task.default("ALE/Pong-v5").env(1, "atari", {"grayscale": False, "life_loss": True})
    run = replace(config.run, prefill=1250, train_ratio=1000.0)
    return replace(config, preset="atari", agent=agent, env=env, run=run)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "cpu-vectors": vectors,
    "cpu-continuous": continuous,
    "cpu-control": control,
    "dmc-vision": dmc_vision,
    "dmc-background": dmc_background,
    "atari": atari,
}
