"""Errors that are the user's to mend: the command line prints them in one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A value from outside (key, preset, space, checkpoint, disk) that cannot be used; the message says the fix."""


def suggest(name: str, known: Iterable[str]) -> str:
    """'; did you mean a, b?' with the known names nearest to `name`, or the list of them if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    tails = [k for k in names if name.split(".")[-1] and k.split(".")[-1] == name.split(".")[-1]]
    near += [k for k in tails[:3] if k not in near]
    return f"; did you mean {', '.join(near)}?" if near else f"; known: {', '.join(names[:30])}"
