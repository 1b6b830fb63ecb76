"""Writers and callbacks of a run by name: ours, those of other packages, and ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from reverie.config import LogConfig
from reverie.envs.options import annotated, check_options, takes_any
from reverie.errors import UserError, suggest
from reverie.outside import import_outside
from reverie.report.writer import Apart, Writer
from reverie.run.callback import Callback

WRITERS = {
    "tensorboard": "reverie.report.tensorboard:TensorBoard",
    "wandb": "reverie.report.to_wandb:WandB",
    "mlflow": "reverie.report.to_mlflow:MLflow",
}
CALLBACKS = {
    "dreams": "reverie.play.film:Dreams",
    "histograms": "reverie.run.histograms:Histograms",
}
GROUPS = {"writer": "reverie.writers", "callback": "reverie.callbacks"}
"""entry points under which other packages register theirs: ``name = "package.module:Class"``"""


@dataclass(frozen=True)
class Companions:
    """Whom a run tells besides its log on disk and the terminal."""

    writers: list[Writer]
    callbacks: list[Callback]


def gather(log: LogConfig, writers: Sequence[Writer] = (), callbacks: Sequence[Callback] = ()) -> Companions:
    """The writers and callbacks that the configuration names, then the given ones.

    Raises UserError for unknown names and options, and for options of what is not named.
    """
    for kind, given, base in (("writer", writers, Writer), ("callback", callbacks, Callback)):
        for one in _listed(kind, given):
            if not isinstance(one, base):
                raise UserError(f"{one!r} is no {kind}: expected an object of a child of reverie.{base.__name__}")
    known = [_short(name) for name in (*log.writers, *log.callbacks)]
    for name in log.options:
        if name not in known:
            raise UserError(f"log.options.{name} is of nobody in log.writers or log.callbacks{suggest(name, known)}")
    named = {name: _make("writer", name, WRITERS, Writer, log) for name in log.writers}
    # A full disk ends a run, and TensorBoard's file is on it; whatever lives elsewhere may fail by itself.
    all_writers = [writer if name == "tensorboard" else Apart(writer, name) for name, writer in named.items()]
    all_writers += [Apart(writer, type(writer).__name__) for writer in writers]
    return Companions(
        all_writers, [*(_make("callback", name, CALLBACKS, Callback, log) for name in log.callbacks), *callbacks]
    )


def _listed(kind: str, given: Any) -> Sequence[Any]:
    if not isinstance(given, Sequence):
        raise UserError(f"{kind}s is {given!r}; it must be a list")
    return given


def _make(kind: str, name: str, ours: Mapping[str, str], base: type, log: LogConfig) -> Any:
    path = name if ":" in name else {**_registered(GROUPS[kind]), **ours}.get(name)
    if path is None:
        known = {**_registered(GROUPS[kind]), **ours}
        raise UserError(f"unknown {kind} {name!r}{suggest(name, known)}, or package.module:Class of your own")
    module, _, attribute = path.partition(":")
    home = importlib.import_module(module) if path in ours.values() else import_outside(path, module)
    cls = getattr(home, attribute, None)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{path} is no {kind}: expected a class that inherits reverie.{base.__name__}")
    options = log.options.get(_short(name), {})
    if not isinstance(options, Mapping):
        raise UserError(f"log.options.{_short(name)} holds the options of {name}, got {options!r}")
    if not takes_any(cls):
        check_options(name, options, annotated(cls))
    return cls(**options)


def _short(name: str) -> str:
    """The name that options are given under: of ``package.module:Class`` the class's."""
    return name.rpartition(":")[2]


@cache
def _registered(group: str) -> dict[str, str]:
    """Entry points of a group, name -> ``package.module:Class``."""
    return {point.name: point.value for point in entry_points(group=group)}


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as trackers have them: dictionaries in them by dotted names too, tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings({f"{key}.{name}": item for name, item in value.items()})
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat
