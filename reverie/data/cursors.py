"""Where each stream of a replay is: which of its rows are stored, which comes next, and where windows may begin.

::

    absolute index of a stream row   0 1 2 ...                                  since the stream began
    stored                           count - capacity <= index < count          the newest `capacity` rows
    ring slot                        stream * capacity + index % capacity
    legal window                     [start, start + length)                    start % period == 0, every row stored
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.data.rows import Rows
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError


class Cursors:
    """Cursors of `streams` rings of `capacity` rows each, and the windows of `sequence` among these.

    count: rows ever added to each stream, int64 [streams]: the absolute index of the next. ended: whether the newest
    one is an episode's last, bool [streams].
    """

    def __init__(self, streams: int, capacity: int, sequence: SequenceSpec) -> None:
        self.streams, self.capacity, self.sequence = streams, capacity, sequence
        self.count = np.zeros(streams, np.int64)
        self.ended = np.zeros(streams, bool)

    def __len__(self) -> int:
        """Rows stored now."""
        return int(np.minimum(self.count, self.capacity).sum())

    @property
    def oldest(self) -> np.ndarray:
        """Absolute index, int64 [streams], of the oldest row stored in each stream."""
        return np.maximum(self.count - self.capacity, 0)

    def slots(self, ids: np.ndarray | int, indices: np.ndarray) -> np.ndarray:
        """Slots in the rings of rows at absolute indices."""
        return ids * self.capacity + indices % self.capacity

    def has_rows(self, ids: np.ndarray | int, indices: np.ndarray) -> np.ndarray:
        """Mask of rows that are stored."""
        return np.asarray((indices >= self.oldest[ids]) & (indices < self.count[ids]))

    def has_windows(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Mask of windows all of whose rows are stored."""
        return np.asarray((starts >= self.oldest[ids]) & (starts + self.sequence.length <= self.count[ids]))

    def windows(
        self, ids: np.ndarray, starts: np.ndarray, more: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...] | None:
        """Those pairs of stream and absolute start at which a window may begin, with their part of `more`; None: none.

        Called for every row that comes: calls of numpy are what it costs.
        """
        mask = starts >= 0
        if self.sequence.period > 1:
            mask &= starts % self.sequence.period == 0
        count = np.count_nonzero(mask)
        if not count:
            return None
        columns = (ids, starts) if more is None else (ids, starts, more)
        return columns if count == len(ids) else tuple(column[mask] for column in columns)

    def check(self, ids: np.ndarray, indices: np.ndarray, rows: Rows) -> None:
        """Raise ValueError unless ``is_first`` follows the row before: one row of each stream, or rows of one."""
        first, last = rows["is_first"], rows["is_last"]
        ended = self.ended[ids]
        if len(ids) > 1 and ids[0] == ids[1]:
            ended[1:] = last[:-1]
        wrong = (first != ended) & (indices > 0)
        if np.count_nonzero(wrong):
            at = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"row {indices[at]} of stream {ids[at]} has is_first={bool(first[at])}, but the row before it has "
                f"is_last={bool(ended[at])}: an episode begins with is_first and ends with is_last (see truncate)"
            )

    def advance(self, ids: np.ndarray, indices: np.ndarray, last: np.ndarray) -> None:
        """Rows were written there, the newest of a stream last; last: their ``is_last``."""
        self.count[ids] = indices + 1
        self.ended[ids] = last

    def state_dict(self) -> dict[str, Any]:
        """Shape and cursors."""
        return {**self._shape(), "counts": self.count.copy(), "ended": self.ended.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`. Raises UserError if the saved ones had another shape."""
        for name, value in self._shape().items():
            if int(state[name]) != value:
                raise UserError(
                    f"the saved replay has {name} = {int(state[name])}, this run {value}: resume with the "
                    f"settings of the saved run, or start a new run directory"
                )
        self.count[:] = state["counts"]
        self.ended[:] = state["ended"]

    def _shape(self) -> dict[str, int]:
        shape = {"streams": self.streams, "rows_per_stream": self.capacity}
        return shape | {"length": self.sequence.length, "period": self.sequence.period}
