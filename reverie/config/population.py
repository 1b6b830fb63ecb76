"""Settings of a population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reverie.config.bounds import at_least
from reverie.nets.schedule import check, schedule

POPULATION = "population.json"
"""takes the place of ``config.json`` in the directory of a population, whose members are run directories below it"""


@dataclass(frozen=True)
class PopulationConfig:
    """Population-based training, see `reverie.run.population` and docs/population.md.

    size: members that are trained side by side; 0: there is no population.
    every: env_steps of each member between two decisions, a share of its run or a count. burn_in: before the first one.
    vary: key -> where a member's value comes from at first: two numbers are a range in which its logarithm is drawn
        evenly, more are the values that there are. Empty: IMPALA's of entropy, learning rate and epsilon.
    exploit: ``tournament``, one rival drawn for each, or ``truncation``, the worst copy the best. margin: by how much
        fitness must be better to be copied. share: of the members that are the worst, and the best (truncation).
    explore: hyper-parameters change ``always``, or only of who has ``copied``. chance: of each to change.
    factor: what it is multiplied or divided by. episodes: that a member must have ended since its last decision.
    """

    size: int = 0
    every: float = schedule("env_steps", 0.05)
    burn_in: float = schedule("env_steps", 0.1)
    vary: dict[str, Any] = field(default_factory=dict)
    exploit: Literal["tournament", "truncation"] = "tournament"
    margin: float = 0.0
    share: float = 0.2
    explore: Literal["always", "copied"] = "always"
    chance: float = 1 / 3
    factor: float = 1.2
    episodes: int = 20

    def __post_init__(self) -> None:
        check(self)
        at_least(0, size=self.size)
        at_least(1, episodes=self.episodes)
        if self.size == 1:
            raise ValueError("a population of one has nobody to copy: size must be 0, or at least 2")
        if not self.every > 0:
            raise ValueError(f"every must be a share of the run in (0, 1], or a number of env_steps, got {self.every}")
        if not (0.0 <= self.chance <= 1.0 and 0.0 < self.share <= 0.5):
            raise ValueError(f"expected chance in [0, 1] and share in (0, 0.5], got {self.chance} and {self.share}")
        if not (self.factor > 1.0 and self.margin >= 0.0):
            raise ValueError(f"expected factor > 1 and margin >= 0, got {self.factor} and {self.margin}")
        object.__setattr__(self, "vary", _dotted(self.vary))
        for key, given in self.vary.items():
            if not isinstance(given, list | tuple) or len(given) < 2 or not all(_positive(value) for value in given):
                raise ValueError(f"vary.{key} must be two or more positive numbers, as in [1e-5, 1e-2], got {given!r}")


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
