"""Configurations with networks, searches and windows at their least, whatever the agent; all else is as it was."""

from __future__ import annotations

import dataclasses
from typing import Any

WIDTHS = {
    **{name: 2 for name in ("depth", "stoch")},
    **{name: 4 for name in ("classes", "blocks", "samples", "task_dim")},
    **{name: 8 for name in ("units", "deter", "hidden", "latent", "dense", "outputs", "prototypes", "features")},
    **{name: 8 for name in ("encoder_units", "vector_units", "channels", "candidates", "learn", "period")},
    **{name: 3 for name in ("elites", "policy_candidates", "context", "members")},
}
"""the most of each setting of that name"""


def narrow(value: Any) -> Any:
    """A configuration with its widths at their least, and those within it."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        now, most = getattr(value, item.name), WIDTHS.get(item.name, 0)
        if dataclasses.is_dataclass(now):
            changes[item.name] = narrow(now)
        elif most and isinstance(now, tuple):
            changes[item.name] = tuple(min(width, most) for width in now)
        elif most and isinstance(now, int):
            changes[item.name] = min(now, most)
    return dataclasses.replace(value, **changes)
