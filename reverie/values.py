"""Values of fields: what a text looks like, what a type asks for, and both in words for people."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from reverie.errors import UserError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, Field(gt=0.0, le=1.0)]
Scale = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""Types of fields whose values have bounds; `coerce` keeps to them."""


def coerce(hint: Any, value: Any, key: str, *, text: bool) -> Any:
    """`value` as the field's type. Text is tried as what it looks like, then as itself, then as a list.

    key: of the field, for messages. text: whether strings are words of a command line. Raises UserError if it is none.
    """
    candidates = [value]
    if text and isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        candidates = [natural(value), value, [natural(part) for part in parts], parts]
    adapter: TypeAdapter[Any] = _adapter(hint)
    problem = ""
    for candidate in candidates:
        try:
            # True is an int to Python and to lax validation, but `deter=true` is a slip.
            return adapter.validate_python(candidate, strict=True if isinstance(candidate, bool) else None)
        except ValidationError as error:
            problem = problem or error.errors()[0]["msg"].lower()
    literal = repr(value) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    asked = expected(hint)
    # Bounds are in words already; what else an annotation asks for only its error says.
    more = typing.get_origin(hint) is Annotated and asked == expected(typing.get_args(hint)[0])
    raise UserError(f"{key} = {literal} is not {asked}" + (f" ({problem})" if more else ""))


def natural(text: str) -> Any:
    """Text as the value that it looks like: none, true, false, a number, a JSON list or object; else itself."""
    lowered = text.strip().lower()
    if lowered in ("none", "null"):
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    for number in (int, float):
        try:
            return number(lowered)
        except ValueError:
            continue
    if lowered[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            if not (lowered[0] == "[" and lowered[-1] == "]"):
                return text
            inner = text.strip()[1:-1]  # [a, b] without quotes
            return [natural(part.strip()) for part in inner.split(",") if part.strip()]
    return text


def is_union(hint: Any) -> bool:
    """Whether a type is one of several."""
    return typing.get_origin(hint) in (Union, types.UnionType)


def expected(hint: Any) -> str:
    """A type in words, for messages: ``an int or none``, ``one of lstm, gru``, ``a list of text``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "none"
    if origin is Annotated:
        return expected(arguments[0]) + _bounded(arguments[1:])
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if is_union(hint):
        return " or ".join(expected(argument) for argument in arguments)
    if origin in (tuple, list, Sequence) and arguments:
        kinds = [expected(argument) for argument in arguments if argument is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in arguments
        return f"a list of ({', '.join(kinds)})" if fixed else f"a list of {kinds[0]}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    names = {
        int: "an int",
        float: "a float",
        bool: "a bool (true or false)",
        str: "text",
        Path: "a path",
        dict: "a dict",
        Mapping: "a dict",
    }
    return names.get(origin or hint, getattr(hint, "__name__", str(hint)))


def bounds(hint: Any) -> tuple[float, float]:
    """The least and the largest value of a number that its type allows; without bounds of its own -inf and inf."""
    if is_union(hint):  # with none, which has no bounds
        ends_of_each = [bounds(member) for member in typing.get_args(hint)]
        return max(low for low, _ in ends_of_each), min(high for _, high in ends_of_each)
    ends = _ends(getattr(hint, "__metadata__", ()))
    least = math.nextafter(ends["gt"], math.inf) if "gt" in ends else ends.get("ge", -math.inf)
    return least, ends.get("le", math.inf)


def is_whole(hint: Any) -> bool:
    """Whether a type's numbers are whole ones only."""
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if is_union(inner):
        members = [member for member in typing.get_args(inner) if member is not type(None)]
        return bool(members) and all(is_whole(member) for member in members)
    return inner is int


_WORDS = {"ge": "of at least", "gt": "above", "le": "of at most"}


def _ends(extras: Sequence[Any]) -> dict[str, float]:
    """Bounds among what an annotation holds, by the names of `_WORDS`."""
    parts = [part for extra in extras if isinstance(extra, FieldInfo) for part in extra.metadata]
    return {name: getattr(part, name) for part in parts for name in _WORDS if hasattr(part, name)}


def _bounded(extras: Sequence[Any]) -> str:
    """What else is asked of a number, in words: `` from 0 to 1``."""
    ends = _ends(extras)
    if ends.keys() == {"ge", "le"}:
        return f" from {ends['ge']:g} to {ends['le']:g}"
    if ends.keys() == {"gt", "le"}:
        return f" above {ends['gt']:g} and of at most {ends['le']:g}"
    return "".join(f" {_WORDS[name]} {end:g}" for name, end in ends.items())


def _adapter(hint: Any) -> TypeAdapter[Any]:
    if dataclasses.is_dataclass(hint):  # pydantic lets a dataclass bring its own settings only
        return TypeAdapter(hint)
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
