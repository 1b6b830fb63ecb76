"""Pictures of runs: curves with intervals over runs, and errors of a dream over its horizon; labelled directly."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.errors import UserError
from reverie.report.record import read_metrics
from reverie.report.statistics import bootstrap_interval, iqm, mean

PLAIN: dict[Any, Any] = {"text.parse_math": False}
"""settings of pictures: a name with two dollars in it is a name"""
XAxis = Literal["frames", "env_steps", "minutes"]
Points = tuple[np.ndarray, np.ndarray]
"""x [n] ascending, and the value there [n]."""

X_LABELS = {
    "frames": "frames (decisions × action repeat)",
    "env_steps": "env_steps (decisions)",
    "minutes": "wall-clock time (minutes)",
}
Y_LABELS = {
    "episode/score": "episode score (sum of rewards)",
    "episode/length": "episode length (env_steps)",
    "eval/score": "evaluation score (mean over episodes)",
}
COLOURS = ("#1f5fa8", "#c4512d", "#2f8a57", "#8a5aa8", "#a8842a", "#4d4d4d")
DASHES = ("-", "--", ":")
"""One after the other, where there are more lines than colours."""
GRAY = "#777777"
BINS = 100
"""A curve has at most this many points; records between two of them are averaged."""
MIN_SEEDS = 3
"""Runs that every task needs for an interquartile mean and an interval; with fewer, the mean and each run are drawn."""
LEVEL = 0.95
LABEL_WIDTH = 32
"""Characters of a line of a label."""
LINE_INCHES = 0.175
"""Its height."""


@dataclass(frozen=True)
class Curve:
    """A statistic over runs, along x.

    label: whose runs. statistic: what `value` is, in words. x: [G]. runs: [R, G] of each run, NaN outside its records.
    tasks: [R], each run's environment. value: [G], NaN where not all runs have been. low, high: [G] ends of the
    bootstrap interval, or None with fewer than `MIN_SEEDS` runs of a task.
    """

    label: str
    statistic: str
    x: np.ndarray
    runs: np.ndarray
    tasks: tuple[str, ...]
    value: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None

    @property
    def drawn(self) -> np.ndarray:
        """Indices on x at which there is a value, ascending."""
        return np.flatnonzero(np.isfinite(self.value))

    def final(self) -> np.ndarray:
        """Scores [seeds, tasks]: each run's mean over the last tenth of what is drawn, which must not be nothing."""
        last = self.drawn[-max(1, round(len(self.drawn) / 10)) :]
        return score_matrix(self.runs[:, last].mean(1), self.tasks)


def aggregate(label: str, points: Sequence[Points], tasks: Sequence[str]) -> Curve:
    """The curve of runs that have (x, value) `points`, each in the environment named in `tasks`, [R] both.

    Interquartile mean over all runs and stratified bootstrap interval, point by point; the mean over runs and no
    interval where a task has fewer than `MIN_SEEDS` runs. Neither is there where one of the runs has not been.
    """
    x, runs = binned(points)
    complete = np.flatnonzero(np.isfinite(runs).all(0))
    matrices = [score_matrix(runs[:, place], tasks) for place in complete]
    enough = min(tasks.count(task) for task in set(tasks)) >= MIN_SEEDS
    value, low, high = (np.full(len(x), np.nan) for _ in range(3))
    for place, scores in zip(complete, matrices, strict=True):
        value[place] = iqm(scores) if enough else mean(scores)
        if enough:
            low[place], high[place] = bootstrap_interval(scores, iqm, level=LEVEL)
    name = "one run" if len(runs) == 1 else f"{'IQM' if enough else 'mean'} of {len(runs)} runs"
    if len(set(tasks)) > 1:
        name += f" of {len(set(tasks))} environments"
    if enough:
        name += f", {LEVEL * 100:g} % interval"
    return Curve(label, name, x, runs, tuple(tasks), value, low if enough else None, high if enough else None)


def score_matrix(values: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
    """Values of runs [R] as [seeds, tasks], tasks in order of appearance; NaN below the last run of a task."""
    columns = [values[[other == task for other in tasks]] for task in dict.fromkeys(tasks)]
    scores = np.full((max(map(len, columns)), len(columns)), np.nan)
    for number, column in enumerate(columns):
        scores[: len(column), number] = column
    return scores


@rc_context(PLAIN)
def draw(
    curves: Sequence[Curve],
    out: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    references: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """Path `out` of a picture of curves, each with its interval, or with its single runs thin where it has none.

    references: levels, by name. The ending of `out` chooses the format.
    """
    labels: list[tuple[str, str]] = []
    heights: list[float] = []
    figure, axes = _axes()
    for number, curve in enumerate(curves):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.plot(curve.x, curve.runs.T, color=colour, linewidth=0.8, alpha=0.45)
        # A single point is no line; a mark shows it.
        mark = "o" if len(curve.drawn) == 1 else None
        axes.plot(curve.x, curve.value, dash, color=colour, linewidth=2.2, marker=mark)
        parts = curve.label.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
        lines = textwrap.wrap(parts, LABEL_WIDTH) + textwrap.wrap(curve.statistic, LABEL_WIDTH)
        labels.append(("\n".join(lines), colour))
        ends = curve.value[curve.drawn] if len(curve.drawn) else curve.runs[np.isfinite(curve.runs)]
        heights.append(float(ends[-1]))
    for name, level in (references or {}).items():
        axes.axhline(level, color=GRAY, linewidth=1, linestyle=(0, (5, 4)))
        labels.append((f"{name} {level:g}", GRAY))
        heights.append(level)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if axes.get_xlim()[1] >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, None)
    return _save(figure, axes, labels, heights, title, out)


def learning_curve(
    run_dirs: Sequence[str | Path],
    out_png: str | Path,
    key: str = "episode/score",
    x: XAxis = "frames",
    references: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """Path `out_png` of one curve of `key` of runs that differ in their seed, with `references` as dashed levels.

    Raises UserError if there are no runs, if one has no metrics, or none with `key`.
    """
    if not run_dirs:
        raise UserError("no run directories to draw")
    curve = aggregate("", [series(run_dir, key, x) for run_dir in run_dirs], [""] * len(run_dirs))
    ylabel = Y_LABELS.get(key, key)
    return draw([curve], out_png, xlabel=X_LABELS[x], ylabel=ylabel, references=references, title=title)


def error_by_horizon(
    results: Mapping[str, np.ndarray],
    out_png: str | Path,
    ylabel: str = "mean squared error per pixel",
    title: str = "",
) -> Path:
    """Path `out_png` of a picture of errors of dreams.

    results: name -> [H], where entry h is h + 1 env_steps after the last observation that was seen.
    Raises ValueError for an empty mapping or arrays that are not [H].
    """
    if not results or any(np.ndim(errors) != 1 or not len(errors) for errors in results.values()):
        raise ValueError("expected name -> array [H] with H >= 1")
    figure, axes = _axes()
    labels: list[tuple[str, str]] = []
    for number, (name, errors) in enumerate(results.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(np.arange(1, len(errors) + 1), errors, color=colour, linewidth=2, marker="o", markersize=2.5)
        labels.append((name, colour))
    axes.set_xlabel("horizon (env_steps since the last observation)")
    axes.set_ylabel(ylabel)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _save(figure, axes, labels, [float(np.asarray(e)[-1]) for e in results.values()], title, out_png)


def series(run_dir: str | Path, key: str, x: XAxis) -> Points:
    """Points (x, value) of the records with a finite number under `key`, in order of x; UserError if there are none."""
    column, unit = ("time/elapsed_s", 60.0) if x == "minutes" else (x, 1.0)
    records = read_metrics(run_dir)
    told = [record for record in records if np.isfinite(record.get(key, np.nan))]
    if any(column not in record for record in told):
        raise UserError(f"{run_dir}: a line of its log has {key} and no {column}; write spaces over it")
    pairs = [(record[column] / unit, record[key]) for record in told]
    if not pairs:
        names = sorted({name for record in records for name in record if "/" in name})
        raise UserError(f"{run_dir} has no {key!r} yet; it has: {', '.join(names) or 'no metrics'}")
    xs, ys = np.array(sorted(pairs, key=lambda pair: pair[0]), float).T
    return xs, ys


def binned(points: Sequence[Points], bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Grid x [G] and means [runs, G] on it of runs (x [n_i], y [n_i]).

    If the runs have at most `bins` different x, as evaluations do, those are the grid; else its points are the centres
    of at most `bins` equal bins, of which a run has the mean of its y. Where a run has no records it lies on the line
    between its neighbours, and is NaN before its first and after its last record.
    """
    grid = np.unique(np.concatenate([x for x, _ in points]))
    edges = grid
    if len(grid) > bins:
        edges = np.linspace(grid[0], grid[-1], min(bins, max(len(x) for x, _ in points)) + 1)
        grid = (edges[:-1] + edges[1:]) / 2
    curves = np.full((len(points), len(grid)), np.nan)
    for curve, (x, y) in zip(curves, points, strict=True):
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(grid) - 1)
        records = np.bincount(place, minlength=len(grid))
        filled = np.flatnonzero(records)
        means = np.bincount(place, weights=y, minlength=len(grid))[filled] / records[filled]
        inside = slice(filled[0], filled[-1] + 1)
        curve[inside] = np.interp(grid[inside], grid[filled], means)
    return grid, curves


def blank_axes() -> tuple[Figure, Axes]:
    """An empty white plot. Made without pyplot, which keeps figures and a backend for the whole process."""
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _axes() -> tuple[Figure, Axes]:
    """Axes of `blank_axes` with lines across."""
    figure, axes = blank_axes()
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _save(
    figure: Figure,
    axes: Axes,
    labels: Sequence[tuple[str, str]],
    heights: Sequence[float],
    title: str,
    out_png: str | Path,
) -> Path:
    """Write each label (text, colour) at the right end of its line and save; labels that would meet move apart."""
    slot = LINE_INCHES * (max(text.count("\n") + 1 for text, _ in labels) + 0.3)
    room = max(figure.get_figheight(), slot * len(labels) + 1) - 1  # of the axes; the rest is text
    figure.set_figheight(room + 1)
    low, high = axes.get_ylim()
    order = np.argsort(heights)
    places = spread([(heights[i] - low) / (high - low) for i in order], slot / room)
    for i, place in zip(order, places, strict=True):
        text, colour = labels[i]
        axes.annotate(
            text, (1, place), (6, 0), xycoords="axes fraction", textcoords="offset points", color=colour, va="center"
        )
    if title:
        axes.set_title(title, loc="left")
    out = Path(out_png)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return out


def spread(places: Sequence[float], distance: float) -> list[float]:
    """Sorted places moved apart to at least `distance`, as little as it takes, around where they were.

    What leaves [0, 1] is moved back; if there is no room for all, they go beyond 1.
    """
    groups: list[tuple[float, int]] = []  # (mean place, members): members sit `distance` apart around the mean
    for place in places:
        group = (place, 1)
        while groups and group[0] - groups[-1][0] < distance * (group[1] + groups[-1][1]) / 2:
            (a, m), (b, n) = groups.pop(), group
            group = ((a * m + b * n) / (m + n), m + n)
        groups.append(group)
    apart = [mean + (k - (members - 1) / 2) * distance for mean, members in groups for k in range(members)]
    last = len(apart) - 1
    return [max(k * distance, min(1 - (last - k) * distance, place)) for k, place in enumerate(apart)]
