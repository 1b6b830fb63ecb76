"""Curves of runs in a document: those that belong together as one, in each environment a picture of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reverie.report.curves import Curve, Points, aggregate, binned
from reverie.report.runs import described, grouped
from reverie.report.words import number
from reverie.study.about import About

EMPTY = (np.zeros(0), np.zeros(0))
POINTS = 50
"""of a curve, at most"""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed, length and what is logged only. label: what they have in common."""

    label: str
    runs: tuple[About, ...]

    @property
    def env(self) -> str:
        """Their environment."""
        return self.runs[0].env


def groups(runs: Sequence[About]) -> list[Group]:
    """The runs, put together by what they ran, in order of appearance."""
    by_path = {about.path: about for about in runs}
    members = grouped([described(about.path, EMPTY, "frames") for about in runs], ("agent", "env", "config"))
    return [Group(label, tuple(by_path[run.path] for run in each)) for label, each in members.items()]


def curve(group: Group, metric: str) -> Curve | None:
    """The curve of a metric of a group; None if none of its runs has it."""
    points = [_fewer(each) for about in group.runs if (each := about.points(metric)) is not None]
    return aggregate(group.label, points, [group.env] * len(points)) if points else None


def _fewer(points: Points) -> Points:
    """Points of a run as a page has room for them."""
    x, values = binned([points], POINTS)
    return x, values[0]


def table(curves: Sequence[Curve], parts: int = 10) -> list[list[str | float]]:
    """Rows of a table of curves at `parts` equally spaced places: frames, then the value of each with its interval."""
    end = max(float(each.x[-1]) for each in curves)
    rows: list[list[str | float]] = []
    for place in np.linspace(end / parts, end, parts):
        rows.append([round(place), *(_at(each, place) for each in curves)])
    return rows


def _at(curve: Curve, place: float) -> str:
    """The value of a curve at the point of it that is nearest to a place; a dash outside of it."""
    drawn = curve.drawn
    step = float(np.diff(curve.x).max()) if len(curve.x) > 1 else 1.0
    if not len(drawn):
        return "-"
    nearest = drawn[np.argmin(np.abs(curve.x[drawn] - place))]
    if abs(curve.x[nearest] - place) > step:
        return "-"
    value = number(float(curve.value[nearest]))
    if curve.low is None or curve.high is None:
        return value
    return f"{value} ({number(float(curve.low[nearest]))} to {number(float(curve.high[nearest]))})"
