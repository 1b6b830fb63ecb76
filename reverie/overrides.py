"""Overrides: nested frozen dataclasses changed, checked, saved and reloaded by dotted keys, ``agent.rssm.deter = 600``.

Nothing here knows a particular config. A *group* is a field that holds a dataclass, a *key* is a path of field names to
anything else. Which dataclass a group holds is decided by the instance that the caller passes (a preset), so one field
``agent`` may hold the config of any agent. A field annotated with `Choice` holds one of several dataclasses, chosen by
name: ``replay.selector = prioritised`` (short for ``replay.selector.kind``) takes that class's defaults, which
``replay.selector.alpha = 0.9`` changes. Dictionaries are one key each, and ``env.flags.sticky`` reaches into one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from reverie.errors import UserError, suggest
from reverie.values import bounds, coerce, is_union, natural

C = TypeVar("C")
KIND = "kind"
"""the key, inside a group that is chosen by name, of that name"""

_ASSIGNMENT = re.compile(r"(?:--)?([A-Za-z_][\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)
_DOTTED_ASSIGNMENT = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)+=")


class Choice:
    """Annotation of a group whose dataclass is chosen by name: ``Annotated[Base, Choice({"name": Class, ...})]``.

    All fields of the classes need defaults, and none may be called ``kind``.
    """

    def __init__(self, classes: Mapping[str, type]) -> None:
        self.classes = classes

    def name(self, group: Any) -> str:
        """The name of an instance's class. Raises ValueError if it has none."""
        for name, cls in self.classes.items():
            if type(group) is cls:
                return name
        raise ValueError(f"{type(group).__name__} is none of {', '.join(self.classes)}")


def parse(tokens: Sequence[str]) -> dict[str, str]:
    """Overrides, {dotted key: text}, from command-line words; of a key given twice, the last counts.

    Accepts ``--a.b 600``, ``--a.b=600``, ``a.b=600`` and the bare flag ``--a.b`` (true). Dashes in names are
    underscores. Raises UserError for a word that is none of these.
    """
    overrides: dict[str, str] = {}
    words = list(tokens)
    while words:
        word = words.pop(0)
        if match := _ASSIGNMENT.fullmatch(word):
            name, value = match.groups()
        elif re.fullmatch(r"--[A-Za-z_][\w.-]*", word):
            name = word[2:]
            # A following "a.b=1" is an override of its own: values that look like that need "--key=value".
            has_value = bool(words) and not words[0].startswith("--") and not _DOTTED_ASSIGNMENT.match(words[0])
            value = words.pop(0) if has_value else "true"
        else:
            raise UserError(f"unexpected argument {word!r}; write --key value, --key=value or key=value")
        overrides[name.replace("-", "_")] = value
    return overrides


def apply(config: C, overrides: Mapping[str, Any]) -> C:
    """A copy of `config` with the values of dotted keys replaced; all at once, so values may depend on each other.

    Text is read as on a command line (``1e-3``, ``true``, ``none``, ``[1, 2]``, ``1,2,4``) and every value is checked
    against its field's type. Raises UserError for unknown keys (with near names), wrong types, and values that a
    ``__post_init__`` rejects with ValueError.
    """
    tree: dict[str, Any] = {}
    for key, value in overrides.items():
        by_name = isinstance(value, str) and _is_choice(config, key.split("."))
        _plant(tree, f"{key}.{KIND}" if by_name else key, value)
    return _rebuild(config, tree, "", _keys(config), text=True)


def flatten(config: Any) -> dict[str, Any]:
    """Values of all keys, {dotted key: value}, in field order; a dictionary is one value."""
    flat: dict[str, Any] = {}
    choices = choices_of(type(config))
    for field in _fields(config):
        value = getattr(config, field.name)
        if _is_group(value):
            if field.name in choices:
                flat[f"{field.name}.{KIND}"] = choices[field.name].name(value)
            flat |= {f"{field.name}.{key}": leaf for key, leaf in flatten(value).items()}
        else:
            flat[field.name] = value
    return flat


def text(value: Any) -> str:
    """A value as it can be written on a command line, where `apply` reads it back."""
    plain = _plain(value)
    if plain is None:
        return "none"
    return plain if isinstance(plain, str) else json.dumps(plain)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionaries of what JSON can hold: paths as text, tuples as lists, non-finite floats as text.

    Dictionaries in the config must hold JSON values themselves. Raises TypeError for values of other types.
    """
    plain = _plain(config)
    assert isinstance(plain, dict)
    return plain


def from_dict(default: C, data: Mapping[str, Any]) -> C:
    """The inverse of `to_dict`: `default` supplies the classes, and the values of keys that `data` does not have.

    Text is taken as it stands. Raises UserError for unknown keys, wrong types and rejected values, as `apply` does.
    """
    return _rebuild(default, data, "", _keys(default), text=False)


def dotted(config: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Nested or dotted keys of a file as {dotted key: value}, for `apply`; dictionaries in the config are one value."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        inner = config
        for part in str(name).split("."):
            inner = getattr(inner, part, None)
        whole = not (isinstance(value, Mapping) and _is_group(inner))
        found = {str(name): value} if whole else {f"{name}.{key}": item for key, item in dotted(inner, value).items()}
        if twice := flat.keys() & found:
            raise UserError(f"{min(twice)} is given twice; give it once")
        flat |= found
    return flat


def bounds_of(config: Any, key: str) -> tuple[float, float]:
    """The least and the largest value that a key with a number allows, see `reverie.values.bounds`."""
    return bounds(hint_of(config, key))


def hint_of(config: Any, key: str) -> Any:
    """The annotation of a key's field."""
    *above, last = key.split(".")
    for name in above:
        config = getattr(config, name)
    return _hints(type(config))[last]


def is_below(key: str, above: Sequence[str]) -> bool:
    """Whether a dotted key is one of `above`, or in a group that is."""
    return any(key == one or key.startswith(f"{one}.") for one in above)


def lacking(config: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config`, with their values in it, that `data`, a `to_dict`, does not have: {dotted key: value}."""
    return {key: value for key, value in flatten(config).items() if not _has(data, key.split("."))}


def _has(data: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(data, Mapping) or name not in data:
            return data is None  # an optional group that is not there has no keys to lack
        data = data[name]
    return True


def choices_of(cls: type) -> dict[str, Choice]:
    """Choices of groups by the names of their fields."""
    return {
        name: part
        for name, hint in _hints(cls).items()
        for part in getattr(hint, "__metadata__", ())
        if type(part) is Choice
    }


def _hints(cls: type) -> Mapping[str, Any]:
    """Annotations of a class, read once: that takes long, and configurations are read often."""
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls, include_extras=True)
    return _HINTS[cls]


_HINTS: dict[type, Mapping[str, Any]] = {}


def _is_choice(config: Any, path: Sequence[str]) -> bool:
    """Whether the key at `path` is a group that is chosen by name."""
    *above, last = path
    for name in above:
        config = getattr(config, name, None)
    return _is_group(config) and last in choices_of(type(config))


def _is_group(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(config: Any) -> list[dataclasses.Field[Any]]:
    """Fields that a caller may set; derived ones (``init=False``) follow from them."""
    return [field for field in dataclasses.fields(config) if field.init]


def _keys(config: Any) -> list[str]:
    return list(flatten(config))


def _plant(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put one dotted key into the nested `tree`, following dictionaries below the config's own keys too."""
    node, path = tree, key.split(".")
    for depth, name in enumerate(path[:-1], start=1):
        child = node.setdefault(name, _Nest())
        if not isinstance(child, _Nest):
            raise UserError(f"{'.'.join(path[:depth])} and {key} are both given; give one of them")
        node = child
    if isinstance(node.get(path[-1]), _Nest):
        raise UserError(f"{key} is given as a whole and in parts; give one of them")
    node[path[-1]] = value


class _Nest(dict[str, Any]):
    """Overrides below a name, as opposed to a dictionary given as a value."""


def _rebuild(config: Any, tree: Mapping[str, Any], prefix: str, keys: list[str], *, text: bool) -> Any:
    """`config` with the values of `tree`, built bottom up with one ``replace`` (one ``__post_init__``) per group."""
    hints = _hints(type(config))
    names = {field.name for field in _fields(config)}
    changes: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if name not in names:
            raise UserError(f"unknown key {_first(key, value)!r}{suggest(_first(key, value), keys)}")
        choice = choices_of(type(config)).get(name)
        if choice is not None and type(value) in choice.classes.values():
            changes[name] = value
        elif choice is not None and isinstance(value, Mapping):
            changes[name] = _choose(choice, getattr(config, name), value, key, keys, text=text)
        else:
            changes[name] = _value(getattr(config, name), hints[name], value, key, keys, text=text)
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        named = ", ".join(_assignments(tree, prefix)) if text else prefix.rstrip(".")
        raise UserError(f"{named or 'the config'}: {error}") from error


def _choose(choice: Choice, current: Any, tree: Mapping[str, Any], key: str, keys: list[str], *, text: bool) -> Any:
    """A group that is chosen by name: of the named class, with its defaults, or else the current one, changed."""
    rest = {name: value for name, value in tree.items() if name != KIND}
    if KIND in tree:
        kind = tree[KIND]
        if not isinstance(kind, str) or kind not in choice.classes:
            raise UserError(f"{key} = {kind!r} is unknown{suggest(str(kind), choice.classes)}")
        current = choice.classes[kind]()
    kind, names = choice.name(current), [field.name for field in _fields(current)]
    for name, value in rest.items():
        owners = [owner for owner, cls in choice.classes.items() if name in {f.name for f in dataclasses.fields(cls)}]
        if name not in names and owners:
            raise UserError(f"{_first(f'{key}.{name}', value)} is of {key} = {' or '.join(owners)}, but it is {kind}")
    return _rebuild(current, rest, f"{key}.", [*keys, *(f"{key}.{name}" for name in names)], text=text)


def _value(current: Any, hint: Any, value: Any, key: str, keys: list[str], *, text: bool) -> Any:
    """The checked new value of one field, which held `current`."""
    group = current if _is_group(current) else _default_group(hint)
    if group is not None:
        if isinstance(value, Mapping):
            return _rebuild(group, value, key + ".", keys, text=text)
        whole = _is_group(value) or (is_union(hint) and type(None) in typing.get_args(hint))
        if not whole:
            below = [k for k in keys if k.startswith(key + ".")]
            raise UserError(f"{key} is a group of keys; set one of {', '.join(below[:8])}")
        return coerce(hint, value, key, text=text)
    if isinstance(value, _Nest):
        if not isinstance(current, Mapping):
            raise UserError(f"unknown key {_first(key, value)!r}{suggest(_first(key, value), keys)}")
        return coerce(hint, _merge(current, value, text=text), key, text=False)
    return coerce(hint, value, key, text=text)


def _merge(current: Mapping[str, Any], nest: _Nest, *, text: bool) -> dict[str, Any]:
    """Overrides inside a dictionary of free values."""
    merged = dict(current)
    for name, value in nest.items():
        if isinstance(value, _Nest):
            below = merged.get(name)
            merged[name] = _merge(below if isinstance(below, Mapping) else {}, value, text=text)
        else:
            merged[name] = natural(value) if text and isinstance(value, str) else value
    return merged


def _default_group(hint: Any) -> Any:
    """An instance of the one dataclass that an optional group may hold, or None."""
    members = typing.get_args(hint) if is_union(hint) else ()
    options = [member for member in members if isinstance(member, type) and dataclasses.is_dataclass(member)]
    if len(options) != 1:
        return None
    try:
        return options[0]()
    except TypeError:  # it has fields without defaults, so it can only be given as a whole
        return None


def _first(key: str, value: Any) -> str:
    """The whole dotted key that a user wrote, of the first override below `key`."""
    while isinstance(value, _Nest) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return key


def _assignments(tree: Mapping[str, Any], prefix: str) -> list[str]:
    """The overrides in `tree` as ``key = value``, to be named in an error."""
    assignments: list[str] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            assignments += _assignments(value, f"{prefix}{name}.")
        else:
            assignments.append(f"{prefix}{name} = {value}")
    return assignments if len(assignments) <= 6 else [*assignments[:6], "..."]


def _plain(value: Any) -> Any:
    if _is_group(value):
        choices = choices_of(type(value))
        plain = {field.name: _plain(getattr(value, field.name)) for field in _fields(value)}
        return {
            name: {KIND: choices[name].name(getattr(value, name)), **group} if name in choices else group
            for name, group in plain.items()
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # float("inf") reads it back; Infinity is not JSON
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a config cannot hold {value!r} ({type(value).__name__}): JSON has no such value")
