"""What presets share: kinds of environments, and the settings that a configuration takes over from its parent's."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from reverie.config import ReplayConfig, RunConfig

PIXELS = ("ALE/", "dmc/", "crafter/")
"""How ids of environments with images of games and of simulated bodies begin."""


def inherited(config: Any, *but: str) -> dict[str, Any]:
    """The settings of a parent's configuration (a dataclass) by name, but for these: arguments for its child's."""
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name not in but}


def updates(run: RunConfig, replay: ReplayConfig) -> int:
    """learner_steps of a whole run, for what changes over its length."""
    env_steps = run.env_steps or run.frames // 4  # the action repeat of Atari
    return int((env_steps - run.prefill) * run.train_ratio / (replay.batch * replay.learn))
