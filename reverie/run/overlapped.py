"""The local runner with acting beside learning: a thread takes the next decision while the learner updates.

::

    round t      land       the rows of decision t enter the store
                 take off   the actor's parameters <- the learner's; decision t + 1 begins, in a thread:
                                 policy, environments
                 learn      beside it at most `run.overlap` learner_steps; the others, if the pacing owes more, once
                            the decision is made

So the parameters that act are at most `run.overlap` learner_steps old when their decision is there, and what was
decided enters one round later than without. Trained rows per env_step are the same in the long run. Who does what when
depends on counts alone, never on which of the two is faster: bit-reproducible on a CPU under a seed.

Nothing is in the air at a checkpoint, an evaluation or the end: the decision that would be is taken off after it, and
what was saved is exact. Where a signal ends a run elsewhere, the decision in the air lands first; the run that goes on
from there has it in its store before it learns again, which a run that was not stopped has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from sys import exc_info
from typing import Any

from reverie.config import Config
from reverie.envs.env import Step
from reverie.report.writer import Writer
from reverie.run.beside import Beside
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.local import Local

PATIENCE = 5.0
"""seconds for which a run that ends with an error, or closes, waits for the decision in the air"""


class Overlapped(Local):
    """The parts of a run in one process, its actor in a thread. Arguments as in `Runner`."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        super().__init__(config, run_dir, chain, writers, callbacks)
        self.air: Beside[Step | None] = Beside(self.learner.device)

    def start(self) -> None:
        """Reset the environment of a run that begins."""
        self.aside(super().start)

    def aside(self, call: Callable[[], None]) -> None:
        """Make a call in the thread of the environments, and wait: what draws does so in one thread only (OpenGL)."""
        self.air.start(call)
        self.air.take()

    def act(self) -> None:
        """Bring the decision in the air into the store; one is taken where none is."""
        if not self.air.under_way:
            self.take_off()
        self.land()

    def take_off(self) -> None:
        """Begin the next decision, with the learner's parameters."""
        seat, version = self.seat(), self.followed()
        self.air.start(lambda: self.actor.decide(seat, version))

    def land(self) -> None:
        """Wait for the decision in the air; its rows enter the store."""
        step = self.air.take()
        assert step is not None
        self.entered(self.actor.enter(step))

    def learn(self) -> None:
        """Make the learner_steps that the store allows now, some of them beside the next decision."""
        if not self.pauses:
            self.take_off()
            self.trainer.learn(self.config.run.overlap)
            if not self.store.may_sample(self.config.replay.batch):
                return
            self.air.wait()
        self.trainer.learn()

    @property
    def pauses(self) -> bool:
        """Whether something comes before the next decision: a checkpoint, an evaluation, the end."""
        run = self.run
        paused = self.until is not None and run.clock.env_steps >= self.until
        return run.finished or paused or run.stop() or run.due("checkpoint") or run.due("eval")

    def metrics(self) -> dict[str, float]:
        """As without overlap; once the decision in the air is made."""
        self.air.wait()
        return super().metrics()

    def end(self) -> None:
        """Wait for the decision in the air, which lands when the run is saved; not for long after an error."""
        self.air.wait(None if exc_info()[0] is None else PATIENCE)

    def close(self) -> None:
        """Close the environment, and end its thread; a decision still in the air comes to nothing."""
        if not self.air.wait(PATIENCE):
            return  # it hangs, and goes with the process
        if self.air.under_way:
            with suppress(Exception):
                self.air.take()
        self.aside(super().close)
        self.air.close()

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Restore the environment, or begin anew where it cannot be brought back."""
        self.aside(partial(super().bring_back, tree, old))

    def save(self) -> None:
        """Write a checkpoint of everything, with nothing in the air."""
        if self.air.under_way:
            self.land()
        super().save()
