"""Draws that favour windows of late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from reverie.data.selector import Drawn, Mass, Selector, SelectorConfig
from reverie.data.uniform import Uniform

Decay = Literal["exponential", "linear"]


@dataclass(frozen=True)
class RecencyConfig(SelectorConfig):
    """Settings of `Recency`.

    fraction: of the windows, drawn among recent ones. horizon: age over which those fade, in windows of a stream.
    decay: how they fade.
    """

    fraction: float = 0.5
    horizon: int = 1000
    decay: Decay = "exponential"

    parts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Selector:
        """A selector with these settings. Raises ValueError as `Recency` does."""
        return Recency(self.fraction, self.horizon, self.decay)


class Recency(Uniform):
    """A mixture: with probability `fraction` a recent window, else a uniform one.

    A recent window is drawn by its age a = 0, 1, ... in windows of its own stream, of which n are stored::

        exponential   P(a) = r^a (1 - r) / (1 - r^n),     r = exp(-1 / horizon)
        linear        P(a) = 2 (m - a) / (m (m + 1)),     a < m = min(horizon, n)

    The stream is drawn in proportion to its number of windows in both parts. fraction in [0, 1]; horizon >= 1 in
    windows. Raises ValueError otherwise.
    """

    def __init__(self, fraction: float, horizon: int, decay: Decay = "exponential") -> None:
        if not 0.0 <= fraction <= 1.0 or horizon < 1:
            raise ValueError(f"expected 0 <= fraction <= 1 and horizon >= 1, got {fraction} and {horizon}")
        if decay not in ("exponential", "linear"):
            raise ValueError(f"decay must be 'exponential' or 'linear', got {decay!r}")
        self.fraction, self.horizon, self.decay = fraction, horizon, decay

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows drawn uniformly, the ages of a `fraction` drawn anew; probabilities are those of the mixture."""
        streams, numbers, total = self._draw(n, rng)
        counts = self.high[streams] - self.low[streams]
        recent, mass = rng.random(n) < self.fraction, rng.random(n)
        numbers = np.where(recent, self.high[streams] - 1 - self._age(mass, counts), numbers)
        return Drawn(streams, numbers * self.layout.period, self._weights(streams, numbers) / total)

    def _weights(self, streams: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Probability of each window, times the number of all windows."""
        counts = self.high[streams] - self.low[streams]
        density = self._density(self.high[streams] - 1 - numbers, counts)
        weights: np.ndarray = 1.0 - self.fraction + self.fraction * counts * density
        return weights

    def mass(self) -> Mass:
        """Number of windows, less the weights of those that are void."""
        windows = float((self.high - self.low).sum())
        if self._void is None:
            return Mass(windows, windows)
        streams, slots = np.nonzero(self._void)
        low = self.low[streams]
        numbers = low + (slots - low) % self.layout.windows
        return Mass(windows - float(self._weights(streams, numbers).sum()), windows)

    def _age(self, mass: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The inverse of the cumulative P(a) at mass in [0, 1)."""
        if self.decay == "exponential":
            whole = -np.expm1(-counts / self.horizon)
            age = np.floor(-self.horizon * np.log1p(-mass * whole))
            return np.clip(age, 0, counts - 1).astype(np.int64)
        # The k oldest of m linear weights sum to k (k + 1) / 2: count from the old end.
        m = np.minimum(self.horizon, counts)
        k = np.ceil((np.sqrt(1.0 + 4.0 * (1.0 - mass) * m * (m + 1)) - 1.0) / 2.0)
        return m - np.clip(k, 1, m).astype(np.int64)

    def _density(self, age: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if self.decay == "exponential":
            whole = np.expm1(-counts / self.horizon) / np.expm1(-1.0 / self.horizon)
            return np.exp(-age / self.horizon) / whole
        m = np.minimum(self.horizon, counts)
        return np.where(age < m, 2.0 * (m - age) / (m * (m + 1.0)), 0.0)
