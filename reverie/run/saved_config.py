"""``config.json`` of a run directory: what was resolved, its format, and the versions that it ran with."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reverie
from reverie import overrides
from reverie.agents import find
from reverie.config import Config
from reverie.errors import UserError

FORMAT = 3
"""of ``config.json``; those before it had none"""


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
    document = {"format": FORMAT, "config": overrides.to_dict(config), "versions": versions}
    # In one step, so that a run killed at its very beginning has a whole file or none.
    partial = run_dir / ".config.json"
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n")
        partial.rename(run_dir / "config.json")
    except OSError as error:
        raise UserError(f"cannot write {run_dir}/config.json: {error.strerror}") from error


def load_config(run_dir: Path) -> Config:
    """The configuration in ``config.json``, built from the classes of its agent; no preset is asked.

    Keys that it lacks take the defaults of their classes, which is said in one line on standard error.
    Raises UserError if there is no such file, it is damaged, of another format, or has keys or values that do not fit.
    """
    path = run_dir / "config.json"
    if not path.exists():
        raise UserError(f"{run_dir} is not a run directory: it has no config.json")
    try:
        document = json.loads(path.read_text())
        data, file_format = document["config"], document.get("format")
        name, preset, versions = str(data["name"]), str(data["preset"]), document.get("versions", {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from error
    if file_format != FORMAT:
        raise _other_format(path, file_format, versions)
    config = overrides.from_dict(Config(name, preset, find(name).load().Config()), data)
    if missing := overrides.lacking(config, data):
        defaults = ", ".join(f"{key} = {value}" for key, value in missing.items())
        print(f"reverie: {path} lacks {len(missing)} keys, which take their defaults: {defaults}", file=sys.stderr)
    return config


def _other_format(path: Path, file_format: Any, versions: Any) -> UserError:
    """Error for a run that another version of the package wrote."""
    version = versions.get("reverie", "unknown") if isinstance(versions, dict) else "unknown"
    none = "has no format, as runs before format 3"
    has = none if file_format is None else f"has format {file_format!r}, not {FORMAT}"
    return UserError(
        f"{path} {has}: train anew in another directory, or use the commit that wrote it (version {version}); "
        "`reverie plot` still draws its metrics"
    )
