"""IQN: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published one."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.iqn import IQNConfig
from reverie.config import Config
from reverie.presets import dqn
from reverie.presets.parts import by_kind, inherited, prioritised
from reverie.presets.rainbow import published
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """IQN with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """IQN on vectors, for two CPU cores: 10 875 updates, 16 levels, double, dueling, prioritised, rewards of a tenth.

    Rewards are scaled so that errors are of the size of 1, where Huber's kappa is.
    """
    base = prioritised(dqn.fewer_updates(task, batch=32))
    agent = IQNConfig(
        **inherited(base.agent, "double", "dueling", "reward_scale"),
        double=True,
        dueling=True,
        levels=16,
        target_levels=16,
        acting_levels=32,
        cosines=16,
        reward_scale=0.1,
    )
    return replace(base, name="iqn", agent=agent)


def toy(task: Task) -> Config:
    """IQN on images of a few cells, for two CPU cores: DQN's numbers, 8 levels."""
    return _few_levels(dqn.toy(task))


def pixels(task: Task) -> Config:
    """IQN on pixels, for two CPU cores: DQN's numbers, 8 levels."""
    return _few_levels(dqn.pixels(task))


def _few_levels(base: Config) -> Config:
    settings = inherited(base.agent, "double", "dueling")
    agent = IQNConfig(**settings, levels=8, target_levels=8, acting_levels=8, cosines=32)
    return replace(base, name="iqn", agent=agent)


def atari(task: Task) -> Config:
    """IQN on 200M frames of Atari (Dabney et al. 2018, section 4, which takes what it does not say from QR-DQN).

    N = N' = 64 and K = 32 levels, 64 cosines, kappa 1, one step. Adam with lr 5e-5 and eps 0.01 / 32, gradients not
    clipped; a target every 10 000 env_steps (2500 updates); epsilon from 1 to 0.01 over a million env_steps after the
    first 50 000, 0.001 in evaluation. Everything else is DQN's. Dopamine's IQN has 3 steps instead.
    """
    return replace(published(task), name="iqn", agent=IQNConfig())


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
}
