"""TensorBoard: scalars, pictures, histograms and hyper-parameters of a run, over frames."""

from __future__ import annotations

import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import FileWriter

from reverie.report.record import Record
from reverie.report.video import gif, png
from reverie.report.writer import Opening, Writer

FPS = 8
"""pictures of a film per second"""

_count = itertools.count()


class TensorBoard(Writer):
    """An event file in ``<run_dir>/tensorboard``; the horizontal axis is frames (decisions x action repeat).

    summary: torch's `SummaryWriter` on that file, for whatever else is to be shown (text, curves of precision and
    recall, meshes). Films are GIFs in the tab of images.
    """

    summary: SummaryWriter

    def begin(self, opening: Opening) -> None:
        """Begin a file; points beyond the frames that a run goes on from are hidden. The settings are hparams."""
        self.summary = _SummaryWriter(opening.run_dir / "tensorboard", opening.resumed_at)
        metrics = {"eval/score": 0.0, "episode/score": 0.0}  # their names alone: the values are those of the scalars
        settings, start, end = hparams({key: _setting(value) for key, value in opening.config.items()}, metrics)
        for summary in (settings, start, end):
            self._file.add_summary(summary)

    def write(self, record: Record) -> None:
        """Write the record's metrics as one event; counts other than frames are under ``progress/``."""
        summary = Summary()
        for name, value in record.items():
            if name != "frames":
                summary.value.add(tag=name if "/" in name else f"progress/{name}", simple_value=value)
        self._add(summary, record)

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        """Write a picture, or a film as a GIF."""
        encoded = png(pictures[0]) if len(pictures) == 1 else gif(pictures, FPS)
        height, width = pictures.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._add(Summary(value=[Summary.Value(tag=name, image=image)]), at)

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        """Write a histogram, its bins as TensorBoard chooses them."""
        self.summary.add_histogram(name, values, int(at["frames"]), walltime=at["time/unix_s"])

    def sync(self) -> None:
        """Hand what is buffered to the operating system."""
        self.summary.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        if hasattr(self, "summary"):
            self.summary.close()

    @property
    def _file(self) -> FileWriter:
        return self.summary._get_file_writer()

    def _add(self, summary: Summary, at: Record) -> None:
        self._file.add_summary(summary, int(at["frames"]), at["time/unix_s"])


class _SummaryWriter(SummaryWriter):
    """Torch's, but each event is written where it is made.

    The usual one has a thread, in which a full disk would end as a traceback on the terminal instead of an error that
    the run can report.
    """

    file_writer: Any
    all_writers: Any

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        self._resumed_at = resumed_at
        super().__init__(str(folder))

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            self.file_writer = _File(self.log_dir, self._resumed_at)
            self.all_writers = {self.log_dir: self.file_writer}
        opened: FileWriter = self.file_writer
        return opened


class _File(FileWriter):
    """Event file that is written at once."""

    def __init__(self, folder: str, resumed_at: int | None) -> None:
        self.event_writer = _Events(Path(folder))
        if resumed_at is not None:
            self.add_event(Event(session_log=SessionLog(status=SessionLog.START)), resumed_at + 1)


class _Events:
    """What `FileWriter` wants of an event file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020}.{socket.gethostname()}.{os.getpid()}.{next(_count)}"
        self.folder = folder
        self.file = (folder / name).open("xb")
        self.records = RecordWriter(self.file)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Event) -> None:
        self.records.write(event.SerializeToString())

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def _setting(value: Any) -> bool | int | float | str:
    """A setting as TensorBoard has them."""
    return value if isinstance(value, bool | int | float | str) else str(value).lower() if value is None else str(value)
