"""`reverie plot --weights`: the numbers of each group, from the log to the CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import imageio.v3 as imageio
import pytest

from reverie.errors import UserError
from reverie.report.record import FILE
from reverie.report.weights import plot_weights
from tests.report.run_dirs import make_run


def weighed(path: Path) -> Path:
    """A run whose reward loss stays at 2 while its weight grows; the dynamics loss reaches 0."""
    run = make_run(path)
    lines = []
    for n in (1, 2):
        record = {"env_steps": 10 * n, "frames": 40 * n, "learner_steps": n, "time/elapsed_s": 60.0 * n}
        for group, loss, weight in (("reward", 2.0, n / 2), ("dynamics", 2.0 - n, 0.5)):
            values = {"loss": loss, "weight": weight, "product": loss * weight}
            record |= {f"train/balance/{group}_{kind}": value for kind, value in values.items()}
        lines.append(json.dumps(record) + "\n")
    (run / FILE).write_text("".join(lines))
    return run


def test_three_panels_and_their_numbers(tmp_path: Path) -> None:
    picture, numbers = plot_weights(weighed(tmp_path / "run"), tmp_path / "new" / "w.png", "env_steps")
    assert imageio.imread(picture).shape[1] > 1000
    with numbers.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = ("loss", "weight", "product")
    assert list(rows[0]) == ["env_steps", *(f"{group}_{kind}" for kind in kinds for group in ("dynamics", "reward"))]
    assert [row["env_steps"] for row in rows] == ["10", "20"]
    assert [row["reward_weight"] for row in rows] == ["0.5", "1"]
    assert [row["reward_product"] for row in rows] == ["1", "2"]
    assert [row["dynamics_loss"] for row in rows] == ["1", "0"]


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train/balance/\* metrics"):
        plot_weights(make_run(tmp_path / "run"), tmp_path / "w.png")
    with pytest.raises(UserError, match="should end with"):
        plot_weights(weighed(tmp_path / "other"), tmp_path / "w.gif")
