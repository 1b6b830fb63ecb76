"""Atari: the value-based agents as published, each number with its source."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dqn import DQNConfig
from reverie.agents.drqn import DRQNConfig
from reverie.agents.exploration import Exploration
from reverie.agents.r2d2 import R2D2Config
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


def drqn(env: str) -> Config:
    """DRQN with DQN's settings: one frame, an LSTM of 512 units, random updates of 10 rows from a zero state.

    Source: Hausknecht & Stone 2015, sections "DRQN architecture" and "Stable recurrent updates"; everything else as in
    the preset `atari` of dqn. The paper's optimiser is AdaDelta (lr 0.1, decay 0.95); here Adam with lr 1e-4, and
    gradients clipped at a norm of 10 as there. One update of 10 rows for 4 env_steps: 32 windows, 80 rows per env_step.
    """
    config = dqn(env)
    agent = DRQNConfig(
        target_every=2500,
        explore=config.agent.explore,
        opt=OptimConfig(lr=1e-4, eps=1.5e-4, clip=10.0, shrink=0.0),
    )
    return replace(
        config,
        name="drqn",
        agent=agent,
        replay=replace(config.replay, learn=10),
        run=replace(config.run, train_ratio=80.0),
    )


def r2d2(env: str) -> Config:
    """R2D2 on Atari as published (table 2 of the paper), with 256 environment streams in one process.

    84x84 grayscale, 4 frames, all 18 actions, at most 30 no-ops, no life loss, unclipped rewards, games of 108 000
    frames at most. Windows of 40 + 80 rows from stored states, at every 40th row; 64 of them per update; replay of 4
    million env_steps (31 GB of frames and states; ask for less with replay.budget); priority exponent 0.9. The paper
    replays every window about 0.8 times: 64 x 80 trained rows for 64 / 0.8 x 40 env_steps are 1.6 rows per env_step.
    Where training begins is not stated; 50 000 env_steps are Ape-X's. Evaluation is greedy (not stated either).
    """
    return Config(
        name="r2d2",
        preset="atari",
        agent=R2D2Config(),
        env=EnvConfig(
            id=env or "ALE/MsPacman-v5",
            num_envs=256,
            protocol="atari-84" if not env or env.startswith("ALE/") else "auto",
            options={"sticky": 0.0, "noop_max": 30} if not env or env.startswith("ALE/") else {},
        ),
        replay=ReplayConfig(
            budget=31_300_000_000,
            batch=64,
            context=40,
            learn=80,
            period=40,
            state="stored",
            selector="prioritised",
            alpha=0.9,
            chunk=1000,
        ),
        run=RunConfig(
            frames=10_000_000_000,
            prefill=50_000,
            pretrain=0,
            train_ratio=1.6,
            log_every=10_000,
            checkpoint_every=2_500_000,
            eval_every=2_500_000,
            eval_episodes=10,
        ),
    )


PRESETS = {
    ("dqn", "atari"): dqn,
    ("dqn", "atari-modern"): dqn_modern,
    ("drqn", "atari"): drqn,
    ("r2d2", "atari"): r2d2,
}
