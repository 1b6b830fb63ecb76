"""The store's side of actors elsewhere: deliveries are taken once and in order, and no two episodes are ever spliced.

::

    actor 3, incarnation 1    delivery 0, 1, 2 | lost            rows up to a peek: seen, and not acted on as far as
                                               |                 anybody knows
    begin(3)                                   the peek becomes the closing row (is_last) of the open episode
    actor 3, incarnation 2    delivery 0, ...                    its rows go on where the stream stands, with is_first

A delivery names its actor, the actor's incarnation and its place in that incarnation's sequence, so that one that comes
twice, late, or from an actor that was given up for lost changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from reverie.data.rows import EXTRA, Rows
from reverie.data.sequences import Chunk
from reverie.data.store import Store
from reverie.errors import UserError


@dataclass(frozen=True)
class Delivery:
    """Chunks that an actor sends at once, in the order of their streams' rows. Streams are counted from its own first.

    actor, incarnation, sequence: who sends it, its how-manieth life, and the how-manieth delivery of that life.
    """

    actor: int
    incarnation: int
    sequence: int
    chunks: list[Chunk] = field(default_factory=list)


class Message(Protocol):
    """Whatever an actor sends: who it is, its how-manieth life, and the how-manieth message of that life."""

    @property
    def actor(self) -> int:
        """Number of the actor."""

    @property
    def incarnation(self) -> int:
        """Of the actor, from 1."""

    @property
    def sequence(self) -> int:
        """Of the message, from 0."""


class Lives:
    """Present lives of `actors` actors, and which of their messages are due: each counts once, and in order."""

    def __init__(self, actors: int) -> None:
        self.incarnation = np.zeros(actors, np.int64)
        """of the actors whose messages are taken; 0: none yet"""
        self.dropped = 0
        """messages that were not taken"""
        self._next = np.zeros(actors, np.int64)

    def begin(self, actor: int, after: int = 0) -> int:
        """Incarnation of a new life of an actor; what its earlier lives sent is no longer taken.

        after: an incarnation that somebody knows it had.
        """
        self.incarnation[actor] = max(int(self.incarnation[actor]), after) + 1
        self._next[actor] = 0
        return int(self.incarnation[actor])

    def due(self, message: Message) -> bool:
        """Whether a message is the next one of its actor's present life; others are counted as dropped.

        Raises ValueError if one before it is missing.
        """
        actor, due = message.actor, int(self._next[message.actor])
        if message.incarnation != self.incarnation[actor] or message.sequence < due:
            self.dropped += 1
            return False
        if message.sequence > due:
            raise ValueError(f"actor {actor} delivers {message.sequence}, but {due} was not received")
        return True

    def early(self, message: Message) -> bool:
        """Whether a message is of its actor's present life, and one before it is missing."""
        present = message.incarnation == self.incarnation[message.actor]
        return bool(present and message.sequence > self._next[message.actor])

    def taken(self, message: Message) -> None:
        """Note that a message that was due has been taken in: if it comes again, it is not."""
        self._next[message.actor] += 1

    def state_dict(self) -> dict[str, Any]:
        """Lives so far."""
        return {"incarnation": self.incarnation.copy(), "dropped": self.dropped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; every actor must `begin` before it sends."""
        self.incarnation[:] = state["incarnation"]
        self.dropped = int(state["dropped"])


class Receiver(ABC):
    """Whoever takes what actors deliver. lives: of the actors."""

    lives: Lives

    @property
    def incarnation(self) -> np.ndarray:
        """Of the actors, int64 [actors], see `Lives`."""
        return self.lives.incarnation

    @property
    def dropped(self) -> int:
        """Deliveries that were not taken, see `Lives`."""
        return self.lives.dropped

    @abstractmethod
    def begin(self, actor: int) -> tuple[int, np.ndarray]:
        """Incarnation of a new life of an actor, and the index that its next row has in each stream, int64 [streams].

        Deliveries of its earlier lives are no longer taken.
        """


class Inbox(Receiver):
    """Deliveries of `actors` actors with `streams` streams each, on their way into a store.

    Stream s of actor a is stream a * streams + s of the store.
    """

    def __init__(self, store: Store, actors: int, streams: int) -> None:
        self.store, self.actors, self.streams = store, actors, streams
        self.lives = Lives(actors)
        self._peeks: dict[int, _Peek] = {}

    def begin(self, actor: int, after: int = 0) -> tuple[int, np.ndarray]:
        """Incarnation of a new life of an actor, and the index that its next row has in each stream, int64 [streams].

        after: see `Lives.begin`.

        Deliveries of its earlier lives are no longer taken; episodes that they left open end with the row that was seen
        last, as at a time limit.
        """
        ids = actor * self.streams + np.arange(self.streams)
        for stream in ids.tolist():
            self._close(stream)
        return self.lives.begin(actor, after), self.store.replay.counts[ids].copy()

    def take(self, delivery: Delivery) -> bool:
        """Whether a delivery is new and of its actor's present life; only then its rows are added to the store.

        Raises ValueError if one before it is missing, or as `Store.add_chunk` does; of rows that were added up to
        there the next one is known.
        """
        if not self.lives.due(delivery):
            return False
        for chunk in delivery.chunks:
            stream = delivery.actor * self.streams + chunk.stream
            try:
                self.store.add_chunk(replace(chunk, stream=stream))
            except UserError:
                if added := int(self.store.replay.counts[stream]) - chunk.start:
                    self._peeks[stream] = _peek(_head(chunk, added, self.store.replay.sequence.period))
                raise
            self._peeks[stream] = _peek(chunk)
        self.lives.taken(delivery)
        return True

    def _close(self, stream: int) -> None:
        """End the open episode of a stream with the row that was seen last; one that is_first is not there yet."""
        peek = self._peeks.get(stream)
        if peek is not None and not peek.rows["is_first"][0]:
            closing = peek.rows | {"is_last": np.ones(1, bool)}
            self.store.add(closing, np.array([stream]), peek.states, None, peek.version)
        self._peeks.pop(stream, None)  # only now: the disk may have been full

    def state_dict(self) -> dict[str, Any]:
        """Lives of the actors, and the rows that were seen last: on a return, all of their open episodes are closed."""
        return self.lives.state_dict() | {
            "peeks": {str(stream): vars(peek) for stream, peek in self._peeks.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; every actor must `begin` before it delivers."""
        self.lives.load_state_dict(state)
        self._peeks = {int(stream): _Peek(**peek) for stream, peek in state["peeks"].items()}


@dataclass(frozen=True)
class _Peek:
    """Row after a chunk, seen and not acted on: rows and the states before it [1, ...], the version of the chunk."""

    rows: Rows
    states: dict[str, np.ndarray]
    version: int


def _head(chunk: Chunk, rows: int, period: int) -> Chunk:
    """The first rows of a chunk, with the row after them, and the state before that one if it is kept."""
    head, rest = chunk.part(0, rows, period), chunk.part(rows, rows + 1, period)
    if rest.states is None or not len(rest.grid(period)):
        return head
    return replace(head, after={name: value[0] for name, value in rest.states.items()})


def _peek(chunk: Chunk) -> _Peek:
    """The row after a chunk, without its decision; copied, so that it keeps no message alive.

    Raises ValueError if the row is not there.
    """
    if chunk.peek is None:
        raise ValueError(f"a chunk of stream {chunk.stream} travels without the row after it")
    rows: Rows = {name: np.array(value)[None] for name, value in chunk.peek.items()}
    for name, value in rows.items():
        if name == "action" or name.startswith(EXTRA):
            value[:] = 0
    return _Peek(rows, {name: np.array(value)[None] for name, value in (chunk.after or {}).items()}, chunk.version)
