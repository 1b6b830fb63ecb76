"""TD-MPC: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.plan import TDMPC as SEARCH
from reverie.agents.tdmpc import TDMPCConfig
from reverie.agents.tdmpc_policy import Annealing
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.nets.optim import OptimConfig
from reverie.presets.parts import short_run
from reverie.presets.task import Preset, Task
from reverie.presets.tdmpc2 import CONTROL_STEPS, million

HORIZON = 5
"""decisions of a plan and of a trained rollout"""
SEED_STEPS = 5000
"""env_steps at random, and updates after them"""
REPEATS = {"cartpole": 8, "finger": 2, "walker": 2, "humanoid": 2, "dog": 2}
"""published action repeats by domain of the control suite"""
OTHER_REPEAT = 4
"""of the others"""


def optimiser(lr: float, over: float = 0.0) -> OptimConfig:
    """Adam as published, at a rate. over: share of the run over which it falls to 0; 0: it stays."""
    return OptimConfig(lr=lr, lr_over=over, eps=1e-8, clip=10.0, shrink=0.0)


def windows_of_episodes() -> PrioritisedConfig:
    """Prioritised, without those that run over the end of an episode."""
    return PrioritisedConfig(alpha=0.6, whole=True)


def _small(name: str, task: Task, agent: TDMPCConfig, env_steps: int, budget: int) -> Config:
    """Four streams planned at once, one update of 64 windows per env_step, at a rate that falls to 0."""
    batch = 64
    opt = optimiser(1e-3, over=1.0)
    return Config(
        name="tdmpc",
        preset=name,
        agent=replace(agent, gamma=0.975, opt=opt, actor_opt=opt),
        env=task.env(4),
        replay=ReplayConfig(batch, WindowConfig(learn=HORIZON), windows_of_episodes(), StoreConfig(budget)),
        run=short_run(env_steps=env_steps, prefill=1000, train_ratio=float(batch * HORIZON)),
    )


def _search(agent: TDMPCConfig) -> TDMPCConfig:
    """Small networks and a short search, which is annealed over two fifths of the run."""
    search = replace(SEARCH, iterations=3, candidates=64, elites=12, policy_candidates=8)
    return replace(agent, units=128, plan=search, anneal=Annealing(over=0.4))


def continuous(task: Task) -> Config:
    """TD-MPC from vectors with small networks and a short search for two CPU cores, four streams planned at once."""
    agent = _search(TDMPCConfig(encoder_units=64))
    return _small("cpu-continuous", task.default("Pendulum-v1"), agent, 8000, 500_000_000)


def control(task: Task) -> Config:
    """TD-MPC from images, three at a time, with small networks and a short search for two CPU cores, four streams."""
    agent = _search(TDMPCConfig(shift=3, channels=16))
    return _small("cpu-control", task.default("dmc/cartpole-swingup"), agent, 20_000, 2_000_000_000)


def cpu(task: Task) -> Config:
    """TD-MPC for two CPU cores, by the spaces of the environment: images, or else vectors."""
    task = task.default("Pendulum-v1")
    return control(task) if task.control else continuous(task)


def _published(name: str, task: Task, agent: TDMPCConfig, frames: int, batch: int, budget: int) -> Config:
    """Configuration that the official ones have in common.

    One stream, a replay of a million env_steps, 5000 env_steps at random and as many updates after them, then one
    update per env_step; ten episodes of evaluation per 20 000 frames.
    """
    repeat = REPEATS.get(task.domain, OTHER_REPEAT)
    options = {"action_repeat": repeat} | ({"size": 84} if name == "dmc-vision" else {})
    steps = CONTROL_STEPS // repeat
    return Config(
        name="tdmpc",
        preset=name,
        agent=agent,
        env=task.env(1, name, options),
        replay=ReplayConfig(batch, WindowConfig(learn=HORIZON), windows_of_episodes(), StoreConfig(budget)),
        run=RunConfig(
            frames=frames,
            prefill=SEED_STEPS,
            pretrain=SEED_STEPS,
            train_ratio=float(batch * HORIZON),
            log_every=4 * steps,
            checkpoint_every=40 * steps,
            eval_every=20_000 // repeat,
            eval_episodes=10,
        ),
    )


def dmc_proprio(task: Task) -> Config:
    """TD-MPC on the control suite from state, as published (github.com/nicklashansen/tdmpc, cfgs/default.yaml, tasks/).

    500k frames, batches of 512 windows, action repeat 4 (cartpole 8; finger, walker, humanoid and dog 2). Humanoid:
    3M frames, 12 iterations, latents of 100. Dog: 5M frames, 8 iterations, latents of 100, batches of 2048, Adam 3e-4.
    """
    task = task.default("dmc/walker-walk")
    agent, frames, batch = TDMPCConfig(), 500_000, 512
    if task.id.startswith("dmc/humanoid"):
        agent, frames = replace(agent, latent=100, plan=replace(SEARCH, iterations=12)), 3_000_000
    if task.id.startswith("dmc/dog"):
        opt, frames, batch = optimiser(3e-4), 5_000_000, 2048
        agent = replace(agent, latent=100, plan=replace(SEARCH, iterations=8), opt=opt, actor_opt=opt)
    return _published("dmc-proprio", task, agent, frames, batch, max(1_000_000_000, million(task)))


def dmc_vision(task: Task) -> Config:
    """TD-MPC on the control suite from 84x84 pixels, three frames at a time, as published (cfgs/pixels.yaml).

    3M frames, Adam 3e-4, batches of 256 windows; action repeats of `dmc_proprio`. A million env_steps of images are
    22 GB.
    """
    opt = optimiser(3e-4)
    agent = TDMPCConfig(opt=opt, actor_opt=opt)
    return _published("dmc-vision", task.default("dmc/walker-walk"), agent, 3_000_000, 256, 22_000_000_000)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-control": control,
    "cpu-continuous": continuous,
    "dmc-proprio": dmc_proprio,
    "dmc-vision": dmc_vision,
}
