"""Atari: the value-based agents as published, each number with its source."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dqn import DQNConfig
from reverie.agents.exploration import Exploration
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.optim import OptimConfig


def _env(env: str, protocol: str) -> EnvConfig:
    env = env or "ALE/Pong-v5"
    return EnvConfig(id=env, num_envs=1, protocol=protocol if env.startswith("ALE/") else "auto")


def dqn(env: str) -> Config:
    """DQN on 200M frames of Atari with the settings of 2015 (Nature, Extended Data Table 1, and the released code).

    84x84 grayscale, 4 frames, sign of rewards, a lost life ends an episode, minimal actions, no sticky actions. The
    replay holds a million env_steps (7.1 GB of frames). A minibatch of 32 every 4 env_steps. The table counts the
    target's period (10 000) in updates, the code in env_steps: 2500 updates. The code's RMSProp sums gradients over the
    minibatch with an epsilon of 0.01; here they are averaged, hence 0.01 / 32^2. Epsilon falls from 1 to 0.1 over a
    million env_steps after the first 50 000 and is 0.05 in evaluation.
    """
    agent = DQNConfig(
        n_step=1,
        gamma=0.99,
        reward="sign",
        stack=4,
        hidden=512,
        target_every=2500,
        explore=Exploration(kind="anneal", start=1.0, end=0.1, over=1_000_000, after=50_000, evaluation=0.05),
        opt=OptimConfig(kind="rmsprop", lr=2.5e-4, eps=0.01 / 32**2, clip=float("inf"), shrink=0.0),
    )
    return Config(
        name="dqn",
        preset="atari",
        agent=agent,
        env=_env(env, "atari-dqn2015"),
        replay=ReplayConfig(budget=7_110_000_000, batch=32, learn=1),
        run=RunConfig(
            frames=200_000_000,
            prefill=50_000,
            pretrain=0,
            train_ratio=8.0,
            log_every=1000,
            checkpoint_every=250_000,
            eval_every=250_000,
            eval_episodes=10,
        ),
    )


def dqn_modern(env: str) -> Config:
    """As `atari`, with Adam, faster annealing, and the protocol of Machado et al. 2018 (sticky, no life loss).

    Source: Castro et al. 2018 (Dopamine), dqn.gin of its Adam variant: lr 6.25e-5, eps 1.5e-4, 20 000 env_steps first,
    a target every 8000 env_steps (2000 updates), epsilon 1 to 0.01 over 250 000 env_steps, 0.001 in evaluation. The
    protocol has all 18 actions where Dopamine's has the minimal set.
    """
    config = dqn(env)
    return replace(
        config,
        preset="atari-modern",
        env=_env(env, "atari-84"),
        agent=replace(
            config.agent,
            target_every=2000,
            explore=Exploration(start=1.0, end=0.01, over=250_000, after=20_000, evaluation=0.001),
            opt=OptimConfig(lr=6.25e-5, eps=1.5e-4, clip=float("inf"), shrink=0.0),
        ),
        run=replace(config.run, prefill=20_000),
    )


PRESETS = {
    ("dqn", "atari"): dqn,
    ("dqn", "atari-modern"): dqn_modern,
}
