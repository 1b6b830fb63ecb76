"""Schedules: what changes over a run, given as a share of its length or as a count of env_steps or learner_steps.

A dataclass declares the length of a schedule as a field of its own::

    lr_over: float = schedule("learner_steps")      0: no schedule; in (0, 1]: that share of the run; larger: a count

`resolve` turns shares into counts once the length of the run is known. What runs a schedule reads counts only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from torch import Tensor

C = TypeVar("C")
Unit = Literal["env_steps", "learner_steps"]

UNIT = "schedule"
BEGINS = "schedule begins after"


@dataclass(frozen=True)
class Length:
    """The length of a run. learner_steps: those that are paced by its env_steps, and those before the first of them."""

    env_steps: int
    learner_steps: int


def schedule(unit: Unit, default: float = 0, *, begins: str | None = None) -> Any:
    """A field that holds the length of a schedule. begins: the field of the same dataclass that holds what precedes it.

    Fields that others begin after are no schedules of their own to `ends`.
    """
    return field(default=default, metadata={UNIT: unit, BEGINS: begins})


def check(config: Any) -> None:
    """Raise ValueError for a schedule in `config` (not in groups below it) that is neither a share nor a count."""
    for item in _schedules(config):
        value = getattr(config, item.name)
        if not 0 <= value < float("inf") or (value > 1 and value != int(value)):
            raise ValueError(
                f"{item.name} must be 0, a share of the run in (0, 1], or a whole number of "
                f"{item.metadata[UNIT]}, got {value}"
            )


def counted(config: C) -> C:
    """`config` itself. Raises ValueError where a schedule in it is still a share of the run: nobody resolved it."""
    for item in _schedules(config):
        value = getattr(config, item.name)
        if 0 < value <= 1:
            raise ValueError(f"{item.name} is the share {value} of a run; resolve it with the run's length first")
    return config


def resolve(config: C, length: Length) -> C:
    """The dataclass with counts in place of shares, in groups below it too. A share s of n steps is round(s n)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if UNIT in item.metadata:
            changes[item.name] = _count(value, getattr(length, item.metadata[UNIT]))
        elif item.init and dataclasses.is_dataclass(value):
            changes[item.name] = resolve(value, length)
    return dataclasses.replace(config, **changes)


def ends(config: Any, length: Length, prefix: str = "") -> Iterator[tuple[str, int, Unit]]:
    """Dotted key, count at which it ends, and unit of every schedule in a tree of dataclasses.

    A dataclass may name those of its schedules, or of the groups below it, that are not used: `unused_schedules`.
    """
    unused = getattr(config, "unused_schedules", ())
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and item.name not in unused:
            yield from ends(value, length, f"{prefix}{item.name}.")
    counts = resolve(config, length)
    delays = {item.metadata[BEGINS] for item in _schedules(config)}
    for item in _schedules(config):
        count = getattr(counts, item.name)
        if count and item.name not in delays and item.name not in unused:
            begins = item.metadata[BEGINS]
            yield prefix + item.name, count + (getattr(counts, begins) if begins else 0), item.metadata[UNIT]


def _schedules(config: Any) -> list[dataclasses.Field[Any]]:
    return [item for item in dataclasses.fields(config) if UNIT in item.metadata]


def _count(value: float, total: int) -> int:
    """A count of at least 2 for a share of however few steps: 0 is no schedule, and 1 would be a share again."""
    return max(round(value * total), 2) if 0 < value <= 1 else int(value)


def share(version: Tensor, over: float) -> Tensor:
    """Share of the first `over` learner_steps that is behind, float32 [] in 0..1."""
    return (version / over).clamp(max=1.0)
