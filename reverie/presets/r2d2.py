"""R2D2: sizes for two CPU cores and for one GPU, whose numbers are ours (docs/presets.md), and the published one."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.exploration import Exploration
from reverie.agents.r2d2 import R2D2Config
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.drqn import remembering
from reverie.presets.parts import by_kind, short_run
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """R2D2 with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment.

    Without an environment: the toy that asks for memory, ``toy/tmaze``, with the toys' settings though it has vectors.
    """
    return toy(task) if not task.id else by_kind(task, {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """R2D2 on vectors, for two CPU cores: 160 000 env_steps, windows of 10 + 20 rows, the paper's discount and ladder.

    Otherwise `reverie.presets.drqn.remembering`.
    """
    config = remembering(replace(toy(task), preset="cpu-vectors"))
    explore = replace(config.agent.explore, alpha=7.0)
    return replace(config, agent=replace(config.agent, gamma=0.997, explore=explore))


def toy(task: Task) -> Config:
    """R2D2 on images of a few cells and on vectors of toys, for two CPU cores: windows of 10 + 20 rows, 64 units."""
    agent = R2D2Config(
        n_step=3,
        gamma=0.99,
        stack=1,
        torso=TorsoConfig(channels=(16, 32, 32), layers=1, units=64, dense=64),
        units=64,
        hidden=64,
        target_every=100,
        explore=Exploration(kind="ladder", base=0.4, alpha=4.0, evaluation=0.0),
        opt=OptimConfig(lr=1e-3, eps=1e-5, clip=40.0, shrink=0.0),
    )
    return Config(
        name="r2d2",
        preset="cpu-toy",
        agent=agent,
        env=task.default("toy/tmaze").env(8),
        replay=ReplayConfig(
            16,
            WindowConfig(context=10, learn=20, period=10, state="stored"),
            PrioritisedConfig(alpha=0.9),
            StoreConfig(100_000_000),
        ),
        run=short_run(env_steps=40_000, prefill=1000, train_ratio=20.0),
    )


def pixels(task: Task) -> Config:
    """R2D2 on pixels, for two CPU cores: DQN's convolutions and a small LSTM, windows of 12 + 20 rows.

    Atari comes as 60x60 pixels, which cost less in the convolutions than 84x84, and with the actions that the game
    uses. Pixels are standardised. Networks compute in bfloat16, which is faster on a processor that has its
    instructions; one without them wants ``--run.precision float32``. Steps ahead fall from 5 to 2 and the learning
    rate to a tenth over the run.
    """
    agent = R2D2Config(
        n_step=5,
        n_step_end=2,
        n_step_over=1.0,
        gamma=0.99,
        stack=2,
        torso=TorsoConfig(dense=256, standardise=True),
        units=256,
        hidden=256,
        target_every=100,
        explore=Exploration(kind="ladder", base=0.4, alpha=7.0, evaluation=0.001),
        opt=OptimConfig(lr=5e-4, lr_end=5e-5, lr_over=1.0, eps=1e-5, clip=40.0, shrink=0.0),
    )
    return Config(
        name="r2d2",
        preset="cpu-pixels",
        agent=agent,
        env=task.default("ALE/Pong-v5").env(16, "atari-84", {"full_actions": False, "size": 60}),
        replay=ReplayConfig(
            8,
            WindowConfig(context=12, learn=20, period=10, state="stored"),
            PrioritisedConfig(alpha=0.9),
            StoreConfig(4_000_000_000),
        ),
        run=RunConfig(
            env_steps=900_000,
            prefill=5000,
            pretrain=0,
            train_ratio=8.0,
            log_every=1000,
            checkpoint_every=50_000,
            eval_every=100_000,
            eval_episodes=20,
            eval_envs=20,
            precision="bfloat16",
            threads=1,
        ),
    )


def gpu(task: Task) -> Config:
    """R2D2 on pixels with one GPU: the published network, 128 streams, and updates captured as one CUDA graph.

    Everything else is what Pong asked for on a processor, see `pixels`. Every number here is ours.
    """
    base = pixels(task)
    agent = replace(base.agent, stack=4, torso=replace(base.agent.torso, dense=512), units=512, hidden=512)
    run = replace(
        base.run,
        env_steps=3_000_000,
        prefill=20_000,
        log_every=10_000,
        checkpoint_every=500_000,
        eval_every=500_000,
        threads=0,
        capture=True,
    )
    env = task.default("ALE/Pong-v5").env(128, "atari-84", {"full_actions": False})
    replay = replace(base.replay, batch=32, store=replace(base.replay.store, budget=32_000_000_000))
    return replace(base, preset="gpu", agent=agent, env=env, replay=replay, run=run)


def atari(task: Task) -> Config:
    """R2D2 on Atari as published (table 2 of the paper), with 256 environment streams in one process.

    84x84 grayscale, 4 frames, all 18 actions, at most 30 no-ops, no life loss, unclipped rewards, games of 108 000
    frames at most. Windows of 40 + 80 rows from stored states, at every 40th row; 64 of them per update; replay of 4
    million env_steps (31 GB of frames and states; ask for less with replay.store.budget); priority exponent 0.9. The
    paper replays every window about 0.8 times: 64 x 80 trained rows for 64 / 0.8 x 40 env_steps are 1.6 rows per
    env_step. Actors take over parameters every 400 env_steps of their own: 256 x 400 of the run, in which the learner
    makes 32 updates. Where training begins is not stated; 50 000 env_steps are Ape-X's. Evaluation is greedy (not
    stated either).
    """
    return Config(
        name="r2d2",
        preset="atari",
        agent=R2D2Config(),
        env=task.default("ALE/MsPacman-v5").env(256, "atari-84", {"sticky": 0.0, "noop_max": 30}),
        replay=ReplayConfig(
            64,
            WindowConfig(context=40, learn=80, period=40, state="stored"),
            PrioritisedConfig(alpha=0.9),
            StoreConfig(31_300_000_000, chunk=1000),
        ),
        run=RunConfig(
            frames=10_000_000_000,
            prefill=50_000,
            pretrain=0,
            train_ratio=1.6,
            publish_every=32,
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
    "gpu": gpu,
    "atari": atari,
}
