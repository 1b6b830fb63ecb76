"""Ape-X DPG: a small size for two CPU cores, whose numbers are ours (docs/presets.md), and the published one."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.apex_dpg import ApeXDPGConfig
from reverie.agents.exploration import ActionNoise
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.parts import short_run
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """Ape-X DPG with small networks for two CPU cores, eight streams; images come stacked by three."""
    task = task.default("Pendulum-v1")
    opt = OptimConfig(lr=1e-3, lr_over=1.0, eps=1e-8, clip=float("inf"), shrink=0.0)
    agent = ApeXDPGConfig(
        n_step=5,
        gamma=0.98,
        reward_scale=0.1,
        beta_over=1.0,
        stack=1 if task.kind == "continuous" else 3,
        torso=TorsoConfig(channels=(16, 32, 32), layers=0, standardise=True),
        actor_units=(128, 128),
        critic_units=(128, 128),
        act="relu",
        explore=ActionNoise(0.3),
        opt=opt,
        actor_opt=replace(opt, lr=5e-4),
    )
    run = replace(short_run(env_steps=20_000, prefill=1000, train_ratio=32.0), publish_every=20)
    return Config(
        name="apex-dpg",
        preset="cpu",
        agent=agent,
        env=task.env(8),
        replay=ReplayConfig(64, WindowConfig(learn=1), PrioritisedConfig(alpha=0.6), StoreConfig(500_000_000)),
        run=run,
    )


def dmc_proprio(task: Task) -> Config:
    """Ape-X DPG on the control suite from state (Horgan et al. 2018, section 4.2 and appendix D).

    32 streams, minibatches of 256, 5 steps, Adam 1e-4 for both networks, targets every 100 updates, priority exponent
    0.6, importance exponent 0.4, a replay of a million env_steps (of the humanoid 0.5 GB), training from 10 000 on,
    action repeat 1. The paper has no figure for updates per env_step of this agent (its learner and actors run as fast
    as they can): 32 samples for each, as acme's D4PG. Its learner's parameters are taken over every 100 updates (ours).
    """
    return Config(
        name="apex-dpg",
        preset="dmc-proprio",
        agent=ApeXDPGConfig(beta_end=0.4),
        env=task.default("dmc/humanoid-walk").env(32, "dmc-proprio", {"action_repeat": 1}),
        replay=ReplayConfig(256, WindowConfig(learn=1), PrioritisedConfig(alpha=0.6), StoreConfig(600_000_000)),
        run=RunConfig(
            frames=100_000_000,
            prefill=10_000,
            pretrain=0,
            train_ratio=32.0,
            publish_every=100,
            log_every=10_000,
            checkpoint_every=1_000_000,
            eval_every=1_000_000,
            eval_episodes=10,
        ),
    )


PRESETS: dict[str, Preset] = {"cpu": cpu, "dmc-proprio": dmc_proprio}
