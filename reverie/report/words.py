"""Numbers and times in words for people."""

from __future__ import annotations


def number(value: float) -> str:
    """A number for people: 4 digits, thousands set apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 7.5 min, 3.2 h, 2.1 days."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit * (2 if name == "days" else 1):
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
