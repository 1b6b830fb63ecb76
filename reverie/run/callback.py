"""Callbacks: what is told of a run while it trains, and may record, show pictures, or ask it to end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.report.record import Record

if TYPE_CHECKING:
    from reverie.run.run import Run


class Callback:
    """Companion of a run; each of its methods does nothing unless it is overridden.

    ::

        class Stopper(reverie.Callback):
            def record(self, run, record):
                if record.get("eval/score", 0) >= 475:
                    run.stop.ask("solved")

    run: has ``config``, ``run_dir``, ``clock`` (env_steps, frames, learner_steps), ``learner`` (with the newest
    ``policy``; ask for it each time, since with ``run.overlap`` that waits for updates under way), `Run.record`,
    `Run.pictures`, `Run.histogram`, `Run.passed` and ``stop.ask(reason)``. A callback that wants random numbers takes
    them from a generator of its own, and has environments of its own: then the run is the same with it as without. What
    a callback raises ends the run.
    """

    def begin(self, run: Run) -> None:
        """Called once, when the run is ready: begun, or back at the checkpoint that it goes on from."""

    def round(self, run: Run) -> None:
        """Called after each decision of all streams, and the learner_steps and lines of the log that follow from it."""

    def record(self, run: Run, record: Record) -> None:
        """Called with each line of the log; not with those that callbacks write meanwhile."""

    def saved(self, run: Run, folder: Path) -> None:
        """Called with the folder of each checkpoint, once it is whole."""

    def end(self, run: Run) -> None:
        """Called when the run has ended or was asked to end, and is saved; not after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint is to keep of it: tensors, arrays and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`; called before `begin`, if the checkpoint has such a state."""
