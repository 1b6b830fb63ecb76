"""The rows of a run on disk: written as they arrive, read back to resume exactly, or opened as a dataset.

::

    rows of a stream     |---- sealed file ----|---- sealed file ----|-- open tail --|
                         never changed once sealed                    in the checkpoint

A tail is sealed when the row *after* it arrives, which becomes the file's peek row; the newest row of a stream is thus
always in its tail, where `truncate` can still mark it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.data.chunks import SUFFIX, TEMPORARY, chunk_path, read_chunk, sync, write_chunk
from reverie.data.dataset import Dataset, open_dataset
from reverie.data.replay import Replay
from reverie.data.rings import Rings
from reverie.data.rows import Rows, RowSpec
from reverie.data.sequences import Chunk
from reverie.errors import UserError

__all__ = ["ChunkWriter", "Dataset", "open_dataset", "read_chunk", "refill"]


class ChunkWriter:
    """Writes every row of `streams` streams into chunk files of `length` rows under `folder`.

    spec: fields of a row. states, period: recurrent states to keep, before rows at multiples of the period; `length`
        is rounded up to a multiple of it. level: zstandard's compression level.
    Streams seal at different rows (stream i first after about 1 - i / streams of a chunk), so that streams which
    advance together do not all compress at once. Open tails take up to length * streams rows of memory.
    """

    def __init__(
        self,
        folder: Path | str,
        spec: RowSpec,
        streams: int,
        length: int = 1024,
        states: RowSpec | None = None,
        period: int = 1,
        level: int = 3,
    ) -> None:
        if streams < 1 or length < 1 or period < 1:
            raise ValueError(f"expected streams, length, period >= 1, got {streams}, {length}, {period}")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.streams, self.period, self.level = streams, period, level
        self.length = -(-length // period) * period
        self.version = 0
        self.state_spec = dict(states or {})
        cpu = torch.device("cpu")
        self._rows = Rings(spec, streams * self.length, cpu)
        self._grid = self.length // period
        self._states = Rings(self.state_spec, streams * self._grid, cpu)
        self._all = np.arange(streams)
        self._shift = self._all * self.length // streams // period * period
        self._count = np.zeros(streams, np.int64)
        self._start = np.zeros(streams, np.int64)
        self._sealed: list[tuple[int, int, int]] = []

    def add(self, rows: Rows, streams: np.ndarray | None = None, states: dict[str, np.ndarray] | None = None) -> None:
        """Append one row per listed stream, as `Replay.add` does; seals the tails that these rows complete.

        Raises UserError if the disk is full; the rows are then not added, and adding them again tries again.
        """
        ids = self._all if streams is None else np.asarray(streams, np.int64)
        self._rows.check(rows, len(ids))
        indices = self._count[ids]
        full = ((indices + self._shift[ids]) % self.length == 0) & (indices > self._start[ids])
        for at in np.flatnonzero(full).tolist():
            self._seal(int(ids[at]), {name: value[at] for name, value in rows.items()})
        self._rows.write(ids * self.length + indices - self._start[ids], rows)
        if self.state_spec:
            mask = indices % self.period == 0
            if mask.any():
                if states is None:
                    raise ValueError(f"rows need the states {sorted(self.state_spec)}, got none")
                chosen = {name: value[mask] for name, value in states.items()}
                self._states.check(chosen, int(mask.sum()))
                place = (indices - self._start[ids])[mask] // self.period
                self._states.write(ids[mask] * self._grid + place, chosen)
        self._count[ids] += 1

    def truncate(self, stream: int) -> None:
        """Mark the newest row of a stream ``is_last``, as `Replay.truncate` does."""
        rows = int(self._count[stream] - self._start[stream])
        if rows:
            self._rows.data["is_last"][stream * self.length + rows - 1] = True

    def flush(self) -> None:
        """Write the open tails too, so that the folder is a complete dataset; they stay open, and are sealed again."""
        for stream in self._all.tolist():
            if self._count[stream] > self._start[stream]:
                write_chunk(chunk_path(self.folder, stream, int(self._start[stream])), self._tail(stream), self.level)

    def evict(self, keep_from: np.ndarray) -> None:
        """Remove files with no row at or after keep_from[stream] (absolute indices, see `Replay.oldest`).

        Call it only when the checkpoint that no longer needs them is durable.
        """
        gone = [(s, start, n) for s, start, n in self._sealed if start + n <= keep_from[s]]
        if not gone:
            return
        for stream, start, _ in gone:
            chunk_path(self.folder, stream, start).unlink(missing_ok=True)
        sync(self.folder)
        self._sealed = [item for item in self._sealed if item[1] + item[2] > keep_from[item[0]]]

    def _tail(self, stream: int, peek: Rows | None = None) -> Chunk:
        start, rows = int(self._start[stream]), int(self._count[stream] - self._start[stream])
        base, grid = stream * self.length, stream * self._grid
        states = self._states.read(np.arange(grid, grid + -(-rows // self.period))) if self.state_spec else None
        return Chunk(stream, start, self._rows.read(np.arange(base, base + rows)), peek, states, self.version)

    def _seal(self, stream: int, peek: Rows) -> None:
        chunk = self._tail(stream, peek)
        write_chunk(chunk_path(self.folder, stream, chunk.start), chunk, self.level)
        self._sealed.append((stream, chunk.start, len(chunk)))
        self._start[stream] = self._count[stream]

    def state_dict(self) -> dict[str, Any]:
        """Open tails (rows of all streams, one after another) and the sealed files: int64 [files, 3] of stream, start,
        length. The files are durable before this returns their names."""
        tails = [self._tail(stream) for stream in self._all.tolist()]
        state_names = [f"state.{name}" for name in self.state_spec]
        return {
            "length": self.length,
            "period": self.period,
            "version": self.version,
            "counts": self._count.copy(),
            "starts": self._start.copy(),
            "sealed": np.array(self._sealed, np.int64).reshape(-1, 3),
            "tail": {name: np.concatenate([tail.rows[name] for tail in tails]) for name in self._rows.spec},
            "tail_states": {
                name: np.concatenate([(tail.states or {})[name.removeprefix("state.")] for tail in tails])
                for name in state_names
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to where `state_dict` was taken: restore the tails, delete files that were sealed afterwards.

        Those rows will be produced and sealed again. Raises UserError if a file that the state names is missing
        between others, or if the saved writer had another shape.
        """
        mine = {"length": self.length, "period": self.period, "streams": self.streams}
        saved = {"length": int(state["length"]), "period": int(state["period"]), "streams": len(state["counts"])}
        if mine != saved:
            raise UserError(
                f"the saved chunks have {saved}, this run {mine}: resume with the settings of the saved run"
            )
        self.version = int(state["version"])
        self._count[:], self._start[:] = state["counts"], state["starts"]
        for path in [*self.folder.glob(f"*{SUFFIX}"), *self.folder.glob(f"*{TEMPORARY}")]:
            stream, start = _place(path)
            if path.name.endswith(TEMPORARY) or (stream < self.streams and start >= self._start[stream]):
                path.unlink()
        self._sealed = _present(self.folder, state)
        for chunk in _tails(state, self._rows.spec, self.state_spec):
            base, grid = chunk.stream * self.length, chunk.stream * self._grid
            self._rows.write(np.arange(base, base + len(chunk)), chunk.rows)
            if chunk.states:
                self._states.write(np.arange(grid, grid + -(-len(chunk) // self.period)), chunk.states)


def refill(replay: Replay, folder: Path | str, state: dict[str, Any]) -> None:
    """Put all rows back into a replay whose own `load_state_dict` has run. state: of the `ChunkWriter`, taken together.

    Sampling then goes on bit for bit as if it had never stopped. Raises UserError if rows are missing.
    """
    counts, oldest = np.asarray(state["counts"]), replay.oldest
    if not np.array_equal(counts, replay.counts):
        raise UserError(f"replay and chunk files were not saved together: they hold {replay.counts} and {counts} rows")
    found = np.zeros(len(counts), np.int64)
    needed = [(s, start, n) for s, start, n in _present(Path(folder), state) if start + n > oldest[s]]
    for stream, start, length in needed:
        replay.restore_rows(read_chunk(chunk_path(Path(folder), stream, start)))
        found[stream] += start + length - max(start, oldest[stream])
    for chunk in _tails(state, replay.spec, replay.state_spec):
        replay.restore_rows(chunk)
        found[chunk.stream] += max(0, chunk.start + len(chunk) - max(chunk.start, oldest[chunk.stream]))
    if (found != counts - oldest).any():
        stream = int(np.flatnonzero(found != counts - oldest)[0])
        raise UserError(
            f"{folder} lacks {counts[stream] - oldest[stream] - found[stream]} rows of stream {stream} that the "
            f"checkpoint needs: restore the chunk files from a copy, or start a new run directory"
        )
    replay.restored()


def _tails(state: dict[str, Any], spec: RowSpec, state_spec: RowSpec) -> Iterator[Chunk]:
    """The open tails of a saved `ChunkWriter`."""
    period, rows_at, states_at = int(state["period"]), 0, 0
    for stream, (count, start) in enumerate(zip(state["counts"], state["starts"], strict=True)):
        rows = int(count - start)
        grid = -(-rows // period)
        states = {name: state["tail_states"][f"state.{name}"][states_at : states_at + grid] for name in state_spec}
        if rows:
            yield Chunk(
                stream, int(start), {name: state["tail"][name][rows_at : rows_at + rows] for name in spec}, None, states
            )
        rows_at, states_at = rows_at + rows, states_at + grid


def _present(folder: Path, state: dict[str, Any]) -> list[tuple[int, int, int]]:
    """The sealed files of a state that still exist: only the oldest of a stream may have been evicted since."""
    there: list[tuple[int, int, int]] = []
    for stream, start, length in np.asarray(state["sealed"], np.int64).tolist():
        path = chunk_path(folder, stream, start)
        if path.exists():
            there.append((stream, start, length))
        elif any(s == stream for s, _, _ in there):
            raise UserError(f"{path} is missing: restore it from a copy, or start a new run directory")
    return there


def _place(path: Path) -> tuple[int, int]:
    """Stream and start from a chunk's file name."""
    try:
        stream, start = path.name.split(".", 1)[0].split("-")
        return int(stream), int(start)
    except ValueError as error:
        raise UserError(f"{path} is not named like a chunk file (<stream>-<start>{SUFFIX}): move it away") from error
