"""Errors that are the user's to mend, in one line and with exit code 2, and notices of what is not as it should be."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterable

from reverie.elsewhere import called_here

LISTED = 30
"""names at most in one line; of more, the groups that they are in"""


class UserError(Exception):
    """A value from outside (key, preset, space, checkpoint, disk) that cannot be used; the message says the fix."""

    detail = ""
    """lines below the message, as they are: the traceback of somebody else's code"""


def notice(text: str) -> None:
    """Print one line on standard error, ``reverie: ...``; nothing happens where that is closed."""
    with contextlib.suppress(OSError, ValueError):
        print(f"reverie: {' '.join(text.split())}", file=sys.stderr, flush=True)


def suggest(name: str, known: Iterable[str]) -> str:
    """Hint '; did you mean a, b?' with the known names nearest to `name`, or the list of them if none is near: of
    more than `LISTED`, of the groups that they are in.

    What people call it elsewhere counts as near (`reverie.elsewhere`).
    """
    names = sorted(known)
    meant = called_here(name, names) or near(name, names)
    if meant:
        return f"; did you mean {', '.join(meant)}?"
    if len(names) > LISTED:
        groups = dict.fromkeys(name.partition(".")[0] + "." * ("." in name) for name in names)
        return f"; known: {', '.join(groups)} and what is in them, see reverie config"
    return f"; known: {', '.join(names)}"


def near(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are spelt most alike, at most five; or none."""
    names = sorted(known)
    alike = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    # Of a dotted key, people often know the last part only, or nearly: batch_size for replay.batch.
    last = {k: k.rpartition(".")[2] for k in names}
    for part in difflib.get_close_matches(name.rpartition(".")[2], sorted(set(last.values())), n=3, cutoff=0.6):
        alike += [k for k in names if last[k] == part][:3]
    return list(dict.fromkeys(alike))[:5]
