"""ONNX Runtime Web: the part of a page that computes, which is found on this machine and copied beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.errors import UserError

NAME = "onnxruntime-web"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""of its folder ``dist``: all that runs on a processor, in any browser with WebAssembly"""
INSTALL = f"`npm install {NAME}` here, or name a folder that has it with --runtime"


@dataclass(frozen=True)
class Runtime:
    """The npm package: where its files are, its version and its licence."""

    dist: Path
    version: str
    licence: str

    def described(self) -> dict[str, str]:
        """The package as a document."""
        return {"package": NAME, "version": self.version, "licence": self.licence}

    def copy(self, folder: Path) -> None:
        """Copy what a page needs into a new folder, with a note of whose it is."""
        folder.mkdir()
        for name in FILES:
            shutil.copyfile(self.dist / name, folder / name)
        (folder / "NOTICE.txt").write_text(
            f"The files in this folder are of the npm package {NAME} {self.version} (ONNX Runtime Web), unchanged.\n"
            f"Licence: {self.licence}. Copyright (c) Microsoft Corporation.\n"
            "Source, licence and notices of third parties: https://github.com/microsoft/onnxruntime\n"
        )


def find_runtime(given: Path | None = None) -> Runtime:
    """The npm package onnxruntime-web: in `given`, else in ``node_modules`` here or in a folder above.

    given: the package's own folder, its ``dist``, or one with ``node_modules``. Raises UserError if it is not there.
    """
    here = Path.cwd()
    places = [here, *here.parents] if given is None else [given]
    for place in places:
        package = place.parent if place.name == "dist" else place
        for folder in (package, package / "node_modules" / NAME, package / NAME):
            if given is None and folder is package:
                continue
            if all((folder / "dist" / name).is_file() for name in FILES):
                return Runtime(folder / "dist", *_told(folder / "package.json"))
    where = f"{given} has no {NAME}" if given is not None else f"a page needs {NAME}, which is in no node_modules here"
    raise UserError(f"{where} (of version 1.19 or later): {INSTALL}")


def _told(package: Path) -> tuple[str, str]:
    """Version and licence that a package says it has."""
    try:
        document: dict[str, Any] = json.loads(package.read_text())
        return str(document["version"]), str(document["license"])
    except (OSError, ValueError, KeyError, TypeError):
        return "of unknown version", "MIT"
