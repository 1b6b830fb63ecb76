"""TD-MPC2: a small size for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones.

Of several environments (``--env A,B``) all presets but ``dmc-vision`` make one model, with a discount for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from reverie.agents.plan import PlanConfig
from reverie.agents.tdmpc2 import TDMPC2Config
from reverie.agents.tdmpc2_sizes import Tiny
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.episode_ends import EpisodeEndsConfig
from reverie.envs import fetch
from reverie.envs import metaworld as metaworld_tasks
from reverie.envs.tasks import ids, tasks_of
from reverie.nets.optim import OptimConfig
from reverie.presets.parts import short_run
from reverie.presets.task import Preset, Task

HORIZON = 3
"""decisions of a plan and of a trained rollout"""
CONTROL_STEPS = 1000
"""of an episode of the control suite"""
UNKNOWN = 500
"""env_steps of an episode that nothing is known of: those of the control suite with actions repeated twice"""


def windows_of_episodes(ongoing: bool = False) -> EpisodeEndsConfig:
    """Uniform over finished episodes, then over starts within one, as the official code; ongoing: open ones too."""
    return EpisodeEndsConfig(favour_ends=False, ongoing=ongoing)


def episode_length(id: str, protocol: str = "auto", options: Mapping[str, Any] | None = None) -> int:
    """Env_steps of an episode: the families', Gymnasium's own limit, or 500 where none of them says.

    protocol, options: of the environment, whose ``action_repeat`` and ``length`` count if it will take them.
    """
    length, repeat = 0, 1
    if id.startswith(("dmc/", "dmc-background/")):
        length, repeat = CONTROL_STEPS, 2
    elif id.startswith("fetch/"):
        length, repeat = fetch.STATES.length, fetch.STATES.action_repeat
    elif id.startswith("metaworld/"):
        usual = metaworld_tasks.PROTOCOLS.get(protocol, metaworld_tasks.VISION)
        length, repeat = usual.length, usual.action_repeat
    if length:
        given = {name: value for name, value in (options or {}).items() if type(value) is int and value > 0}
        return max(1, given.get("length", length) // given.get("action_repeat", repeat))
    spec, asked = gymnasium.registry.get(id), (options or {}).get("max_episode_steps")
    if type(asked) is int and asked > 0:  # gymnasium.make takes it in place of the registered one
        return asked
    limit = spec.max_episode_steps if spec is not None else None
    return limit or UNKNOWN


def lengths(task: Task, protocol: str = "") -> dict[str, Any]:
    """Settings of an agent for the lengths of episodes: of one environment, or of each of several.

    protocol: that the environment gets where nobody asks for another.
    """
    protocol = protocol if protocol and task.protocol == "auto" else task.protocol
    each = tuple(episode_length(one, protocol, task.options) for one in ids(task.id))
    return {"episode_length": max(each), "episode_lengths": each if tasks_of(task.id) else ()}


def random_steps(agent: TDMPC2Config) -> int:
    """Env_steps at random: five episodes, and at least 1000, of each environment."""
    return sum(max(1000, 5 * length) for length in agent.episode_lengths or (agent.episode_length,))


def cpu(task: Task) -> Config:
    """TD-MPC2 with small networks and a short search for two CPU cores, four streams planned at once.

    Open episodes are drawn from too: of four streams a run has few, and late. At most half of the run is random.
    Learning rates fall to 0.
    """
    task = task.default("Pendulum-v1")
    batch, lr = 64, 1e-3
    agent = TDMPC2Config(
        size=Tiny(),
        plan=PlanConfig(horizon=HORIZON, iterations=2, candidates=64, elites=12, policy_candidates=8),
        **lengths(task),
        opt=OptimConfig(lr=lr, lr_over=1.0, eps=1e-8, clip=20.0, shrink=0.0),
        actor_opt=OptimConfig(lr=lr, lr_over=1.0, eps=1e-5, clip=20.0, shrink=0.0),
    )
    tasks = len(ids(task.id))
    env_steps = 8000 * tasks
    prefill = min(random_steps(agent), env_steps // 2)
    run = short_run(env_steps=env_steps, prefill=prefill, train_ratio=batch * HORIZON)
    return Config(
        name="tdmpc2",
        preset="cpu",
        agent=agent,
        env=task.env(4),
        replay=ReplayConfig(
            batch, WindowConfig(learn=HORIZON), windows_of_episodes(ongoing=True), StoreConfig(500_000_000)
        ),
        run=run,
    )


def _published(name: str, env: EnvConfig, agent: TDMPC2Config, frames: int, budget: int, batch: int = 256) -> Config:
    """Configuration that the official ones have in common, for episodes of 500 decisions.

    One stream, batches of 256 windows of 3 decisions, a replay of a million env_steps, 5 episodes at random and as many
    updates as these have decisions, then one update per decision; ten episodes of evaluation per 50 000 decisions.
    """
    seed_steps = random_steps(agent)
    return Config(
        name="tdmpc2",
        preset=name,
        agent=agent,
        env=env,
        replay=ReplayConfig(batch, WindowConfig(learn=HORIZON), windows_of_episodes(), StoreConfig(budget)),
        run=RunConfig(
            frames=frames,
            prefill=seed_steps,
            pretrain=seed_steps,
            train_ratio=float(batch * HORIZON),
            log_every=1000,
            checkpoint_every=10_000,
            eval_every=50_000,
            eval_episodes=10,
        ),
    )


def million(task: Task) -> int:
    """Bytes that hold a million decisions of the control suite or more: the dog's have 1203 each, others up to 443."""
    return 1_300_000_000 if "dmc/dog" in task.id else 600_000_000


def dmc_proprio(task: Task) -> Config:
    """TD-MPC2 on the control suite from state, as released (github.com/nicklashansen/tdmpc2, config.yaml).

    The 5M size, action repeat 2. 4M frames are those of the published curves; of dog and humanoid these have 14M.
    """
    task = task.default("dmc/walker-walk")
    env = task.env(1, "dmc-proprio")
    return _published("dmc-proprio", env, TDMPC2Config(**lengths(task)), 4_000_000, million(task))


def dmc_vision(task: Task) -> Config:
    """TD-MPC2 on the control suite from 64x64 pixels, three frames at a time, as released.

    As `dmc_proprio` but for the encoder; the replay holds a million decisions of 12 kB, twice those of the run. The
    published curves have 1M frames.
    """
    task = task.default("dmc/walker-walk")
    env = task.env(1, "dmc-vision")
    return _published("dmc-vision", env, TDMPC2Config(**lengths(task)), 1_000_000, 13_000_000_000)


def mt(task: Task) -> Config:
    """TD-MPC2 on several tasks from state, one model with an embedding of each; batches of 1024 windows, as released.

    The official code learns several tasks from a data set only (``--dataset``), 10M updates for its 30 and 80 tasks.
    Acting is ours: one stream per task, 5 random episodes of each and as many updates as these have decisions, then one
    update per decision; 4M frames, and a replay of a million decisions, for each task.
    """
    task = task.default("dmc/walker-walk,dmc/cheetah-run,dmc/cartpole-swingup")
    env = task.env(1, "dmc-proprio")
    agent, tasks = TDMPC2Config(**lengths(task)), len(ids(task.id))
    return _published("mt", env, agent, tasks * 4_000_000, tasks * million(task), 1024)


def metaworld(task: Task) -> Config:
    """TD-MPC2 on Meta-world from state, as released: every action twice, episodes of 100 decisions, 2M frames.

    The discount follows from these, 0.95; 1000 env_steps at random. The published curves are of version 2, and of
    ``success_last``.
    """
    task = task.default("metaworld/lever-pull")
    env = task.env(1, "metaworld-tdmpc2")
    return _published("metaworld", env, TDMPC2Config(**lengths(task, env.protocol)), 2_000_000, 600_000_000)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "dmc-proprio": dmc_proprio,
    "dmc-vision": dmc_vision,
    "metaworld": metaworld,
    "mt": mt,
}
