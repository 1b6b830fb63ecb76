"""The configuration of a run: one tree of frozen dataclasses, saved beside the run, never edited by an agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reverie import overrides
from reverie.config.env import EnvConfig
from reverie.config.origin import DatasetConfig, InitConfig
from reverie.config.population import POPULATION, PopulationConfig
from reverie.config.ray import RayConfig
from reverie.config.replay import ReplayConfig, StoreConfig, WindowConfig
from reverie.config.run import LogConfig, RunConfig
from reverie.data.selectors import SELECTORS
from reverie.errors import UserError
from reverie.overrides import Choice

__all__ = [
    "POPULATION",
    "Config",
    "DatasetConfig",
    "EnvConfig",
    "InitConfig",
    "LogConfig",
    "PopulationConfig",
    "RayConfig",
    "ReplayConfig",
    "RunConfig",
    "StoreConfig",
    "WindowConfig",
    "with_settings",
]


@dataclass(frozen=True)
class Config:
    """A whole run. name: of the agent, see `reverie list agents`; agent: its own configuration.

    preset: where the values came from; a saved run does not read it again.
    """

    name: str
    preset: str
    agent: Any
    env: EnvConfig = field(default_factory=EnvConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    run: RunConfig = field(default_factory=RunConfig)
    init: InitConfig = field(default_factory=InitConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)

    def __post_init__(self) -> None:
        streams, actors = self.env.num_envs, self.ray.actors
        if actors and (streams < actors or streams % actors):
            nearest = -(-streams // actors) * actors
            raise ValueError(
                f"{streams} streams cannot be shared equally by {actors} actors; set env.num_envs = {nearest}, or "
                "other ray.actors"
            )
        if self.ray.shards > actors:
            raise ValueError(f"each shard is of an actor or more: ray.shards is {self.ray.shards}, ray.actors {actors}")
        if self.run.train_ratio is None and not self.replay.selector.uses_up:
            raise ValueError(
                "run.train_ratio = none draws windows for as long as there are any, which the selector "
                f"{Choice(SELECTORS).name(self.replay.selector)!r} never runs out of; set replay.selector = fifo"
            )


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with other values of these dotted keys; a length in frames replaces one in env_steps.

    Raises UserError for unknown keys, for values that do not fit, and for an end of a schedule that takes no time.
    """
    if "run.frames" in settings:
        config = replace(config, run=replace(config.run, env_steps=None))
    changed = overrides.apply(config, settings)
    before, after = overrides.flatten(config), overrides.flatten(changed)
    for key in settings:
        over = key.removesuffix("_end") + "_over"
        if key.endswith("_end") and over not in settings and after.get(over) == 0 and after[key] != before.get(key):
            raise UserError(
                f"{key} = {settings[key]} would not be reached: {over} is 0, which is no schedule; set {over} too, to "
                "a share of the run in (0, 1] or to a count"
            )
    return changed
