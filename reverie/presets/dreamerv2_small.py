"""DreamerV2's small sizes for two CPU cores, by the kind of environment; their numbers are ours (docs/presets.md)."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.config import Config
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets.parts import by_kind, control_run, dreaming_run
from reverie.presets.task import Kind, Preset, Task


def cpu(task: Task) -> Config:
    """DreamerV2 with small networks for two CPU cores: toy games, pixels or vectors, by the environment's spaces."""
    kinds: dict[Kind, Preset] = {"toy": toy, "pixels": pixels, "vectors": vectors, "continuous": continuous}
    return by_kind(task.default("toy/catch"), {**kinds, "control": control})


def _small(task: Task, width: int, depth: int, stoch: int) -> Config:
    """Configuration that all small sizes have in common.

    A uniform mixture in the categorical latents, so that they do not freeze early; and a slow critic copied every 20
    updates, because runs have thousands of them, not millions.
    """
    head = HeadConfig(layers=2, units=width)
    code = EncoderConfig(depth=depth, layers=2, units=width)
    agent = DreamerV2Config(
        encoder=code,
        decoder=code,
        rssm=RSSMConfig(deter=width, hidden=width, stoch=stoch, classes=stoch, unimix=0.01),
        reward=head,
        discount=head,
        reward_transform="identity",
        kl_scale=0.3,
        discount_scale=1.0,
        actor=head,
        critic=head,
        target_every=20,
        model_opt=OptimConfig(lr=1e-3),
        actor_opt=OptimConfig(lr=5e-4),
        critic_opt=OptimConfig(lr=1e-3),
    )
    return Config(name="dreamerv2", preset="cpu", agent=agent, env=task.env(4))


def toy(task: Task) -> Config:
    """DreamerV2 on images of a few cells, for two CPU cores: rewards count 10-fold, the KL fully.

    Dreams must be right where random play hardly ever gets.
    """
    config = _small(task.default("toy/catch"), width=96, depth=8, stoch=8)
    agent = replace(
        config.agent,
        reward_scale=10.0,
        kl_scale=1.0,
        actor_opt=OptimConfig(lr=1e-3),
        gamma=0.97,
        horizon=8,
        entropy=0.1,
    )
    return dreaming_run(replace(config, agent=agent), frames=40_000, prefill=5000, train_ratio=20)


def vectors(task: Task) -> Config:
    """DreamerV2 on vectors, for two CPU cores: observations count 20-fold, the KL little.

    Unit-variance likelihoods of small numbers weigh little.
    """
    config = _small(task.default("CartPole-v1"), width=128, depth=16, stoch=8)
    agent = replace(
        config.agent,
        observation_scale=20.0,
        discount_scale=5.0,
        kl_scale=0.05,
        actor_opt=OptimConfig(lr=3e-4),
        gamma=0.99,
        horizon=15,
        entropy=0.01,
    )
    return dreaming_run(replace(config, agent=agent), frames=20_000, prefill=1000, train_ratio=64)


def continuous(task: Task) -> Config:
    """DreamerV2 on vectors with continuous actions, for two CPU cores: a small model with Gaussian latents.

    A smooth model, because the actor's gradient runs through the dream.
    """
    config = _small(task.default("Pendulum-v1"), width=128, depth=16, stoch=8)
    agent = replace(
        config.agent,
        rssm=RSSMConfig(deter=64, hidden=64, latent="gaussian", stoch=8),
        observation_scale=20.0,
        reward_scale=5.0,
        discount_scale=5.0,
        kl_scale=0.02,
        actor_opt=OptimConfig(lr=3e-4),
        gamma=0.97,
        horizon=15,
        entropy=0.5,
    )
    return dreaming_run(replace(config, agent=agent), frames=8000, prefill=1000, train_ratio=64)


def control(task: Task) -> Config:
    """DreamerV2 on control from small images, for two CPU cores: 32x32 pixels, which count 20-fold; a free nat."""
    task = task.default("dmc/cartpole-swingup")
    config = _small(task, width=96, depth=16, stoch=12)
    agent = replace(
        config.agent,
        observation_scale=20.0,
        kl_scale=1.0,
        kl_free=1.0,
        predict_discount=False,
        gamma=0.98,
        entropy=1e-4,
    )
    return control_run(replace(config, agent=agent), task)


def pixels(task: Task) -> Config:
    """DreamerV2 on pixels, for two CPU cores: standardised images, a fast model, a free nat, likelihoods 30-fold.

    Small things that move on a still background are worth little of a likelihood.
    """
    config = _small(task.default("ALE/Pong-v5"), width=200, depth=16, stoch=16)
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
        entropy=1e-3,
        actor_opt=OptimConfig(lr=2e-4),
        critic_opt=OptimConfig(lr=4e-4),
    )
    config = replace(config, agent=agent)
    return dreaming_run(config, 400_000, 2000, 32, learn=32, budget=2_000_000_000, eval_episodes=4, eval_envs=1)
