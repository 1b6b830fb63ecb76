"""What presets share: kinds of environments, and the settings that a configuration takes over from its parent's."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

PIXELS = ("ALE/", "dmc/", "crafter/")
"""How ids of environments with images of games and of simulated bodies begin."""


def inherited(config: Any, *but: str) -> dict[str, Any]:
    """The settings of a parent's configuration (a dataclass) by name, but for these: arguments for its child's."""
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name not in but}
