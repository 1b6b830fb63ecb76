"""Reverie: agents that remember and dream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.play.load import LoadedPolicy

__version__ = "0.1.0"


def load(run_dir: str | Path, device: str = "cpu") -> LoadedPolicy:
    """The trained policy of a run directory; see `reverie.play.load.LoadedPolicy`."""
    from reverie.play.load import load as load_policy

    return load_policy(run_dir, device)
