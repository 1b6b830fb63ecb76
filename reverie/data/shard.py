"""A shard: the store of some of the streams, in a process of its own, and the messages that it answers.

::

    begin(actor)            a new life of one of its actors                              -> incarnation, next indices
    take(shipment, chunks)  rows of an actor, which its inbox takes once and in order    -> `Tally`
    serve([...])            one after another:
        Draw(ticket, n)     draw n windows and keep their places                         -> `Mass` of all its windows
        Collect(ticket, k)  the rows of the first k of them                              -> `Part` of a batch
        Drop(ticket)        forget them
        Give(...)           feedback by key

A batch over several shards is drawn in two steps, so that it is exactly a draw from one store of all streams: each
shard draws a whole batch of places and says how much its windows weigh at that moment; whoever asks then takes each
window of the batch from a shard drawn in proportion to these weights (`Selector.mass`). Messages are answered in the
order in which they were sent, so all shards draw at the same moment in the order of the sender's events.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.data.inbox import Delivery, Inbox
from reverie.data.keys import KEY_BITS
from reverie.data.limiter import Limiter
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.room import rows_per_stream
from reverie.data.rows import RowSpec
from reverie.data.selector import Drawn, Mass, SelectorConfig
from reverie.data.sequences import Batch, Chunk, Feedback, SequenceSpec
from reverie.data.store import Store

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """What a shard is. spec, windows, states, selector, seed: of its replay.

    actors: that it has, the first of which is number `first_actor` of the run's; streams: of each. all_streams: of the
    run. budget: bytes. folder: of the run's chunk files (None: none are written); chunk: rows of each.
    """

    spec: RowSpec
    windows: SequenceSpec
    states: RowSpec | None
    selector: SelectorConfig
    seed: int
    first_actor: int
    actors: int
    streams: int
    all_streams: int
    budget: int
    folder: Path | None
    chunk: int

    @property
    def room(self) -> int:
        """Rows that there is room for. Raises UserError if the budget cannot hold a window per stream."""
        streams, selector = self.actors * self.streams, self.selector.make()
        each = rows_per_stream(self.spec, self.states, selector.window_bytes(), self.windows, streams, self.budget)
        return streams * each

    @property
    def first(self) -> int:
        """Number of its first stream among the run's."""
        return self.first_actor * self.streams


@dataclass(frozen=True)
class Shipment:
    """Head of a delivery (see `reverie.data.inbox.Delivery`) whose rows travel another way.

    env_steps: rows with a decision. ends: stream, counted from the actor's first -> index of the row after those that
    come. rows: whatever stands for them on their way; a shard is handed them beside this.
    """

    actor: int
    incarnation: int
    sequence: int
    env_steps: int
    ends: dict[int, int]
    rows: Any = None

    @classmethod
    def of(cls, delivery: Delivery) -> Shipment:
        """Head of a delivery."""
        chunks = delivery.chunks
        made = sum(int((~chunk.rows["is_last"]).sum()) for chunk in chunks)
        ends = {chunk.stream: chunk.start + len(chunk) for chunk in chunks}
        return cls(delivery.actor, delivery.incarnation, delivery.sequence, made, ends)


@dataclass(frozen=True)
class Draw:
    """Draw n windows, to be collected under this ticket."""

    ticket: int
    n: int


@dataclass(frozen=True)
class Collect:
    """The rows of the first k windows of a ticket; the others are forgotten."""

    ticket: int
    k: int


@dataclass(frozen=True)
class Drop:
    """Forget the windows of a ticket."""

    ticket: int


@dataclass(frozen=True)
class Give:
    """Feedback, see `reverie.data.sequences.Feedback`; keys are the run's. priorities: float64 [n]."""

    keys: np.ndarray
    priorities: np.ndarray | None = None
    states: Arrays | None = None


Ask = Draw | Collect | Drop | Give


@dataclass(frozen=True)
class Part:
    """k windows of a batch, as `Batch` has them; keys are the run's.

    weights: float64 [k], probabilities times `Mass.scale`.
    """

    rows: Arrays
    start: Arrays | None
    probes: Arrays | None
    keys: np.ndarray
    weights: np.ndarray
    ages: np.ndarray


@dataclass(frozen=True)
class Tally:
    """How a shard stands after a message. largest: priority seen so far, 0 without priorities.

    rows_per_stream: that there is room for. memory: bytes of its process, see `proportional_memory`.
    """

    drawable: bool
    rows: int
    rows_per_stream: int
    stale_keys: int
    largest: float
    memory: int = 0
    pid: int = field(default_factory=os.getpid)


class Shard:
    """Replay, record and inbox of some actors' streams, by a plan. Nothing that it is handed is kept or written to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        selector = plan.selector.make()
        streams = plan.actors * plan.streams
        replay = Replay(plan.spec, plan.windows, streams, plan.budget, selector, plan.seed, plan.states)
        record = None if plan.folder is None else Record(plan.folder, replay, plan.chunk, first=plan.first)
        self.store = Store(replay, Limiter(None, 0), record)
        self.inbox = Inbox(self.store, plan.actors, plan.streams)
        self._drawn: dict[int, Drawn] = {}

    @property
    def replay(self) -> Replay:
        """Its rows."""
        return self.store.replay

    def begin(self, actor: int, after: int) -> tuple[int, np.ndarray]:
        """As `Inbox.begin`, for an actor of the run."""
        return self.inbox.begin(actor - self.plan.first_actor, after)

    def take(self, shipment: Shipment, chunks: Sequence[Chunk], largest: float = 0.0) -> bool:
        """As `Inbox.take`; False also where rows before these were lost on their way.

        largest: priority that any shard has seen; windows without one get it.
        """
        self._heed(largest)
        actor = shipment.actor - self.plan.first_actor
        delivery = Delivery(actor, shipment.incarnation, shipment.sequence, list(chunks))
        return not self.inbox.lives.early(delivery) and self.inbox.take(delivery)

    def serve(self, asks: Sequence[Ask], largest: float = 0.0) -> list[Mass | Part | None]:
        """Answers, one for each."""
        self._heed(largest)
        return [self._answer(ask) for ask in asks]

    def _answer(self, ask: Ask) -> Mass | Part | None:
        if isinstance(ask, Draw):
            return self._draw(ask)
        if isinstance(ask, Collect):
            return self._collect(self._drawn.pop(ask.ticket), ask.k)
        if isinstance(ask, Drop):
            self._drawn.pop(ask.ticket, None)
        else:
            self._give(ask)
        return None

    def _draw(self, ask: Draw) -> Mass:
        if not self.replay.can_sample(ask.n):
            return Mass(0.0, 0.0)
        mass = self.replay.selector.mass()
        drawn = self.replay.draw(ask.n)
        self._drawn[ask.ticket] = replace(drawn, probabilities=drawn.probabilities * mass.scale)
        return mass

    def _collect(self, kept: Drawn, k: int) -> Part | None:
        """Rows of the first k; a window that was overwritten since it was drawn is drawn anew. None if none can be."""
        drawn = Drawn(kept.streams[:k].copy(), kept.starts[:k].copy(), kept.probabilities[:k].copy())
        gone = drawn.starts < self.replay.oldest[drawn.streams]
        if missing := int(gone.sum()):
            if not self.replay.can_sample(missing):
                return None
            scale = self.replay.selector.mass().scale
            anew = self.replay.draw(missing)
            drawn.streams[gone], drawn.starts[gone] = anew.streams, anew.starts
            drawn.probabilities[gone] = anew.probabilities * scale
        # In memory of its own: many may be collected before the first is on its way, of as many sizes as shares have.
        batch = self.replay.gather(drawn, own=True)
        local = self.replay.streams
        return Part(
            {name: value.numpy() for name, value in batch.rows.items()},
            _numpy(batch.start),
            _numpy(batch.probes),
            batch.keys.numpy() + (self.plan.first << KEY_BITS),
            drawn.probabilities,
            batch.ages.numpy() // local * self.plan.all_streams,
        )

    def _give(self, given: Give) -> None:
        keys = torch.from_numpy(given.keys - (self.plan.first << KEY_BITS))
        priorities = None if given.priorities is None else torch.from_numpy(np.array(given.priorities))
        states = None
        if given.states is not None:
            states = {name: torch.from_numpy(np.array(value)) for name, value in given.states.items()}
        self.store.feedback(Feedback(keys, priorities, states))

    def _heed(self, largest: float) -> None:
        """Take notice of a priority that another shard has seen."""
        self.replay.selector.heed(largest)

    def tally(self, memory: int = 0) -> Tally:
        """How it stands."""
        replay = self.replay
        selector = replay.selector
        return Tally(
            replay.can_sample(), len(replay), replay.rows_per_stream, replay.stale_keys, selector.largest, memory
        )

    def state_dict(self) -> dict[str, Any]:
        """State of its store and its inbox, and its first stream; what was drawn and not collected is not in it."""
        return {"first": self.plan.first, "store": self.store.state_dict(), "inbox": self.inbox.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`. Raises UserError as `Record.load_state_dict` does."""
        self.store.load_state_dict(state["store"])
        self.inbox.load_state_dict(state["inbox"])
        self._drawn.clear()


def joined(parts: dict[int, Part], places: dict[int, np.ndarray], total: float, rows: dict[str, torch.Tensor]) -> Batch:
    """Batch of the parts of several shards, in buffers [T, B, ...] that are written here.

    places: columns int64 [k] of each shard's windows. total: sum of the shards' scales.
    """
    width = sum(len(columns) for columns in places.values())
    index = {shard: torch.from_numpy(columns) for shard, columns in places.items()}
    for name, out in rows.items():
        target = out.numpy()
        for shard, part in parts.items():
            target[:, places[shard]] = part.rows[name]

    def flat(name: str, dtype: Any) -> np.ndarray:
        value = np.empty(width, dtype)
        for shard, part in parts.items():
            value[places[shard]] = getattr(part, name)
        return value

    def states(name: str, axis: int) -> dict[str, torch.Tensor] | None:
        given = {shard: getattr(part, name) for shard, part in parts.items()}
        one = next(iter(given.values()))
        if one is None:
            return None
        whole = {}
        for key, value in one.items():
            shape = list(value.shape)
            shape[axis] = width
            whole[key] = torch.empty(shape, dtype=torch.from_numpy(np.empty(0, value.dtype)).dtype)
            for shard, group in given.items():
                whole[key].index_copy_(axis, index[shard], torch.from_numpy(np.array(group[key])))
        return whole

    probabilities = flat("weights", np.float64) / total
    return Batch(
        dict(rows),
        states("start", 0),
        torch.from_numpy(flat("keys", np.int64)),
        torch.from_numpy(probabilities.astype(np.float32)),
        torch.from_numpy(flat("ages", np.int64)),
        states("probes", 1),
    )


def _numpy(tensors: dict[str, torch.Tensor] | None) -> Arrays | None:
    return None if tensors is None else {name: value.numpy() for name, value in tensors.items()}
