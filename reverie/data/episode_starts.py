"""Windows that begin where episodes begin: for learners that unroll whole episodes from their first row."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.data.selector import Drawn, Layout, Mass, Selector, SelectorConfig
from reverie.errors import UserError


@dataclass(frozen=True)
class EpisodeStartsConfig(SelectorConfig):
    """Settings of `EpisodeStarts`."""

    any_start: ClassVar[bool] = True
    parts: ClassVar[bool] = True

    def make(self) -> Selector:
        """A selector that has no settings."""
        return EpisodeStarts()


class EpisodeStarts(Selector):
    """Starts of episodes: every complete window whose first row is_first, with the same probability, with replacement.

    ::

        rows      0  1  2  3 | 0' 1' 2' | 0" 1"            windows of 4 rows: [0 1 2 3], [0' 1' 2' 0"]

    So each episode counts once, whatever its length; the rows of later episodes that a window holds are for the
    learner to mask. Needs period = 1. Raises UserError otherwise.
    Source: Hausknecht & Stone 2015 (DRQN), section "Stable recurrent updates", bootstrapped sequential updates.
    """

    def bind(self, layout: Layout) -> None:
        """Begin without episodes."""
        super().bind(layout)
        if layout.period != 1:
            raise UserError(f"the selector 'episodes' needs replay.window.period = 1, got {layout.period}")
        self._starts: list[list[int]] = [[] for _ in range(layout.streams)]
        self._gone = np.zeros(layout.streams, np.int64)
        self._ready = np.zeros(layout.streams, np.int64)

    def observe(self, streams: np.ndarray, indices: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Note where episodes begin."""
        for at in np.flatnonzero(rows["is_first"]).tolist():
            self._starts[streams[at]].append(int(indices[at]))

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Count the windows that begin an episode."""
        super().appear(streams, starts)
        for stream, start in zip(streams.tolist(), starts.tolist(), strict=True):
            firsts, next_first = self._starts[stream], int(self._ready[stream])
            self._ready[stream] += next_first < len(firsts) and firsts[next_first] == start

    def void(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Leave out the episodes whose first window is never to be drawn."""
        super().void(streams, starts)
        for stream, start in zip(streams.tolist(), starts.tolist(), strict=True):
            firsts, end = self._starts[stream], int(self._ready[stream])
            place = bisect_left(firsts, start, int(self._gone[stream]), end)
            if place < end and firsts[place] == start:
                del firsts[place]
                self._ready[stream] -= 1

    def evict(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Forget them with their first row."""
        super().evict(streams, starts)
        for stream, start in zip(streams.tolist(), starts.tolist(), strict=True):
            firsts, oldest = self._starts[stream], int(self._gone[stream])
            if oldest < self._ready[stream] and firsts[oldest] == start:
                self._gone[stream] += 1
            if self._gone[stream] > 1000:
                self._drop(stream)

    def _drop(self, stream: int) -> None:
        gone = int(self._gone[stream])
        del self._starts[stream][:gone]
        self._ready[stream] -= gone
        self._gone[stream] = 0

    def ready(self, n: int) -> bool:
        """Whether there is an episode to draw."""
        return bool((self._ready > self._gone).any())

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows drawn from the episodes of all streams, laid end to end."""
        ends = np.cumsum(self._ready - self._gone)
        place = rng.integers(0, ends[-1], n)
        streams = np.searchsorted(ends, place, side="right")
        numbers = self._ready[streams] - (ends[streams] - place)
        places = zip(streams.tolist(), numbers.tolist(), strict=True)
        starts = np.array([self._starts[stream][k] for stream, k in places], np.int64)
        return Drawn(streams, starts, np.full(n, 1.0 / int(ends[-1])))

    def mass(self) -> Mass:
        """Number of episodes."""
        episodes = float((self._ready - self._gone).sum())
        return Mass(episodes, episodes)

    def state_dict(self) -> dict[str, Any]:
        """The known first rows of all streams, one stream after another, and how many of each can be drawn."""
        for stream in range(self.layout.streams):
            self._drop(stream)
        joined = [start for firsts in self._starts for start in firsts]
        return super().state_dict() | {
            "starts": np.array(joined, np.int64),
            "lengths": np.array([len(firsts) for firsts in self._starts], np.int64),
            "ready": self._ready.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the saved episodes."""
        super().load_state_dict(state)
        parts = np.split(np.asarray(state["starts"], np.int64), np.cumsum(state["lengths"])[:-1])
        self._starts = [part.tolist() for part in parts]
        self._ready[:] = state["ready"]
        self._gone[:] = 0
