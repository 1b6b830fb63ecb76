"""An actor's side of the store: rows leave complete, with the priorities of the windows that they complete.

::

    length = 0    each row goes to the store at once (an actor beside it)           deliver.add(rows, ...)
    length = L    L rows of a stream travel as one chunk, with the row after them   deliver.add_chunk(chunk)

A new window's first priority is the policy's to compute, from its own outputs, which travel with the rows
(`Policy.scored`); without it a window has the largest priority seen so far, and with few draws per window it is that
first priority that decides. Source: Horgan et al. 2018 (Ape-X), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from reverie.data.rows import Rows, RowSpec, State
from reverie.data.sequences import Chunk, SequenceSpec

Score = Callable[[dict[str, torch.Tensor]], torch.Tensor]
"""Priorities [n] of windows from the scored fields of their rows, [T, n, ...] each."""


class Deliver(Protocol):
    """Destination of rows: a `reverie.data.store.Store`, or something that brings them to one."""

    def add(
        self,
        rows: Rows,
        streams: np.ndarray | None = None,
        states: dict[str, np.ndarray] | None = None,
        priorities: np.ndarray | None = None,
        version: int = 0,
    ) -> None:
        """Take one row of each listed stream."""

    def add_chunk(self, chunk: Chunk) -> None:
        """Take consecutive rows of one stream."""


@dataclass
class _Open:
    """A row of an open chunk with what travels beside it."""

    row: Rows
    state: dict[str, np.ndarray] | None
    score: float
    version: int


class Outbox:
    """Rows of `streams` streams on their way.

    spec: fields of the rows. windows: that batches consist of. keep_states: recurrent states travel too.
    scored, score: fields and function of the policy's priorities; none: windows get the selector's own.
    device: where scores are computed. length: rows per chunk, a multiple of the windows' period, or 0.
    """

    def __init__(
        self,
        deliver: Deliver,
        spec: RowSpec,
        windows: SequenceSpec,
        streams: int,
        scored: tuple[str, ...] = (),
        score: Score | None = None,
        device: torch.device | None = None,
        length: int = 0,
    ) -> None:
        if length % windows.period:
            raise ValueError(f"chunks of {length} rows do not fit a period of {windows.period}")
        self.deliver, self.windows, self.length = deliver, windows, length
        self.score = score
        self.device = device or torch.device("cpu")
        self._all = np.arange(streams)
        self._next, self._first = np.zeros(streams, np.int64), np.zeros(streams, np.int64)
        self._offsets = np.arange(windows.length)[:, None]
        self._recent = {
            name: np.zeros((windows.length, streams, *spec[name].shape), spec[name].dtype)
            for name in (scored if score is not None else ())
        }
        self._open: list[list[_Open]] = [[] for _ in range(streams)]

    def begin(self, indices: np.ndarray) -> None:
        """Give the next row of each stream that index, int64 [streams]; rows before it are none of this outbox's."""
        self._next[:] = self._first[:] = indices

    def put(self, rows: Rows, streams: np.ndarray | None, state: State, version: int = 0) -> None:
        """Send one row of each listed stream (None: of every one).

        state: of the policy, before these rows, [n, ...]. version: of the parameters that acted.
        """
        ids = self._all if streams is None else streams
        states = None
        if self.windows.keeps_states:
            states = {name: value.cpu().numpy() for name, value in state.items()}
        priorities = self._score(ids, rows) if self.score is not None else None
        if self.length:
            self._collect(ids, rows, states, priorities, version)
        else:
            self.deliver.add(rows, streams, states, priorities, version)
        self._next[ids] += 1

    def _score(self, ids: np.ndarray, rows: Rows) -> np.ndarray | None:
        """Priorities [n] of the windows that these rows complete, NaN for rows without one; None if none does."""
        assert self.score is not None
        length, indices = self.windows.length, self._next[ids]
        for name, recent in self._recent.items():
            recent[indices % length, ids] = rows[name]
        starts = indices + 1 - length
        complete = (starts >= self._first[ids]) & (starts % self.windows.period == 0)
        if not complete.any():
            return None
        places = (starts[complete] + self._offsets) % length
        window = {name: torch.from_numpy(recent[places, ids[complete]]) for name, recent in self._recent.items()}
        with torch.no_grad():
            scores = self.score({name: value.to(self.device) for name, value in window.items()})
        priorities = np.full(len(ids), np.nan)
        priorities[complete] = scores.to("cpu", torch.float64).numpy()
        return priorities

    def _collect(
        self,
        ids: np.ndarray,
        rows: Rows,
        states: Mapping[str, np.ndarray] | None,
        priorities: np.ndarray | None,
        version: int,
    ) -> None:
        """Put rows into the open chunks; a chunk that is full leaves when the row after it is there, its peek."""
        for at, stream in enumerate(ids.tolist()):
            row = {name: value[at] for name, value in rows.items()}
            states_before = None
            if states is not None and self._next[stream] % self.windows.period == 0:
                states_before = {name: value[at].copy() for name, value in states.items()}
            if len(self._open[stream]) == self.length:
                self._send(stream, row, states_before)
            score = float("nan") if priorities is None else float(priorities[at])
            kept = {name: np.copy(value) for name, value in row.items()}
            self._open[stream].append(_Open(kept, states_before, score, version))

    def _send(self, stream: int, peek: Rows | None, after: dict[str, np.ndarray] | None = None) -> None:
        parts, self._open[stream] = self._open[stream], []
        states = [part.state for part in parts if part.state is not None]
        self.deliver.add_chunk(
            Chunk(
                stream,
                int(self._next[stream]) - len(parts),
                {name: np.stack([part.row[name] for part in parts]) for name in parts[0].row},
                peek,
                {name: np.stack([before[name] for before in states]) for name in states[0]} if states else None,
                parts[-1].version,
                np.array([part.score for part in parts]) if self.score is not None else None,
                after,
            )
        )

    def abandon(self) -> None:
        """Send all open rows but the newest of each stream, which is their peek.

        What followed on its decision is not here: an environment that raises keeps that of all of an actor's streams.
        """
        for stream in self._all.tolist():
            if len(self._open[stream]) > 1:
                newest = self._open[stream].pop()
                self._next[stream] -= 1
                self._send(stream, newest.row, newest.state)

    def flush(self) -> None:
        """Send the rows of all open chunks, without a row after them."""
        for stream in self._all.tolist():
            if self._open[stream]:
                self._send(stream, None)

    def state_dict(self) -> dict[str, Any]:
        """Positions of its streams, and the rows that windows begin with. Raises ValueError while chunks are open."""
        if any(self._open):
            raise ValueError("flush an outbox before its state is taken")
        return {"next": self._next.copy(), "recent": {name: value.copy() for name, value in self._recent.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._next[:] = state["next"]
        for name, value in self._recent.items():
            value[:] = state["recent"][name]
