"""What a runner asks of a store, whatever holds its rows: pacing, counts, upkeep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from reverie.data.limiter import Limiter
from reverie.data.pool import Pool
from reverie.data.room import Room
from reverie.data.sequences import Batch, Feedback


class Paced(ABC):
    """A store whose limiter holds both sides: actors by `may_insert`, the learner by `may_sample`."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.env_steps = 0
        """rows with a decision that came in, over all streams"""
        self._batch = 1

    def may_insert(self) -> bool:
        """Whether actors may go on: the limiter lets them, or the learner waits for more windows than there are.

        Without pacing, where windows are used up, they wait while there is a batch of them that the learner may take.
        """
        if not self.can_sample(self._batch):
            return True
        if self.limiter.ratio is None:
            return self.env_steps < self.limiter.min_size
        return self.limiter.may_insert(self.env_steps, self.sampled_rows)

    def may_sample(self, batch: int) -> bool:
        """Whether a learner may take a batch of so many windows: the limiter *and* the selector say so."""
        self._batch = batch
        return self.limiter.may_sample(self.env_steps, self.sampled_rows) and self.can_sample(batch)

    @property
    @abstractmethod
    def sampled_rows(self) -> int:
        """Trained rows that were drawn so far."""

    @property
    @abstractmethod
    def room(self) -> Room:
        """What there is room for."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows stored now."""

    @property
    @abstractmethod
    def pool(self) -> Pool:
        """The buffers that batches lie in."""

    @abstractmethod
    def can_sample(self, batch: int) -> bool:
        """Whether there are windows for a batch of so many."""

    @abstractmethod
    def sample(self, batch: int) -> Batch:
        """A batch. Ask `may_sample` before each."""

    @abstractmethod
    def feedback(self, feedback: Feedback) -> None:
        """Take feedback on past batches, see `reverie.data.replay.Replay.feedback`."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Begin the generator of draws anew."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Counts to be logged."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """State of everything but the rows in sealed files: nested dicts of arrays, numbers and strings."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to where `state_dict` was taken, rows included."""

    @abstractmethod
    def resumed(self) -> None:
        """Delete the files that are newer than the state that was loaded: a run goes on from there."""

    @abstractmethod
    def complete(self) -> None:
        """Write the rows that are in no file yet, so that the folder is a dataset of all that are stored."""

    @abstractmethod
    def saved(self) -> None:
        """Delete the files that nobody needs, now that a checkpoint of the present state is durable."""
