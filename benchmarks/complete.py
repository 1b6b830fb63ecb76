"""Runs of a benchmark that are made once: trained to their end, or gone on with where they were stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import reverie
from reverie.config import Config
from reverie.run.checkpoint import Checkpoints


def complete(config: Config, run_dir: Path) -> None:
    """Train a run to its end, once. Exits, saying so, where it was stopped before: it is no result."""
    if (run_dir / "finished").exists():
        return
    begun = Checkpoints(run_dir).latest() is not None
    summary = reverie.resume(run_dir) if begun else reverie.train(config, run_dir)
    if not summary["finished"]:
        sys.exit(f"{run_dir} was interrupted: the same command goes on with it")
    (run_dir / "finished").touch()
