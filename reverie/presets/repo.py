"""RePo: Dreamer V1's small sizes under the constraint, and its official code's for Control."""

from __future__ import annotations

from collections.abc import Mapping

from reverie.agents.repo import RePoConfig, adam
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.presets import dreamerv1
from reverie.presets.parts import before_films, built_on, inherited
from reverie.presets.task import Preset, Task

CONSTRAINED = ("kl_balance", "kl_free", "kl_scale", "grad_heads", "observation_scale")
"""settings of Dreamer V1 that its small sizes have in another way"""


def settings(preset: str, config: Config) -> RePoConfig:
    """The settings of a small Dreamer V1, with a weight of the KL that learns 30 times as fast from a larger start.

    A run of a few thousand learner_steps ends before the published rate has moved the published start at all.
    """
    own = inherited(config.agent, *CONSTRAINED)
    return RePoConfig(**own, beta_start=1e-2, beta_opt=adam(3e-3, float("inf")))


SMALL: Mapping[str, Preset] = {name: make for name, make in dreamerv1.PRESETS.items() if name.startswith("cpu")}


def dmc_vision(task: Task) -> Config:
    """RePo on 1M frames of the control suite (github.com/zchuning/repo, experiments/train_repo.py).

    Action repeat 2, 5000 random env_steps, then 500 000 of them with 100 updates of 50 x 50 rows per 500. Its dreams
    have 15 states with that of the start: a horizon of 14.
    """
    return Config(
        name="repo",
        preset="dmc-vision",
        agent=RePoConfig(),
        env=EnvConfig(task.default("dmc/walker-walk").id, 1, "dmc-vision"),
        replay=ReplayConfig(50, WindowConfig(learn=50), store=StoreConfig(12_000_000_000)),
        run=RunConfig(
            frames=1_010_000,
            prefill=5000,
            pretrain=100,
            train_ratio=500.0,
            checkpoint_every=25_000,
            eval_every=5000,
            eval_episodes=10,
        ),
    )


def dmc_background(task: Task) -> Config:
    """RePo on 1M frames of the control suite before moving films (experiments/train_repo.py: dmc_distracted).

    As `dmc_vision`, with other pictures. The films there are Kinetics videos of cars, here they are drawn.
    """
    return before_films(dmc_vision, task)


PRESETS: dict[str, Preset] = {
    **built_on(SMALL, "repo", "RePo", settings),
    "dmc-vision": dmc_vision,
    "dmc-background": dmc_background,
}
