"""DQN: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dqn import DQNConfig
from reverie.agents.exploration import Exploration
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.parts import by_kind, prioritised, short_run
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """DQN with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """DQN on vectors, for two CPU cores: double, dueling, prioritised, 10 steps ahead, 10 875 updates.

    Entries are standardised, the learning rate falls to 0 over the run, the target is copied every 50 updates.
    """
    base = prioritised(fewer_updates(task, batch=64))
    return replace(base, agent=replace(base.agent, double=True, dueling=True))


def fewer_updates(task: Task, batch: int) -> Config:
    """DQN on vectors with an update of `batch` rows for every 8/3 of 30 000 env_steps and half the width.

    For agents whose updates cost more. Entries are standardised, and 10 steps ahead are summed.
    """
    base = small(task)
    agent = replace(
        base.agent,
        n_step=10,
        torso=TorsoConfig(layers=1, units=128, standardise=True),
        hidden=128,
        target_every=50,
        explore=replace(base.agent.explore, over=8 / 30),
        opt=OptimConfig(lr=1e-3, lr_over=1.0, eps=1e-5, clip=10.0, shrink=0.0),
    )
    run = replace(base.run, env_steps=30_000, train_ratio=batch * 3 / 8)
    return replace(base, agent=agent, replay=replace(base.replay, batch=batch), run=run)


def small(task: Task) -> Config:
    """What the small sizes have in common: 40 000 env_steps and 19 500 updates of a network of 256 units.

    The learning rate falls to 0 over the run, the target network is copied every 50 updates.
    """
    agent = DQNConfig(
        n_step=3,
        reward="identity",
        stack=1,
        torso=TorsoConfig(layers=1, units=256),
        hidden=256,
        target_every=50,
        explore=Exploration(start=1.0, end=0.05, over=0.2, evaluation=0.0),
        opt=OptimConfig(lr=1e-3, lr_over=1.0, eps=1e-5, clip=10.0, shrink=0.0),
    )
    return Config(
        name="dqn",
        preset="cpu-vectors",
        agent=agent,
        env=task.default("CartPole-v1").env(4),
        replay=ReplayConfig(64, WindowConfig(learn=1), store=StoreConfig(20_000_000)),
        run=short_run(env_steps=40_000, prefill=1000, train_ratio=32.0),
    )


def toy(task: Task) -> Config:
    """DQN on images of a few cells, for two CPU cores: 20 000 env_steps and 9600 updates."""
    config = small(task.default("toy/catch"))
    torso = TorsoConfig(channels=(16, 32, 32), layers=1, units=64)
    explore = replace(config.agent.explore, over=0.4)
    agent = replace(config.agent, torso=torso, hidden=64, gamma=0.97, explore=explore)
    return replace(config, preset="cpu-toy", agent=agent, run=short_run(20_000, prefill=800, train_ratio=32.0))


def pixels(task: Task) -> Config:
    """DQN on pixels, for two CPU cores: Nature's network, an update for every 4 env_steps, a shorter exploration."""
    agent = DQNConfig(
        n_step=3,
        double=True,
        target_every=500,
        explore=Exploration(start=1.0, end=0.02, over=0.05, evaluation=0.01),
        opt=OptimConfig(lr=2.5e-4, eps=1e-5, clip=10.0, shrink=0.0),
    )
    return Config(
        name="dqn",
        preset="cpu-pixels",
        agent=agent,
        env=task.default("ALE/Pong-v5").env(4, "atari-84"),
        replay=ReplayConfig(32, WindowConfig(learn=1), store=StoreConfig(1_500_000_000)),
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


def atari(task: Task) -> Config:
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
        env=task.default("ALE/Pong-v5").env(1, "atari-dqn2015"),
        replay=ReplayConfig(32, WindowConfig(learn=1), store=StoreConfig(7_110_000_000)),
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


def atari_modern(task: Task) -> Config:
    """DQN on Atari with Adam, faster annealing, and the protocol of Machado et al. 2018 (sticky, no life loss).

    Source: Castro et al. 2018 (Dopamine), dqn.gin of its Adam variant: lr 6.25e-5, eps 1.5e-4, 20 000 env_steps first,
    a target every 8000 env_steps (2000 updates), epsilon 1 to 0.01 over 250 000 env_steps, 0.001 in evaluation, the
    squared error of its JaxDQN, of which half is taken here: eps is halved with it, so that steps are the same. The
    protocol has all 18 actions where Dopamine's has the minimal set.
    """
    config = atari(task)
    return replace(
        config,
        preset="atari-modern",
        env=task.default("ALE/Pong-v5").env(1, "atari-84"),
        agent=replace(
            config.agent,
            target_every=2000,
            loss="squared",
            explore=Exploration(start=1.0, end=0.01, over=250_000, after=20_000, evaluation=0.001),
            opt=OptimConfig(lr=6.25e-5, eps=0.75e-4, clip=float("inf"), shrink=0.0),
        ),
        run=replace(config.run, prefill=20_000),
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
    "atari-modern": atari_modern,
}
