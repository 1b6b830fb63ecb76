"""The local runner with learning beside acting: updates are made in a thread while decisions are taken.

::

    round t      act        one decision per stream, with parameters of the actor's own; its rows enter the store
                 where updates are due:
                 land       wait for those under way; their feedback enters the store
                 learn      draw batches; update on all but the last `run.overlap` of them
                 follow     the actor's parameters <- the learner's
                 take off   the update on the others, in a thread, beside this round's end and all rounds to come until
                            updates are due again

So the parameters that act are at most `run.overlap` learner_steps old, a batch is drawn before the feedback on so many,
and trained rows per env_step are the same as without. Who does what when depends on counts alone, never on which of the
two is faster: bit-reproducible on a CPU under a seed.

Updates count as made when they take off. A log line, an evaluation and a checkpoint wait for what is under way, and
change nothing else: when feedback enters the store and when the actor follows is due with the updates, so a checkpoint
holds what has not entered yet, and a run goes on from anywhere as if it had not been interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from sys import exc_info
from typing import Any

from reverie.agents.agent import Learner, Result
from reverie.config import Config
from reverie.data.sequences import Batch, Feedback
from reverie.report.writer import Writer
from reverie.run.beside import Beside
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.clock import Clock, Counted
from reverie.run.local import Local
from reverie.run.roles import Trainer
from reverie.run.room import learning_fits

PATIENCE = 5.0
"""seconds for which a run that ends with an error, or closes, waits for updates under way"""


class Overlapped(Local):
    """The parts of a run in one process, its updates in a thread. Arguments as in `Runner`."""

    trainer: Trainer

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.flight: deque[Batch] = deque()
        """what is learned from in the thread"""
        self.begun = 0
        """updates made, once those are"""
        self.held: list[Feedback] = []
        """of updates that are made, until it is due"""
        super().__init__(config, run_dir, chain, writers, callbacks)
        self.air: Beside[list[Result]] = Beside(self.learner.device)
        self.store.pool.reserve(config.run.ahead + config.run.overlap + 2)

    def clock(self, repeat: int) -> Clock:
        """Clock that counts updates when they take off, and knows whom to wait for."""
        return TakeOffs(self.store, self.learner, repeat, self)

    def act(self) -> None:
        """Take one decision per stream, with the parameters that were taken over last."""
        assert self.follower is not None
        if self.follower.version < 0:
            self.settle()
            self.followed()
        self.entered(self.actor.step(self.seat(), self.follower.version))

    def learn(self) -> None:
        """Where updates are due, land those under way, and have the last of the new ones take off."""
        if not self.store.may_sample(self.config.replay.batch):
            return
        self.land()
        drawn: deque[Batch] = deque()
        while (batch := self.trainer.feed.next()) is not None:
            drawn.append(batch)
            if len(drawn) > self.config.run.overlap:
                self.trainer.step(drawn.popleft())
        self.followed()
        if drawn:
            self.flight, self.begun = drawn, self.learner.learner_steps + len(drawn)
            self.air.start(lambda: self.fly(drawn))

    def fly(self, batches: Sequence[Batch]) -> list[Result]:
        """Updates on batches, made in the thread."""
        with learning_fits(self.config, self.learner.device):
            return [self.trainer.update(batch) for batch in batches]

    def land(self) -> None:
        """Wait for the updates under way; all feedback that is held enters the store."""
        self.settle()
        for feedback in self.held:
            self.trainer.feed.give(feedback)
        self.held = []

    def settle(self) -> None:
        """Wait for the updates under way, and note what they tell; their feedback is held."""
        if not self.air.under_way:
            return
        flight, self.flight = self.flight, deque()
        for number, result in enumerate(self.air.take(), start=self.begun - len(flight) + 1):
            self.trainer.heard(flight.popleft(), result, number)
            if result.feedback is not None:
                self.held.append(result.feedback)

    def look(self) -> None:
        """As without overlap; what is logged and evaluated is of all updates that took off."""
        if self.run.due("log") or self.run.due("eval"):
            self.settle()
        super().look()

    def end(self) -> None:
        """Wait for the updates under way; not for long after an error."""
        if exc_info()[0] is None:
            self.settle()
        else:
            self.air.wait(PATIENCE)

    def free(self) -> None:
        """Close the environment, and end the thread; updates still under way come to nothing."""
        if self.air.wait(PATIENCE):  # else it hangs, and goes with the process
            if self.air.under_way:
                with suppress(Exception):
                    self.air.take()
            self.air.close()
        super().free()

    def save(self) -> None:
        """Write a checkpoint of everything, with no update under way; what was drawn ahead is learned from first."""
        self.settle()
        if self.config.run.ahead:
            self.land()
            self.drain()
            self.followed()
        super().save()

    def extras(self) -> dict[str, Any]:
        """As without overlap, and the feedback that is held."""
        return super().extras() | {"held": {str(number): vars(each) for number, each in enumerate(self.held)}}

    def take_back(self, held: list[Feedback]) -> None:
        """Hold feedback until it is due."""
        self.held = held


class TakeOffs(Clock):
    """Clock that counts updates when they take off, and has whoever asks for the learner wait until they are made."""

    def __init__(self, store: Counted, learner: Learner, repeat: int, runner: Overlapped) -> None:
        super().__init__(store, learner, repeat)
        self._runner = runner

    @property
    def learner(self) -> Learner:
        """The learner, with no update under way."""
        self._runner.settle()
        return super().learner

    @property
    def learner_steps(self) -> int:
        """Updates made, and under way."""
        return self._runner.begun if self._runner.flight else super().learner_steps
