"""The rows of a run on disk: sealed into chunk files out of the replay's rings, and read back to resume exactly.

::

    rows of a stream     |---- sealed file ----|---- sealed file ----|-- open tail --|
                         never changed once sealed                    in the checkpoint

Rows are written once, into the replay. A tail is sealed just before the row *after* it is written, which becomes the
file's peek row; the newest row of a stream is thus always in its tail, where `Replay.truncate` can still mark it, and
the rings hold a whole tail because a file has no more rows than a ring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.chunks import SUFFIX, TEMPORARY, chunk_path, read_chunk, sync, write_chunk
from reverie.data.replay import Replay
from reverie.data.rows import Rows
from reverie.data.sequences import Chunk
from reverie.errors import UserError


class MissingRows(UserError):
    """Rows of a saved moment that are not there any more."""


class Record:
    """Chunk files of `length` rows under `folder`, which the rows of a replay are sealed into.

    length: rounded up to a multiple of the replay's period, and at most what a ring holds. level: zstandard's
    compression level. version: of the parameters that acted last; files carry it. first: number, in the files, of the
    replay's first stream: several replays may have their files in one folder.
    Streams seal at different rows (stream i first after about 1 - i / streams of a chunk), so that streams which
    advance together do not all compress at once. Raises UserError if the rings are shorter than a period.
    """

    def __init__(self, folder: Path | str, replay: Replay, length: int = 1024, level: int = 3, first: int = 0) -> None:
        if length < 1:
            raise ValueError(f"expected length >= 1, got {length}")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.replay, self.level, self.version, self.first = replay, level, 0, first
        period, streams = replay.sequence.period, np.arange(replay.streams)
        if replay.rows_per_stream < period:
            raise UserError(
                f"the replay holds {replay.rows_per_stream} rows in each stream, fewer than the period of {period}; "
                "raise replay.store.budget or lower replay.window.period"
            )
        self.length = min(-(-length // period), replay.rows_per_stream // period) * period
        self._shift = streams * self.length // replay.streams // period * period
        self._start = np.zeros(replay.streams, np.int64)
        self._sealed: list[tuple[int, int, int]] = []

    def room(self, stream: int) -> int:
        """Number of rows that can follow in a stream before a file must be sealed, at least 0."""
        count, start = int(self.replay.counts[stream]), int(self._start[stream])
        past = (count + int(self._shift[stream])) % self.length
        return 0 if past == 0 and count > start else self.length - past

    def seal(self, streams: np.ndarray, indices: np.ndarray, rows: Rows) -> None:
        """Seal the tails that end before these rows, which are about to be written: one per stream, [n, ...].

        Raises UserError if the disk is full; the rows can then be tried again.
        """
        full = ((indices + self._shift[streams]) % self.length == 0) & (indices > self._start[streams])
        for at in np.flatnonzero(full).tolist():
            stream = int(streams[at])
            chunk = self._tail(stream, {name: value[at] for name, value in rows.items()})
            self._write(chunk)
            self._sealed.append((stream, chunk.start, len(chunk)))
            self._start[stream] = indices[at]

    def flush(self) -> None:
        """Write the open tails too, so that the folder is a complete dataset; they stay open, and are sealed again."""
        for tail in self._tails():
            if len(tail):
                self._write(tail)

    def evict(self, oldest: np.ndarray) -> None:
        """Remove files with no row at or after oldest[stream] (absolute indices, see `Replay.oldest`).

        Call it only when the checkpoint that no longer needs them is durable.
        """
        expired = [(s, start, n) for s, start, n in self._sealed if start + n <= oldest[s]]
        if not expired:
            return
        for stream, start, _ in expired:
            self._path(stream, start).unlink(missing_ok=True)
        sync(self.folder)
        self._sealed = [item for item in self._sealed if item[1] + item[2] > oldest[item[0]]]

    def _path(self, stream: int, start: int) -> Path:
        """Path of the file of a stream of the replay."""
        return chunk_path(self.folder, self.first + stream, start)

    def _write(self, chunk: Chunk) -> None:
        named = replace(chunk, stream=self.first + chunk.stream)
        write_chunk(self._path(chunk.stream, chunk.start), named, self.level)

    def _read(self, stream: int, start: int) -> Chunk:
        return replace(read_chunk(self._path(stream, start)), stream=stream)

    def _tail(self, stream: int, peek: Rows | None = None) -> Chunk:
        return self.replay.chunk(stream, int(self._start[stream]), int(self.replay.counts[stream]), peek, self.version)

    def _tails(self) -> list[Chunk]:
        return [self._tail(stream) for stream in range(self.replay.streams)]

    def state_dict(self) -> dict[str, Any]:
        """Open tails (rows of all streams, one after another) and the sealed files: int64 [files, 3] of stream, start,
        length. The files are durable before this returns their names."""
        tails = self._tails()
        return {
            "length": self.length,
            "version": self.version,
            "starts": self._start.copy(),
            "sealed": np.array(self._sealed, np.int64).reshape(-1, 3),
            "tail": _joined([tail.rows for tail in tails]),
            "tail_states": _joined([{f"state.{k}": v for k, v in (tail.states or {}).items()} for tail in tails]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring all rows back into the replay, whose own `load_state_dict` has run; no file is changed (see `trim`).

        Sampling then goes on bit for bit as if it had never stopped. Raises UserError if rows are missing or the saved
        files have another length.
        """
        if int(state["length"]) != self.length:
            raise UserError(
                f"the saved chunks have {int(state['length'])} rows, those of this run {self.length}: "
                "resume with the settings of the saved run"
            )
        replay, counts, oldest = self.replay, self.replay.counts, self.replay.oldest
        tail = len(state["tail"]["is_last"])
        if len(state["starts"]) != replay.streams or int((counts - state["starts"]).sum()) != tail:
            raise UserError(
                f"replay and chunk files were not saved together: of {replay.inserted} rows {tail} are in no file"
            )
        restored = np.zeros(replay.streams, np.int64)
        sealed = self._present(state)
        parts: Iterator[Chunk] = (self._read(s, start) for s, start, n in sealed if start + n > oldest[s])
        for chunk in (*parts, *self._saved_tails(state)):
            replay.restore_rows(chunk)
            restored[chunk.stream] += max(0, chunk.start + len(chunk) - max(chunk.start, oldest[chunk.stream]))
        if (restored != counts - oldest).any():
            stream = int(np.flatnonzero(restored != counts - oldest)[0])
            raise MissingRows(
                f"{self.folder} lacks {counts[stream] - oldest[stream] - restored[stream]} rows of stream {stream} "
                "that the checkpoint needs: restore the chunk files from a copy, or start a new run directory"
            )
        replay.restored()
        self.version, self._sealed = int(state["version"]), sealed
        self._start[:] = state["starts"]

    def trim(self) -> None:
        """Delete the files that were sealed after the saved moment: those rows will be produced and sealed again."""
        for path in [*self.folder.glob(f"*{SUFFIX}"), *self.folder.glob(f"*{TEMPORARY}")]:
            name, start = _place(path)
            stream = name - self.first
            ours = 0 <= stream < self.replay.streams  # others may be writing theirs
            if ours and (path.name.endswith(TEMPORARY) or start >= self._start[stream]):
                path.unlink()

    def _present(self, state: dict[str, Any]) -> list[tuple[int, int, int]]:
        """The sealed files of a state that still exist: only the oldest of a stream may have been evicted since."""
        present: list[tuple[int, int, int]] = []
        for stream, start, length in np.asarray(state["sealed"], np.int64).tolist():
            path = self._path(stream, start)
            if path.exists():
                present.append((stream, start, length))
            elif any(s == stream for s, _, _ in present):
                raise MissingRows(f"{path} is missing: restore it from a copy, or start a new run directory")
        return present

    def _saved_tails(self, state: dict[str, Any]) -> Iterator[Chunk]:
        """The open tails of a saved record."""
        period, rows_at, states_at = self.replay.sequence.period, 0, 0
        for stream, (count, start) in enumerate(zip(self.replay.counts, state["starts"], strict=True)):
            rows, grid = int(count - start), -(-int(count - start) // period)
            states = {
                name: state["tail_states"][f"state.{name}"][states_at : states_at + grid]
                for name in self.replay.state_spec
            }
            tail = {name: state["tail"][name][rows_at : rows_at + rows] for name in self.replay.spec}
            if rows:
                yield Chunk(stream, int(start), tail, None, states)
            rows_at, states_at = rows_at + rows, states_at + grid


def _joined(parts: list[Rows]) -> Rows:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _place(path: Path) -> tuple[int, int]:
    """Stream and start from a chunk's file name."""
    try:
        stream, start = path.name.split(".", 1)[0].split("-")
        return int(stream), int(start)
    except ValueError as error:
        raise UserError(f"{path} is not named like a chunk file (<stream>-<start>{SUFFIX}): move it away") from error
