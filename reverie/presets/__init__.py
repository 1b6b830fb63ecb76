"""Presets: for each agent functions that return a whole config for a task, each number with its source.

A file for each agent, with its presets by name, the default first. A preset is a function of a `Task`: ``cpu`` looks at
the spaces of the environment for its kind, most others at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from reverie.agents import AGENTS, find
from reverie.config import Config
from reverie.errors import UserError, suggest
from reverie.presets.task import Preset, Task


def presets_of(agent: str) -> dict[str, Preset]:
    """The presets of an agent by name, the default first. Raises UserError for an unknown agent."""
    find(agent)
    known: dict[str, Preset] = import_module(f"reverie.presets.{agent}").PRESETS
    return known


def presets() -> dict[str, list[str]]:
    """agent -> its presets, the default first."""
    return {agent: list(presets_of(agent)) for agent in AGENTS}


def make_config(
    agent: str,
    preset: str | None = None,
    env: str | None = None,
    *,
    protocol: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of a preset for an environment; each preset has a default environment.

    protocol, options: of the environment; they win over the preset's.
    Raises UserError for an unknown agent or preset, and where a preset looks at an environment that is not there.
    """
    known = presets_of(agent)
    chosen = preset or next(iter(known))
    if chosen not in known:
        raise UserError(f"unknown preset {chosen!r} for {agent}{suggest(chosen, known)}")
    config = known[chosen](Task(env or "", protocol, options))
    used = config.env.protocol if protocol == "auto" else protocol
    env_config = replace(config.env, protocol=used, options={**config.env.options, **(options or {})})
    return replace(config, name=agent, preset=chosen, env=env_config)


def describe(agent: str, preset: str) -> str:
    """The first line of a preset's documentation."""
    return (presets_of(agent)[preset].__doc__ or "").strip().splitlines()[0]
