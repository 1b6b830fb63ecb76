"""Rows that say where they belong: every field encodes (stream, index), so a lost or shifted row is seen at once."""

from __future__ import annotations

import numpy as np

from reverie.data.rows import Field, Rows, RowSpec

SPEC: RowSpec = {
    "obs.image": Field((2, 3, 1), np.dtype(np.uint8)),
    "obs.count": Field((2,), np.dtype(np.float32)),
    "prev_action": Field((), np.dtype(np.int64)),
    "action": Field((), np.dtype(np.int64)),
    "reward": Field((), np.dtype(np.float32)),
    "is_first": Field((), np.dtype(bool)),
    "is_last": Field((), np.dtype(bool)),
    "is_terminal": Field((), np.dtype(bool)),
    "extra.logits": Field((2,), np.dtype(np.float32)),
}
STATES: RowSpec = {"h": Field((3,), np.dtype(np.float32)), "n": Field((), np.dtype(np.int64))}


class Source:
    """Streams with episodes of 1 to 9 rows; row (stream, index) is a function of those two and of truncations."""

    def __init__(self, streams: int, seed: int = 0, longest: int = 9) -> None:
        rng = np.random.default_rng(seed)
        self.left = np.zeros(streams, int)
        self.rng, self.longest = rng, longest
        self.first: list[list[bool]] = [[] for _ in range(streams)]
        self.last: list[list[bool]] = [[] for _ in range(streams)]
        self.terminal: list[list[bool]] = [[] for _ in range(streams)]

    def next(self, stream: int) -> Rows:
        """The next row of a stream, field -> [...]."""
        first = self.left[stream] == 0
        if first:
            self.left[stream] = self.rng.integers(1, self.longest + 1)
        self.left[stream] -= 1
        self.first[stream].append(bool(first))
        self.last[stream].append(bool(self.left[stream] == 0))
        self.terminal[stream].append(self.last[stream][-1] and bool(self.rng.integers(2)))
        return self.row(stream, len(self.first[stream]) - 1)

    def truncate(self, stream: int) -> None:
        if self.last[stream]:
            self.last[stream][-1] = True
            self.left[stream] = 0

    def row(self, stream: int, index: int) -> Rows:
        code = stream * 10_000 + index
        return {
            "obs.image": ((np.arange(6) * 7 + code) % 256).astype(np.uint8).reshape(2, 3, 1),
            "obs.count": np.array([stream, index], np.float32),
            "prev_action": np.int64(code - 1),
            "action": np.int64(code),
            "reward": np.float32(code / 4),
            "is_first": np.bool_(self.first[stream][index]),
            "is_last": np.bool_(self.last[stream][index]),
            "is_terminal": np.bool_(self.terminal[stream][index]),
            "extra.logits": np.array([code, -code], np.float32),
        }

    def batch(self, streams: list[int]) -> Rows:
        """The next row of each listed stream, field -> [n, ...]."""
        return stack([self.next(stream) for stream in streams])


def stack(rows: list[Rows]) -> Rows:
    """Rows as one [n, ...] array per field."""
    return {name: np.stack([row[name] for row in rows]).astype(SPEC[name].dtype) for name in SPEC}


def state(stream: int, index: int) -> dict[str, np.ndarray]:
    """The recurrent state before row (stream, index)."""
    return {"h": np.array([stream, index, 0.5], np.float32), "n": np.int64(stream * 10_000 + index)}


def stack_states(places: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """States before the listed (stream, index) rows, name -> [n, ...]."""
    made = [state(*place) for place in places]
    return {name: np.stack([one[name] for one in made]) for name in STATES}
