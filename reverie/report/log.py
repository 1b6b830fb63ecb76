"""Metrics of a run: one line of JSON per call in ``metrics.jsonl``, and the same numbers to other writers.

Names are flat with a slash (``episode/score``, ``train/model_loss``, ``replay/bytes``). Whatever depends on the clock
lives under ``time/``, ``speed/`` or ``timer/`` and nowhere else, so that two runs can be compared with `comparable`.
Every line carries ``env_steps``, ``frames``, ``learner_steps``, and

- ``time/elapsed_s``: seconds that the run has been running, over all its resumed parts;
- ``time/unix_s``: seconds since 1970.

The file only ever grows while a run logs. A checkpoint notes `Logger.offset`, and a run resumed from it drops the lines
that the interrupted run wrote later (`Logger.truncate_after`) because it is going to write them again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from reverie.errors import UserError
from reverie.report.record import FILE, Record, check_name, comparable, decode, encode, numbers, read_metrics
from reverie.report.writer import Opening, Writer

__all__ = ["JsonLines", "Logger", "Opening", "Record", "Writer", "comparable", "read_metrics"]


class Logger:
    """Logger that turns metrics into records and gives them to ``metrics.jsonl`` and then to `writers`.

    run_dir: created if it does not exist; lines of an earlier part of the run are kept, a half-written last one is cut.
    clock: seconds since 1970. ticks: seconds that only grow, whoever sets the clock.

    Raises UserError when the disk is full (or fails in another way); lines already written stay as they are.
    """

    def __init__(
        self,
        run_dir: str | Path,
        writers: Iterable[Writer] = (),
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_dir = Path(run_dir)
        self._clock, self._ticks = clock, ticks
        with self._disk():
            self._run_dir.mkdir(parents=True, exist_ok=True)
            self._lines = JsonLines(self._run_dir / FILE)
        self._writers: list[Writer] = list(writers)
        self._restart_clock()

    def begin(self, opening: Opening) -> None:
        """Have all writers begin."""
        with self._disk():
            for writer in self._writers:
                writer.begin(opening)

    def log(
        self, metrics: Mapping[str, float | torch.Tensor], *, env_steps: int, frames: int, learner_steps: int
    ) -> Record:
        """The record, written. Tensors must hold one number each; they are fetched from their device together.

        Raises ValueError for a name without a slash or a value that is not one number.
        """
        record = self._moment(env_steps, frames, learner_steps) | numbers(metrics)
        with self._disk():
            for writer in (self._lines, *self._writers):
                writer.write(record)
        return record

    def pictures(self, name: str, pictures: np.ndarray, **units: int) -> None:
        """Give writers a picture or a film, uint8 [T, H, W, 1 or 3]; the JSON lines have none.

        units: as in `log`. Raises ValueError for a name without a slash, or pictures of another shape or dtype.
        """
        check_name(name)
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] not in (1, 3) or 0 in pictures.shape:
            raise ValueError(f"{name}: expected uint8 [T, H, W, 1 or 3], got {pictures.dtype} {pictures.shape}")
        self._media(lambda writer, at: writer.pictures(name, pictures, at), units)

    def histogram(self, name: str, values: Any, **units: int) -> None:
        """Give writers numbers of which the distribution matters; those that are not finite are left out.

        values: tensor or array of any shape. units: as in `log`. Raises ValueError for a name without a slash.
        """
        check_name(name)
        plain = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        flat = plain.reshape(-1).astype(np.float64)
        finite = flat[np.isfinite(flat)]
        if len(finite):
            self._media(lambda writer, at: writer.histogram(name, finite, at), units)

    def _media(self, give: Callable[[Writer, Record], None], units: Mapping[str, int]) -> None:
        at = self._moment(**units)
        with self._disk():
            for writer in self._writers:
                give(writer, at)

    def _moment(self, env_steps: int, frames: int, learner_steps: int) -> Record:
        return {
            "env_steps": int(env_steps),
            "frames": int(frames),
            "learner_steps": int(learner_steps),
            "time/elapsed_s": round(self._elapsed + self._ticks() - self._since, 3),
            "time/unix_s": round(self._clock(), 3),
        }

    def offset(self) -> int:
        """Bytes of ``metrics.jsonl`` so far: what a checkpoint notes for `truncate_after`."""
        return self._lines.offset()

    def truncate_after(self, offset: int) -> None:
        """Cut the lines beyond `offset`, which were written after the checkpoint that a run resumes from."""
        with self._disk():
            self._lines.truncate_after(offset)
        self._restart_clock()

    def sync(self) -> None:
        """Return when every record so far is on disk (fsync), as a checkpoint that notes `offset` needs."""
        with self._disk():
            for writer in (self._lines, *self._writers):
                writer.sync()

    def close(self) -> None:
        """Close all writers, even if one of them fails."""
        with self._disk():
            failed: OSError | None = None
            for writer in (*reversed(self._writers), self._lines):
                try:
                    writer.close()
                except OSError as error:
                    failed = failed or error
            if failed:
                raise failed

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restart_clock(self) -> None:
        last = self._lines.last()
        self._elapsed = float(last.get("time/elapsed_s", 0.0)) if last else 0.0
        self._since = self._ticks()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot write metrics in {self._run_dir}: {reason}; mend that, then: reverie resume {self._run_dir}"
            ) from error


class JsonLines(Writer):
    """An append-only file of JSON objects, one a line; every line is one write to the operating system.

    Non-finite numbers are written as text ("nan", "inf", "-inf"), which keeps each line valid JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._failed: OSError | None = None
        self._size = self._whole_lines(os.fstat(self._file).st_size)
        if self._size < os.fstat(self._file).st_size:
            os.ftruncate(self._file, self._size)

    def write(self, record: Record) -> None:
        """Append one line. After a failed write no other is tried, for it would join the line that was cut short."""
        if self._failed:
            raise self._failed
        line = (json.dumps({k: encode(v) for k, v in record.items()}, allow_nan=False) + "\n").encode()
        try:
            count = 0
            while count < len(line):
                count += os.write(self._file, line[count:])
        except OSError as error:
            self._failed = error
            raise
        self._size += len(line)

    def offset(self) -> int:
        """Bytes of whole lines so far."""
        return self._size

    def truncate_after(self, offset: int) -> None:
        """Keep the first `offset` bytes. Raises UserError if there are fewer, or if they do not end with a line."""
        if not 0 <= offset <= self._size or self._whole_lines(offset) != offset:
            raise UserError(
                f"{self._path} ({self._size} bytes) is not what the checkpoint saw ({offset} bytes); restore that "
                "file, or begin another run from this one's networks (--init.run)"
            )
        os.ftruncate(self._file, offset)
        self._size = offset

    def last(self) -> Record | None:
        """The last record, or None if there is none."""
        start = self._whole_lines(max(self._size - 1, 0))
        line = os.pread(self._file, self._size - start, start)
        return decode(line, self._path, None) if line.strip() else None

    def sync(self) -> None:
        """Return when the file is on disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; twice is harmless."""
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)

    def _whole_lines(self, end: int) -> int:
        """The largest offset <= end that is 0 or follows a newline."""
        block = 1 << 16
        while end > 0:
            start = max(0, end - block)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0
