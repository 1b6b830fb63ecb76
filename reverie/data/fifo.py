"""The first-in first-out selector: each window once, as it comes; and beside them a share of old ones, drawn again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.data.selector import Drawn, Layout, Selector, SelectorConfig


@dataclass(frozen=True)
class FifoConfig(SelectorConfig):
    """Settings of `Fifo`.

    share: part of a batch, rounded down, that are windows drawn before, drawn again; at least 0, below 1.
    """

    share: float = 0.0

    uses_up: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Selector:
        """A selector with these settings. Raises ValueError as `Fifo` does."""
        return Fifo(self.share)

    def fresh(self, batch: int) -> int:
        """Windows of a batch that come out of the queue."""
        return batch - repeated(self.share, batch)


def repeated(share: float, batch: int) -> int:
    """Windows of a batch that are drawn again: the share of it, rounded down (but for the rounding of floats)."""
    return min(int(share * batch + 1e-9), batch - 1)


class Fifo(Selector):
    """First-in first-out: each window once, in the order in which they became complete.

    With period = learn no row has two losses. Windows that are overwritten before anyone drew them are dropped and
    counted in `dropped`. Probabilities are 1.

    share: of a batch, rounded down, drawn uniformly and with replacement from all windows that have left the queue and
    are stored still, those of this batch among them; the queue gives the rest, first.
    Source of the share: Espeholt et al. 2018 (IMPALA), section 5.2.2: half of each batch, of the last 10 000 windows.
    Raises ValueError for a share outside [0, 1).
    """

    def __init__(self, share: float = 0.0) -> None:
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share must be at least 0 and below 1, got {share}")
        self.share = share

    def bind(self, layout: Layout) -> None:
        """Begin with an empty queue."""
        super().bind(layout)
        self._queue: deque[tuple[int, int]] = deque()
        self._next = np.zeros(layout.streams, np.int64)
        self.dropped = 0

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Queue the windows."""
        super().appear(streams, starts)
        self._queue.extend(zip(streams.tolist(), (starts // self.layout.period).tolist(), strict=True))

    def void(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Take them out of the queue."""
        super().void(streams, starts)
        void_places = set(zip(streams.tolist(), (starts // self.layout.period).tolist(), strict=True))
        self._queue = deque(place for place in self._queue if place not in void_places)

    def evict(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Count the windows that nobody drew; they are skipped when their turn comes."""
        missed = (starts // self.layout.period >= self._next[streams]) & ~self.is_void(streams, starts)
        super().evict(streams, starts)
        self.dropped += int(missed.sum())

    def ready(self, n: int) -> bool:
        """Whether as many windows wait as a batch of n takes out of the queue."""
        fresh = n - repeated(self.share, n)
        if self.voids:
            return sum(number >= self.low[stream] for stream, number in self._queue) >= fresh
        return int((self.high - np.maximum(self.low, self._next)).sum()) >= fresh

    def metrics(self) -> dict[str, float]:
        """Windows that were overwritten before anyone drew them."""
        return {"dropped_windows": self.dropped}

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """The windows that have waited longest, then those that are drawn again."""
        places: list[tuple[int, int]] = []
        again = repeated(self.share, n)
        while len(places) < n - again:
            stream, number = self._queue.popleft()
            if number >= self.low[stream]:
                places.append((stream, number))
                self._next[stream] = number + 1
        streams, numbers = np.array(places, np.int64).T
        if again:
            older = self._again(again, rng)
            streams, numbers = (np.concatenate(pair) for pair in zip((streams, numbers), older, strict=True))
        return Drawn(streams, numbers * self.layout.period, np.ones(n))

    def _again(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Streams and numbers of n windows that have left the queue, void ones excepted."""
        ends = np.cumsum(np.maximum(self._next - self.low, 0))
        streams, numbers = np.empty(0, np.int64), np.empty(0, np.int64)
        while len(streams) < n:
            place = rng.integers(0, int(ends[-1]), n - len(streams))
            drawn = np.searchsorted(ends, place, side="right")
            number = self._next[drawn] - (ends[drawn] - place)
            legal = ~self.is_void(drawn, number * self.layout.period)
            streams, numbers = np.append(streams, drawn[legal]), np.append(numbers, number[legal])
        return streams, numbers

    def state_dict(self) -> dict[str, Any]:
        """The queue int64 [windows, 2] of (stream, window number), and what was consumed and dropped."""
        queue = np.array(self._queue, np.int64).reshape(-1, 2)
        return super().state_dict() | {"queue": queue, "next": self._next.copy(), "dropped": self.dropped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the queue that was saved."""
        super().load_state_dict(state)
        self._queue = deque((int(stream), int(number)) for stream, number in np.asarray(state["queue"]))
        self._next[:] = state["next"]
        self.dropped = int(state["dropped"])
