"""Uniform draws that have every row once, soon."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.data.selector import Drawn, Layout, Mass, Selector, SelectorConfig
from reverie.data.uniform import Uniform


@dataclass(frozen=True)
class OnlineConfig(SelectorConfig):
    """Settings of `Online`."""

    def make(self) -> Selector:
        """A selector that has no settings."""
        return Online()


class Online(Uniform):
    """Uniform draws, but every row is in one window that is drawn soon: the newest go first.

    ::

        a stream's windows   |-- once, when complete --|-- once, when complete --| ...      they share no row
        a batch              those that wait, oldest first; the rest uniform over all windows

    Windows that were overwritten before their turn are left out. Probabilities are those of the uniform draws.
    Source: Hafner et al. 2025 (DreamerV3), "Methods", experience replay (the online queue).
    """

    def bind(self, layout: Layout) -> None:
        """Begin with an empty queue."""
        super().bind(layout)
        self._queue: deque[tuple[int, int]] = deque()
        self._free = np.zeros(layout.streams, np.int64)

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Queue windows that share no row with the one that was queued before them."""
        super().appear(streams, starts)
        for stream, start in zip(streams.tolist(), starts.tolist(), strict=True):
            if start >= self._free[stream]:
                self._queue.append((stream, start // self.layout.period))
                self._free[stream] = start + self.layout.length

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows of the queue, then uniform ones."""
        drawn = super().sample(n, rng)
        places: list[tuple[int, int]] = []
        while self._queue and len(places) < n:
            stream, number = self._queue.popleft()
            if number >= self.low[stream] and not self.is_void(*np.array([[stream], [number * self.layout.period]])):
                places.append((stream, number))
        for at, (stream, number) in enumerate(places):
            drawn.streams[at], drawn.starts[at] = stream, number * self.layout.period
        return drawn

    def mass(self) -> Mass:
        """Raises NotImplementedError: what was there first, among the streams of all parts, is drawn first."""
        return Selector.mass(self)

    def metrics(self) -> dict[str, float]:
        """Windows that wait in the queue, those overwritten meanwhile included."""
        return {"online_queue": len(self._queue)}

    def state_dict(self) -> dict[str, Any]:
        """The queue int64 [windows, 2] of (stream, window number), and where each stream's next one may begin."""
        return super().state_dict() | {
            "queue": np.array(self._queue, np.int64).reshape(-1, 2),
            "free": self._free.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the queue that was saved."""
        super().load_state_dict(state)
        self._queue = deque((int(stream), int(number)) for stream, number in np.asarray(state["queue"]))
        self._free[:] = state["free"]
