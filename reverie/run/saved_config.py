"""``config.json`` of a run directory: what was resolved, and the versions that it ran with."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch

import reverie
from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config


def save_config(config: Config, run_dir: Path) -> None:
    """Write ``config.json``: the resolved configuration and the versions that it ran with.

    Raises UserError if it cannot be written.
    """
    versions = {
        "reverie": reverie.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    document = {"config": overrides.to_dict(config), "versions": versions}
    # In one step, so that a run killed at its very beginning has a whole file or none.
    partial = run_dir / ".config.json"
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n")
        partial.rename(run_dir / "config.json")
    except OSError as error:
        raise UserError(f"cannot write {run_dir}/config.json: {error.strerror}") from error


def load_config(run_dir: Path) -> Config:
    """Read ``config.json``. Raises UserError if there is none or it does not fit this version."""
    path = run_dir / "config.json"
    if not path.exists():
        raise UserError(f"{run_dir} is not a run directory: it has no config.json")
    try:
        data = json.loads(path.read_text())["config"]
        default = make_config(data["name"], data["preset"], data["env"]["id"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from error
    return overrides.from_dict(default, data)
