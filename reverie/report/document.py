"""A document of results as three files: its numbers as JSON, a table of them as Markdown, and a picture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.errors import UserError, notice
from reverie.report.record import to_json


def write_document(
    document: Mapping[str, Any],
    out: Path,
    table: Sequence[str],
    draw: Callable[[Mapping[str, Any], Path], object],
    indent: int | None = None,
) -> dict[str, Path]:
    """Paths, by ending, of <out>.json, .png and .md, which are written.

    out: a path without ending. table: lines. draw: draws the document into a file. indent: of the JSON (None: a line).
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    files = {ending: out.with_name(f"{out.name}.{ending}") for ending in ("json", "png", "md")}
    write_whole(files["json"], to_json(document, indent) + "\n")
    write_whole(files["md"], "\n".join(table) + "\n")
    draw(document, files["png"])
    return files


@contextmanager
def beside(what: str) -> Iterator[None]:
    """Context for files beside a result, which stands without them: where they cannot be written, that is said."""
    try:
        yield
    except OSError as error:
        notice(f"{what} was not written: {error.strerror or error}; name another folder with --out")


def check_folder(folder: Path) -> None:
    """Make a folder if it is not there. Raises UserError, before the work and not after it, if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}); name another place with --out") from error


def check_free(folder: Path) -> None:
    """Raise UserError unless nothing is in the way of a new folder, which gets its name when it is whole."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder that does not exist yet")
    if folder.resolve() == Path.cwd():
        raise UserError(f"{folder} is the current directory; name a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a folder that does not exist yet")


def numbers_beside(picture: Path, head: str) -> Path:
    """The CSV beside a picture. Raises UserError if there is one of that name that does not begin with `head`."""
    path = picture.with_suffix(".csv")
    if path.is_file():
        with path.open(errors="replace") as file:
            if not file.readline().startswith(head):
                raise UserError(f"{path} is there and was not written by this; name another --out")
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file that is complete when it has its name; the one before stays if that fails."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # paths may be no text
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
