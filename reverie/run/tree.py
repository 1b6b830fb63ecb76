"""Trees of tensors, arrays and plain values in a folder: safetensors and JSON; a pickle is never read or written.

::

    arrays.safetensors    every tensor and array of the tree, under its path
    state.json            the rest of the tree, which paths were arrays or tensors, a checksum
    store.shards/         what processes of their own wrote beside it (`Beside`), if there are any
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from reverie.data.chunks import sync
from reverie.errors import UserError

FORMAT = 3
"""Since 3 a learner's tensors are saved once each, the policy's first, and its moments by the names of parameters."""
TENSOR, ARRAY, FOLDER = "$tensor", "$array", "$folder"
"""Keys that stand for a tensor, an array or a folder in ``state.json``."""


@dataclass(frozen=True)
class Beside:
    """Leaf of a tree that its owner writes, durably, into a new folder; in a tree that was read it is that folder."""

    write: Callable[[Path], None]


class _Leaves:
    """What is taken out of a tree that is written: copies of its arrays, by path, and its `Beside`, by name.

    No closure: one that calls itself would keep the copies until Python looks for cycles.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.beside: dict[str, Beside] = {}

    def strip(self, value: Any, path: str) -> Any:
        """The rest of a tree, with the names of what was taken out."""
        if isinstance(value, torch.Tensor):
            # safetensors refuses shared storage, and a checkpoint must not change while it is written.
            return self._collect(value.detach().to("cpu", copy=True).contiguous(), path, TENSOR)
        if isinstance(value, np.ndarray):
            return self._collect(torch.from_numpy(np.array(value, order="C", copy=True)), path, ARRAY)
        if isinstance(value, dict):
            if not all(isinstance(key, str) and key not in (TENSOR, ARRAY, FOLDER) for key in value):
                raise TypeError(
                    f"keys of a checkpoint are strings other than {TENSOR}, {ARRAY} and {FOLDER}, "
                    f"got {list(value)!r} at {path!r}"
                )
            return {key: self.strip(item, f"{path}/{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.strip(item, f"{path}/{i}") for i, item in enumerate(value)]
        if isinstance(value, Beside):
            name = path.replace("/", ".")
            self.beside[name] = value
            return {FOLDER: name}
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, int | float | str | bool):
            return value
        raise TypeError(f"a checkpoint cannot hold {type(value).__name__} at {path!r}")

    def _collect(self, tensor: torch.Tensor, path: str, kind: str) -> dict[str, str]:
        if path in self.tensors:  # {"a/b": x, "a": {"b": y}}
            raise ValueError(f"two arrays of a checkpoint have the path {path!r}")
        self.tensors[path] = tensor
        return {kind: path}


def save_tree(folder: Path, tree: dict[str, Any]) -> None:
    """Write a tree into a new folder, synced to disk.

    Leaves: tensors, arrays, int, float, bool, str, None, lists, `Beside`.
    """
    leaves = _Leaves()
    stripped = leaves.strip(tree, "")
    folder.mkdir(parents=True)
    for name, part in leaves.beside.items():
        (folder / name).mkdir()
        part.write(folder / name)
        sync(folder / name)
    save_file(leaves.tensors, folder / "arrays.safetensors")
    document = {"format": FORMAT, "checksum": _checksum(folder / "arrays.safetensors"), "tree": stripped}
    (folder / "state.json").write_text(json.dumps(document))
    for name in ("arrays.safetensors", "state.json"):
        sync(folder / name)
    sync(folder)


def load_tree(folder: Path, only: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """The tree that `save_tree` wrote.

    only: the paths of arrays that are read begin with one of these; None stands for the others, which cost no memory.
    A `Beside` is the path of its folder.
    Raises UserError, naming the folder, if it is missing, damaged or of another format.
    """
    fix = "restore it from a copy, or begin another run"
    if not folder.name.isdigit():
        fix = "restore it from a copy, or name another checkpoint"
    elif any(before.name.isdigit() for before in folder.parent.glob("*") if before != folder):
        fix = "delete that folder to go on from the one before it"
    try:
        document = json.loads((folder / "state.json").read_text())
        with safe_open(folder / "arrays.safetensors", "pt") as arrays:
            names = arrays.keys()
            # Copies: where a tensor lies, at any offset of the file, would change the last bits of products on some
            # processors, and a run would go on otherwise than it would have without a stop.
            tensors = {name: arrays.get_tensor(name).clone() if name.startswith(only) else None for name in names}
        checksum = _checksum(folder / "arrays.safetensors")
    except (OSError, ValueError, SafetensorError) as error:  # ValueError: neither JSON nor text
        raise UserError(
            f"checkpoint {folder} is unreadable ({type(error).__name__}: {str(error)[:100]}); {fix}"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("tree"), dict):
        raise UserError(f"checkpoint {folder} is damaged: state.json holds no tree; {fix}")
    if document.get("format") != FORMAT:
        raise UserError(
            f"checkpoint {folder} has format {document.get('format')!r}, this version reads {FORMAT}: "
            f"read it with the version of the package that wrote it"
        )
    if document.get("checksum", checksum) != checksum:  # early checkpoints have none
        raise UserError(f"checkpoint {folder} is damaged: its arrays do not match their checksum; {fix}")

    try:
        tree: dict[str, Any] = _filled(document["tree"], tensors, folder)
        return tree
    except KeyError as error:
        raise UserError(f"checkpoint {folder} lacks the array {error}; {fix}") from error


def _filled(value: Any, tensors: Mapping[str, torch.Tensor | None], folder: Path) -> Any:
    """Inverse of `_Leaves.strip`; arrays that were not read are None. Raises KeyError if one is missing."""
    if isinstance(value, dict):
        if TENSOR in value:
            return tensors[value[TENSOR]]
        if ARRAY in value:
            tensor = tensors[value[ARRAY]]
            return None if tensor is None else tensor.numpy()
        if FOLDER in value:
            return folder / value[FOLDER]
        return {key: _filled(item, tensors, folder) for key, item in value.items()}
    return [_filled(item, tensors, folder) for item in value] if isinstance(value, list) else value


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
