"""Scalars for TensorBoard, over frames."""

from __future__ import annotations

import itertools
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from reverie.report.record import Record

_count = itertools.count()


class TensorBoard:
    """An event file in ``<run_dir>/tensorboard``; the horizontal axis is frames (decisions x action repeat).

    It is written where `write` is called, one event per record. The usual writer has a thread, in which a full disk
    would end as a traceback on the terminal instead of an error that the run can report.

    resumed_at: frames of the checkpoint that the run goes on from; points beyond it are hidden. None for a new run.
    """

    def __init__(self, run_dir: str | Path, resumed_at: int | None = None) -> None:
        folder = Path(run_dir) / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020}.{socket.gethostname()}.{os.getpid()}.{next(_count)}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resumed_at is not None:
            start = SessionLog(status=SessionLog.START)
            self._append(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))

    def write(self, record: Record) -> None:
        """Write the record's metrics as one event; counts other than frames are under ``progress/``."""
        summary = Summary()
        for name, value in record.items():
            if name != "frames":
                summary.value.add(tag=name if "/" in name else f"progress/{name}", simple_value=value)
        self._append(Event(wall_time=record["time/unix_s"], step=int(record["frames"]), summary=summary))

    def sync(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()

    def _append(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
