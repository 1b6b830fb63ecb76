"""Presets: for each agent functions that return a whole config for a task, each number with its source.

A file for each agent, with its presets by name, the default first. A preset is a function of a `Task`: ``cpu`` looks at
the spaces of the environment for its kind, most others at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from reverie.agents import AGENTS, agents, find
from reverie.config import Config
from reverie.errors import UserError, suggest
from reverie.presets.task import Preset, Task


def presets_of(agent: str, base: str | None = None) -> dict[str, Preset]:
    """The presets of an agent by name, the default first. Raises UserError for an unknown agent or base.

    base: the agent that this one is built on, for those that can be built on several (HarmonyDream); None: its usual.
    An agent of somebody else brings its own in `reverie.Agent.presets`; without any it has ``default``, its
    configuration's defaults.
    """
    entry = find(agent)
    if agent in AGENTS:
        module = import_module(f"reverie.presets.{agent.replace('-', '_')}")
        over = getattr(module, "presets_over", None)
        table: dict[str, Preset] = module.PRESETS if base is None or over is None else over(base)
        return table
    agent_class = entry.load()

    def default(task: Task) -> Config:
        """Defaults of the agent's configuration, of replay and of run."""
        return Config(agent, "default", agent_class.Config(), task.default("toy/catch").env(1))

    return dict(agent_class.presets) or {"default": default}


def bases_of(agent: str) -> list[str]:
    """The agents that this one can be built on, the default first; none for most.

    Raises UserError for an unknown agent.
    """
    find(agent)
    module = import_module(f"reverie.presets.{agent.replace('-', '_')}") if agent in AGENTS else None
    return list(getattr(module, "TABLES", ()))


def presets() -> dict[str, list[str]]:
    """Presets of all agents, the default first: agent -> names."""
    return {agent: list(presets_of(agent)) for agent in agents()}


def make_config(
    agent: str,
    preset: str | None = None,
    env: str | None = None,
    *,
    protocol: str = "auto",
    options: Mapping[str, Any] | None = None,
    base: str | None = None,
) -> Config:
    """The configuration of a preset for an environment; each preset has a default environment.

    protocol, options: of the environment; they win over the preset's, whose options go with its own protocol only.
    base: see `presets_of`.
    Raises UserError for an unknown agent, base or preset, and where a preset looks at an environment that is not there.
    """
    table = presets_of(agent, base)
    name = preset or next(iter(table))
    if name not in table:
        raise UserError(f"unknown preset {name!r} for {agent}{suggest(name, table)}")
    if env is not None and not isinstance(env, str):
        raise UserError(f"env is {env!r}; it must be an id, as package.module:factory for one of your own")
    config = table[name](Task(env or "", protocol, options))
    if not isinstance(config, Config):
        raise UserError(f"preset {name!r} of {agent} returns {config!r}; it must return a reverie.Config")
    own = config.env
    if protocol not in ("auto", own.protocol):
        own = replace(own, protocol=protocol, options={})
    env_config = replace(own, options={**own.options, **(options or {})})
    return replace(config, name=agent, preset=name, env=env_config)


def describe(agent: str, preset: str) -> str:
    """The first line of a preset's documentation, over the agent's usual base."""
    return (presets_of(agent)[preset].__doc__ or "").strip().splitlines()[0]
