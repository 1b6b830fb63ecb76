"""IMPALA: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.impala import IMPALAConfig
from reverie.config import Config, ReplayConfig, RunConfig
from reverie.envs.tasks import tasks_of
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets import a2c
from reverie.presets.a2c import used_once
from reverie.presets.parts import by_kind
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """IMPALA with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """IMPALA on vectors, for two CPU cores: 600 000 env_steps of 16 environments, an LSTM of 64 units, 20 rows.

    Rewards of a tenth, losses averaged, Adam with a learning rate that falls to 0 over the run. With or without what an
    observation hides, such as velocities.
    """
    base = a2c.vectors(task)
    agent = IMPALAConfig(
        lam=0.95,
        reward="identity",
        reward_scale=0.1,
        value=0.25,
        entropy=0.005,
        average="mean",
        stack=1,
        torso=TorsoConfig(channels=(16, 32, 32), layers=1, units=64, act="tanh", dense=64),
        core="lstm",
        units=64,
        feed=True,
        init="orthogonal",
        evaluation="mode",
        opt=OptimConfig(lr=2e-3, lr_over=1.0, eps=1e-5, clip=0.5, shrink=0.0),
    )
    replay, run = used_once(16, 20, 20_000_000, "stored"), replace(base.run, env_steps=600_000)
    return replace(base, name="impala", agent=agent, replay=replay, run=run)


def toy(task: Task) -> Config:
    """IMPALA on images of a few cells, for two CPU cores: 80 000 env_steps in windows of 10 rows."""
    base = vectors(task.default("toy/catch"))
    opt = replace(base.agent.opt, lr=3e-3)
    agent = replace(base.agent, reward_scale=1.0, gamma=0.97, value=1.0, entropy=0.01, opt=opt)
    replay = used_once(16, 10, 20_000_000, "stored")
    return replace(base, preset="cpu-toy", agent=agent, replay=replay, run=replace(base.run, env_steps=80_000))


def pixels(task: Task) -> Config:
    """IMPALA on pixels, for two CPU cores: 3M env_steps of 16 environments, A3C's convolutions on standardised pixels.

    Batches of 8 windows of 20 rows, half of them learned before: the newest 49 000 rows or so are kept. Losses
    averaged, lambda-returns (0.95), Adam with a learning rate that falls to 0 over the run.
    """
    agent = IMPALAConfig(
        lam=0.95,
        value=0.25,
        entropy=0.002,
        average="mean",
        torso=TorsoConfig(channels=(16, 32), dense=256, standardise=True),
        init="orthogonal",
        evaluation="sample",
        opt=OptimConfig(lr=3e-4, lr_over=1.0, eps=1e-5, clip=0.5, shrink=0.0),
    )
    base = a2c.pixels(task)
    replay = half_replayed(used_once(8, 20, 400_000_000, "stored"))
    run = replace(base.run, frames=12_000_000, eval_envs=5)
    return replace(base, name="impala", agent=agent, replay=replay, run=run)


def half_replayed(replay: ReplayConfig) -> ReplayConfig:
    """Half of each batch from windows that were learned before (section 5.2.2)."""
    return replace(replay, selector=replace(replay.selector, share=0.5))  # type: ignore[call-arg]


def atari(task: Task) -> Config:
    """IMPALA on 200M frames of Atari as published (appendix D): the deep network, feed-forward, on 4 frames.

    Windows of 20 rows, 32 of them per update, each learned once; losses summed; RMSProp (decay 0.99, epsilon 0.01
    within the root, no momentum), lr 6e-4 falling to 0 over the run; gradients clipped at a norm of 40; entropy cost
    0.01, baseline cost 0.5; rewards clipped to [-1, 1]; gamma 0.99; 84x84 grayscale, minimal actions, at most 30
    no-ops, a lost life ends an episode, games of 108 000 frames. Actions are drawn from the policy in evaluation too
    (not stated). The paper has some hundred actors, here are 32 streams.
    """
    return Config(
        name="impala",
        preset="atari",
        agent=IMPALAConfig(opt=replace(IMPALAConfig().opt, lr_over=1.0), evaluation="sample"),
        env=task.default("ALE/Pong-v5").env(32, "atari-dqn2015", {"max_frames": 108_000}),
        replay=used_once(32, 20, 200_000_000, "stored"),
        run=RunConfig(
            frames=200_000_000,
            prefill=0,
            pretrain=0,
            train_ratio=None,
            log_every=10_000,
            checkpoint_every=1_000_000,
            eval_every=1_000_000,
            eval_episodes=10,
        ),
    )


def atari_shallow(task: Task) -> Config:
    """IMPALA on Atari with the paper's shallow network, DQN's three convolutions; everything else as `atari`.

    The width of the fully connected layer is not stated: 512, as DQN's.
    """
    base = atari(task)
    agent = replace(base.agent, torso=TorsoConfig(dense=512))
    return replace(base, preset="atari-shallow", agent=agent)


def atari_replay(task: Task) -> Config:
    """IMPALA on Atari with half of each batch from a replay of the last 10 000 windows (section 5.2.2).

    Everything else as `atari`; 200 000 rows of 84x84 pixels and the frames of their start states are 1.7 GB.
    """
    base = atari(task)
    store = replace(base.replay.store, budget=1_700_000_000)
    return replace(base, preset="atari-replay", replay=half_replayed(replace(base.replay, store=store)))


def atari_multitask(task: Task) -> Config:
    """One IMPALA for several games of Atari, 200M frames of each, its values normalised by game (PopArt).

    All 18 actions in every game and nothing that tells the games apart but their pictures; rewards as the games pay
    them, of which the core reads those clipped to [-1, 1]; PopArt with a step of 3e-4 and a value for each game.
    Everything else as `atari`, but for streams, of which each game has as many: 32 or the next multiple of the games,
    and a batch has a window of each, so that its sum of losses grows with them. Hessel et al. 2019, section 5, on 57
    games; its rates and entropy cost come from a population (``--population``), here they are IMPALA's.
    """
    base = atari(task.default("ALE/Pong-v5,ALE/Breakout-v5"))
    agent = replace(base.agent, reward="identity", popart=True)
    env = replace(base.env, options={**base.env.options, "full_actions": True})
    run = replace(base.run, frames=base.run.frames * max(1, len(tasks_of(env.id))))
    replay = replace(base.replay, batch=env.num_envs)
    return replace(base, preset="atari-multitask", agent=agent, env=env, replay=replay, run=run)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
    "atari-shallow": atari_shallow,
    "atari-replay": atari_replay,
    "atari-multitask": atari_multitask,
}
