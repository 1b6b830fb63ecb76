"""Figures as SVG inside a document: drawn by matplotlib, twice, for a wide and for a narrow page.

Colours are those of the page's style sheet, so that they change between light and dark with it, and so is the font.
Labels of lines are not in the picture but in the page's legend, where they have room.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.report.curves import DASHES, PLAIN, Curve, Points
from reverie.report.page import Figure

WIDE, NARROW = (8.6, 3.5), (4.3, 3.1)
"""inches; a page of 62 rem, and a phone's"""
COLOURS = 6
"""of lines, as the style sheet has them; then they begin anew, dashed"""
INK, REFERENCE, GRID = "#010203", "#010204", "#010205"
LINES = tuple(f"#01030{number}" for number in range(COLOURS))
"""colours that stand for those of the style sheet until the picture is text"""
NOTHING: Points = (np.zeros(0), np.zeros(0))
_VARIABLES = {
    INK: "currentColor",
    REFERENCE: "var(--ref)",
    GRID: "var(--line)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(LINES)},
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    **PLAIN,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
}


@dataclass(frozen=True)
class Dot:
    """A line of `dots`: the value of each seed, and their statistic with its interval, if there is one."""

    label: str
    values: Sequence[float]
    middle: float
    interval: Sequence[float] | None


def curves(
    drawn: Sequence[Curve],
    xlabel: str,
    ylabel: str,
    caption: str,
    references: Mapping[str, float] | None = None,
    points: Sequence[Points] = (),
) -> Figure:
    """Curves with their intervals, or with each run thin where there is none. points: marked, as evaluations are."""

    def draw(axes: Axes) -> None:
        for number, curve in enumerate(drawn):
            colour, dash = _style(number)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
            elif len(curve.runs) > 1:
                axes.plot(curve.x, curve.runs.T, color=colour, linewidth=0.8, alpha=0.45)
            mark = "o" if len(curve.drawn) == 1 else None
            axes.plot(curve.x, curve.value, dash, color=colour, linewidth=2, marker=mark)
        for number, (x, y) in enumerate(points):
            axes.plot(x, y, "D", color=_style(number)[0], markersize=5)
        for name, level in (references or {}).items():
            axes.axhline(level, color=REFERENCE, linewidth=1, linestyle=(0, (5, 4)))
            axes.annotate(
                f"{name} {level:.4g}",
                (1, level),
                (-2, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
            )
        _labelled(axes, xlabel, ylabel)

    statistics = {curve.statistic for curve in drawn}
    if len(statistics) == 1:
        (statistic,) = statistics
        return _both(draw, f"{caption} {statistic[0].upper()}{statistic[1:]}.", [curve.label for curve in drawn])
    return _both(draw, caption, [f"{curve.label}: {curve.statistic}" for curve in drawn])


def lines(series: Mapping[str, Points], xlabel: str, ylabel: str, caption: str, zero: bool = False) -> Figure:
    """Lines by name. zero: the values' axis begins there."""

    def draw(axes: Axes) -> None:
        for number, (x, y) in enumerate(series.values()):
            colour, dash = _style(number)
            axes.plot(x, y, dash, color=colour, linewidth=1.8, marker="o" if len(x) <= 20 else None, markersize=3.5)
        if zero:
            axes.set_ylim(min(0.0, axes.get_ylim()[0]) if _negative(series) else 0.0, None)
        _labelled(axes, xlabel, ylabel)

    return _both(draw, caption, list(series))


def small(
    panels: Mapping[str, Sequence[Points]], xlabel: str, labels: Sequence[str], caption: str, zero: bool = False
) -> Figure:
    """Small pictures, one for each name, of one line per run. labels: of the runs. zero: values' axes begin there."""
    titles = list(panels)

    def panel(axes: Axes, title: str) -> None:
        for number, (x, y) in enumerate(panels[title]):
            colour, dash = _style(number)
            axes.plot(x, y, dash, color=colour, linewidth=1.4)
        axes.set_title(title, loc="left", fontsize=9)
        if zero:
            axes.set_ylim(0.0, None)
        _labelled(axes, "", "")
        axes.locator_params(axis="x", nbins=4)
        axes.locator_params(axis="y", nbins=4)

    def whole(columns: int, width: float) -> str:
        rows = -(-len(titles) // columns)
        height = 1.75 * rows + 0.25
        drawing = Drawing(figsize=(width, height))
        FigureCanvasSVG(drawing)
        # In inches, as all panels have the same room for their labels; to measure each takes twice as long.
        across, down = (
            (width - 0.5 - 0.1 - 0.55 * (columns - 1)) / columns,
            (height - 0.3 - 0.45 - 0.5 * (rows - 1)) / rows,
        )
        drawing.subplots_adjust(
            0.5 / width, 0.45 / height, 1 - 0.1 / width, 1 - 0.3 / height, 0.55 / across, 0.5 / down
        )
        grid = np.atleast_1d(drawing.subplots(rows, columns, squeeze=False)).ravel()
        for axes, title in zip(grid, titles, strict=False):
            panel(axes, title)
        for axes in grid[len(titles) :]:
            axes.set_visible(False)
        drawing.supxlabel(xlabel, fontsize=9, y=0.04 / height)
        return _text(drawing, f"{caption} {width}")

    with mpl.rc_context(_SETTINGS):
        wide, narrow = whole(min(3, len(titles)), WIDE[0]), whole(min(2, len(titles)), NARROW[0])
    return Figure(wide, narrow, caption, _legend(labels) if len(labels) > 1 else ())


def dots(rows: Sequence[Dot], xlabel: str, caption: str, references: Mapping[str, float] | None = None) -> Figure:
    """Each row's values as ticks on a line, with its statistic as a dot and the interval as a bar; the first on top."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(reversed(rows)):
            colour, _ = _style(len(rows) - 1 - place)
            axes.plot(row.values, [place] * len(row.values), "|", color=colour, markersize=9)
            if row.interval is not None:
                axes.plot(row.interval, [place, place], color=colour, linewidth=2.2)
            axes.plot([row.middle], [place], "o", color=colour)
        for level in (references or {}).values():
            axes.axvline(level, color=REFERENCE, linewidth=1, linestyle=(0, (5, 4)))
        axes.set_yticks(
            range(len(rows)), [row.label if len(row.label) <= 26 else _both_ends(row.label) for row in reversed(rows)]
        )
        axes.tick_params("y", length=0)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        _labelled(axes, xlabel, "")
        axes.spines["left"].set_visible(False)

    return _both(draw, caption, [], height=0.9 + 0.3 * len(rows))


def _both_ends(label: str) -> str:
    """A label in 26 characters: names of variants are often alike in their beginnings."""
    return f"{label[:12]}...{label[-11:]}"


def _negative(series: Mapping[str, Points]) -> bool:
    return any((y[np.isfinite(y)] < 0).any() for _, y in series.values())


def _both(draw: Callable[[Axes], None], caption: str, labels: Sequence[str], height: float | None = None) -> Figure:
    """A figure in both sizes."""
    texts = []
    with mpl.rc_context(_SETTINGS):
        for width, high in (WIDE, NARROW):
            drawing = Drawing(figsize=(width, height or high), layout="constrained")
            FigureCanvasSVG(drawing)
            draw(drawing.add_subplot())
            texts.append(_text(drawing, f"{caption} {width}"))
    return Figure(texts[0], texts[1], caption, _legend(labels))


def _legend(labels: Sequence[str]) -> list[tuple[str, int, int]]:
    return [(label, number % COLOURS, number // COLOURS % len(DASHES)) for number, label in enumerate(labels)]


def _style(number: int) -> tuple[str, str]:
    return LINES[number % COLOURS], DASHES[number // COLOURS % len(DASHES)]


def _labelled(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    if max(map(abs, axes.get_xlim())) >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=axes.get_xlim()[1] > 3))


def _text(drawing: Drawing, salt: str) -> str:
    """A drawing as an element of a page: nothing before ``<svg``, no address, no name that another picture has too.

    salt: of the names that its parts refer to each other by. One size of a picture must not refer to the other, of
    which nothing is drawn.
    """
    drawing.patch.set_visible(False)
    with mpl.rc_context({"svg.hashsalt": salt}), io.StringIO() as file:
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    # Groups have names such as axes_1, in every picture the same; what is referred to has a salted one.
    referred = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in referred else "", text)
    text = re.sub(r'^<svg([^>]*?)\swidth="[^"]*"', r"<svg\1", text)
    text = re.sub(r'^<svg([^>]*?)\sheight="[^"]*"', r"<svg\1", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", '<svg role="img"', 1)
