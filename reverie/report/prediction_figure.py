"""The picture of a prediction report (`reverie.report.prediction.summarise`): six panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reverie.report.curves import COLOURS, GRAY

HORIZON = "horizon (env_steps since the last observation)"


def draw_prediction(summary: Mapping[str, Any], out: str | Path, title: str = "") -> Path:
    """Errors, calibration and hallucinated rewards of a summary, as an image file. Returns `out`."""
    figure = Figure(figsize=(12, 6.6), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels: Sequence[Sequence[Axes]] = figure.subplots(2, 3)
    observation, reward, continuation = panels[0]
    for number, (key, errors) in enumerate(summary["observations"].items()):
        colour = COLOURS[number % len(COLOURS)]
        _line(observation, errors["error"], key, colour)
        _line(observation, errors["repeat_error"], f"{key}: repeat the last", colour, "--")
    if summary["observations"]:
        _horizon(observation, "observations: mean squared error")
    else:
        _absent(observation, "observations", "the model says nothing about them")
    _errors(reward, summary["reward"], "reward: squared error")
    _errors(continuation, summary["continuation"], "continuation: squared error")
    _calibration(panels[1][0], summary["reward"], "reward")
    _calibration(panels[1][1], summary["continuation"], "continuation")
    _hallucination(panels[1][2], summary["hallucination"])
    for axes in (axes for line in panels for axes in line):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left")
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return out


def _line(axes: Axes, values: Sequence[float | None], label: str, colour: str, dash: str = "-") -> None:
    heights = np.array(values, float)
    axes.plot(np.arange(1, len(heights) + 1), heights, dash, color=colour, label=label, marker="o", markersize=2.5)


def _horizon(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(HORIZON)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.legend(frameon=False, fontsize=8)


def _errors(axes: Axes, head: Mapping[str, Any] | None, title: str) -> None:
    if head is None:
        _absent(axes, title, "the model has no such head")
        return
    _line(axes, head["error"], "model", COLOURS[0])
    _line(axes, head["constant_error"], "best constant", GRAY, "--")
    _horizon(axes, title)


def _calibration(axes: Axes, head: Mapping[str, Any] | None, name: str) -> None:
    if head is None:
        _absent(axes, f"calibration: {name}", "the model has no such head")
        return
    calibration = head["calibration"]
    predicted, realised = np.array(calibration["predicted"]), np.array(calibration["realised"])
    ends = [min(predicted.min(), realised.min()), max(predicted.max(), realised.max())]
    axes.plot(ends, ends, color=GRAY, linewidth=1, linestyle=(0, (5, 4)))
    area = 12 + 150 * np.sqrt(np.array(calibration["count"]) / max(calibration["count"]))
    axes.scatter(predicted, realised, area, color=COLOURS[0], alpha=0.7)
    axes.set_title(f"calibration: {name}, error {calibration['error']:.3g}", loc="left", fontsize=10)
    axes.set_xlabel("predicted, mean of a bin (area: how many)")
    axes.set_ylabel("realised, mean of the bin")


def _hallucination(axes: Axes, rates: Mapping[str, Any] | None) -> None:
    title = "rewards, false and missed"
    if rates is None:
        _absent(axes, title, "no reward was seen: set a threshold")
        return
    for name, colour in (("hallucinated", COLOURS[1]), ("missed", COLOURS[0]), ("reversed", COLOURS[2])):
        rate = rates[f"{name}_rate"]
        text = "no such rows" if rate is None else f"{rate:.3g} of the rows"
        _line(axes, rates[f"{name}_rate_by_horizon"], f"{name}: {text}", colour)
    axes.set_ylim(-0.02, 1.02)
    _horizon(axes, f"{title} (|r| ≥ {rates['threshold']:.3g})")


def _absent(axes: Axes, title: str, reason: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.text(0.5, 0.5, reason, ha="center", va="center", color=GRAY, transform=axes.transAxes)
    axes.set_axis_off()
