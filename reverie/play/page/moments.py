"""Moments of a play and the path of them that can be gone back to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from reverie.data.rows import Rows
from reverie.play.page.dreams import Dreamed, Dreams
from reverie.play.page.minds import Picture, Thought
from reverie.play.page.worlds import Place

MOMENTS = 4000
"""moments that a path keeps"""
BYTES = 64_000_000
"""and what they may take together; rows that several moments share count in each"""


@dataclass(frozen=True)
class Moment:
    """All that there is at one moment; going back to it changes nothing in it.

    rows: of the world [1, ...], where it was last seen. place: of these. moved: whether the world came to them with
    this moment; otherwise it waits, or went another way. left: a recording that was left, so that it can no longer
    follow. thought: of the agent at the row. draws: of the session's noise, so far. action, by: what led here and who
    chose it, None and "" at a beginning. score: rewards of the world's episode so far. dreams, dreamed: what dreams,
    and how it stands. apart: whether the dreams have gone where the world did not. false: bool [N], dreamed rewards
    that the world did not pay.
    """

    rows: Rows
    place: Place
    moved: bool
    left: bool
    thought: Thought
    draws: int
    action: np.ndarray | None
    by: str
    score: float
    picture: Picture | None = None
    dreams: Dreams | None = None
    dreamed: Dreamed | None = None
    apart: bool = False
    false: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, about."""
        arrays = [*self.rows.values(), *self.thought.said.pictures.values()]
        arrays += [] if self.picture is None else [self.picture]
        size = sum(array.nbytes for array in arrays)
        size += sum(tensor.nbytes for tensor in self.thought.memory.values())
        if self.dreamed is not None:
            size += sum(array.nbytes for array in self.dreamed.rows.values())
            size += sum(array.nbytes for array in self.dreamed.saved["state"].values())
        return size


class Path:
    """Moments one after another, a cursor among them, and a count of those that were dropped at the front.

    The newest are kept, as many as `MOMENTS` and `BYTES` allow, and at least one.
    """

    def __init__(self, first: Moment) -> None:
        self._moments = [first]
        self._dropped, self._cursor, self._bytes = 0, 0, first.nbytes

    @property
    def now(self) -> Moment:
        """The moment at the cursor."""
        return self._moments[self._cursor]

    @property
    def position(self) -> int:
        """Number of that moment since the beginning."""
        return self._dropped + self._cursor

    @property
    def range(self) -> tuple[int, int]:
        """Positions of the oldest and the newest moment that are kept."""
        return self._dropped, self._dropped + len(self._moments) - 1

    def to(self, position: int) -> None:
        """Put the cursor at a position, or at the nearest that is kept."""
        self._cursor = min(max(position - self._dropped, 0), len(self._moments) - 1)

    def actions_ahead(self) -> list[np.ndarray]:
        """Actions that led from the cursor to the newest moment."""
        return [moment.action for moment in self._moments[self._cursor + 1 :] if moment.action is not None]

    def cut(self) -> list[Moment]:
        """Drop the moments after the cursor, and return them."""
        tail = self._moments[self._cursor + 1 :]
        del self._moments[self._cursor + 1 :]
        self._bytes -= sum(moment.nbytes for moment in tail)
        return tail

    def append(self, moment: Moment) -> None:
        """Go on to a new moment, which is the last one then."""
        self.cut()
        self._moments.append(moment)
        self._bytes += moment.nbytes
        self._cursor += 1
        while len(self._moments) > 1 and (len(self._moments) > MOMENTS or self._bytes > BYTES):
            self._bytes -= self._moments.pop(0).nbytes
            self._dropped += 1
            self._cursor -= 1

    def replace(self, moment: Moment) -> None:
        """Put another moment in place of that at the cursor, which then is the last one."""
        self.cut()
        self._bytes += moment.nbytes - self.now.nbytes
        self._moments[self._cursor] = moment

    def back(self) -> Iterator[Moment]:
        """Moments from that at the cursor to the oldest."""
        for index in range(self._cursor, -1, -1):
            yield self._moments[index]

    def episode(self) -> list[Moment]:
        """Moments of the world's open episode at which it moved, in order, as far as they are kept."""
        found: list[Moment] = []
        for moment in self.back():
            if moment.moved:
                found.append(moment)
                if moment.rows["is_first"][0]:
                    break
        return found[::-1]
