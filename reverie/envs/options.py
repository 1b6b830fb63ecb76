"""Checks of a user's requests to an environment: options, protocols and counts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reverie.errors import UserError, suggest
from reverie.values import expected


def check_options(id: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise UserError, with near names, if `options` holds a name that `id` does not know, or a value of a wrong type.

    known: name -> annotation, of which None, bool, int, float, str, Literal, and unions, lists and dictionaries of them
    are checked. An int is a float; True is neither; a float is finite. Ranges are for whoever takes the option.
    """
    check_names(id, "option", options, known)
    for name, value in options.items():
        if fits(value, known[name]):
            continue
        hint = ""
        if isinstance(value, float) and not math.isfinite(value):
            hint = ", and finite"
        elif isinstance(value, str) and fits([value], known[name]):
            hint = f", such as [{value}]"
        raise UserError(f"{id}: {name} {value!r} must be {expected(known[name])}{hint}")


def of_pictures(id: str, pixels: bool, options: Mapping[str, Any]) -> None:
    """Raise UserError where options say how a picture is drawn that nobody observes: they would change nothing."""
    if not pixels and (vain := [name for name in ("size", "render") if name in options]):
        raise UserError(f"{id} shows states with this protocol, no pictures: {' and '.join(vain)} would change nothing")


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


def annotated(factory: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a factory's named parameters; Any where there is none, or none that can be relied on.

    That is one whose names exist for type checkers only, or which the parameter's own default does not fit.
    """
    defaults = parameters(factory)
    try:
        if is_dataclass(factory):  # fields that a parent declares are read with the names of the parent's module
            hints = get_type_hints(factory, include_extras=True)
        else:
            signed = inspect.signature(factory, eval_str=True).parameters
            hints = {name: one.annotation for name, one in signed.items() if one.annotation is not one.empty}
    except (NameError, AttributeError, TypeError, SyntaxError):
        return dict.fromkeys(defaults, Any)
    empty = inspect.Parameter.empty
    return {
        name: hints[name] if name in hints and (default is empty or fits(default, hints[name])) else Any
        for name, default in defaults.items()
    }


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`, as `check_options` has it; True for types that it does not check."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if kind is Literal:
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    if kind in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _items_fit(value, kind, arguments)
    if kind in (dict, Mapping):
        pairs = arguments or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, pairs[0]) and fits(v, pairs[1]) for k, v in value.items())
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
            return False
        return isinstance(value, Integral) or math.isfinite(value)
    if kind in (None, NoneType, bool, str):
        return isinstance(value, NoneType if kind is None else kind)
    return True


def _items_fit(value: Sequence[Any], kind: Any, arguments: tuple[Any, ...]) -> bool:
    if kind is tuple and arguments and Ellipsis not in arguments:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, argument) for item in value for argument in arguments[:1])


def takes_any(factory: Callable[..., Any]) -> bool:
    """Whether a factory has ``**options``, so that its options cannot be checked by name."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())
