"""Checks of what a user asks of an environment: options, protocols and counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reverie.errors import UserError, suggest


def check_options(id: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise UserError, with near names, if `options` holds a name that `id` does not know."""
    check_names(id, "option", options, known)


def check_protocol(id: str, protocol: str, known: Iterable[str]) -> None:
    """Raise UserError, with near names, if `protocol` is not among those of `id`."""
    check_names(id, "protocol", [protocol], known)


def check_names(id: str, kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError, with near names, at the first of `names` that is no `kind` which `id` knows."""
    known = list(known)
    for name in names:
        if name not in known:
            hint = suggest(str(name), known) if known else "; it takes none"
            raise UserError(f"{id} has no {kind} {name!r}{hint}")


def parameters(factory: Callable[..., Any]) -> dict[str, Any]:
    """The named parameters of a factory and their defaults (`inspect.Parameter.empty` if there is none)."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in inspect.signature(factory).parameters.values() if p.kind in named}


def takes_any(factory: Callable[..., Any]) -> bool:
    """Whether a factory has ``**options``, so that its options cannot be checked by name."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())
