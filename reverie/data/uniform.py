"""Uniform draws of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reverie.data.selector import Drawn, Mass, Selector, SelectorConfig


@dataclass(frozen=True)
class UniformConfig(SelectorConfig):
    """Settings of `Uniform`."""

    parts: ClassVar[bool] = True

    def make(self) -> Selector:
        """A selector that has no settings."""
        return Uniform()


class Uniform(Selector):
    """Uniform draws of legal windows, with replacement; O(log streams) per window, stores nothing."""

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows drawn from those of all streams, laid end to end."""
        streams, numbers, total = self._draw(n, rng)
        return Drawn(streams, numbers * self.layout.period, np.full(n, 1.0 / (total - self.voids)))

    def mass(self) -> Mass:
        """Number of windows."""
        windows = float((self.high - self.low).sum() - self.voids)
        return Mass(windows, windows)

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """Streams, window numbers, and the number of all windows."""
        ends = np.cumsum(self.high - self.low)
        total = int(ends[-1])
        place = rng.integers(0, total, n)
        streams = np.searchsorted(ends, place, side="right")
        return streams, self.high[streams] - (ends[streams] - place), total
