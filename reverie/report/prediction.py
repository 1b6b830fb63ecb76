"""Quality of open-loop predictions: errors by horizon, calibration, and rewards that are not there.

Arrays are [H, B]: entry (h, b) is h + 1 env_steps after the last row that the model saw of sequence b. Rewards are in
the model's units, f(r) for the model's reward transform f; "continues" is 1 where the episode did not truly end there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.errors import UserError

BINS = 10


@dataclass(frozen=True)
class Outcomes:
    """Predictions of B sequences beside what happened.

    valid: bool [H, B], False after the end of a short sequence, where the rest means nothing.
    observations: key -> (squared error, that of repeating the last row seen), means over the numbers of a row, [H, B].
    reward, predicted_reward: [H, B]. continues: [H, B], 0 or 1; predicted_continuation: probability, None without head.
    """

    valid: np.ndarray
    observations: Mapping[str, tuple[np.ndarray, np.ndarray]]
    reward: np.ndarray
    predicted_reward: np.ndarray
    continues: np.ndarray
    predicted_continuation: np.ndarray | None


@dataclass(frozen=True)
class Calibration:
    """Mean predicted and mean realised value of each bin that has any, [K]; count: [K] of predictions in it.

    error: the expected calibration error, sum over bins of count / n |predicted - realised|.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """

    predicted: np.ndarray
    realised: np.ndarray
    count: np.ndarray
    error: float


@dataclass(frozen=True)
class Hallucination:
    """Predicted rewards where there are none, and the reverse. A reward counts as one if its magnitude >= threshold.

    ::

                          |r^| < threshold     |r^| >= threshold, sign of r     |r^| >= threshold, other sign
        |r| <  threshold  right                hallucinated                     hallucinated
        |r| >= threshold  missed               right                            reversed

    hallucinated_rate: share of the rows without reward; hallucinated_mass: mean of |r^| over them.
    missed_rate, reversed_rate: shares of the rows with reward; missed_mass: mean over them of what is not predicted of
    |r|, clip(|r| - sign(r) r^, 0, |r|). false_rate: share of hallucinated and reversed ones among the rows of which a
    reward is predicted. None where there are no such rows. rewardless, rewarded, predicted: numbers of rows.
    """

    threshold: float
    rewardless: int
    rewarded: int
    predicted: int
    hallucinated_rate: float | None
    hallucinated_mass: float | None
    missed_rate: float | None
    missed_mass: float | None
    reversed_rate: float | None
    false_rate: float | None


def by_horizon(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean over the sequences that count at each horizon, [H, B] and bool [H, B] -> [H]; NaN where none does."""
    count = valid.sum(1)
    total = np.where(valid, values, 0.0).sum(1)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def calibrate(predicted: np.ndarray, realised: np.ndarray, low: float, high: float, bins: int = BINS) -> Calibration:
    """Calibration over equal bins of [low, high]; predictions [n] beyond an end are in the bin there.

    Raises ValueError if there are no predictions or shapes differ.
    """
    if predicted.shape != realised.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(f"expected two arrays [n] with n >= 1, got {predicted.shape} and {realised.shape}")
    width = (high - low) / bins
    place = np.clip((predicted - low) / width, 0, bins - 1).astype(int) if width > 0 else np.zeros(len(predicted), int)
    count = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(count)
    means = [np.bincount(place, weights=x, minlength=bins)[filled] / count[filled] for x in (predicted, realised)]
    error = float((count[filled] * np.abs(means[0] - means[1])).sum() / len(predicted))
    return Calibration(means[0], means[1], count[filled], error)


def check_threshold(threshold: float | None) -> None:
    """Raise UserError unless a reward's threshold is None, or positive and finite."""
    if threshold is not None and not 0 < threshold < np.inf:
        raise UserError(f"--threshold {threshold} must be positive and finite")


def reward_threshold(rewards: np.ndarray) -> float | None:
    """Half of the smallest magnitude of a reward that is not zero; None if all are zero."""
    magnitudes = np.abs(rewards[rewards != 0])
    return float(magnitudes.min()) / 2 if len(magnitudes) else None


def false_reward(predicted: np.ndarray, reward: np.ndarray, threshold: float | None) -> np.ndarray:
    """Mask of rewards that are predicted without one of that sign: hallucinated or reversed, see `Hallucination`.

    predicted, reward: of one shape. threshold: None if no reward was seen; then nothing is called false. Returns bool.
    """
    if threshold is None:
        return np.zeros(predicted.shape, bool)
    return (np.abs(predicted) >= threshold) & ((np.abs(reward) < threshold) | (predicted * reward < 0))


def false_mass(outcomes: Outcomes, threshold: float | None) -> np.ndarray:
    """Predicted magnitude of the rewards that are false, summed over each sequence, [B]."""
    false = outcomes.valid & false_reward(outcomes.predicted_reward, outcomes.reward, threshold)
    return np.where(false, np.abs(outcomes.predicted_reward), 0.0).sum(0)


def hallucination(predicted: np.ndarray, reward: np.ndarray, threshold: float) -> Hallucination:
    """Comparison of predicted and true rewards of the same rows, [n] both. Raises ValueError unless threshold > 0."""
    if threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    is_reward, is_predicted = np.abs(reward) >= threshold, np.abs(predicted) >= threshold
    along = np.sign(reward) * predicted
    lacking = np.clip(np.abs(reward) - along, 0.0, np.abs(reward))
    false = false_reward(predicted, reward, threshold)
    return Hallucination(
        threshold,
        rewardless=int((~is_reward).sum()),
        rewarded=int(is_reward.sum()),
        predicted=int(is_predicted.sum()),
        hallucinated_rate=_mean(false[~is_reward]),
        hallucinated_mass=_mean(np.abs(predicted)[~is_reward]),
        missed_rate=_mean(~is_predicted[is_reward]),
        missed_mass=_mean(lacking[is_reward]),
        reversed_rate=_mean(false[is_reward]),
        false_rate=_mean(false[is_predicted]),
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def summarise(outcomes: Outcomes, threshold: float | None) -> dict[str, Any]:
    """All measures as JSON has them, up to the farthest horizon that a sequence reaches.

    threshold: see `Hallucination`; None if no reward was seen: then only errors and calibration of it are there.
    Raises ValueError if no entry is valid.
    """
    if not outcomes.valid.any():
        raise ValueError("there is no prediction to measure")
    reach = int(np.flatnonzero(outcomes.valid.any(1))[-1]) + 1
    valid = outcomes.valid[:reach]
    observations = {
        key: {
            "error": _list(by_horizon(error[:reach], valid)),
            "repeat_error": _list(by_horizon(repeat[:reach], valid)),
        }
        for key, (error, repeat) in outcomes.observations.items()
    }
    predicted, reward = outcomes.predicted_reward[:reach], outcomes.reward[:reach]
    heads: dict[str, Any] = {
        "reward": _head(predicted, reward, valid, float(predicted[valid].min()), float(predicted[valid].max())),
        "hallucination": None if threshold is None else _hallucinated(predicted, reward, valid, threshold),
        "continuation": None,
    }
    if outcomes.predicted_continuation is not None:
        chance = outcomes.predicted_continuation[:reach]
        heads["continuation"] = _head(chance, outcomes.continues[:reach], valid, 0.0, 1.0)
    return {"horizon": reach, "sequences_at_horizon": valid.sum(1).tolist(), "observations": observations, **heads}


def _head(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """Squared error by horizon, beside that of the best constant (the mean of all true values), and calibration."""
    calibration = calibrate(predicted[valid], truth[valid], low, high)
    constant = float(truth[valid].mean())
    return {
        "error": _list(by_horizon((predicted - truth) ** 2, valid)),
        "constant_error": _list(by_horizon((constant - truth) ** 2, valid)),
        "mean_error": float(((predicted - truth) ** 2)[valid].mean()),
        "calibration": {
            "error": calibration.error,
            "predicted": _list(calibration.predicted),
            "realised": _list(calibration.realised),
            "count": calibration.count.tolist(),
        },
    }


def _hallucinated(predicted: np.ndarray, reward: np.ndarray, valid: np.ndarray, threshold: float) -> dict[str, Any]:
    is_reward, is_predicted = np.abs(reward) >= threshold, np.abs(predicted) >= threshold
    false = false_reward(predicted, reward, threshold)
    return {
        **vars(hallucination(predicted[valid], reward[valid], threshold)),
        "hallucinated_rate_by_horizon": _list(by_horizon(false, valid & ~is_reward)),
        "missed_rate_by_horizon": _list(by_horizon(~is_predicted, valid & is_reward)),
        "reversed_rate_by_horizon": _list(by_horizon(false, valid & is_reward)),
    }


def _list(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [float(value) if np.isfinite(value) else None for value in values]
