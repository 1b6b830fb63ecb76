"""Pictures of runs: learning curves over seeds, and errors of a dream over its horizon; plain and labelled directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.errors import UserError
from reverie.report.record import read_metrics

XAxis = Literal["frames", "env_steps", "minutes"]

X_LABELS = {
    "frames": "frames (decisions × action repeat)",
    "env_steps": "env_steps (decisions)",
    "minutes": "wall-clock time (minutes)",
}
Y_LABELS = {"episode/score": "episode score (sum of rewards)", "episode/length": "episode length (env_steps)"}
COLOURS = ("#1f5fa8", "#c4512d", "#2f8a57", "#8a5aa8", "#a8842a", "#4d4d4d")
GRAY = "#777777"
BINS = 100
"""A curve has at most this many points; records between two of them are averaged."""


def learning_curve(
    run_dirs: Sequence[str | Path],
    out_png: str | Path,
    key: str = "episode/score",
    x: XAxis = "frames",
    references: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """Draw `key` of runs that differ in their seed: each run thin, their median thick, `references` as dashed levels.

    Records are averaged within bins of x (all runs share them); the median is drawn where all runs have been. Returns
    `out_png`. Raises UserError if there are no runs, if one has no metrics, or none with `key`.
    """
    if not run_dirs:
        raise UserError("no run directories to draw")
    points = [series(run_dir, key, x) for run_dir in run_dirs]
    grid, curves = binned(points)
    figure, axes = _axes()
    for curve in curves:
        axes.plot(grid, curve, color=COLOURS[0], linewidth=0.8, alpha=0.45)
    median = np.median(curves, axis=0)  # NaN, and so not drawn, where a run has no records
    axes.plot(grid, median, color=COLOURS[0], linewidth=2.2)
    drawn = np.flatnonzero(np.isfinite(median))
    labels = [(f"median of {len(curves)} runs" if len(curves) > 1 else "mean of records", COLOURS[0])]
    heights = [float(median[drawn[-1]] if len(drawn) else curves[0][np.isfinite(curves[0])][-1])]
    for name, level in (references or {}).items():
        axes.axhline(level, color=GRAY, linewidth=1, linestyle=(0, (5, 4)))
        labels.append((f"{name} {level:g}", GRAY))
        heights.append(level)
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel(Y_LABELS.get(key, key))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, None)
    return _save(figure, axes, labels, heights, title, out_png)


def error_by_horizon(
    results: Mapping[str, np.ndarray],
    out_png: str | Path,
    ylabel: str = "mean squared error per pixel",
    title: str = "",
) -> Path:
    """Draw errors of dreams: name -> [H], where entry h is h + 1 env_steps after the last observation that was seen.

    Returns `out_png`. Raises ValueError for an empty mapping or arrays that are not [H].
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


def series(run_dir: str | Path, key: str, x: XAxis) -> tuple[np.ndarray, np.ndarray]:
    """(x, value) of the records with a finite number under `key`, in order of x. Raises UserError if there are none."""
    column, unit = ("time/elapsed_s", 60.0) if x == "minutes" else (x, 1.0)
    records = read_metrics(run_dir)
    pairs = [(record[column] / unit, record[key]) for record in records if np.isfinite(record.get(key, np.nan))]
    if not pairs:
        known = sorted({name for record in records for name in record if "/" in name})
        raise UserError(f"{run_dir} has no {key!r} yet; it has: {', '.join(known) or 'no metrics'}")
    xs, ys = np.array(sorted(pairs, key=lambda pair: pair[0]), float).T
    return xs, ys


def binned(points: Sequence[tuple[np.ndarray, np.ndarray]], bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Runs of (x [n_i], y [n_i]) on one grid: (centres [G], means [runs, G]).

    The mean of a run's y within each bin; a bin without records lies on the line between its neighbours, and is NaN
    before the run's first and after its last record. G <= bins, and no more than the longest run has records.
    """
    low, high = min(x[0] for x, _ in points), max(x[-1] for x, _ in points)
    count = min(bins, max(len(x) for x, _ in points))
    edges = np.linspace(low, max(high, low + 1e-9), count + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    curves = np.full((len(points), count), np.nan)
    for curve, (x, y) in zip(curves, points, strict=True):
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, count - 1)
        records = np.bincount(place, minlength=count)
        filled = np.flatnonzero(records)
        means = np.bincount(place, weights=y, minlength=count)[filled] / records[filled]
        inside = slice(filled[0], filled[-1] + 1)
        curve[inside] = np.interp(centres[inside], centres[filled], means)
    return centres, curves


def _axes() -> tuple[Figure, Axes]:
    """An empty white plot. Made without pyplot, which keeps figures and a backend for the whole process."""
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
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
    low, high = axes.get_ylim()
    order = np.argsort(heights)
    places = spread([(heights[i] - low) / (high - low) for i in order], distance=0.06)
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
    """Sorted places moved apart to at least `distance`, as little as it takes, around where they were."""
    groups: list[tuple[float, int]] = []  # (mean place, members): members sit `distance` apart around the mean
    for place in places:
        group = (place, 1)
        while groups and group[0] - groups[-1][0] < distance * (group[1] + groups[-1][1]) / 2:
            (a, m), (b, n) = groups.pop(), group
            group = ((a * m + b * n) / (m + n), m + n)
        groups.append(group)
    return [mean + (k - (members - 1) / 2) * distance for mean, members in groups for k in range(members)]
