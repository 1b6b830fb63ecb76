"""The local runner with acting beside learning: a thread takes the next decision while the learner updates.

::

    round t      land       the rows of decision t enter the store
                 follow     the actor's parameters <- the learner's
                 take off   decision t + 1 begins, in a thread: policy, environments
                 learn      beside it at most `run.overlap` learner_steps; the others, if the pacing owes more, once
                            the decision is made

So the parameters that act are at most `run.overlap` learner_steps old when their decision is there, and what was
decided enters one round later than without. Trained rows per env_step are the same. Who does what when depends on
counts alone, never on which of the two is faster: bit-reproducible on a CPU under a seed.

Where something comes between two rounds (a checkpoint, an evaluation, the end), the decision takes off after it, with
the parameters that it would have had. So nothing is in the air when a run is saved, and it goes on as if it had not
been: a run that is asked to stop lands what is in the air, and completes that round.
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
        self.ready: int | None = None
        """version of the parameters that the next decision is to be made with, where they were taken over already"""

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
        """Begin the next decision."""
        version, seat = self.followed() if self.ready is None else self.ready, self.seat()
        self.ready = None
        self.air.start(lambda: self.actor.decide(seat, version))

    def land(self) -> None:
        """Wait for the decision in the air; its rows enter the store."""
        step = self.air.take()
        assert step is not None
        self.entered(self.actor.enter(step))

    def learn(self) -> None:
        """Make the learner_steps that the store allows now, some of them beside the next decision."""
        self.ready = self.followed()
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

    def save(self) -> None:
        """Write a checkpoint of everything, with nothing in the air: a round that is begun is completed."""
        if self.air.under_way:
            self.land()
            self.ready = self.followed()
            self.trainer.learn()
            self.look()
        super().save()

    def extras(self) -> dict[str, Any]:
        """As without overlap, and whether the actor has the parameters of the next decision already."""
        return super().extras() | {"ready": self.ready is not None}

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Restore the environment, or begin anew where it cannot be brought back."""
        assert self.follower is not None
        self.aside(partial(super().bring_back, tree, old))
        self.ready = self.follower.version if tree.get("ready") else None

    def renewed(self) -> None:
        """Have the actor take over networks that are new before it decides."""
        super().renewed()
        self.ready = None
