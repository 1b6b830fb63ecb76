"""Checkpoints: trees of tensors, arrays and plain values as safetensors + JSON; a pickle is never read or written.

::

    checkpoints/120000/arrays.safetensors    every tensor and array of the tree, under its path
                      state.json             the rest of the tree, and which paths were arrays or tensors
    checkpoints/latest                       the name of the newest complete checkpoint

A checkpoint appears by renaming a finished, synced folder, and ``latest`` by renaming a finished file: a crash at any
moment leaves the previous checkpoint in force.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reverie.errors import UserError

FORMAT = 1


def save_tree(folder: Path, tree: dict[str, Any]) -> None:
    """Write a tree into a new folder, synced to disk. Leaves: tensors, arrays, int, float, bool, str, None, lists."""
    tensors: dict[str, torch.Tensor] = {}

    def strip(value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            # safetensors refuses shared storage, and a checkpoint must not change while it is written.
            tensors[path] = value.detach().to("cpu", copy=True).contiguous()
            return {"$tensor": path}
        if isinstance(value, np.ndarray):
            tensors[path] = torch.from_numpy(np.array(value, order="C", copy=True))
            return {"$array": path}
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError(f"keys of a checkpoint are strings, got {list(value)!r} at {path!r}")
            return {key: strip(item, f"{path}/{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strip(item, f"{path}/{i}") for i, item in enumerate(value)]
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, int | float | str | bool):
            return value
        raise TypeError(f"a checkpoint cannot hold {type(value).__name__} at {path!r}")

    document = {"format": FORMAT, "tree": strip(tree, "")}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "arrays.safetensors")
    (folder / "state.json").write_text(json.dumps(document))
    for name in ("arrays.safetensors", "state.json"):
        _sync(folder / name)
    _sync(folder)


def load_tree(folder: Path) -> dict[str, Any]:
    """Inverse of `save_tree`. Raises UserError, naming the file, if it is missing, cut or of another format."""
    try:
        document = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "arrays.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError, UnicodeDecodeError) as error:
        raise UserError(
            f"checkpoint {folder} is unreadable ({type(error).__name__}: {str(error)[:100]}); "
            f"delete that folder to go on from the one before it"
        ) from error
    if document.get("format") != FORMAT:
        raise UserError(f"checkpoint {folder} has format {document.get('format')!r}, this version reads {FORMAT}")

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            if "$tensor" in value:
                return tensors[value["$tensor"]]
            if "$array" in value:
                return tensors[value["$array"]].numpy()
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    try:
        return fill(document["tree"])
    except KeyError as error:
        raise UserError(f"checkpoint {folder} lacks the array {error}; delete that folder") from error


class Checkpoints:
    """The checkpoints of a run directory; keeps the newest `keep`."""

    def __init__(self, run_dir: Path, keep: int = 2) -> None:
        self.folder = run_dir / "checkpoints"
        self.keep = keep

    def save(self, env_steps: int, tree: dict[str, Any]) -> None:
        """Make a checkpoint durable. Raises UserError if the disk is full; older checkpoints stay as they are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / str(env_steps)
        partial = self.folder / f".{env_steps}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            save_tree(partial, tree)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            latest = self.folder / ".latest.partial"
            latest.write_text(final.name)
            _sync(latest)
            latest.rename(self.folder / "latest")
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            reason = "no space left on the disk" if full else str(error)
            raise UserError(
                f"could not write checkpoint {final}: {reason}; the run resumes from the one before"
            ) from error
        for old in self.names()[: -self.keep]:
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def names(self) -> list[int]:
        """env_steps of the complete checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None. ``latest`` may be gone: folder names decide then."""
        names = self.names()
        if not names:
            return None
        pointer = self.folder / "latest"
        named = pointer.read_text().strip() if pointer.exists() else ""
        return self.folder / (named if named.isdigit() and int(named) in names else str(names[-1]))

    def load(self) -> dict[str, Any]:
        """The newest checkpoint's tree. Raises UserError if there is none or it is damaged."""
        folder = self.latest()
        if folder is None:
            raise UserError(f"{self.folder.parent} has no checkpoint yet; start it again with `reverie train`")
        return load_tree(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
