"""``reverie plot``: runs found in folders, put together by what they have in common, as a picture, a CSV and a table.

Scores of several environments mean something together only when they are human-normalised, on one axis as in one curve.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from reverie.errors import UserError
from reverie.report.curves import LEVEL, X_LABELS, Y_LABELS, Curve, XAxis, aggregate, draw
from reverie.report.document import numbers_beside
from reverie.report.record import read_metrics
from reverie.report.reference import GAME, human_normalised, reference
from reverie.report.runs import Key, Run, find_runs, grouped, read_runs
from reverie.report.statistics import Statistic, bootstrap_interval, iqm, mean, median, optimality_gap
from reverie.report.words import number

Normalise = Literal["auto", "off", "human"]

FORMATS = (".png", ".svg", ".pdf")
SCORES = ("episode/score", GAME, "eval/score", "eval/score_median", "eval/score_min")
"""Metrics that are returns of whole games, for which human scores exist."""


@dataclass(frozen=True)
class Plotted:
    """Files that `plot` wrote, the lines of its table, and notes on runs that are not or not wholly in the picture."""

    picture: Path
    csv: Path
    curves: tuple[Curve, ...]
    table: tuple[str, ...]
    notes: tuple[str, ...]


def plot(
    paths: Sequence[str | Path],
    out: str | Path = "curves.png",
    *,
    x: XAxis = "frames",
    metric: str = "episode/score",
    group: Sequence[Key] = (),
    normalise: Normalise = "auto",
) -> Plotted:
    """Picture of `metric` of the runs in `paths` over `x`, in `out`, with its numbers in a CSV beside it.

    paths: run directories, or folders in which they are searched for. group: runs that agree in these keys are one
    curve (none: in all three). normalise: by the scores of random play and people; `auto`: if all games have them.

    Raises UserError if there are no runs, none has the metric, or scores of several environments would share an axis
    without being normalised and without `env` being named in `group`.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out} should end with {', '.join(FORMATS)}; the numbers go to a .csv beside it")
    numbers = numbers_beside(out, "curve,statistic,")
    runs, notes = read_runs(find_runs(paths), metric, x)
    lives = metric == "episode/score" and any(GAME in record for run in runs for record in read_metrics(run.path))
    if lives:
        notes.append(f"{metric} is of single lives here, which no reference is for; of whole games is --metric {GAME}")
        if normalise == "human":
            raise UserError(f"--normalise human: {metric} is of single lives here; name --metric {GAME}")
        normalise = "off"
    if metric == "episode/score" and any("," in run.env for run in runs):
        notes.append(
            f"{metric} of several environments is a mean over their episodes: those with short ones count more; "
            "of each is --metric task/NAME/score"
        )
    relative = _normalised(runs, metric, normalise, group)
    if relative:
        runs = [replace(run, points=(run.points[0], human_normalised(run.env, run.points[1]))) for run in runs]
    keys: Sequence[Key] = group or ("agent", "env", "config")
    curves = []
    for label, members in grouped(runs, keys).items():
        curves.append(aggregate(label, [run.points for run in members], [run.env for run in members]))
        notes += _doubts(curves[-1], members, x)
    name = f"{metric}, human-normalised" if relative else metric
    ylabel = f"human-normalised {metric}" if relative else Y_LABELS.get(metric, metric)
    levels = {"random": 0.0, "human": 1.0} if relative else None
    picture = draw(curves, out, xlabel=X_LABELS[x], ylabel=ylabel, references=levels, title=_title(runs))
    _write(numbers, curves, name, x)
    return Plotted(picture, numbers, tuple(curves), tuple(_table(curves, name, x, relative)), tuple(notes))


def _normalised(runs: Sequence[Run], metric: str, normalise: Normalise, group: Sequence[Key]) -> bool:
    """Whether to normalise. Raises UserError if that is asked for and cannot be, or if it is needed."""
    envs = list(dict.fromkeys(run.env for run in runs))
    unknown = [env for env in envs if reference(env) is None]
    if normalise == "human":
        if metric not in SCORES:
            raise UserError(f"--normalise human is for {', '.join(SCORES)}; {metric} has no human reference")
        if unknown:
            raise UserError(f"--normalise human: no human score is known for {', '.join(unknown)}; leave them out")
    relative = normalise == "human" or (normalise == "auto" and metric in SCORES and not unknown)
    if len(envs) > 1 and not relative and "env" not in group:
        raise UserError(
            f"{metric} of {len(envs)} environments ({', '.join(envs)}) cannot share an axis without normalisation; "
            "plot one environment, or name --group env to draw a curve of each all the same"
        )
    return relative


def _doubts(curve: Curve, runs: Sequence[Run], x: XAxis) -> list[str]:
    """Notes for a reader of the curve: seeds that count twice, and runs that end long before the others."""
    notes = []
    by_seed: dict[tuple[str, str, str, int], Run] = {}
    for run in runs:
        same = by_seed.setdefault((run.agent, run.env, run.fingerprint(), run.seed), run)
        if same is not run:
            notes.append(f"{curve.label}: {same.path} and {run.path} are the same seed {run.seed}, counted twice")
    ends = [run.points[0][-1] for run in runs]
    if not len(curve.drawn):
        notes.append(f"{curve.label}: nothing is drawn, for at no {x} are all its runs there; plot them one by one")
    elif min(ends) < 0.9 * max(ends):
        short = runs[int(np.argmin(ends))].path
        notes.append(
            f"{curve.label}: drawn up to {_place(min(ends), x)} {x}, where {short} ends; "
            f"the longest run has {_place(max(ends), x)}"
        )
    return notes


def _title(runs: Sequence[Run]) -> str:
    envs = {run.env for run in runs}
    return envs.pop() if len(envs) == 1 else f"{len(envs)} environments"


def _write(path: Path, curves: Sequence[Curve], metric: str, x: XAxis) -> None:
    """Write one line per curve and point; low and high are empty where there is no interval."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["curve", "statistic", "environments", "runs", "metric", x, "value", "low", "high"])
        for curve in curves:
            about = [curve.label, curve.statistic, len(set(curve.tasks)), len(curve.runs), metric]
            for place in curve.drawn:
                numbers = [curve.x[place], curve.value[place]]
                if curve.low is not None and curve.high is not None:
                    numbers += [curve.low[place], curve.high[place]]
                lines.writerow([*about, *(f"{number:.8g}" for number in numbers), *[""] * (4 - len(numbers))])


def _table(curves: Sequence[Curve], metric: str, x: XAxis, relative: bool) -> list[str]:
    """Statistics of each curve's last tenth, as aligned lines; what says nothing new here is left out."""
    several = any(len(set(curve.tasks)) > 1 for curve in curves)  # else the median over tasks is the mean
    rows = []
    for curve in curves:
        scores = curve.final() if len(curve.drawn) else None
        interval = "-"
        if scores is not None and curve.low is not None:
            low, high = bootstrap_interval(scores, iqm, level=LEVEL)
            interval = f"{number(float(low))} to {number(float(high))}"
        row = {"curve": curve.label, "runs": str(len(curve.runs))}
        row |= {"environments": str(len(set(curve.tasks)))} if several else {}
        row |= {x: "-" if scores is None else _place(curve.x[curve.drawn[-1]], x)}
        row |= {"IQM": "-" if curve.low is None else _number(iqm, scores), f"{LEVEL * 100:g} % interval": interval}
        row |= {"median": _number(median, scores)} if several else {}
        row |= {"mean": _number(mean, scores)}
        row |= {"optimality gap": _number(optimality_gap, scores)} if relative else {}
        rows.append(row)
    columns = [[name, *(row[name] for row in rows)] for name in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    padded = [[f"{cell:<{width}}" for cell in column] for column, width in zip(columns, widths, strict=True)]
    lines = ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
    return [f"{metric}, mean of the last tenth of each curve", *lines]


def _number(statistic: Statistic, scores: np.ndarray | None) -> str:
    return "-" if scores is None else number(float(statistic(scores)))


def _place(x: float, unit: XAxis) -> str:
    return f"{x:.2f}" if unit == "minutes" else f"{x:.0f}"
