"""A document of results as three files: its numbers as JSON, a table of them as Markdown, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


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
    files["json"].write_text(json.dumps(document, indent=indent) + "\n")
    files["md"].write_text("\n".join(table) + "\n")
    draw(document, files["png"])
    return files
