"""A learner's side of the store: batches on the device, some of them drawn ahead, and feedback that is as late.

::

    ahead = 0     draw 1, learn 1, feedback 1, draw 2, learn 2, feedback 2, ...          the exact order, on a CPU
    ahead = 1     draw 1, draw 2, learn 1, draw 3, feedback 1, learn 2, ...              while the device works on 1,
                                                                                         2 and 3 are gathered and copied
"""

from __future__ import annotations

from collections import deque

import torch

from reverie.data.paced import Paced
from reverie.data.sequences import Batch, Feedback


class Feed:
    """Batches of `batch` windows, drawn from the store whenever it allows one and given out `ahead` later.

    Batches on a GPU are copied without waiting; the pinned buffer that one is copied from is not written again before
    the copy is done. What was drawn counts in the store's pacing at once.
    """

    def __init__(self, store: Paced, batch: int, device: torch.device, ahead: int = 0) -> None:
        if ahead < 0:
            raise ValueError(f"ahead must be at least 0, got {ahead}")
        self.store, self.batch, self.device, self.ahead = store, batch, device, ahead
        self._batches: deque[Batch] = deque()
        self._late: deque[Feedback] = deque()
        # Those that wait, the one that is learned from, and the one that is drawn meanwhile.
        store.pool.reserve(ahead + 2)

    def next(self, drain: bool = False) -> Batch | None:
        """The next batch; None if the store allows none now and no more than `ahead` wait.

        drain: give out those that wait, and draw no others.
        """
        if not drain:
            while len(self._batches) <= self.ahead and self.store.may_sample(self.batch):
                self._batches.append(self._placed(self.store.sample(self.batch)))
        return self._batches.popleft() if len(self._batches) > (0 if drain else self.ahead) else None

    def give(self, feedback: Feedback | None) -> None:
        """Take what the learner sends back; the store gets it after `ahead` further ones."""
        if feedback is not None:
            self._late.append(feedback)
        while len(self._late) > self.ahead:
            self.store.feedback(self._late.popleft())

    def settle(self) -> None:
        """Hand over all feedback that is still held back."""
        while self._late:
            self.store.feedback(self._late.popleft())

    def _placed(self, drawn: Batch) -> Batch:
        batch = drawn.to(self.device)
        if self.device.type == "cuda":
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(self.device))
            self.store.pool.guard(copied)
        return batch
