"""``config.json`` of a run directory: what was resolved, its format, versions that it ran with, and what was before.

::

    {"format": 3, "config": {...}, "versions": {...},
     "before": [{"config": {...}, "versions": {...}, "env_steps": 150, "learner_steps": 40, "run": null}, ...]}

``before`` is there once a run went on differently, see `reverie.run.chain`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reverie
from reverie import overrides
from reverie.agents import find
from reverie.config import POPULATION, Config
from reverie.errors import UserError, notice
from reverie.report.record import FILE
from reverie.run.chain import Chain, Past

FORMAT = 3
"""of ``config.json``; those before it had none"""


def versions() -> dict[str, str]:
    """Versions of what a run depends on, here and now, and the machine.

    commit: of a copy of the repository, ``-dirty`` if files differ from it; an installed package has none.
    """
    return {
        "reverie": reverie.__version__,
        **({"commit": commit} if (commit := _commit()) else {}),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": machine(),
    }


def machine() -> str:
    """This machine in words: processors, their kind, the system, and the GPU if there is one."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} x {platform.machine()}, {platform.system()}{gpu}"


@cache
def _commit() -> str | None:
    """The commit of the repository that the package is used from; None if there is none, or no git."""
    root = Path(reverie.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def save_config(config: Config, run_dir: Path) -> None:
    """Write ``config.json`` of a run that begins. Raises UserError if it cannot be written."""
    save_chain(Chain(config, versions()), run_dir)


def save_chain(chain: Chain, run_dir: Path) -> None:
    """Write ``config.json``: the configuration in force and those before it. Raises UserError if it cannot.

    Of a population ``population.json``.
    """
    name = POPULATION if chain.config.population.size else "config.json"
    document = {"format": FORMAT, "config": overrides.to_dict(chain.config), "versions": dict(chain.versions)}
    if chain.past:
        document["before"] = [
            {
                "config": overrides.to_dict(past.config),
                "versions": dict(past.versions),
                "env_steps": past.env_steps,
                "learner_steps": past.learner_steps,
                "run": past.run,
            }
            for past in chain.past
        ]
    # In one step, so that a run killed at its very beginning has a whole file or none.
    partial = run_dir / ".config.json"
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n")
        partial.rename(run_dir / name)
    except OSError as error:
        raise UserError(f"cannot write {run_dir}/{name}: {error.strerror}") from error


def withdraw(run_dir: Path) -> None:
    """Delete ``config.json`` where nothing has been recorded: whoever mends what ended the run begins it anew."""
    log = run_dir / FILE
    kept = [path for name in ("checkpoints", "replay") for path in (run_dir / name).glob("*")]
    if kept or (log.exists() and log.stat().st_size):
        return
    for path in (run_dir / "config.json", log):
        path.unlink(missing_ok=True)


def load_config(run_dir: Path, name: str = "config.json") -> Config:
    """The configuration in force in ``config.json``, see `load_chain`."""
    return load_chain(run_dir, name).config


def load_chain(run_dir: Path, name: str = "config.json") -> Chain:
    """The configurations in ``config.json``, built from the classes of their agent; no preset is asked.

    name: of another file of that kind. Keys that the one in force lacks take the defaults of their classes, which is
    said in one line on standard error.
    Raises UserError if there is no such file, it is damaged, of another format, or has keys or values that do not fit.
    """
    path = run_dir / name
    if not path.exists() and (run_dir / POPULATION).exists():
        members = sorted(each.parent.name for each in run_dir.glob("*/config.json"))
        raise UserError(f"{run_dir} is a population: name one of its members, {', '.join(members) or 'none yet'}")
    if not path.exists():
        raise UserError(f"{run_dir} is not a run directory: it has no config.json")
    try:
        document = json.loads(path.read_text())
        data, file_format, with_versions = document["config"], document.get("format"), document.get("versions", {})
        names = [(str(each["name"]), str(each["preset"])) for each in (data, *_before(document))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from error
    if file_format != FORMAT:
        raise _other_format(path, file_format, with_versions)
    config, *old = [
        overrides.from_dict(Config(name, preset, find(name).load().defaults(each.get("agent") or {})), each)
        for (name, preset), each in zip(names, (data, *_before(document)), strict=True)
    ]
    if missing := overrides.lacking(config, data):
        defaults = ", ".join(f"{key} = {value}" for key, value in missing.items())
        notice(f"{path} lacks {len(missing)} keys, which take their defaults: {defaults}")
    try:
        past = [
            Past(before, int(item["env_steps"]), int(item["learner_steps"]), item["versions"], item["run"])
            for before, item in zip(old, document.get("before", []), strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from error
    return Chain(config, with_versions, tuple(past))


def _before(document: Any) -> list[Any]:
    """Configurations before the one in force, as they were saved."""
    return [item["config"] for item in document.get("before", [])]


def _other_format(path: Path, file_format: Any, versions: Any) -> UserError:
    """Error for a run that another version of the package wrote."""
    version = versions.get("reverie", "unknown") if isinstance(versions, dict) else "unknown"
    none = "has no format, as runs before format 3"
    has = none if file_format is None else f"has format {file_format!r}, not {FORMAT}"
    return UserError(
        f"{path} {has}: train anew in another directory, or use the commit that wrote it (version {version}); "
        "`reverie plot` still draws its metrics"
    )
