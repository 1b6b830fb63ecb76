"""Chunk files as a dataset: chunks, streams and episodes in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reverie.data.chunks import SUFFIX, read_chunk, read_header
from reverie.data.rows import Rows
from reverie.data.sequences import Chunk
from reverie.errors import UserError


class Dataset:
    """The chunk files of a folder, per stream in order of time. Headers are read at once, rows when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, list[tuple[int, int, Path]]] = {}
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            header = read_header(path)
            files = self._files.setdefault(header["stream"], [])
            missing = files[-1][0] + files[-1][1] if files else header["start"]
            if header["start"] < missing:
                raise UserError(
                    f"{path} has rows of stream {header['stream']} from {header['start']} on, which "
                    f"{files[-1][2].name} has too: one of the two is not of this folder"
                )
            if header["start"] > missing:
                raise UserError(f"{folder} lacks rows {missing} to {header['start']} of stream {header['stream']}")
            files.append((header["start"], header["length"], path))
        if not self._files:
            inside = f", {folder / 'replay'}" if any(folder.glob(f"replay/*{SUFFIX}")) else ""
            raise UserError(f"{folder} has no chunk files (*{SUFFIX}): give the replay folder of a run{inside}")

    @property
    def streams(self) -> list[int]:
        """Streams with rows."""
        return sorted(self._files)

    def __len__(self) -> int:
        """Rows in all streams."""
        return sum(length for files in self._files.values() for _, length, _ in files)

    def begin(self, stream: int) -> int:
        """Absolute index of the oldest row of a stream that is there."""
        return self._files[stream][0][0]

    def place(self, number: int) -> tuple[int, int]:
        """Stream and absolute index of the row `number`, counted through all streams one after another.

        Raises IndexError unless 0 <= number < len(self).
        """
        rest = number
        for stream in self.streams:
            for start, length, _ in self._files[stream]:
                if 0 <= rest < length:
                    return stream, start + rest
                rest -= length
        raise IndexError(f"there are {len(self)} rows, got {number}")

    def chunk(self, stream: int, index: int) -> Chunk:
        """The chunk that has a row of a stream, by its absolute index. Raises IndexError if none has it."""
        for start, length, path in self._files.get(stream, []):
            if start <= index < start + length:
                return read_chunk(path)
        raise IndexError(f"there is no row {index} of stream {stream}")

    def chunks(self, stream: int | None = None) -> Iterator[Chunk]:
        """Chunks of one stream, or of all streams one after another."""
        for name in self.streams if stream is None else [stream]:
            for _, _, path in self._files.get(name, []):
                yield read_chunk(path)

    def rows(self, stream: int) -> Rows:
        """All rows of a stream at once: field -> [rows, ...]. Raises UserError for a stream without rows."""
        if stream not in self._files:
            raise UserError(f"{self.folder} has no rows of stream {stream}; it has {self.streams}")
        return _join([chunk.rows for chunk in self.chunks(stream)])

    def episodes(self, stream: int | None = None) -> Iterator[Rows]:
        """Complete episodes, from an is_first to an is_last row: field -> [rows, ...].

        The beginning of a stream whose first rows were evicted, and an episode that is still open, are left out.
        """
        for name in self.streams if stream is None else [stream]:
            parts: list[Rows] = []
            for chunk in self.chunks(name):
                begin = 0
                for end in (np.flatnonzero(chunk.rows["is_last"]) + 1).tolist():
                    episode = _join([*parts, _cut(chunk.rows, begin, end)])
                    parts, begin = [], end
                    if episode["is_first"][0]:
                        yield episode
                if begin < len(chunk):
                    parts.append(_cut(chunk.rows, begin, len(chunk)))


def open_dataset(folder: Path | str) -> Dataset:
    """Dataset of a folder of chunk files. Raises UserError if there are none, or if rows are missing between them."""
    return Dataset(Path(folder))


def _cut(rows: Rows, begin: int, end: int) -> Rows:
    return {name: value[begin:end] for name, value in rows.items()}


def _join(parts: list[Rows]) -> Rows:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
