"""Parts that presets share: one for each kind of task behind a single name, short runs, and a parent's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.presets.task import VISION, Kind, Preset, Task

REPEATS = {"cartpole": 8, "cheetah": 4, "ball_in_cup": 4, "reacher": 4, "finger": 2, "walker": 2, "humanoid": 2}
"""Action repeat by domain of the control suite. Source: github.com/google-research/planet, scripts/tasks.py in its last
version (cup: 6 in the version of the paper)."""
OTHER_REPEAT = 2
"""of domains that PlaNet did not run on; Dreamer's of all"""


def by_kind(task: Task, presets: Mapping[Kind, Preset]) -> Config:
    """The configuration of the preset for the task's kind; ``continuous`` is ``vectors`` to agents without one.

    ``control``, where there is one, is for all tasks with images and continuous actions.
    """
    if "control" in presets and task.control:
        return presets["control"](task)
    kind = task.kind
    return presets[kind if kind in presets else "vectors"](task)


def short_run(env_steps: int, prefill: int, train_ratio: float) -> RunConfig:
    """Short run, evaluated over 100 episodes at the end; one thread, because small networks are too small to share."""
    return RunConfig(
        env_steps=env_steps,
        prefill=prefill,
        pretrain=0,
        train_ratio=train_ratio,
        log_every=1000,
        checkpoint_every=10_000,
        eval_episodes=100,
        eval_envs=10,
        threads=1,
    )


def dreaming_run(
    config: Config,
    frames: int,
    prefill: int,
    train_ratio: float,
    *,
    batch: int = 8,
    learn: int = 16,
    budget: int = 500_000_000,
    checkpoint_every: int = 5000,
    eval_episodes: int = 100,
    eval_envs: int = 10,
) -> Config:
    """A small world model's short run: 100 updates before the first decision, small batches, few threads.

    batch: windows of `learn` rows. budget: bytes of the replay.
    """
    run = RunConfig(
        frames=frames,
        prefill=prefill,
        pretrain=100,
        train_ratio=train_ratio,
        log_every=500,
        checkpoint_every=checkpoint_every,
        eval_episodes=eval_episodes,
        eval_envs=eval_envs,
        threads=1,  # these networks are too small to share
    )
    return replace(config, replay=ReplayConfig(batch, WindowConfig(learn=learn), store=StoreConfig(budget)), run=run)


def planet_repeat(task: Task) -> int:
    """PlaNet's action repeat of a task of the control suite, by its domain."""
    return REPEATS.get(task.domain, OTHER_REPEAT)


def small_pictures(task: Task, num_envs: int) -> EnvConfig:
    """A control task as two CPU cores can learn it: 32x32 pixels, drawn smoothly and without what is dear to draw.

    PlaNet's action repeats make episodes of few decisions. Other environments come as they like to.
    """
    return task.env(num_envs, VISION, {"size": 32, "render": "smooth", "action_repeat": planet_repeat(task)})


def control_run(config: Config, task: Task, frames: int = 80_000) -> Config:
    """A small world model's run on `small_pictures` of a control task: five random episodes, then 400 rows an env_step.

    Batches are of 16 x 25 rows: a small network's time hardly depends on how many there are.
    """
    config = replace(config, env=small_pictures(task, 1))
    prefill = 5000 // planet_repeat(task)
    return dreaming_run(
        config, frames, prefill, 400, batch=16, learn=25, checkpoint_every=2500, eval_episodes=10, eval_envs=5
    )


def sparing_run(config: Config, task: Task) -> Config:
    """The same agent and replay on `small_pictures` of a control task: 48 000 frames, of which 5000 at random, and 256
    rows an env_step."""
    repeat = planet_repeat(task)
    run = replace(short_run(48_000 // repeat, 5000 // repeat, 256.0), checkpoint_every=2500, eval_episodes=10)
    return replace(config, env=small_pictures(task, config.env.num_envs), run=run)


def inherited(config: Any, *but: str) -> dict[str, Any]:
    """The settings of a parent's configuration (a dataclass) by name, but for these: arguments for its child's."""
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name not in but}


def before_films(make: Preset, task: Task) -> Config:
    """The configuration that a preset of the control suite from pixels makes, with films behind the task."""
    config = make(task.default("dmc-background/walker-walk"))
    return replace(config, preset="dmc-background", env=replace(config.env, protocol="dmc-background"))


def built_on(
    table: Mapping[str, Preset], name: str, title: str, settings: Callable[[str, Config], Any]
) -> dict[str, Preset]:
    """The presets of a base, for an agent that is built on it.

    name: of the agent; title: of it in sentences. settings: its own, from a preset's name and configuration.
    """

    def over(preset: str, make_base: Preset) -> Preset:
        def make(task: Task) -> Config:
            config = make_base(task)
            return replace(config, name=name, agent=settings(preset, config))

        make.__doc__ = f"{title}, otherwise as: {(make_base.__doc__ or '').strip().splitlines()[0]}"
        return make

    return {preset: over(preset, make) for preset, make in table.items()}


def prioritised(base: Config) -> Config:
    """Configuration `base` with prioritised replay, and importance weights that are whole at the end of the run."""
    replay = replace(base.replay, selector=PrioritisedConfig(alpha=0.5))
    return replace(base, agent=replace(base.agent, beta_over=1.0), replay=replay)
