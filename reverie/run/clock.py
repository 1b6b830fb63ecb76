"""What time it is in a run: the units in which it is long, each counted in one place."""

from __future__ import annotations

from typing import Protocol

from reverie.agents.agent import Learner


class Counted(Protocol):
    """Place where all rows of a run come by and decisions are counted, such as its store."""

    @property
    def env_steps(self) -> int:
        """Decisions so far."""


class Clock:
    """Units of a run: env_steps, frames (env_steps times the action repeat), learner_steps, version of parameters.

    store: where env_steps are counted. learner: where learner_steps are.
    """

    def __init__(self, store: Counted, learner: Learner, repeat: int) -> None:
        self.store, self.repeat = store, repeat
        self._learner = learner

    @property
    def learner(self) -> Learner:
        """Whose updates are counted."""
        return self._learner

    @property
    def env_steps(self) -> int:
        """Decisions so far, over all streams."""
        return self.store.env_steps

    @property
    def frames(self) -> int:
        """Frames so far, over all streams."""
        return self.env_steps * self.repeat

    @property
    def learner_steps(self) -> int:
        """Updates so far."""
        return self._learner.learner_steps

    @property
    def window(self) -> int:
        """Rows of a window."""
        return self._learner.windows.length

    @property
    def version(self) -> int:
        """Version of the learner's parameters: the learner_steps behind them."""
        return self.learner_steps
