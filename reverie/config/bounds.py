"""Bounds of settings."""

from __future__ import annotations


def at_least(least: int, **values: int) -> None:
    """Raise ValueError, naming it, for a value that is smaller."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
