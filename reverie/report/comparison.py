"""A comparison of variants over seeds, as `reverie compare` measured it: summary, figure, CSV, Markdown table.

The document (the JSON) has ``env``, ``runs``: variant -> runs, each with seed, score, minutes, env_steps_per_s,
curve {frames, score}, and ``summary``: variant -> `summary` of its runs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reverie.report.curves import COLOURS, DASHES, LEVEL, MIN_SEEDS, PLAIN, X_LABELS, Y_LABELS, aggregate
from reverie.report.document import write_document
from reverie.report.statistics import bootstrap_interval, iqm

Run = Mapping[str, Any]
MEASURED = ("variant", "runs", "score (IQM)", f"{LEVEL * 100:g} % interval", "seeds", "minutes", "env_steps/s")
"""columns of the table; those of predictions come after them"""


def presets(document: Mapping[str, Any]) -> str:
    """The preset of all variants in words, or of each where they are several."""
    each = document.get("presets")
    if not each:
        return f"preset {document.get('preset')}"
    return "presets " + ", ".join(f"{preset} of {name}" for name, preset in each.items())


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Statistics of the runs' evaluation scores, and of each number in their ``prediction``, if they have it.

    iqm: interquartile mean (of fewer than 4 runs: the mean). interval: its bootstrap interval, from 3 runs on.
    """
    statistics = _statistics([run["score"] for run in runs])
    for name in ("minutes", "env_steps_per_s"):
        statistics[name] = float(np.median([run[name] for run in runs]))
    if all("prediction" in run for run in runs):
        names = runs[0]["prediction"]
        columns = {name: [run["prediction"][name] for run in runs] for name in names}
        statistics["prediction"] = {
            name: None if None in column else _statistics(column) for name, column in columns.items()
        }
    return statistics


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    scores = np.array(values, float)[:, None]
    interval = None
    if len(values) >= MIN_SEEDS:
        interval = [float(end) for end in bootstrap_interval(scores, iqm, level=LEVEL)]
    return {
        "runs": len(values),
        "iqm": float(iqm(scores)),
        "interval": interval,
        "median": float(np.median(scores)),
        "mean": float(scores.mean()),
        "min": float(scores.min()),
        "max": float(scores.max()),
    }


def write_comparison(document: Mapping[str, Any], out: Path) -> dict[str, Path]:
    """Paths, by ending, of <out>.json, .png, .csv and .md, which are written. out: a path without ending."""
    files = write_document(document, out, markdown(document), _draw, indent=1)
    numbers = out.with_name(f"{out.name}.csv")
    _write_csv(document, numbers)
    return {"json": files["json"], "png": files["png"], "csv": numbers, "md": files["md"]}


def markdown(document: Mapping[str, Any]) -> list[str]:
    """Lines of the table: a variant each, best first."""
    predicted = all("prediction" in each for each in document["summary"].values())
    extra = list(next(iter(document["summary"].values()))["prediction"]) if predicted else []
    head = [*MEASURED, *(name.replace("_", " ") for name in extra)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in _ranked(document):
        row = document["summary"][name]
        seeds = ", ".join(f"{run['score']:.2f}" for run in document["runs"][name])
        cells = [f"`{name}`", str(row["runs"]), f"{row['iqm']:.3f}", _interval(row), seeds]
        speed = row.get("env_steps_per_s")  # documents of before have none
        cells += [f"{row['minutes']:.1f}", "-" if speed is None else f"{speed:.3g}"]
        for measure in extra:
            numbers = row["prediction"][measure]
            cells.append("-" if numbers is None else f"{numbers['iqm']:.3g} ({_interval(numbers)})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _interval(statistics: Mapping[str, Any]) -> str:
    return "-" if statistics["interval"] is None else "{:.3g} to {:.3g}".format(*statistics["interval"])


def _ranked(document: Mapping[str, Any]) -> list[str]:
    scores = document["summary"]
    return sorted(scores, key=lambda name: -scores[name]["iqm"])


def _write_csv(document: Mapping[str, Any], path: Path) -> None:
    """Write one line per run."""
    columns = ["seed", "score", "score_std", "minutes", "env_steps", "env_steps_per_s", "learner_steps"]
    runs = [run for each in document["runs"].values() for run in each]
    extra = list(runs[0]["prediction"]) if all("prediction" in run for run in runs) else []
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["variant", "agent", *columns, *extra])
        for name, each in document["runs"].items():
            for run in each:
                predictions = [run["prediction"][key] for key in extra]
                lines.writerow([name, document["agents"][name], *(run[key] for key in columns), *predictions])


@rc_context(PLAIN)
def _draw(document: Mapping[str, Any], out: Path) -> None:
    """Draw the curves of training scores left, the evaluation at the end right, whose names are the labels of both."""
    names = list(document["runs"])
    figure = Figure(figsize=(11, max(3.8, 1.6 + 0.32 * len(names))), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    dashes = {name: DASHES[number // len(COLOURS) % len(DASHES)] for number, name in enumerate(names)}
    kinds: dict[str, None] = {}
    """of the curves' middles: they depend on the number of runs"""
    for name, runs in document["runs"].items():
        points = [(np.array(r["curve"]["frames"]), np.array(r["curve"]["score"])) for r in runs if r["curve"]["frames"]]
        if not points:
            continue
        curve = aggregate(name, points, [document["env"]] * len(points))
        kinds[curve.statistic] = None
        if curve.low is not None and curve.high is not None:
            left.fill_between(curve.x, curve.low, curve.high, color=colours[name], alpha=0.15, linewidth=0)
        left.plot(curve.x, curve.value, dashes[name], color=colours[name], linewidth=1.8)
    left.set_xlabel(X_LABELS["frames"])
    left.set_ylabel(Y_LABELS["episode/score"])
    left.set_title(": ".join(["training", *filter(None, ["; ".join(kinds)])]), loc="left", fontsize=10)
    if left.get_xlim()[1] >= 1000:
        left.xaxis.set_major_formatter(EngFormatter(sep=""))
    ranked = _ranked(document)[::-1]
    for place, name in enumerate(ranked):
        row, colour = document["summary"][name], colours[name]
        right.plot([run["score"] for run in document["runs"][name]], [place] * row["runs"], "|", color=colour)
        if row["interval"] is not None:
            right.plot(row["interval"], [place, place], dashes[name], color=colour, linewidth=2)
        right.plot(row["iqm"], place, "o", color=colour)
    right.set_yticks(range(len(ranked)), ranked)
    for label, name in zip(right.get_yticklabels(), ranked, strict=True):
        label.set_color(colours[name])
    right.set_ylim(-0.6, len(ranked) - 0.4)
    right.set_xlabel(Y_LABELS["eval/score"])
    right.set_title(f"evaluation: IQM, {LEVEL * 100:g} % interval, each seed", loc="left", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{document['env']}, {presets(document)}", x=0.01, ha="left")
    figure.savefig(out)
