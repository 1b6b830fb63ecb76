"""Sampling by episode, with the end of each episode favoured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.data.selector import Drawn, Layout, Mass, Selector, SelectorConfig


@dataclass(frozen=True)
class EpisodeEndsConfig(SelectorConfig):
    """Settings of `EpisodeEnds`. favour_ends: draw the last window of an episode more often. ongoing: open ones too."""

    favour_ends: bool = True
    ongoing: bool = False
    any_start: ClassVar[bool] = True
    parts: ClassVar[bool] = True

    def make(self) -> Selector:
        """A selector with these settings."""
        return EpisodeEnds(self.favour_ends, self.ongoing)


class EpisodeEnds(Selector):
    """Uniform over episodes, then over starts in an enlarged, clamped range.

    With n stored rows in an episode, the context before it included, and windows of L rows (the period must be 1)::

        start = begin + min(u, n - L),     u uniform in {0, ..., n - L + extra},     extra = L or 0

        P(start) = 1 / (n - L + 1 + extra),   for the last window (1 + extra) / (n - L + 1 + extra)

    so that with `favour_ends` the window in which the episode ends, with its sparse final reward, comes L + 1 times as
    often as any other. Windows stay within one episode, but for their context: that of the first windows lies before
    it, so that its first rows are learned too.

    ongoing: also draw from open episodes of at least L rows (False: they wait until they end).
    Short episodes, of fewer than L rows, have one window: from their first row on into the rows after them. The rest
    of a long episode whose beginning was overwritten is drawn while it still has L rows. A call costs O(episodes).

    Source: the official implementation of Hafner et al. 2021, "Mastering Atari with Discrete World Models",
    ``prioritize_ends``. Differs from it in: short episodes are drawn (there they are dropped), and episodes leave row
    by row (there, whole). Raises ValueError if the period is not 1.
    """

    def __init__(self, favour_ends: bool = True, ongoing: bool = False) -> None:
        self.favour_ends, self.ongoing = favour_ends, ongoing

    def bind(self, layout: Layout) -> None:
        """Begin with no episode; the first of each stream is open from row 0."""
        if layout.period != 1:
            raise ValueError(f"EpisodeEnds draws starts at any row: the period must be 1, got {layout.period}")
        super().bind(layout)
        self._open = np.zeros(layout.streams, np.int64)
        self._closed: list[tuple[int, int, int]] = []
        self._episodes = np.zeros((0, 3), np.int64)
        self._table: np.ndarray | None = None

    def observe(self, streams: np.ndarray, indices: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Close the episodes whose last rows these are."""
        for at in np.flatnonzero(rows["is_last"]).tolist():
            self.close(int(streams[at]), int(indices[at]))

    def close(self, stream: int, index: int) -> None:
        """The open episode of a stream ends with row `index`; the next begins after it."""
        self._closed.append((stream, int(self._open[stream]), index + 1))
        self._open[stream] = index + 1
        self._table = None

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """More windows are complete."""
        super().appear(streams, starts)
        self._table = None

    def void(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Windows are never to be drawn."""
        super().void(streams, starts)
        self._table = None

    def evict(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Rows were overwritten."""
        super().evict(streams, starts)
        self._table = None

    def ready(self, n: int) -> bool:
        """Whether an episode can be drawn."""
        return len(self._drawable()) > 0

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows, by episode first and then by start."""
        table = self._drawable()
        stream, begin, counts = table[rng.integers(0, len(table), n)].T
        extra = self.layout.length if self.favour_ends else 0
        place = np.minimum(rng.integers(0, counts + extra), counts - 1)
        favour = np.where(place == counts - 1, 1 + extra, 1)
        return Drawn(stream, begin + place, favour / (counts + extra) / len(table))

    def mass(self) -> Mass:
        """Number of episodes, less the shares of those last windows that are void."""
        table = self._drawable()
        streams, begin, counts = table.T
        extra = self.layout.length if self.favour_ends else 0
        void = self.is_void(streams, begin + counts - 1)
        episodes = float(len(table))
        return Mass(episodes - float(((1 + extra) / (counts[void] + extra)).sum()), episodes)

    def _drawable(self) -> np.ndarray:
        """Episodes with a legal window: int64 [episodes, 3] of stream, first start, number of starts."""
        if self._table is not None:
            return self._table
        self._collect()
        length, low, high = self.layout.length, self.low, self.high
        episodes = self._episodes
        before = self.layout.context
        if self.ongoing:
            every = np.arange(self.layout.streams)
            # Rows of a stream so far; zero windows mean fewer than `length` rows, of which none can be drawn.
            rows = np.where(high > 0, high + length - 1, 0)
            there = rows - np.maximum(self._open - before, 0) >= length
            unfinished = np.stack([every, self._open, rows], axis=1)[there]
            episodes = np.concatenate([episodes, unfinished])
        stream, first, end = episodes.T
        first = np.maximum(first - before, 0)
        begin = np.maximum(first, low[stream])
        counts = np.where(end - first < length, 1, end - begin - length + 1)
        legal = (counts > 0) & np.where(end - first < length, (first >= low[stream]) & (first < high[stream]), True)
        # An episode has one void window at most; where that is all it has, it cannot be drawn.
        legal[legal] &= ~((counts[legal] == 1) & self.is_void(stream[legal], begin[legal]))
        self._table = np.stack([stream, begin, counts], axis=1)[legal]
        return self._table

    def _collect(self) -> None:
        """Take newly closed episodes in and leave those without rows out."""
        new = np.array(self._closed, np.int64).reshape(-1, 3)
        self._closed = []
        episodes = np.concatenate([self._episodes, new])
        self._episodes = episodes[episodes[:, 2] > self.low[episodes[:, 0]]]

    def state_dict(self) -> dict[str, Any]:
        """Closed episodes int64 [episodes, 3] (stream, first row, row after the last) and where open ones began."""
        self._collect()
        return super().state_dict() | {"episodes": self._episodes.copy(), "open": self._open.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the episodes that were saved."""
        super().load_state_dict(state)
        self._episodes = np.array(state["episodes"], np.int64).reshape(-1, 3)
        self._open[:] = state["open"]
        self._closed, self._table = [], None
