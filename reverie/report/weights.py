"""``reverie plot --weights RUN``: loss, weight and their product of each group of a world model, over training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reverie.errors import UserError
from reverie.report.curves import COLOURS, PLAIN, X_LABELS, XAxis, series
from reverie.report.document import numbers_beside
from reverie.report.record import read_metrics

PREFIX = "train/balance/"
"""of metrics named <group>_loss, <group>_weight, <group>_product"""
KINDS = {"loss": "loss (nats, before weighing)", "weight": "weight", "product": "weight × loss"}


@rc_context(PLAIN)
def plot_weights(
    run_dir: str | Path, out: str | Path = "weights.png", x: XAxis = "frames", *, named: str | Path = ""
) -> tuple[Path, Path]:
    """Paths of a picture of three panels, `out`, and of their numbers in a CSV beside it.

    named: the run's name in the picture [`run_dir`]. Raises UserError if the run has no such metrics, `out` is no
    picture, or something else lies where the numbers go.
    """
    out, named = Path(out), named or run_dir
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--out {out} should end with .png, .svg or .pdf; the numbers go to a .csv beside it")
    numbers = numbers_beside(out, f"{x},")
    names = {name for record in read_metrics(run_dir) for name in record if name.startswith(PREFIX)}
    groups = sorted(name.removeprefix(PREFIX).removesuffix("_loss") for name in names if name.endswith("_loss"))
    if not groups:
        raise UserError(f"{run_dir} has no {PREFIX}* metrics: agents with a world model write them once they learn")
    figure = Figure(figsize=(12, 3.8), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    table: dict[float, dict[str, float]] = {}
    for axes, (kind, title) in zip(figure.subplots(1, 3), KINDS.items(), strict=True):
        lowest = np.inf
        for number, group in enumerate(groups):
            places, values = series(run_dir, f"{PREFIX}{group}_{kind}", x)
            axes.plot(places, values, color=COLOURS[number % len(COLOURS)], linewidth=1.8, label=group)
            lowest = min(lowest, float(values.min()))
            for place, value in zip(places.tolist(), values.tolist(), strict=True):
                table.setdefault(place, {})[f"{group}_{kind}"] = value
        # Groups differ by orders of magnitude; a logarithm needs them to be positive, which likelihoods may not be.
        axes.set_yscale("log" if lowest > 0 else "symlog")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(X_LABELS[x])
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_xlim()[1] >= 1000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(str(named), x=0.01, ha="left", fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    columns = [f"{group}_{kind}" for kind in KINDS for group in groups]
    with numbers.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([x, *columns])
        for place, row in sorted(table.items()):
            lines.writerow([f"{place:.8g}", *(f"{row[name]:.8g}" if name in row else "" for name in columns)])
    return out, numbers
