"""Presets: a function per agent and benchmark that returns a whole config, each number with its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from reverie.agents import find
from reverie.config import Config
from reverie.errors import UserError, suggest

FILES = (
    "cpu",
    "value_cpu",
    "distributional_cpu",
    "value_gpu",
    "atari",
    "value_atari",
    "distributional_atari",
    "dmc",
    "crafter",
    "harmony",
)
"""One module per benchmark; each has PRESETS: (agent, preset) -> function of the environment id."""

Preset = Callable[[str], Config]


def _all() -> dict[tuple[str, str], Preset]:
    found: dict[tuple[str, str], Preset] = {}
    for name in FILES:
        found |= import_module(f"reverie.presets.{name}").PRESETS
    return found


def presets() -> dict[str, list[str]]:
    """agent -> its presets, the default first."""
    names: dict[str, list[str]] = {}
    for agent, preset in _all():
        names.setdefault(agent, []).append(preset)
    return names


def make_config(agent: str, preset: str | None = None, env: str | None = None) -> Config:
    """The configuration of a preset for an environment; each preset has a default environment.

    Raises UserError for an unknown agent or preset.
    """
    find(agent)
    known = presets()[agent]
    chosen = preset or known[0]
    if chosen not in known:
        raise UserError(f"unknown preset {chosen!r} for {agent}{suggest(chosen, known)}")
    make = _all()[agent, chosen]
    config = make(env) if env else make("")
    return replace(config, name=agent, preset=chosen)


def describe(agent: str, preset: str) -> str:
    """The first line of a preset's documentation."""
    return (_all()[agent, preset].__doc__ or "").strip().splitlines()[0]
