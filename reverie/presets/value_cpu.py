"""Small sizes of the value-based agents for two CPU cores. Every number here is ours.

Three sizes, by the kind of environment: games of a few cells (``toy/``), pixels (``ALE/``, ``dmc/``, ``crafter/``), and
vectors (everything else).
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dqn import DQNConfig
from reverie.agents.exploration import Exploration
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig

PIXELS = ("ALE/", "dmc/", "crafter/")


def dqn(env: str) -> Config:
    """DQN with small networks for two CPU cores: vectors, toy games and pixels."""
    env = env or "CartPole-v1"
    if env.startswith(PIXELS):
        return _pixels(env)
    return _toy(env) if env.startswith("toy/") else _vectors(env)


def _short_run(env_steps: int, prefill: int, train_ratio: float) -> RunConfig:
    """Evaluated over 100 episodes at the end; one thread, because these networks are too small to share."""
    return RunConfig(
        env_steps=env_steps,
        prefill=prefill,
        pretrain=0,
        train_ratio=train_ratio,
        log_every=1000,
        checkpoint_every=10_000,
        eval_episodes=100,
        eval_envs=10,
        threads=1,
    )


def _vectors(env: str) -> Config:
    agent = DQNConfig(
        n_step=3,
        reward="identity",
        stack=1,
        torso=TorsoConfig(layers=1, units=128),
        hidden=128,
        target_every=100,
        explore=Exploration(start=1.0, end=0.05, over=10_000, evaluation=0.0),
        opt=OptimConfig(lr=5e-4, eps=1e-5, clip=10.0, shrink=0.0),
    )
    return Config(
        name="dqn",
        preset="cpu",
        agent=agent,
        env=EnvConfig(id=env, num_envs=4),
        replay=ReplayConfig(budget=20_000_000, batch=64, learn=1),
        run=_short_run(env_steps=50_000, prefill=1000, train_ratio=32.0),
    )


def _toy(env: str) -> Config:
    """Images of a few cells."""
    config = _vectors(env)
    agent = replace(config.agent, torso=TorsoConfig(channels=(16, 32, 32), layers=1, units=64), gamma=0.97)
    return replace(config, agent=agent, run=_short_run(env_steps=20_000, prefill=800, train_ratio=32.0))


def _pixels(env: str) -> Config:
    """Nature's network, the updates of the paper, and an exploration that ends sooner."""
    agent = DQNConfig(
        n_step=3,
        double=True,
        target_every=500,
        explore=Exploration(start=1.0, end=0.02, over=50_000, evaluation=0.01),
        opt=OptimConfig(lr=2.5e-4, eps=1e-5, clip=10.0, shrink=0.0),
    )
    return Config(
        name="dqn",
        preset="cpu",
        agent=agent,
        env=EnvConfig(id=env, num_envs=4, protocol="atari-84" if env.startswith("ALE/") else "auto"),
        replay=ReplayConfig(budget=1_500_000_000, batch=32, learn=1),
        run=RunConfig(
            frames=4_000_000,
            prefill=5000,
            pretrain=0,
            train_ratio=8.0,
            log_every=1000,
            checkpoint_every=50_000,
            eval_every=100_000,
            eval_episodes=5,
        ),
    )


PRESETS = {("dqn", "cpu"): dqn}
