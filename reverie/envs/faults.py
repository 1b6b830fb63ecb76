"""Faults of environments: what somebody else's code raised, where, and its own traceback without ours."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from reverie.errors import UserError

OURS = str(Path(__file__).resolve().parents[1])
RAISED = (Exception, SystemExit)
"""what an environment may raise; one that ends its process would end a run without a word"""


class EnvFault(UserError):
    """A fault of an environment, which is its author's to mend; detail: its traceback, if it raised.

    `VectorEnv.state_dict` is then that before the step or reset in which it happened.
    """

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail

    def __reduce__(self) -> tuple[type[EnvFault], tuple[str, str]]:
        return EnvFault, (str(self), self.detail)

    def told(self, before: str = "", after: str = "") -> EnvFault:
        """The same fault, with words before and after its line."""
        return EnvFault(f"{before}{self}{after}", self.detail)


@contextmanager
def faults_of(place: Callable[[], str]) -> Iterator[None]:
    """Context in which whatever the environment raises becomes an `EnvFault`; place: which one and where, in words."""
    try:
        yield
    except EnvFault:
        raise
    except UserError as error:  # what we refuse of it
        raise EnvFault(f"{place()} is refused: {error}") from error
    except RAISED as error:  # Whatever somebody else's environment raises is its fault.
        raise fault(place(), error) from error


def fault(place: str, error: BaseException) -> EnvFault:
    """The fault that an exception is: one line, and the traceback from where our own code was left."""
    message = " ".join(str(error).split())
    line = f"{place} raised {type(error).__name__}{f': {message}' if message else ''}"
    return EnvFault(line, their_traceback(error))


def their_traceback(error: BaseException) -> str:
    """Traceback without the frames of this package that come first; with them if there are no others."""
    entry: TracebackType | None = error.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(OURS):
        entry = entry.tb_next
    return "".join(traceback.format_exception(type(error), error, entry or error.__traceback__)).rstrip("\n")
