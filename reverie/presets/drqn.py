"""DRQN: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published one."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.drqn import DRQNConfig
from reverie.agents.exploration import Exploration
from reverie.config import Config, ReplayConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets import dqn
from reverie.presets.parts import by_kind, short_run
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """DRQN with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment.

    Without an environment: the toy that asks for memory, ``toy/tmaze``, with the toys' settings though it has vectors.
    """
    return toy(task) if not task.id else by_kind(task, {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """DRQN on vectors, for two CPU cores: 160 000 env_steps, prioritised windows of 10 + 20 rows from stored states.

    `remembering`, with rewards of a tenth, because values are not rescaled as R2D2's are.
    """
    base = dqn.small(task.default("toy/tmaze"))
    return remembering(_small(replace(base, preset="cpu-vectors"), reward_scale=0.1))


def toy(task: Task) -> Config:
    """DRQN on images of a few cells and on vectors of toys, for two CPU cores: windows of 20 rows from a zero state."""
    base = dqn.toy(task.default("toy/tmaze"))
    return _small(replace(base, agent=replace(base.agent, explore=replace(base.agent.explore, over=0.2))))


def _small(base: Config, reward_scale: float = 1.0) -> Config:
    agent = _agent(base, reward="identity", reward_scale=reward_scale, units=64, target_every=100, lr=1e-3)
    run = short_run(env_steps=40_000, prefill=1000, train_ratio=20.0)
    return replace(base, name="drqn", agent=agent, replay=_windows(base.replay), run=run)


def pixels(task: Task) -> Config:
    """DRQN on pixels, for two CPU cores: windows of 20 rows from a zero state through a small LSTM."""
    base = dqn.pixels(task)
    agent = _agent(base, reward="sign", reward_scale=1.0, units=256, target_every=500, lr=3e-4)
    return replace(base, name="drqn", agent=agent, replay=_windows(base.replay))


def _agent(base: Config, reward: str, reward_scale: float, units: int, target_every: int, lr: float) -> DRQNConfig:
    return DRQNConfig(
        n_step=base.agent.n_step,
        gamma=0.99,
        double=True,
        reward=reward,
        reward_scale=reward_scale,
        torso=TorsoConfig(channels=(16, 32, 32), layers=1, units=64),
        units=units,
        target_every=target_every,
        explore=replace(base.agent.explore, end=0.05),
        opt=OptimConfig(lr=lr, eps=1e-5, clip=10.0, shrink=0.0),
    )


def _windows(replay: ReplayConfig) -> ReplayConfig:
    return replace(replay, batch=16, window=replace(replay.window, learn=20))


def remembering(base: Config) -> Config:
    """DRQN or R2D2 on vectors that hide something, found on CartPole without its velocities.

    Standardised entries; windows of 10 + 20 rows; 16 streams on a ladder; 20 env_steps for every update of 16 windows;
    10 steps ahead at first, 3 at the end, when the learning rate is 0 too. What decided: docs/presets.md.
    """
    replay = replace(
        base.replay,
        batch=16,
        window=WindowConfig(context=10, learn=20, period=10, state="stored"),
        selector=PrioritisedConfig(alpha=0.9),
    )
    agent = replace(
        base.agent,
        n_step=10,
        n_step_end=3,
        n_step_over=1.0,
        feed=True,
        dueling=True,
        hidden=64,
        torso=replace(base.agent.torso, standardise=True),
        target_every=50,
        explore=Exploration(kind="ladder", base=0.4, alpha=4.0, evaluation=0.0),
        opt=replace(base.agent.opt, lr=1e-3, lr_over=1.0),
    )
    run = short_run(env_steps=160_000, prefill=1000, train_ratio=16.0)
    return replace(base, agent=agent, env=replace(base.env, num_envs=16), replay=replay, run=run)


def atari(task: Task) -> Config:
    """DRQN on 40M frames of Atari: one frame, an LSTM of 512 units, random updates of 10 rows from a zero state.

    Source: Hausknecht & Stone 2015, of which also a replay of 400 000 env_steps (2.9 GB), a run of 10M env_steps and a
    target every 10 000 updates; "DRQN architecture" and "Stable recurrent updates" have the rest. What it does not say
    is as in the preset `atari` of dqn. Its optimiser is AdaDelta (lr 0.1, decay 0.95); here Adam with lr 1e-4, and
    gradients clipped at a norm of 10 as there. One update of 10 rows for 4 env_steps: 32 windows, 80 rows per env_step.
    """
    config = dqn.atari(task)
    agent = DRQNConfig(
        target_every=10_000,
        explore=config.agent.explore,
        opt=OptimConfig(lr=1e-4, eps=1.5e-4, clip=10.0, shrink=0.0),
    )
    replay = config.replay
    return replace(
        config,
        name="drqn",
        agent=agent,
        replay=replace(
            replay, window=replace(replay.window, learn=10), store=replace(replay.store, budget=2_844_000_000)
        ),
        run=replace(config.run, frames=40_000_000, train_ratio=80.0),
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
}
