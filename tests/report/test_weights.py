"""`reverie plot --weights`: the numbers of each group, from the log to the CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio.v3 as imageio
import pytest

from reverie.errors import UserError
from reverie.report.weights import plot_weights
from tests.report.run_dirs import make_run, weighed


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


def test_dollars_are_dollars_and_numbers_of_somebody_else_stay(tmp_path: Path) -> None:
    run = weighed(tmp_path / r"c$\frac$x")
    picture, numbers = plot_weights(run, tmp_path / "w.png")
    assert picture.exists()
    numbers.write_text("my data\n")
    with pytest.raises(UserError, match=r"w.csv is there and was not written by this"):
        plot_weights(run, tmp_path / "w.png")


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train/balance/\* metrics"):
        plot_weights(make_run(tmp_path / "run"), tmp_path / "w.png")
    with pytest.raises(UserError, match="should end with"):
        plot_weights(weighed(tmp_path / "other"), tmp_path / "w.gif")
