"""Errors by horizon, calibration and hallucinated rewards, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from reverie.report.prediction import (
    Outcomes,
    by_horizon,
    calibrate,
    false_mass,
    false_reward,
    hallucination,
    reward_threshold,
    summarise,
)
from reverie.report.prediction_figure import draw_prediction
from reverie.report.reward_video import Episode, reward_video


def test_errors_by_horizon_leave_out_what_is_past_the_end() -> None:
    values = np.array([[1.0, 3.0], [5.0, 99.0], [99.0, 99.0]])
    valid = np.array([[True, True], [True, False], [False, False]])
    assert by_horizon(values, valid) == pytest.approx([2.0, 5.0, np.nan], nan_ok=True)


def test_calibration_by_hand() -> None:
    # Two bins of [0, 1]: {0.1, 0.3} realised 0 and 1, {0.9} realised 1.
    found = calibrate(np.array([0.1, 0.3, 0.9]), np.array([0.0, 1.0, 1.0]), 0.0, 1.0, bins=2)
    assert found.predicted == pytest.approx([0.2, 0.9])
    assert found.realised == pytest.approx([0.5, 1.0])
    assert found.count.tolist() == [2, 1]
    assert found.error == pytest.approx((2 * 0.3 + 1 * 0.1) / 3)


def test_calibration_takes_in_the_ends_and_constant_predictions() -> None:
    found = calibrate(np.array([1.0, 1.0, 0.0, 1.5]), np.array([1.0, 1.0, 0.0, 0.0]), 0.0, 1.0, bins=4)
    assert found.count.tolist() == [1, 3]
    same = calibrate(np.full(3, 0.25), np.array([0.0, 0.0, 1.0]), 0.25, 0.25)
    assert (same.count.tolist(), same.error) == ([3], pytest.approx(1 / 3 - 0.25))
    with pytest.raises(ValueError, match="n >= 1"):
        calibrate(np.zeros(0), np.zeros(0), 0.0, 1.0)


def test_perfect_predictions_are_calibrated_and_chance_is_not() -> None:
    generator = np.random.default_rng(0)
    chance = generator.uniform(size=100_000)
    happened = (generator.uniform(size=100_000) < chance).astype(float)
    assert calibrate(chance, happened, 0.0, 1.0).error < 0.01
    assert calibrate(1 - chance, happened, 0.0, 1.0).error > 0.4


def test_a_reward_is_half_the_smallest_or_more() -> None:
    assert reward_threshold(np.array([0.0, -0.4, 3.0])) == pytest.approx(0.2)
    assert reward_threshold(np.zeros(4)) is None


def test_hallucination_by_hand() -> None:
    #                       right  made up  made up  right  missed  reversed  missed
    reward = np.array([     0.0,    0.0,     0.0,     1.0,   1.0,    -1.0,    -1.0])  # fmt: skip
    predicted = np.array([  0.2,    0.5,    -2.0,     1.5,   0.4,     0.7,     0.1])  # fmt: skip
    found = hallucination(predicted, reward, threshold=0.5)
    assert (found.rewardless, found.rewarded, found.predicted) == (3, 4, 4)
    assert found.hallucinated_rate == pytest.approx(2 / 3)
    assert found.hallucinated_mass == pytest.approx((0.2 + 0.5 + 2.0) / 3)
    assert found.missed_rate == pytest.approx(2 / 4)
    assert found.reversed_rate == pytest.approx(1 / 4)
    assert found.missed_mass == pytest.approx((0.0 + 0.6 + 1.0 + 1.0) / 4)
    assert found.false_rate == pytest.approx(3 / 4)


def test_no_rows_no_rate() -> None:
    found = hallucination(np.array([0.1]), np.array([1.0]), 0.5)
    assert (found.hallucinated_rate, found.hallucinated_mass, found.false_rate) == (None, None, None)
    assert found.missed_rate == 1.0
    with pytest.raises(ValueError, match="positive"):
        hallucination(np.zeros(1), np.zeros(1), 0.0)


def outcomes(**changes: Any) -> Outcomes:
    """Two sequences that reach horizons 3 and 2 of 4; the rest is poison."""
    nan = np.nan
    given: dict[str, Any] = {
        "valid": np.array([[1, 1], [1, 1], [1, 0], [0, 0]], bool),
        "observations": {"image": (np.array([[1, 3], [2, 2], [5, nan], [nan, nan]]), np.full((4, 2), 7.0))},
        "reward": np.array([[0, 0], [0, 1], [1, nan], [nan, nan]]),
        "predicted_reward": np.array([[0, 0.75], [0, 1], [0.25, nan], [nan, nan]]),
        "continues": np.array([[1, 1], [1, 0], [0, nan], [nan, nan]]),
        "predicted_continuation": np.array([[1, 1], [1, 0], [0.5, nan], [nan, nan]]),
    }
    return Outcomes(**(given | changes))


def test_a_summary_is_what_json_has_and_reads_nothing_past_the_end() -> None:
    found = json.loads(json.dumps(summarise(outcomes(), 0.5), allow_nan=False))
    assert (found["horizon"], found["sequences_at_horizon"]) == (3, [2, 2, 1])
    assert found["observations"]["image"] == {"error": [2.0, 2.0, 5.0], "repeat_error": [7.0, 7.0, 7.0]}
    assert found["reward"]["error"] == pytest.approx([0.5625 / 2, 0.0, 0.5625])
    # The best constant of rewards 0, 0, 0, 1, 1 is 0.4.
    assert found["reward"]["constant_error"] == pytest.approx([0.16, (0.16 + 0.36) / 2, 0.36])
    assert found["reward"]["mean_error"] == pytest.approx(2 * 0.5625 / 5)
    assert found["continuation"]["error"] == pytest.approx([0.0, 0.0, 0.25])
    assert found["continuation"]["calibration"]["error"] == pytest.approx(0.5 / 5)
    made_up = found["hallucination"]
    assert (made_up["rewardless"], made_up["rewarded"]) == (3, 2)
    assert made_up["hallucinated_rate"] == pytest.approx(1 / 3)
    assert made_up["hallucinated_rate_by_horizon"] == [0.5, 0.0, None]
    assert made_up["missed_rate_by_horizon"] == [None, 0.0, 1.0]
    assert made_up["reversed_rate_by_horizon"] == [None, 0.0, 0.0]


def test_a_summary_without_rewards_or_a_continuation_head() -> None:
    found = summarise(outcomes(predicted_continuation=None), None)
    assert (found["hallucination"], found["continuation"]) == (None, None)
    with pytest.raises(ValueError, match="no prediction"):
        summarise(outcomes(valid=np.zeros((4, 2), bool)), None)


def test_the_picture_shows_whatever_the_summary_has(tmp_path: Path) -> None:
    for name, summary in (
        ("all", summarise(outcomes(), 0.5)),
        ("few", summarise(outcomes(predicted_continuation=None), None)),
    ):
        picture = imageio.imread(draw_prediction(summary, tmp_path / f"{name}.png", "a title"))
        assert picture.shape[0] > 500
        assert (picture[..., :3] == np.array([0x1F, 0x5F, 0xA8])).all(-1).sum() > 50


def test_a_video_of_rewards(tmp_path: Path) -> None:
    def episode(length: int) -> Episode:
        frames = np.zeros((length, 8, 8, 1), np.uint8)
        return Episode(frames, frames + 255, np.zeros(length), np.linspace(0, 1, length))

    path = reward_video([episode(4), episode(3)], 2, 0.5, tmp_path / "a.gif")
    video = imageio.imread(path, index=None)
    assert len(video) == 4
    assert np.unique(video[0][..., :3].reshape(-1, 3), axis=0).size > 6
    # Without a threshold nothing is red: dreamed rows 2 and 3 differ, where 2/3 and 1 are predicted but not there.
    plain = imageio.imread(reward_video([episode(4), episode(3)], 2, None, tmp_path / "plain.gif"), index=None)
    assert [bool((ours != theirs).any()) for ours, theirs in zip(video, plain, strict=True)] == [
        False,
        False,
        True,
        True,
    ]
    with pytest.raises(ValueError, match="at least one"):
        reward_video([], 2, 0.5, tmp_path / "b.gif")


def test_false_rewards_by_hand() -> None:
    #                       hallucinated   reversed  right  right  missed  too small to be one, so hallucinated
    reward = np.array([     0.0,           1.0,      1.0,   0.0,   1.0,    0.4])  # fmt: skip
    predicted = np.array([  -0.5,          -0.6,     0.6,   0.4,   -0.4,   0.7])  # fmt: skip
    expected = [True, True, False, False, False, True]
    assert false_reward(predicted, reward, 0.5).tolist() == expected
    assert not false_reward(predicted, reward, None).any()
    found = hallucination(predicted, reward, 0.5)
    assert (found.hallucinated_rate, found.reversed_rate, found.false_rate) == (2 / 3, 1 / 3, 3 / 4)
    column = {"reward": reward[:, None], "predicted_reward": predicted[:, None], "valid": np.ones((6, 1), bool)}
    column |= {"continues": np.ones((6, 1)), "observations": {}, "predicted_continuation": None}
    by_row = summarise(outcomes(**column), 0.5)["hallucination"]
    assert by_row["hallucinated_rate_by_horizon"] == [1.0, None, None, 0.0, None, 1.0]
    assert by_row["reversed_rate_by_horizon"] == [None, 1.0, 0.0, None, 0.0, None]
    assert false_mass(outcomes(**column), 0.5) == pytest.approx([0.5 + 0.6 + 0.7])
    # Only 0.75 at (0, 1) of the two sequences is false, and less than another threshold.
    assert false_mass(outcomes(), 0.5).tolist() == [0.0, 0.75]
    assert false_mass(outcomes(), 0.9).tolist() == [0.0, 0.0]
