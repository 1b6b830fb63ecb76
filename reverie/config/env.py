"""Settings of the environment of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reverie.config.bounds import at_least

OWN = {"id", "num_envs", "protocol", "stepping"}
"""what an environment is made with beside its options"""


@dataclass(frozen=True)
class EnvConfig:
    """id: of the environment, see `reverie list envs`. num_envs: streams of the run.

    protocol: one of those that the environment's family has by name; ``auto``: its first.
    options: of the environment or its adapter, see docs/environments.md.
    """

    id: str = "toy/catch"
    num_envs: int = 1
    protocol: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    check: Literal["first", "all", "none"] = "first"
    """rows that are held to the declared spaces: the first of every stream, all, or none"""
    restarts: int = 0
    """how often the environment of a stream is made anew after it raised; its episode is cut and a new one begins"""
    workers: int = 0
    """processes that share the streams, for slow environments; 0: they are stepped one after another"""

    def __post_init__(self) -> None:
        at_least(1, num_envs=self.num_envs)
        at_least(0, restarts=self.restarts, workers=self.workers)
        check_option_names(self.options)


def check_option_names(options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that has the name of something that is said in another way."""
    for name in sorted(OWN & set(options)):
        raise ValueError(
            f"env.options has {name!r}, which no environment can have as an option of its own: "
            + (f"say env.{name}" if name != "stepping" else "say env.workers, env.restarts or env.check")
        )
