"""Agents from outside the package learn by `train`, found by their path: Munchausen Catch, with a memory a T-maze.

Twins with one wire cut do not: without a bootstrap (gamma 0) only the last move is learned, without a memory the T-maze
is a guess.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from munchausen import MunchausenConfig
from munchausen_memory import MunchausenDRQNConfig

from reverie import overrides
from reverie.config import Config
from reverie.presets import make_config
from reverie.run.local import train
from tests.learning.test_value_learns import CATCH, TMAZE


def config_of(name: str, agent: type[DQNConfig], parent: str, env: str, changes: dict[str, Any]) -> Config:
    """A run of that agent with the settings of a parent's preset."""
    base = overrides.apply(make_config(parent, "cpu", env), changes)
    theirs = {each.name: getattr(base.agent, each.name) for each in fields(base.agent)}
    return replace(base, name=name, agent=agent(**theirs))
