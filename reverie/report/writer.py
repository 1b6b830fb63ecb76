"""Writers: where the metrics, pictures and histograms of a run go besides ``metrics.jsonl``.

One writer is TensorBoard; others send to Weights & Biases or MLflow, and anybody's may stand beside them
(``log.writers``, or the argument ``writers`` of `reverie.train`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import UserError, notice
from reverie.report.document import write_whole
from reverie.report.record import Record


@dataclass(frozen=True)
class Opening:
    """What a writer is told of the run that begins or goes on.

    run_dir: its directory. name: of people's choosing, the agent and the environment. config: dotted key -> value, as
    JSON has it. resumed_at: frames of the checkpoint that it goes on from; None for a run that begins.
    """

    run_dir: Path
    name: str
    config: Mapping[str, Any]
    resumed_at: int | None = None


class Writer(ABC):
    """Destination of what a run tells. Only `write` must be there.

    at: a record with the units (``env_steps``, ``frames``, ``learner_steps``) and the times of the moment.
    """

    def begin(self, opening: Opening) -> None:
        """Open what is needed, before the first record. What it raises ends the run before anything moves."""

    @abstractmethod
    def write(self, record: Record) -> None:
        """Take one record; `env_steps`, `frames` and `learner_steps` are among its names."""

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        """Take a picture or a film. pictures: uint8 [T, H, W, 1 or 3], T = 1 for one picture."""

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        """Take numbers, of which only the distribution matters. values: float [n], finite."""

    def sync(self) -> None:
        """Return when all records so far are out of this process."""

    def close(self) -> None:
        """Write what is left and free the terminal, threads and files."""


class Apart(Writer):
    """Another writer, kept apart from the run: when it fails, that is said once, and the run goes on without it."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer: Writer | None = writer
        self._name = name

    def begin(self, opening: Opening) -> None:
        """Begin, as the writer does. Raises UserError if it cannot: before the run, there is time to mend it."""
        if self._writer is None:
            return
        try:
            self._writer.begin(opening)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"writer {self._name} cannot begin: {_line(error)}") from error

    def write(self, record: Record) -> None:
        """Pass a record on."""
        self._try(lambda writer: writer.write(record))

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        """Pass pictures on."""
        self._try(lambda writer: writer.pictures(name, pictures, at))

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        """Pass numbers on."""
        self._try(lambda writer: writer.histogram(name, values, at))

    def sync(self) -> None:
        """Pass the request on."""
        self._try(lambda writer: writer.sync())

    def close(self) -> None:
        """Close it, if it has not failed."""
        self._try(lambda writer: writer.close())

    def _try(self, act: Callable[[Writer], None]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except Exception as error:
            self._writer = None
            notice(f"writer {self._name} failed ({_line(error)}); the run goes on without it")


def remembered(run_dir: Path, name: str, make: Callable[[], str]) -> str:
    """The text kept in ``<run_dir>/<name>``: made the first time, so that a resumed run is known elsewhere again."""
    path = run_dir / name
    text = path.read_text().strip() if path.exists() else ""
    if not text:
        text = make()
        write_whole(path, text + "\n")
    return text


def _line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
