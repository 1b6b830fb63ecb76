"""A2C: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.a2c import A2CConfig
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import FifoConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.parts import by_kind, short_run
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """A2C with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def used_once(windows: int, rows: int, budget: int, state: str = "zero") -> ReplayConfig:
    """Batches of so many windows of so many rows, each learned once, as it comes."""
    window = WindowConfig(learn=rows, period=rows, state=state)  # type: ignore[arg-type]
    return ReplayConfig(windows, window, FifoConfig(), StoreConfig(budget))


def vectors(task: Task) -> Config:
    """A2C on vectors, for two CPU cores: 200 000 env_steps of 16 environments in windows of 16 rows, Adam.

    Lambda-returns, rewards of a tenth, a learning rate that falls to 0 over the run.
    """
    agent = A2CConfig(
        lam=0.95,
        reward="identity",
        reward_scale=0.1,
        value=1.0,
        entropy=0.01,
        stack=1,
        torso=TorsoConfig(channels=(16, 32, 32), layers=2, units=64, act="tanh"),
        evaluation="mode",
        opt=OptimConfig(lr=3e-3, lr_over=1.0, eps=1e-5, clip=0.5, shrink=0.0),
    )
    return Config(
        name="a2c",
        preset="cpu-vectors",
        agent=agent,
        env=task.default("CartPole-v1").env(16),
        replay=used_once(16, 16, 8_000_000),
        run=replace(short_run(env_steps=200_000, prefill=0, train_ratio=1.0), train_ratio=None),
    )


def toy(task: Task) -> Config:
    """A2C on images of a few cells, for two CPU cores: 80 000 env_steps in windows of 8 rows."""
    base = vectors(task.default("toy/catch"))
    torso = replace(base.agent.torso, units=64, layers=1, dense=64)
    agent = replace(base.agent, reward_scale=1.0, gamma=0.97, torso=torso)
    replay = used_once(16, 8, 8_000_000)
    return replace(base, preset="cpu-toy", agent=agent, replay=replay, run=replace(base.run, env_steps=80_000))


def pixels(task: Task) -> Config:
    """A2C on pixels, for two CPU cores: the published network and windows, Adam with a rate that falls to 0."""
    agent = A2CConfig(opt=OptimConfig(lr=7e-4, lr_over=1.0, eps=1e-5, clip=0.5, shrink=0.0))
    return Config(
        name="a2c",
        preset="cpu-pixels",
        agent=agent,
        env=task.default("ALE/Pong-v5").env(16, "atari-84", {"full_actions": False}),
        replay=used_once(16, 5, 400_000_000, "stored"),
        run=RunConfig(
            frames=8_000_000,
            prefill=0,
            pretrain=0,
            train_ratio=None,
            log_every=2000,
            checkpoint_every=100_000,
            eval_every=200_000,
            eval_episodes=5,
        ),
    )


def atari(task: Task) -> Config:
    """A2C on 40M frames of Atari with the numbers of OpenAI Baselines' a2c.

    16 environments, windows of 5 rows, one update of all of them; DQN's convolutions and 512 units, orthogonal first
    parameters; RMSProp (decay 0.99, epsilon 1e-5 within the root), lr 7e-4 falling to 0 over the run; gradients clipped
    at a norm of 0.5; entropy cost 0.01; the value's coefficient of 0.5 there is of the whole squared error, here 1 of
    its half; the sign of rewards; gamma 0.99; 84x84 grayscale, 4 frames, a lost life ends an episode. It presses FIRE
    after each reset there, which no environment here does.
    """
    return Config(
        name="a2c",
        preset="atari",
        agent=A2CConfig(opt=replace(A2CConfig().opt, lr_over=1.0)),
        env=task.default("ALE/Pong-v5").env(16, "atari-dqn2015", {"max_frames": 108_000}),
        replay=used_once(16, 5, 200_000_000, "stored"),
        run=RunConfig(
            frames=40_000_000,
            prefill=0,
            pretrain=0,
            train_ratio=None,
            log_every=10_000,
            checkpoint_every=500_000,
            eval_every=500_000,
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
