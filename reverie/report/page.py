"""A document as one HTML file that needs nothing else: blocks of it, and how they become text.

It has no script, asks the network for nothing, and is read without JavaScript, on paper, on a phone, in dark and light.
What comes from outside (names, settings, paths) is escaped by the template; only pictures of our own making are not.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reverie.report.words import number

MIME = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
"""of the files that can be shown, by their endings"""
LARGEST = 4_000_000
"""Bytes of a file that is put into a document."""
ALL = 16_000_000
"""Bytes of all of them together."""


@dataclass(frozen=True)
class Text:
    """A paragraph. kind: `note` for what is missing or doubtful."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Heading:
    """A title within a section."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names with their values, one below the other."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table. Numbers (cells that are int or float, and text that begins with a digit) stand right."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture of our own making: SVG as text for a wide and for a narrow page.

    legend: (label, number of its colour, number of its dash).
    """

    wide: str
    narrow: str
    caption: str
    legend: Sequence[tuple[str, int, int]] = ()


@dataclass(frozen=True)
class Media:
    """Picture or film inside the document. uri: ``data:...``."""

    uri: str
    caption: str
    film: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures and films side by side, as far as there is room."""

    media: Sequence[Media]


@dataclass(frozen=True)
class Code:
    """Command lines, or other text as it is."""

    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them; on paper they are open."""

    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Section:
    """Part of a document with a title. name: of its anchor."""

    name: str
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Page:
    """A document. tiles: (number, what it is, what to compare it with) at its top."""

    title: str
    lead: str
    sections: Sequence[Section]
    tiles: Sequence[tuple[str, str, str]] = ()
    foot: str = ""
    notes: Sequence[str] = field(default=())


def render(page: Page) -> str:
    """The document as HTML."""
    template = _environment().get_template("page.html")
    return template.render(page=page, kind=lambda block: type(block).__name__.lower())


def data_uri(content: bytes, ending: str) -> str:
    """Bytes of a file with that ending as an address that holds them."""
    return f"data:{MIME[ending]};base64,{base64.b64encode(content).decode()}"


class Budget:
    """Room for files in a document. left_out: lines on those that did not fit."""

    def __init__(self, largest: int = LARGEST, total: int = ALL) -> None:
        self.largest, self.left = largest, total
        self.left_out: list[str] = []

    def media(self, path: Path, caption: str) -> Media | None:
        """A file as it stands in the document; None if it is too large, or cannot be read, which is noted."""
        try:
            size = path.stat().st_size
            if size > min(self.largest, self.left):
                self.left_out.append(f"{path} is not in here: it has {size / 1e6:.1f} MB")
                return None
            content = path.read_bytes()
        except OSError as error:
            self.left_out.append(f"{path} cannot be read: {error.strerror}")
            return None
        self.left -= size
        return Media(data_uri(content, path.suffix), caption, path.suffix == ".mp4")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: number(value) if isinstance(value, int | float) else value
    environment.filters["svg"] = Markup
    environment.tests["numeric"] = _is_numeric
    return environment


def _is_numeric(cell: Any) -> bool:
    if isinstance(cell, bool):
        return False
    return isinstance(cell, int | float) or (isinstance(cell, str) and cell.lstrip("-+±")[:1].isdigit())
