"""The runner with many actors: they act in processes of their own, this one inserts, learns, logs and saves.

::

    actors (Ray)   rollouts of `ray.rows` decisions ---- deliveries ---->  inbox -> store -> feed -> learner
                   <---- parameters, one copy per machine, at most `run.publish_every` learner_steps old when ordered

The limiter holds both sides: rollouts are collected while the store may take rows, updates are made while it owes some.
Kill any actor, and it begins a new life; kill this process, and the same command goes on from the newest checkpoint,
with the open episodes closed as at a time limit. Rows, counters and the log are as exact as the local runner's; the
order in which rows arrive is not repeatable.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from reverie.config import Config
from reverie.data.inbox import Delivery, Inbox, Receiver
from reverie.data.store import Store
from reverie.envs.streams import RESTARTS
from reverie.errors import UserError
from reverie.report.writer import Writer
from reverie.run.build import env_spec
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.fleet import Fleet
from reverie.run.params import Params
from reverie.run.remote import ActorHost, Crash, Host, Message, Orders, Parameters, Report, proportional_memory
from reverie.run.room import learning_fits
from reverie.run.runner import Runner
from reverie.run.status import StatusFile

LEAST_ROWS = 20
"""of a chunk: a message costs about a millisecond, whatever is in it"""


class Distributed(Runner):
    """The parts of a run whose actors are elsewhere. ray: connected. Other arguments as in `Runner`."""

    host: ClassVar[type[Host]] = ActorHost
    """body of an actor's process"""
    crew: ClassVar[type[Fleet]] = Fleet
    inbox: Receiver

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        ray: ModuleType,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.ray = ray  # before the parts are built: shards are processes of it, too
        super().__init__(config, run_dir, env_spec(config), chain, writers, callbacks)
        self.run_dir = run_dir
        self.rows = self.chunk()
        self.inbox = self.receiver()
        self.fleet = self.crew(ray, config, self.rows, self.inbox.begin, self.receive, self.say, self.host)
        self.run.carried = lambda: self.fleet.carried
        self.params, self.published = Params(), -1
        self.acting: dict[int, dict[str, float]] = {}
        """what actors say of how they act, the one whose report came last at the end"""
        self.shown = StatusFile(run_dir, self.status)

    def chunk(self) -> int:
        """Rows of a chunk, and decisions of a rollout. Raises UserError if those that are asked for do not fit."""
        period = self.learner.windows.period
        rows = self.config.ray.rows or -(-LEAST_ROWS // period) * period
        if rows % period:
            raise UserError(
                f"ray.rows is {rows}, but the windows of {self.config.name} begin at every {period} rows: make it a "
                f"multiple of that, for example {-(-rows // period) * period}, or 0 to leave it to us"
            )
        return rows

    def receiver(self) -> Receiver:
        """Whoever takes what actors deliver."""
        actors = self.config.ray.actors
        assert isinstance(self.store, Store)
        inbox = Inbox(self.store, actors, self.config.env.num_envs // actors)
        self.parts["inbox"] = inbox
        return inbox

    def say(self, line: str) -> None:
        """Tell people what happened to an actor, and keep it in the run's log of incidents."""
        print(line, file=sys.stderr, flush=True)
        with suppress(OSError), (self.run_dir / "incidents.log").open("a") as log:  # it has been said
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} env_steps {self.run.clock.env_steps}: {line}\n")

    def start(self) -> None:
        """Begin a life of every actor; episodes that earlier lives left open are closed."""
        self.publish()
        self.fleet.start()

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Have the actors' wrappers carry what those of the first one carried; they begin other episodes."""
        self.fleet.carried = tree.get("carried")

    def end(self) -> None:
        """End all actors; what is under way is lost. A run that is finished makes the learner_steps that it owes.

        Those that a stop leaves are made when the run goes on.
        """
        self.fleet.stop()
        made = -1
        while self.run.finished and not self.run.stop() and self.run.clock.learner_steps > made:
            made = self.run.clock.learner_steps
            with learning_fits(self.config, self.learner.device):
                self.trainer.learn(at_most=1)
        self.shown.write(now=True)

    def act(self) -> None:
        """Order rollouts and take in what has arrived; waits for something if the learner has nothing to do."""
        if self.store.may_insert():
            busy = self.store.may_sample(self.config.replay.batch)
            self.gather(0.0 if busy else 0.2, self.store.may_insert)
        self.shown.write()

    def gather(self, timeout: float, more: Callable[[], bool]) -> None:
        """Exchange messages with the actors; a run that cannot go on is saved. Arguments as in `Fleet.collect`."""
        try:
            self.exchange(timeout, more)
        except UserError:
            if not self.torn():
                self.save()
            raise

    def torn(self) -> bool:
        """Whether rows have come into the store in part, so that a checkpoint of now would not fit together."""
        return False

    def exchange(self, timeout: float, more: Callable[[], bool]) -> None:
        """Order rollouts of whoever has too few, and take in what has arrived. Arguments as in `Fleet.collect`."""
        self.publish()
        self.fleet.order(Orders(self.rows, self.play, self.run.clock.env_steps))
        self.fleet.collect(timeout, more)

    def receive(self, report: Report | Crash) -> None:
        """Take the rows of a rollout, and write down the episodes that ended with them."""
        if report.delivery is None or not self.take(report.delivery):
            return
        for ended, said in zip(report.ended, report.info, strict=True):
            self.run.episodes([ended], {ended[0]: said})
        if isinstance(report, Report):
            self.acts(report)

    def acts(self, report: Report) -> None:
        """Note how an actor acts."""
        self.acting.pop(report.delivery.actor, None)
        self.acting[report.delivery.actor] = report.metrics

    def take(self, delivery: Message) -> bool:
        """Whether a delivery is new, and taken in."""
        assert isinstance(self.inbox, Inbox)
        assert isinstance(delivery, Delivery)
        return self.inbox.take(delivery)

    def learn(self) -> None:
        """Make one learner_step, if the store allows one."""
        self.trainer.learn(at_most=1)

    def publish(self) -> None:
        """Hand the present parameters to the next rollouts, if those that they have are old enough."""
        version, every = self.run.clock.version, max(1, self.config.run.publish_every)
        if self.published < 0 or version // every > self.published // every:
            self.params.publish(version, self.run.clock.env_steps, self.learner.policy)
            newest = self.params.newer(self.published)
            assert newest is not None
            self.fleet.publish(Parameters.of(newest))
            self.published = version

    def metrics(self) -> dict[str, float]:
        """Numbers about the actors, and the memory of this process.

        How they act is what the one says that was heard last; environments that were made anew are those of all.
        """
        fleet = self.fleet.metrics(self.run.clock.version)
        own = {"learner_memory": proportional_memory(), "dropped": self.inbox.dropped}
        told = [each.get(RESTARTS, 0.0) for each in self.acting.values()]
        restarts = {RESTARTS: sum(told)} if any(told) else {}
        acting = next(reversed(self.acting.values()), {})
        return acting | restarts | fleet | own

    def status(self) -> dict[str, Any]:
        """How the run stands now, for ``status.json``."""
        clock = self.run.clock
        return {
            "pid": os.getpid(),
            "env_steps": clock.env_steps,
            "of_env_steps": self.run.total,
            "frames": clock.frames,
            "learner_steps": clock.learner_steps,
            **self.flow(),
            "dropped": self.inbox.dropped,
            "memory": proportional_memory(),
            "actors": self.fleet.status(clock.version),
        }

    def flow(self) -> dict[str, Any]:
        """How what actors deliver comes in and is used, for ``status.json``."""
        env_steps, store = self.run.clock.env_steps, self.store
        sampled = store.sampled_rows
        return {
            "ratio": store.limiter.achieved(env_steps, sampled),
            "ratio_asked": self.config.run.train_ratio,
            "owed_rows": float(store.limiter.debt(env_steps, sampled)),
            "waits_for": "rows" if store.may_insert() else "updates",
            "rows": store.rows,
        }
