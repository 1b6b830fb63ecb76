"""`Stepping`: how streams are stepped, whatever the environment: held to their spaces, started anew, in processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reverie.errors import UserError

Check = Literal["first", "all", "none"]


@dataclass(frozen=True)
class Stepping:
    """How streams are stepped.

    check: which rows are held to the declared spaces: the first of every stream, all, or none.
    restarts: how often the environment of a stream is made anew after it raised; its episode is cut, a new one begins.
    workers: processes that share the streams; 0: they are stepped here, one after another.
    first: number of the first stream, where these are some of many.
    whole: episodes end where scores do, for evaluations: a lost life, which ends one in training, ends none.

    Raises UserError on values out of range.
    """

    check: Check = "first"
    restarts: int = 0
    workers: int = 0
    first: int = 0
    whole: bool = False

    def __post_init__(self) -> None:
        if self.check not in ("first", "all", "none"):
            raise UserError(f"env.check {self.check!r} must be first, all or none")
        if self.restarts < 0 or self.workers < 0:
            raise UserError(f"env.restarts {self.restarts} and env.workers {self.workers} must be at least 0")
