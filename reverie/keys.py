"""Every key of a configuration with its value, type, meaning and source, as the dataclasses say it themselves.

The meaning of a field is the text after it, ``clip: maximum global gradient norm``, or the docstring of its class up to
the next field or the end of the paragraph::

    class OptimConfig:
        \"\"\"lr, eps: the optimiser's. clip: maximum global gradient norm (inf: none).      lr, eps | clip

        *_scale: weights of the losses.\"\"\"                                               all fields that end so
        threads: int = 0
        \"\"\"CPU threads of torch; 0: all cores\"\"\"                                         threads

Fields of a parent are looked up in the parent too. A source is the paragraph that begins with ``Source:``, of the class
or else of its module.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from typing import Any

from reverie.overrides import KIND, choices_of
from reverie.values import expected

_NAMED = re.compile(r"(?:(?<=\s)|^)((?:\*_)?\w+(?:, (?:\*_)?\w+)*):\s")


@dataclass(frozen=True)
class Key:
    """A dotted key. type: in words. home: the class, ``module.Class``."""

    name: str
    value: Any
    type: str
    meaning: str
    home: str


@dataclass(frozen=True)
class Group:
    """Keys of one dataclass. name: dotted; empty at the top. source: as its docs have it, or empty."""

    name: str
    home: str
    source: str
    keys: tuple[Key, ...]


def groups(config: Any, name: str = "") -> list[Group]:
    """The keys of a tree of dataclasses, group by group, those of a group before those of the groups in it."""
    cls = type(config)
    hints, choices = typing.get_type_hints(cls, include_extras=True), choices_of(cls)
    keys: list[Key] = []
    below: list[Group] = []
    for field in dataclasses.fields(config):
        if not field.init:
            continue
        value, dotted = getattr(config, field.name), f"{name}.{field.name}" if name else field.name
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            type_words, told = expected(hints[field.name]), meaning(cls, field.name)
            keys.append(Key(dotted, value, type_words, told, _path(cls)))
            continue
        within = groups(value, dotted)
        if field.name in choices:
            choice = choices[field.name]
            kinds = f"one of {', '.join(choice.classes)}"
            kind = Key(f"{dotted}.{KIND}", choice.name(value), kinds, meaning(cls, field.name), _path(cls))
            within[0] = dataclasses.replace(within[0], keys=(kind, *within[0].keys))
        below += within
    return [Group(name, _path(cls), source(cls), tuple(keys)), *below]


def meaning(cls: type, name: str) -> str:
    """What the docs of a dataclass, or of a parent, say of a field; empty if they do not mention it."""
    for owner in cls.__mro__:
        told = _field_docs(owner).get(name) or _mentioned(owner).get(name)
        if told:
            return told
    return ""


def source(cls: type) -> str:
    """The paragraph ``Source: ...`` of a class, of a parent, or of its module; empty if there is none."""
    module = sys.modules.get(cls.__module__)
    for text in (
        *(_doc(owner) for owner in cls.__mro__ if owner.__module__ == cls.__module__),
        module and module.__doc__,
    ):
        if found := re.search(r"^\s*Source: (.+?)(?:\n\s*\n|\Z)", text or "", re.DOTALL | re.MULTILINE):
            return _line(found[1])
    return ""


@cache
def _mentioned(cls: type) -> dict[str, str]:
    """Fields that the docstring of a class tells of."""
    text = inspect.cleandoc(_doc(cls))
    fields = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    told: dict[str, str] = {}
    starts = [found for found in _NAMED.finditer(text) if all(_matching(name, fields) for name in _names(found))]
    for number, found in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        words = _line(re.split(r"\n\s*\n", text[found.end() : end])[0]).rstrip(".,;")
        for name in _names(found):
            for field in _matching(name, fields):
                told.setdefault(field, words)
    return told


@cache
def _field_docs(cls: type) -> dict[str, str]:
    """Fields of a class that are followed by a string of their own."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # made elsewhere than in a file
        return {}
    body: Sequence[ast.stmt] = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    told = {}
    for field, after in pairwise(body):
        is_text = (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        )
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            told[field.target.id] = _line(str(typing.cast(Any, after).value.value))
    return told


def _names(found: re.Match[str]) -> list[str]:
    return found[1].split(", ")


def _matching(name: str, fields: Sequence[str]) -> list[str]:
    return [field for field in fields if fnmatchcase(field, name)]


def _doc(cls: type) -> str:
    """Docstring of a class itself, but not the signature that a dataclass without one gets."""
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else text


def _line(text: str) -> str:
    return " ".join(text.split()).replace("``", "").replace("`", "")


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
