"""Statistics over runs against hand-worked numbers, slow loops, and rliable."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from reverie.report.statistics import (
    Statistic,
    bootstrap_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
)

NAN = float("nan")
HAND = np.array([[0.0, 2.0, 0.9], [0.4, 1.0, 1.1], [0.2, 9.0, 0.1]])
RAGGED = np.array([[0.0, 4.0], [1.0, NAN], [NAN, 2.0], [5.0, NAN]])


def test_the_statistics_by_hand() -> None:
    # Sorted: 0 .1 | .2 .4 .9 1 1.1 | 2 9; of nine runs floor(9 / 4) = 2 go on either side.
    assert iqm(HAND) == pytest.approx((0.2 + 0.4 + 0.9 + 1.0 + 1.1) / 5)
    # Task means 0.2, 4, 0.7.
    assert mean(HAND) == pytest.approx(4.9 / 3)
    assert median(HAND) == pytest.approx(0.7)
    assert optimality_gap(HAND) == pytest.approx(1 - (0 + 1 + 0.9 + 0.4 + 1 + 1 + 0.2 + 1 + 0.1) / 9)
    assert optimality_gap(HAND, target=0.1) == pytest.approx(0.1 - (0.0 + 8 * 0.1) / 9)
    assert performance_profile(HAND, np.array([-1, 0, 0.9, 1, 9])).tolist() == pytest.approx(
        [1, 8 / 9, 4 / 9, 3 / 9, 0]
    )


def test_fewer_than_four_runs_are_not_trimmed() -> None:
    assert iqm(np.array([[1.0], [2.0], [9.0]])) == 4
    assert iqm(np.array([[1.0], [2.0], [4.0], [9.0]])) == 3


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 7), (11, 57)])
def test_the_interquartile_mean_against_sorting_a_list(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(1).lognormal(size=shape)
    values = sorted(float(v) for row in scores for v in row)
    for _ in range(len(values) // 4):
        values = values[1:-1]
    assert iqm(scores) == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_runs_that_are_not_there_by_hand() -> None:
    # Runs 0 1 5 and 4 2: of five one goes on either side; task means 2 and 3.
    assert iqm(RAGGED) == pytest.approx((1 + 2 + 4) / 3)
    assert mean(RAGGED) == pytest.approx(2.5)
    assert median(RAGGED) == pytest.approx(2.5)
    assert optimality_gap(RAGGED) == pytest.approx(1 - (2 / 3 + 1) / 2)
    assert performance_profile(RAGGED, np.array([2.5])).tolist() == pytest.approx([(1 / 3 + 1 / 2) / 2])


@pytest.mark.parametrize("statistic", [iqm, mean, median, optimality_gap])
def test_leading_axes_are_independent_matrices(statistic: Statistic) -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    scores[0, 1, 2:, 3] = NAN
    slow = [[statistic(scores[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(statistic(scores), slow, rtol=1e-14)
    profile = performance_profile(scores, np.array([-1.0, 0.5]))
    assert profile.shape == (2, 3, 2)
    assert profile[1, 2].tolist() == performance_profile(scores[1, 2], np.array([-1.0, 0.5])).tolist()


@pytest.mark.parametrize("statistic", [iqm, mean, median, optimality_gap])
@pytest.mark.parametrize("scores", [np.array([[0.0, 4.0], [1.0, 2.0], [7.0, 3.0]]), RAGGED])
def test_the_interval_against_every_resample(statistic: Statistic, scores: np.ndarray) -> None:
    """All resamples of so small a matrix can be listed; the interval must be that of the exact distribution."""
    columns = [column[np.isfinite(column)] for column in scores.T]
    exact = []
    for choice in product(*(product(column, repeat=len(column)) for column in columns)):
        drawn = np.full(scores.shape, NAN)
        for task, values in enumerate(choice):
            drawn[: len(values), task] = values
        exact.append(float(statistic(drawn)))
    assert len(exact) == np.prod([len(column) ** len(column) for column in columns])
    # A quantile of a discrete distribution may lie on a step, so probabilities are compared, not ends.
    low, high = bootstrap_interval(scores, statistic, level=0.8, resamples=40_000)
    for end, probability in ((low, 0.1), (high, 0.9)):
        assert np.mean(np.array(exact) < end - 1e-9) <= probability + 0.01
        assert np.mean(np.array(exact) <= end + 1e-9) >= probability - 0.01


def test_every_task_is_resampled_by_itself() -> None:
    # Runs of one task are equal, so that nothing varies; mixing tasks would.
    scores = np.tile([0.0, 1.0, 5.0], (4, 1))
    assert bootstrap_interval(scores, mean) == (2.0, 2.0)
    # Two tasks of two runs, drawn independently: the sum of their means takes the values -1, -1/2, 0, 1/2, 1.
    low, high = bootstrap_interval(np.array([[-1.0, -1.0], [1.0, 1.0]]), mean, level=0.8)
    assert (low, high) == (-0.5, 0.5)  # resampling whole rows would give -1, 1


def test_the_interval_of_a_profile_has_an_end_for_each_threshold() -> None:
    thresholds = np.linspace(-3, 3, 13)
    scores = np.random.default_rng(0).normal(size=(6, 9))
    low, high = bootstrap_interval(scores, lambda s: performance_profile(s, thresholds))
    at = performance_profile(scores, thresholds)
    assert low.shape == high.shape == (13,)
    assert (low <= at).all()
    assert (at <= high).all()
    assert (low < high)[3:-3].all()


def test_the_interval_covers_as_often_as_it_says() -> None:
    # 400 experiments of 10 runs x 8 tasks; percentile intervals of so few runs cover a little less than they claim.
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        low, high = bootstrap_interval(generator.normal(size=(10, 8)), mean, level=0.9, resamples=400, seed=seed)
        hits += low <= 0 <= high
    assert 0.82 < hits / 400 < 0.93


def test_a_seed_gives_the_same_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 26))
    assert bootstrap_interval(scores, seed=1) == bootstrap_interval(scores, seed=1)
    assert bootstrap_interval(scores, seed=1) != bootstrap_interval(scores, seed=2)


@pytest.mark.parametrize(
    "scores",
    [np.zeros(3), np.zeros((0, 2)), np.zeros((2, 0)), np.array([[1.0, NAN]]), np.array([[1.0, np.inf]])],
)
def test_no_statistic_of_nothing(scores: np.ndarray) -> None:
    for statistic in (iqm, mean, median, optimality_gap, bootstrap_interval):
        with pytest.raises(ValueError, match="expected finite scores"):
            statistic(scores)


def test_arguments_out_of_range() -> None:
    for wrong in ({"level": 1.0}, {"level": 0.0}, {"resamples": 0}):
        with pytest.raises(ValueError, match="expected scores"):
            bootstrap_interval(HAND, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected scores"):
        bootstrap_interval(np.zeros((2, 3, 4)))


@pytest.mark.parametrize("shape", [(3, 1), (5, 7), (10, 26)])
def test_the_same_numbers_as_rliable(shape: tuple[int, int]) -> None:
    from rliable import library, metrics  # here, because it is slow to import

    scores = np.random.default_rng(0).lognormal(size=shape)
    pairs: list[tuple[Statistic, Callable[[np.ndarray], float]]] = [
        (iqm, metrics.aggregate_iqm),
        (mean, metrics.aggregate_mean),
        (median, metrics.aggregate_median),
        (optimality_gap, metrics.aggregate_optimality_gap),
    ]
    for ours, theirs in pairs:
        assert ours(scores) == pytest.approx(theirs(scores), rel=1e-12)
        _, bounds = library.get_interval_estimates(
            {"a": scores}, lambda s, theirs=theirs: np.array([theirs(s)]), reps=4000
        )
        low, high = bootstrap_interval(scores, ours, resamples=4000)
        width = float(high - low)
        assert [low, high] == pytest.approx(bounds["a"][:, 0].tolist(), abs=0.08 * width)
    thresholds = np.linspace(0, 4, 17)
    profiles, _ = library.create_performance_profile({"a": scores}, thresholds, reps=10)
    np.testing.assert_allclose(performance_profile(scores, thresholds), profiles["a"], rtol=1e-12)
