"""Sequence replay: rings of rows per stream, windows gathered time-first, one selector, feedback by key.

::

    cursors    which rows are stored, and where windows may begin     `reverie.data.cursors`
    rings      the rows, and beside them recurrent states             `reverie.data.rings`, `reverie.data.states`
    selector   which windows are drawn                                `reverie.data.selectors`
    keys       name windows: key + k is the row k rows later          `reverie.data.keys`

Windows may cross episode boundaries (a learner resets where ``is_first``), never the write cursor. The newest row of a
stream may be a window's last row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from reverie.data.cursors import Cursors
from reverie.data.generator import generator_state, set_generator_state
from reverie.data.keys import split_keys, window_keys
from reverie.data.pool import Pool
from reverie.data.rings import Rings
from reverie.data.room import rows_per_stream
from reverie.data.rows import Rows, RowSpec, State
from reverie.data.selectors import Drawn, Layout, Selector
from reverie.data.sequences import Batch, Chunk, Feedback, SequenceSpec
from reverie.data.states import StateStore


class Replay:
    """Rows of `streams` streams and the windows that `sequence` allows in them.

    spec: fields of a row. states: fields of a recurrent state, kept (only if ``sequence.keeps_states``) before the
        rows whose absolute index is a multiple of the period.
    budget: bytes for rows, states and selector; or capacity: rows in all streams together. Exactly one of them.
    selector: draws windows. seed: of the replay's own generator, which nothing else uses.
    device: where rows live; batches are made there. pin_memory: batches of a CPU replay in page-locked memory.
    buffers: a batch stays valid until this many further calls of `sample` with the same batch size: fresh
        tensors would cost more in page faults than the copy itself. Clone what must live longer.

    Not thread-safe: one owner calls it. Raises UserError if the budget cannot hold a window per stream.
    """

    def __init__(
        self,
        spec: RowSpec,
        sequence: SequenceSpec,
        streams: int,
        budget: int | None,
        selector: Selector,
        seed: int,
        states: RowSpec | None = None,
        capacity: int | None = None,
        device: str | torch.device = "cpu",
        pin_memory: bool = False,
        buffers: int = 3,
    ) -> None:
        if streams < 1 or buffers < 1:
            raise ValueError(f"expected streams >= 1 and buffers >= 1, got {streams} and {buffers}")
        if not {"is_first", "is_last"} <= set(spec):
            raise ValueError(f"a row needs is_first and is_last, got {sorted(spec)}")
        if sequence.keeps_states and not states:
            raise ValueError("the sequence keeps states but the replay was given no state spec")
        self.spec, self.sequence, self.streams = dict(spec), sequence, streams
        self.state_spec: RowSpec = dict(states or {}) if sequence.keeps_states else {}
        self.selector = selector
        self.device = torch.device(device)
        self.rows_per_stream = rows_per_stream(
            self.spec, states, selector.window_bytes(), sequence, streams, budget, capacity
        )
        layout = Layout(streams, self.rows_per_stream, sequence.length, sequence.period, sequence.context)
        selector.bind(layout)
        self._rings = Rings(self.spec, streams * self.rows_per_stream, self.device)
        self._states = StateStore(self.state_spec, streams, layout.windows, sequence.period, self.device)
        self._cursors = Cursors(streams, self.rows_per_stream, sequence)
        self._all = np.arange(streams)
        self._offsets = np.arange(sequence.length)[:, None]
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._pin = pin_memory and self.device.type == "cpu"
        self.pool = Pool(lambda batch: self._rings.buffers((sequence.length, batch), self._pin), buffers)
        self._awaits_rows = False
        self.sampled_rows = 0
        self.stale_keys = 0

    # Counters

    def __len__(self) -> int:
        """Rows stored now."""
        return len(self._cursors)

    @property
    def inserted(self) -> int:
        """Rows ever added."""
        return int(self._cursors.count.sum())

    @property
    def oldest(self) -> np.ndarray:
        """Absolute index, int64 [streams], of the oldest row stored in each stream; nothing older is needed."""
        return self._cursors.oldest

    @property
    def counts(self) -> np.ndarray:
        """Rows ever added to each stream, int64 [streams]: the absolute index of the next row."""
        return self._cursors.count.copy()

    @property
    def nbytes(self) -> int:
        """Bytes reserved for rows, states and selector (without the batches' buffers)."""
        return self._rings.nbytes + self._states.nbytes + self.selector.nbytes

    def can_sample(self, batch_size: int = 1) -> bool:
        """Whether `sample(batch_size)` can be answered now."""
        return not self._awaits_rows and self.selector.ready(batch_size)

    # Writing

    def add(
        self,
        rows: Rows,
        streams: np.ndarray | None = None,
        states: dict[str, np.ndarray] | None = None,
        priorities: np.ndarray | None = None,
    ) -> None:
        """Append one row to each listed stream (None: to every stream).

        rows: every field of the spec, [n, ...]. streams: int64 [n], no duplicates.
        states: name -> [n, ...], the recurrent state *before* each row; read only where the row's index is a multiple
            of the period, required if the sequence stores states.
        priorities: float [n] of the windows that these rows complete (NaN or None: the selector's default).

        Raises ValueError if a field is missing or misshapen, or if ``is_first`` does not follow the stream's last row.
        """
        self.append(*self.place(rows, streams), rows, states, priorities)

    def place(self, rows: Rows, streams: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Streams and absolute indices, int64 [n] each, that rows are going to have; checked as `add` says."""
        ids = self._all if streams is None else np.asarray(streams, np.int64)
        if ids is not self._all and len(set(ids.tolist())) != len(ids):
            raise ValueError(f"add takes one row per stream, got streams {ids.tolist()}")
        indices = self._cursors.count[ids]
        self._check(ids, indices, rows)
        return ids, indices

    def append(
        self,
        ids: np.ndarray,
        indices: np.ndarray,
        rows: Rows,
        states: dict[str, np.ndarray] | None = None,
        priorities: np.ndarray | None = None,
    ) -> None:
        """Write rows to where `place` said; the second half of `add`."""
        self._states.add(ids, indices, states)
        self._append(ids, indices, rows, priorities)

    def add_chunk(self, chunk: Chunk) -> None:
        """Append the rows of a chunk; its start must be the next index of its stream.

        Raises ValueError as `check_chunk` does.
        """
        self.check_chunk(chunk)
        self.append_chunk(chunk)

    def append_chunk(self, chunk: Chunk) -> None:
        """Append the rows of a chunk that `check_chunk` has looked at; the second half of `add_chunk`."""
        stream, step = chunk.stream, self.rows_per_stream - self.sequence.length + 1
        for first in range(0, len(chunk), step):
            last = min(first + step, len(chunk))
            rows = {name: value[first:last] for name, value in chunk.rows.items()}
            ids, indices = np.full(last - first, stream, np.int64), np.arange(chunk.start + first, chunk.start + last)
            self._states.add_chunk(chunk, chunk.start + first, chunk.start + last)
            priorities = None if chunk.priorities is None else chunk.priorities[first:last]
            self._append(ids, indices, rows, priorities)

    def check_chunk(self, chunk: Chunk) -> None:
        """Look at a chunk before any of it is written.

        Raises ValueError if rows would be lost or doubled, if a field or a due state is missing or misshapen, or if
        ``is_first`` does not follow the row before.
        """
        stream, rows = chunk.stream, len(chunk)
        if chunk.start != (due := self._cursors.count[stream]):
            raise ValueError(f"stream {stream} expects row {due} next, the chunk starts at {chunk.start}")
        self._check(np.full(rows, stream, np.int64), np.arange(chunk.start, chunk.start + rows), chunk.rows)
        self._states.check_chunk(chunk)

    def _append(self, ids: np.ndarray, indices: np.ndarray, rows: Rows, priorities: np.ndarray | None) -> None:
        """Write checked rows at ids[i], indices[i]: forget the windows they overwrite, announce those they complete."""
        cursors = self._cursors
        overwritten = cursors.windows(ids, indices - cursors.capacity)
        if overwritten is not None:
            self.selector.evict(*overwritten)
        self._rings.write(cursors.slots(ids, indices), rows)
        cursors.advance(ids, indices, rows["is_last"])
        self.selector.observe(ids, indices, rows)
        complete = cursors.windows(ids, indices + 1 - self.sequence.length, priorities)
        if complete is None:
            return
        void = self._closing(*complete[:2])
        if void is None:
            self.selector.appear(*complete)
            return
        ids, starts, *scores = complete
        self.selector.appear(ids, starts, *(np.where(void, np.nan, score) for score in scores))
        self.selector.void(ids[void], starts[void])

    def _closing(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray | None:
        """Mask [n] of windows whose one learned row closes an episode: it has no action, and no loss; None: no window.

        Of a selector that is `whole`, windows any of whose learned rows does.
        Source: the replays of DQN and its children hold transitions, of which none begins at an episode's end.
        """
        learn = self.sequence.learn
        if learn > 1 and not self.selector.whole:
            return None
        rows = starts[:, None] + self.sequence.context + np.arange(learn)
        slots = self._cursors.slots(ids[:, None], rows)
        closing = self._rings.read_one("is_last", slots.reshape(-1))
        return np.asarray(closing.reshape(-1, learn).any(1)) if np.count_nonzero(closing) else None

    def _check(self, ids: np.ndarray, indices: np.ndarray, rows: Rows) -> None:
        self._rings.check(rows, len(ids))
        self._cursors.check(ids, indices, rows)

    def truncate(self, stream: int) -> None:
        """Close the open episode of a stream: its newest row becomes ``is_last``, and the next must be ``is_first``."""
        cursors = self._cursors
        index = int(cursors.count[stream]) - 1
        if index < 0 or cursors.ended[stream]:
            return
        (slot,) = cursors.slots(stream, np.array([index]))
        self._rings.data["is_last"][slot] = True
        cursors.ended[stream] = True
        self.selector.close(stream, index)
        sequence = self.sequence
        start = index + 1 - sequence.length
        learned = not sequence.lookahead and (sequence.learn == 1 or self.selector.whole)
        if learned and start >= 0 and start % sequence.period == 0:
            window = np.array([stream]), np.array([start])
            if not self.selector.is_void(*window).any():
                self.selector.void(*window)

    # Reading

    def sample(self, batch_size: int) -> Batch:
        """Batch of `batch_size` windows: rows [T, B, ...] contiguous, with start states, keys, probabilities and ages.

        The batch's rows live in a rotating pool of `buffers` buffers (see the class). Ages count the rows that entered
        the window's own stream since its last row, times the number of streams: exact where streams advance together.
        Raises RuntimeError if `can_sample(batch_size)` is False.
        """
        if not self.can_sample(batch_size):
            raise RuntimeError(f"the replay cannot give {batch_size} windows yet ({len(self)} rows stored)")
        return self.gather(self.draw(batch_size))

    def draw(self, batch_size: int) -> Drawn:
        """Windows for a batch, without their rows; the first half of `sample`."""
        return self.selector.draw(batch_size, self._rng)

    def gather(self, drawn: Drawn, own: bool = False) -> Batch:
        """Batch of windows that are stored; the second half of `sample`. own: its rows are in memory of its own."""
        batch_size = len(drawn.starts)
        slots = self._cursors.slots(drawn.streams, drawn.starts + self._offsets)
        out = self.pool.fresh(batch_size) if own else self.pool.next(batch_size)
        self._rings.gather(
            torch.from_numpy(slots.reshape(-1)).to(self.device), {k: v.flatten(0, 1) for k, v in out.items()}
        )
        self.sampled_rows += batch_size * self.sequence.learn
        ages = (self._cursors.count[drawn.streams] - drawn.starts - self.sequence.length) * self.streams
        return Batch(
            rows=dict(out),
            start=self._states.get(drawn.streams, drawn.starts) if self.sequence.state == "stored" else None,
            keys=torch.from_numpy(window_keys(drawn.streams, drawn.starts)),
            probabilities=torch.from_numpy(drawn.probabilities.astype(np.float32)),
            ages=torch.from_numpy(ages),
            probes=self._probe(drawn.streams, drawn.starts),
        )

    def _probe(self, streams: np.ndarray, starts: np.ndarray) -> State | None:
        """States before the rows `SequenceSpec.probes` of the windows, name -> [probes, n, ...]."""
        probes = self.sequence.probes
        if not probes:
            return None
        rows = (starts + np.array(probes)[:, None]).reshape(-1)
        states = self._states.get(np.tile(streams, len(probes)), rows) or {}
        return {name: value.unflatten(0, (len(probes), len(starts))) for name, value in states.items()}

    def chunk(self, stream: int, first: int, stop: int, peek: Rows | None = None, version: int = 0) -> Chunk:
        """Rows first <= index < stop of a stream, which must be stored, on the host with the states among them."""
        slots = self._cursors.slots(stream, np.arange(first, stop))
        chunk = Chunk(stream, first, self._rings.read(slots), peek, None, version)
        grid = chunk.grid(self.sequence.period)
        return replace(chunk, states=self._states.read(np.full(len(grid), stream), grid))

    def feedback(self, feedback: Feedback) -> None:
        """Take priorities and refreshed states back for keys of past batches.

        A key whose window (for a state: whose row) is no longer stored is skipped and counted in `stale_keys`; a
        priority that is NaN leaves the one before, since whoever learns says what is wrong with its losses. Where a
        key occurs twice, its last entry counts. Since key + k names the row k rows later, refreshed states may be given
        for any rows of a window whose indices are multiples of the period, and for the row after it: where that is not
        there yet, it will come with a state of its own, and the refreshed one is left out. Priorities that the selector
        does not take are not looked at.
        """
        priorities = feedback.priorities if self.selector.takes_priorities else None
        if priorities is None and feedback.states is None:
            return
        keys = feedback.keys.detach().cpu().numpy().astype(np.int64, copy=False)
        if priorities is not None:
            streams, starts = split_keys(keys)
            legal = self._cursors.has_windows(streams, starts)
            self.stale_keys += int(len(keys) - legal.sum())
            values = priorities.detach().to("cpu", torch.float64).numpy()
            legal &= ~np.isnan(values)
            self.selector.update(streams[legal], starts[legal], values[legal])
        if feedback.states is not None:
            self._refresh(keys, feedback.states)

    def _refresh(self, keys: np.ndarray, states: State) -> None:
        # Keep the last entry of each key, so that the result does not depend on how a copy is divided over threads.
        _, last = np.unique(keys[::-1], return_index=True)
        take = len(keys) - 1 - last
        streams, rows = split_keys(keys[take])
        legal = self._cursors.has_rows(streams, rows)
        self.stale_keys += int((rows < self.oldest[streams]).sum())
        self._states.refresh(streams[legal], rows[legal], states, take[legal])

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Cursors, counters, generator, selector and refreshed states: nested dicts of arrays, numbers and strings.

        Rows are not in it: they are on disk already (see `reverie.data.record`). States that learners refreshed are,
        because they may be newer than their file.
        """
        return {
            **self._cursors.state_dict(),
            "sampled_rows": self.sampled_rows,
            "stale_keys": self.stale_keys,
            "generator": generator_state(self._rng),
            "selector": self.selector.state_dict(),
            "refreshed": self._states.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to where `state_dict` was taken; `reverie.data.record.Record` then brings the rows back.

        Raises UserError if the saved replay had another shape.
        """
        self._cursors.load_state_dict(state)
        self.sampled_rows = int(state["sampled_rows"])
        self.stale_keys = int(state["stale_keys"])
        set_generator_state(self._rng, state["generator"])
        self.selector.load_state_dict(state["selector"])
        self._states.load_state_dict(state["refreshed"])
        self._awaits_rows = bool(self._cursors.count.any())

    def restore_rows(self, chunk: Chunk) -> None:
        """Put the rows of a chunk back at their absolute indices after `load_state_dict`; changes nothing else.

        Rows that are no longer stored are skipped, states that were refreshed since are kept.
        """
        indices = np.arange(chunk.start, chunk.start + len(chunk))
        mask = self._cursors.has_rows(chunk.stream, indices)
        if not mask.any():
            return
        rows = {name: value[mask] for name, value in chunk.rows.items()}
        self._rings.check(rows, int(mask.sum()))
        self._rings.write(self._cursors.slots(chunk.stream, indices[mask]), rows)
        self._states.restore(chunk, int(self.oldest[chunk.stream]), int(self._cursors.count[chunk.stream]))

    def reseed(self, seed: int) -> None:
        """Begin the generator of draws anew."""
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def restored(self) -> None:
        """Note that every row has been put back, so that sampling may go on."""
        self._awaits_rows = False
