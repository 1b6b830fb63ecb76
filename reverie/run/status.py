"""How a run stands now: what its runner writes beside the log every few seconds, and what can be read of any run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reverie.errors import UserError, notice
from reverie.report.log import read_metrics
from reverie.run.lock import is_trained

STATUS = "status.json"
EVERY = 2.0
"""seconds between two writings"""


class StatusFile:
    """``status.json`` of a run directory. make: what is written, called only when it is time."""

    def __init__(self, run_dir: Path, make: Callable[[], Mapping[str, Any]]) -> None:
        self._path, self._make, self._written, self._failed = run_dir / STATUS, make, 0.0, False

    def write(self, now: bool = False) -> None:
        """Write it if the last time is long enough ago, or now; a reader finds a whole file or none.

        A disk that takes nothing is told once.
        """
        if not now and time.monotonic() - self._written < EVERY:
            return
        self._written = time.monotonic()
        partial = self._path.with_name(f".{STATUS}")
        text = json.dumps({"unix_s": round(time.time(), 3), **self._make()}) + "\n"
        try:
            partial.write_text(text)
            partial.rename(self._path)
        except OSError as error:  # no run is worth less than what is told of it
            if not self._failed:
                notice(f"{self._path} is not written: {error.strerror}; the run goes on without it")
            self._failed = True


def read_status(run_dir: Path) -> dict[str, Any]:
    """How the run in a directory stands: ``running``, clocks and speeds, and what its runner wrote last.

    Raises UserError if there is nothing to read yet.
    """
    status: dict[str, Any] = {"running": is_trained(run_dir)}
    lines = read_metrics(run_dir) if (run_dir / "metrics.jsonl").exists() else []
    if not lines and not (run_dir / STATUS).exists():
        raise UserError(f"{run_dir} has neither a log nor a status yet")
    for line in lines:
        status |= {name: value for name, value in line.items() if name in NAMES or name.startswith("task/")}
    if (run_dir / STATUS).exists():
        try:
            status |= json.loads((run_dir / STATUS).read_text())
        except (ValueError, TypeError) as error:
            notice(f"{run_dir / STATUS} is damaged ({error}); told is what the log says")
    return status


NAMES = (
    "env_steps",
    "frames",
    "learner_steps",
    "time/unix_s",
    "episode/score",
    "eval/score",
    "speed/env_steps_per_s",
    "speed/learner_steps_per_s",
    "train/staleness",
    "train/staleness_max",
    "replay/ratio",
    "replay/rows",
)
"""metrics of which the latest are shown, beside those of single tasks"""
