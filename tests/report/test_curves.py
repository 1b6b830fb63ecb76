"""The numbers behind the pictures, and that the pictures show them."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from reverie.errors import UserError
from reverie.report.curves import (
    aggregate,
    binned,
    draw,
    error_by_horizon,
    learning_curve,
    score_matrix,
    series,
    spread,
)
from reverie.report.record import FILE


def run(directory: Path, scores: list[float], every: int = 10) -> Path:
    directory.mkdir()
    lines = []
    for index, score in enumerate(scores, start=1):
        count = {"env_steps": index * every, "frames": 4 * index * every, "learner_steps": index}
        lines.append(count | {"time/elapsed_s": 60.0 * index, "episode/score": score})
        lines.append(count | {"time/elapsed_s": 60.0 * index, "train/loss": 1.0})
    (directory / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def test_series_takes_the_records_that_have_the_key(tmp_path: Path) -> None:
    directory = run(tmp_path / "a", [1.0, float("nan"), 3.0])
    for x, expected in (("frames", [40, 120]), ("env_steps", [10, 30]), ("minutes", [1, 3])):
        xs, ys = series(directory, "episode/score", x)  # type: ignore[arg-type]
        assert xs.tolist() == expected
        assert ys.tolist() == [1, 3]
    with pytest.raises(UserError, match=r"no 'episode/scor' yet; it has: episode/score, time/elapsed_s, train/loss"):
        series(directory, "episode/scor", "frames")


def test_binned_by_hand() -> None:
    # Four bins over 0..8. The first run has two records in bin 0, none in bin 1; the second ends in bin 1.
    first = (np.array([0.0, 1.0, 4.5, 8.0]), np.array([1.0, 3.0, 6.0, 10.0]))
    second = (np.array([1.0, 3.0]), np.array([0.0, 2.0]))
    centres, curves = binned([first, second], bins=4)
    assert centres.tolist() == [1, 3, 5, 7]
    assert curves[0].tolist() == [2, 4, 6, 10]
    assert curves[1][:2].tolist() == [0, 2]
    assert np.isnan(curves[1][2:]).all()


def test_few_different_places_are_the_grid() -> None:
    first = (np.array([2.0, 4.0, 4.0]), np.array([1.0, 2.0, 4.0]))
    second = (np.array([2.0, 3.0, 6.0]), np.array([0.0, 5.0, 8.0]))
    grid, curves = binned([first, second], bins=4)
    assert grid.tolist() == [2, 3, 4, 6]
    assert curves[0][:3].tolist() == [1, 2, 3]  # at 3 the line between its neighbours; at 4 two records
    assert np.isnan(curves[0][3])
    assert curves[1].tolist() == [0, 5, 6, 8]


def test_binned_single_record() -> None:
    centres, curves = binned([(np.array([5.0]), np.array([2.0]))])
    assert centres == pytest.approx([5.0])
    assert curves.tolist() == [[2.0]]


def test_spread_moves_as_little_as_it_takes() -> None:
    assert spread([0.1, 0.5, 0.9], 0.2) == [0.1, 0.5, 0.9]
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    # 0.5 and 0.5 move to 0.4 and 0.6; 0.65 is then too near, so that all three sit around their mean 0.55.
    assert spread([0.5, 0.5, 0.65], 0.2) == pytest.approx([0.35, 0.55, 0.75])
    # What would leave the axes is moved back: 0.9 and 0.95 would sit at 0.825 and 1.025.
    assert spread([0.9, 0.95], 0.2) == pytest.approx([0.8, 1.0])
    assert spread([-0.2, 0.05], 0.2) == pytest.approx([0.0, 0.2])
    places = spread(sorted(np.random.default_rng(0).random(12).tolist()), 0.06)
    assert np.diff(places).min() >= 0.06 - 1e-12
    assert places[0] >= 0
    assert places[-1] <= 1


def test_score_matrix_has_a_column_for_each_task() -> None:
    scores = score_matrix(np.array([1.0, 2.0, 3.0]), ["a", "b", "a"])
    np.testing.assert_array_equal(scores, [[1.0, 2.0], [3.0, np.nan]])


def line(*values: float, first: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return first + np.arange(len(values), dtype=float), np.array(values)


def test_a_curve_of_five_runs_by_hand() -> None:
    runs = [line(0, 1), line(10, 2), line(1, 3), line(2, 4), line(9, 50)]
    curve = aggregate("five", runs, ["a"] * 5)
    assert curve.x.tolist() == [0, 1]
    assert curve.value.tolist() == [(1 + 2 + 9) / 3, (2 + 3 + 4) / 3]  # of five runs one goes on either side
    assert curve.low is not None
    assert curve.high is not None
    assert (curve.low <= curve.value).all()
    assert (curve.value <= curve.high).all()
    assert curve.low.min() >= 0
    assert curve.high[1] > 4
    assert curve.statistic == "IQM of 5 runs, 95 % interval"
    assert curve.final().tolist() == [[1], [2], [3], [4], [50]]


def test_two_runs_have_a_mean_and_no_interval() -> None:
    curve = aggregate("two", [line(0, 1, 2), line(4, 5, 6, first=1)], ["a", "a"])
    assert curve.x.tolist() == [0, 1, 2, 3]
    # The second begins at 1 and the first ends at 2.
    np.testing.assert_array_equal(curve.value, [np.nan, 2.5, 3.5, np.nan])
    assert (curve.low, curve.high) == (None, None)
    assert curve.statistic == "mean of 2 runs"
    assert curve.drawn.tolist() == [1, 2]


def test_every_task_needs_its_seeds_for_an_interval() -> None:
    runs = [line(float(number)) for number in range(5)]
    few = aggregate("", runs, ["a", "a", "a", "b", "b"])
    assert few.low is None
    assert few.statistic == "mean of 5 runs of 2 environments"
    assert few.value.tolist() == [(1 + 3.5) / 2]
    enough = aggregate("", [*runs, line(5.0)], ["a", "a", "a", "b", "b", "b"])
    assert enough.statistic == "IQM of 6 runs of 2 environments, 95 % interval"
    assert enough.value.tolist() == [2.5]
    assert enough.low is not None
    assert 0.9 < float(enough.low[0]) < 2.5
    assert aggregate("", runs[:1], ["a"]).statistic == "one run"


def test_final_is_the_last_tenth_of_what_is_drawn() -> None:
    first, second = line(*range(40)), line(*range(0, 60, 2))
    curve = aggregate("", [first, second], ["a", "a"])
    assert curve.drawn[-1] == 29
    assert curve.final().tolist() == [[28.0], [56.0]]  # points 27, 28, 29


def test_many_curves_keep_their_axes(tmp_path: Path) -> None:
    curves = [
        aggregate(f"dreamerv2, rssm.deter {n}, kl_balance 0.8, train_ratio 32, entropy 0.001", [line(n, n + 1)], ["a"])
        for n in range(9)
    ]
    picture = imageio.imread(draw(curves, tmp_path / "many.png", xlabel="x", ylabel="y"))[..., :3]
    blue = (picture == np.array([0x1F, 0x5F, 0xA8])).all(-1)
    columns = np.flatnonzero(blue[:, :600].any(0))
    assert np.ptp(columns) > 400  # the first line crosses axes that are wide
    assert picture.shape[0] > 1000  # and the picture grew with its labels


@pytest.mark.parametrize("x", ["frames", "env_steps", "minutes"])
def test_a_learning_curve_is_a_white_picture_with_ink(tmp_path: Path, x: str) -> None:
    runs = [run(tmp_path / str(seed), [seed + 0.1 * i for i in range(30 + seed)]) for seed in range(3)]
    out = learning_curve(runs, tmp_path / "new" / "c.png", x=x, references={"random": 0.0, "optimal": 4.0})  # type: ignore[arg-type]
    picture = imageio.imread(out)[..., :3]
    assert (picture[0, 0] == 255).all()
    blue = (picture == np.array([0x1F, 0x5F, 0xA8])).all(-1)
    assert blue.sum() > 500  # the median
    assert (picture < 128).all(-1).sum() > 500  # axes and text


def test_runs_that_do_not_overlap_still_make_a_picture(tmp_path: Path) -> None:
    short, late = run(tmp_path / "a", [1.0, 2.0]), run(tmp_path / "b", [float("nan")] * 9 + [3.0])
    assert learning_curve([short, late], tmp_path / "c.png").stat().st_size > 1000


def test_curves_without_data_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directories"):
        learning_curve([], tmp_path / "c.png")
    with pytest.raises(UserError, match="is it a run directory"):
        learning_curve([tmp_path], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_errors_by_horizon_are_drawn_in_their_colours(tmp_path: Path) -> None:
    results = {"dream": np.linspace(0.01, 0.02, 15), "last frame repeated": np.linspace(0.01, 0.05, 15)}
    picture = imageio.imread(error_by_horizon(results, tmp_path / "e.png"))[..., :3]
    for colour in ((0x1F, 0x5F, 0xA8), (0xC4, 0x51, 0x2D)):
        assert (picture == np.array(colour)).all(-1).sum() > 300
    for wrong in ({}, {"a": np.zeros((2, 3))}, {"a": np.zeros(0)}):
        with pytest.raises(ValueError, match="array"):
            error_by_horizon(wrong, tmp_path / "f.png")
