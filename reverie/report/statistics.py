"""Statistics over a few runs of several tasks: point estimates, their bootstrap intervals, performance profiles.

`scores` is an array [..., seeds, tasks]: entry (s, t) is the (normalised) score of run s in task t, NaN where there is
no such run. Leading axes are independent matrices. With as many runs of every task the definitions are those of the
paper; where tasks have different numbers of runs, the interquartile mean weighs runs alike, all others tasks alike.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", sections 4.1-4.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""scores [..., seeds, tasks] -> [...] or [..., K]."""

RESAMPLES = 2000
"""Bootstrap resamples: the ends of a 95 % interval then have a standard error of about 2 % of its width."""
_BLOCK = 1 << 17
"""Scores resampled at a time, which bounds the memory."""


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all runs of all tasks, [..., seeds, tasks] -> [...].

    Of n runs the floor(n / 4) lowest and as many highest are left out (nothing, if n < 4).
    """
    scores = _check(scores)
    pooled = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)  # NaN goes last
    runs = np.isfinite(pooled).sum(-1, keepdims=True)
    cut = runs // 4
    place = np.arange(pooled.shape[-1])
    middle = (place >= cut) & (place < runs - cut)
    return np.where(middle, pooled, 0.0).sum(-1) / middle.sum(-1)


def mean(scores: np.ndarray) -> np.ndarray:
    """The mean over tasks of each task's mean over runs, [..., seeds, tasks] -> [...]."""
    return _task_means(_check(scores)).mean(-1)


def median(scores: np.ndarray) -> np.ndarray:
    """The median over tasks of each task's mean over runs, [..., seeds, tasks] -> [...]."""
    return np.median(_task_means(_check(scores)), axis=-1)


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> np.ndarray:
    """Mean distance by which runs fall short of a target: target - mean of min(score, target).

    [..., seeds, tasks] -> [...]. What lies above the target does not count. target: 1 is the human player where scores
    are human-normalised.
    """
    return target - _task_means(np.minimum(_check(scores), target)).mean(-1)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The fraction of runs with score > threshold, for each of `thresholds` [K]: [..., seeds, tasks] -> [..., K]."""
    scores = _check(scores)
    above = (scores[..., None] > np.asarray(thresholds, float)).sum(-3)  # a run that is not there is not above
    return (above / np.isfinite(scores).sum(-2)[..., None]).mean(-2)


def bootstrap_interval(
    scores: np.ndarray,
    statistic: Statistic = iqm,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The stratified bootstrap percentile interval of a statistic: (low, high), each shaped as the statistic's result.

    scores: [seeds, tasks]. Each resample draws, for every task, as many of its runs as it has, with replacement; the
    ends are the (1 - level) / 2 and (1 + level) / 2 quantiles of the statistic over the resamples. The same `seed`
    gives the same interval. It shows what other seeds might have given, not other tasks, and a task with one run adds
    nothing to it. Raises ValueError if `scores` is not [seeds, tasks] or 0 < level < 1, resamples >= 1 do not hold.
    """
    scores = _check(scores)
    if scores.ndim != 2 or not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"expected scores [seeds, tasks], 0 < level < 1, resamples >= 1, got {scores.shape}, {level=}, {resamples=}"
        )
    absent = np.isnan(scores)
    runs = (~absent).sum(0)
    # The runs of each task come first in its column, so that a draw below their number hits one of them.
    packed = np.take_along_axis(scores, np.argsort(absent, axis=0, kind="stable"), axis=0)
    draws = np.arange(len(scores))[:, None] < runs
    tasks = np.arange(scores.shape[1])
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // scores.size)
    results = []
    for begin in range(0, resamples, block):
        size = (min(block, resamples - begin), *scores.shape)
        sample = packed[generator.integers(0, runs, size), tasks]
        results.append(statistic(np.where(draws, sample, np.nan)))
    low, high = np.quantile(np.concatenate(results), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _task_means(scores: np.ndarray) -> np.ndarray:
    return np.nanmean(scores, axis=-2)


def _check(scores: np.ndarray) -> np.ndarray:
    """Scores as float64. Raises ValueError if a task has no runs, or a score is infinite."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim < 2 or not scores.size or np.isinf(scores).any() or np.isnan(scores).all(-2).any():
        raise ValueError(f"expected finite scores [..., seeds, tasks] and a run of every task, got {scores.shape}")
    return scores
