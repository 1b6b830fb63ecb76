"""Ape-X DQN: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published one."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.apex import ApeXConfig
from reverie.agents.exploration import Exploration
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.presets import dqn
from reverie.presets.parts import by_kind, inherited, prioritised
from reverie.presets.task import Preset, Task

STREAMS = 8
"""of the small sizes: a ladder of epsilons has few rungs with fewer"""


def cpu(task: Task) -> Config:
    """Ape-X with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """Ape-X on vectors, for two CPU cores: Rainbow's network and pace, eight streams on the ladder, 45 000 env_steps.

    With actors of their own, parameters are some updates old; 30 000 env_steps are then too few.
    """
    config = _apex(dqn.fewer_updates(task, batch=64))
    return replace(config, run=replace(config.run, env_steps=45_000))


def toy(task: Task) -> Config:
    """Ape-X on images of a few cells, for two CPU cores: DQN's numbers, eight streams on the ladder."""
    return _apex(dqn.toy(task))


def pixels(task: Task) -> Config:
    """Ape-X on pixels, for two CPU cores: DQN's numbers, eight streams on the ladder."""
    return _apex(dqn.pixels(task))


def _apex(base: Config) -> Config:
    base = prioritised(base)
    settings = inherited(base.agent, "double", "dueling", "actor_priorities", "explore")
    agent = ApeXConfig(**settings, explore=Exploration(kind="ladder", evaluation=base.agent.explore.evaluation))
    env = replace(base.env, num_envs=STREAMS)
    run = replace(base.run, publish_every=20)
    return replace(base, name="apex", agent=agent, env=env, run=run)


def atari(task: Task) -> Config:
    """Ape-X DQN on Atari (Horgan et al. 2018, appendix C), with 360 environment streams.

    Minibatches of 512, priority exponent 0.6, importance exponent 0.4, a replay of 2 million env_steps (14.4 GB),
    training from 50 000 env_steps on, a target every 2500 updates; actors take over parameters every 400 frames, which
    with 360 streams are 100 env_steps of each, about 55 updates at the paper's 19 a second. The paper's learner draws
    0.78 transitions for each that is collected. Signs of rewards, lost lives end episodes, 30 no-ops, minimal actions,
    games of at most 108 000 frames in training too, 22 800 million frames, the length of the paper's longest runs.
    """
    return Config(
        name="apex",
        preset="atari",
        agent=ApeXConfig(),
        env=task.default("ALE/Pong-v5").env(360, "atari-dqn2015", {"max_frames": 108_000}),
        replay=ReplayConfig(512, WindowConfig(learn=1), PrioritisedConfig(alpha=0.6), StoreConfig(14_400_000_000)),
        run=RunConfig(
            frames=22_800_000_000,
            prefill=50_000,
            pretrain=0,
            train_ratio=0.78,
            publish_every=55,
            log_every=10_000,
            checkpoint_every=2_500_000,
            eval_every=2_500_000,
            eval_episodes=10,
        ),
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
}
