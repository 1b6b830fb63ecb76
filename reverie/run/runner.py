"""What every runner does: the order in which a run acts, learns, logs, evaluates and saves, and how it comes back.

::

    while not over:     act      rows enter the store              hook
                        learn    updates, as many as it allows     hook
                        log, evaluate, save, when they are due

A runner is one way to act: beside the learner (`reverie.run.local`), or in many processes (`reverie.run.distributed`).
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.agents.agent import Play
from reverie.config import Config
from reverie.data.feed import Feed
from reverie.data.paced import Paced
from reverie.envs.env import EnvSpec
from reverie.envs.faults import EnvFault
from reverie.report.writer import Writer
from reverie.run.allocator import prepare_process
from reverie.run.build import build_agent, build_learner, build_store, pick_device
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.clock import Clock
from reverie.run.companions import gather
from reverie.run.finite import Finite
from reverie.run.init import init_networks
from reverie.run.lock import Stop
from reverie.run.preflight import check_draws, check_trains
from reverie.run.roles import Trainer
from reverie.run.room import learning_fits, networks_fit
from reverie.run.run import Run, Stateful
from reverie.run.transition import step
from reverie.run.updates import Updates


class Runner(ABC):
    """The learner's side of a run, in this process. env: what the agent sees.

    chain: what was before `config`. writers, callbacks: beside those that ``config.log`` names.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        env: EnvSpec,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        companions = gather(config.log, writers, callbacks)
        prepare_process(config.run.threads)
        self.config, self.chain = config, chain or Chain(config, {})
        self.agent = build_agent(config, env, self.chain.since)
        self.preflight()
        self.learner = build_learner(config, self.agent, pick_device(config.run.device))
        self.finite = Finite(config.run.nonfinite, config.env.id)
        self.parts: dict[str, Stateful] = {}
        self.store: Paced
        self.stores: list[Paced] = []
        """of this process"""
        self.restored = self.closed = False
        self.trainer = self.build(env, run_dir)
        self.run = Run(config, run_dir, self.clock(env.action_repeat), self.chain.since, companions)

    def build(self, env: EnvSpec, run_dir: Path) -> Updates:
        """Whoever makes the updates, with the store that they are of; all of them are parts of the run."""
        self.store = build_store(self.config, self.learner, env, run_dir / "replay")
        feed = Feed(self.store, self.config.replay.batch, self.learner.device, self.config.run.ahead)
        trainer = Trainer(self.learner, feed, self.config.run.capture, self.finite)
        self.parts |= {"trainer": trainer, "store": self.store}
        self.stores.append(self.store)
        return trainer

    def preflight(self) -> None:
        """Raise UserError where nothing would be trained, or not what was asked for."""
        check_draws(self.config, self.agent)
        check_trains(self.config, self.agent)

    def clock(self, repeat: int) -> Clock:
        """Clock of the run. repeat: frames of an env_step."""
        return Clock(self.store, self.learner, repeat)

    def train(self, stop: Stop, until: int | None = None) -> dict[str, Any]:
        """Summary of the run, trained until its end or until stopped, with checkpoints on the way and at the end.

        until: env_steps at which it pauses, once the evaluation that is due then has been played; None: it does not.
        """
        with self.run.heeding(stop) as run, self._saving():
            for store in self.stores if self.restored else ():
                store.resumed()  # only now, when the log goes on: what fails before that leaves all files as they are
            self.restored = False
            try:
                self.start()
                if run.resumed is None and self.config.init.run:
                    self.save()  # from here on the other run is not needed
                while not run.finished and not stop():
                    if until is not None and run.clock.env_steps >= until and not run.owed and run.cut_since is None:
                        run.saved_at = -1  # an evaluation may have come after what is saved
                        break
                    if run.owed:
                        run.evaluate(self.learner)
                        continue
                    if run.cut_since is None:
                        self.act()
                    with learning_fits(self.config, self.learner.device):
                        self.learn()
                    if stop() and self.owes():
                        run.cut()
                        break
                    run.cut_since = None
                    self.look()
                    if run.due("checkpoint"):
                        self.save()
                    run.tick()
            finally:
                learned = run.clock.learner_steps
                self.end()
            if run.clock.learner_steps > learned and self.config.run.log_every:
                self.log()
            if not run.saved:
                self.save()
            run.finish(self.learner, self.save)
            for store in self.stores:
                store.complete()
        self.close()
        return run.result()

    def look(self) -> None:
        """Log what is due after a round, note whether an evaluation is, and tell the callbacks."""
        run = self.run
        if run.due("log"):
            self.log()
        run.owed = run.due("eval")
        run.tell()

    def log(self) -> None:
        """Log what all parts have to tell."""
        replay, actor = self.kept(), self.metrics()
        self.run.log(train=self.trainer.metrics(), replay=replay, actor=actor)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """Context in which a fault of an environment costs nothing: what there is up to it is saved.

        Nothing is raised where the run was asked to end: what asks a run to end often ends workers as well.
        """
        try:
            yield
        except EnvFault as fault:
            run, steps = self.run, self.run.clock.env_steps
            if steps and (run.owed or not run.saved):
                self.save()
            self.close()
            if run.stop():
                return
            if not run.saved:
                raise
            again = f"go on with: reverie resume {shlex.quote(str(run.run_dir))}"
            raise fault.told(after=f"; saved after {steps} env_steps, {again}") from fault

    @property
    def play(self) -> Play:
        """Manner in which actors act now."""
        return self.play_at(self.run.clock.env_steps)

    def play_at(self, env_steps: int) -> Play:
        """Manner in which they act at that env_step of the run."""
        return "random" if env_steps < self.config.run.prefill else "explore"

    @abstractmethod
    def start(self) -> None:
        """Begin to act, or go on with it."""

    @abstractmethod
    def act(self) -> None:
        """Bring rows into the store."""

    def learn(self) -> None:
        """Make as many learner_steps as the store allows now."""
        self.trainer.learn()

    def owes(self) -> bool:
        """Whether learner_steps are still to be made before anybody acts again."""
        return False

    def kept(self) -> dict[str, float]:
        """Numbers about the rows that are kept, to be logged."""
        return self.store.metrics()

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Numbers about acting, to be logged."""

    def end(self) -> None:
        """Stop to act, before the last checkpoint; also after an error."""

    def close(self) -> None:
        """Free what is left, when everything is saved or nothing more can be; what is free stays so."""
        if not self.closed:
            self.closed = True
            self.free()

    def free(self) -> None:
        """Close environments and threads, once."""

    def save(self) -> None:
        """Write a checkpoint of everything."""
        self.drain()
        more: dict[str, Any] = {"generation": self.chain.generation} if self.chain.generation else {}
        self.run.save(self.parts, **self.extras(), **more)
        for store in self.stores:
            store.saved()

    def drain(self) -> None:
        """Learn what was drawn ahead."""
        with learning_fits(self.config, self.learner.device):
            self.trainer.drain()

    def extras(self) -> dict[str, Any]:
        """What a checkpoint holds beside the parts."""
        return {}

    def begin(self) -> None:
        """Take over networks of another run, if the configuration says so. Raises UserError if they do not fit."""
        if self.config.init.run:
            print(init_networks(self.learner, self.config.init))

    def restore(self) -> None:
        """Return to the newest checkpoint; without one the run begins anew. Only then are newer files deleted.

        A checkpoint of an earlier generation takes the step to this configuration.
        """
        old = self._restored_config()
        parts = dict(self.parts)
        if old is not None and not old.run.follow_every:
            parts.pop("follower", None)  # it takes over the learner's parameters before it acts
        if self.run.checkpoints.latest() is None:
            self.begin()
        with networks_fit(self.config, self.learner.device):
            self.run.restore(parts, lambda tree: self._follow(tree, old or self.config))
        self.restored = True

    def _restored_config(self) -> Config | None:
        """The configuration that the newest checkpoint was made under; None where that is the present one."""
        if not self.chain.generation or (made := self.run.checkpoints.head()) is None:
            return None
        generation = int(made.get("generation", 0))
        return None if generation == self.chain.generation else self.chain.at(generation)[0]

    def _follow(self, tree: dict[str, Any], old: Config) -> None:
        """Make the step from another configuration, where there is one, and bring back whoever acts."""
        if old is not self.config:
            step(self, old, int(tree["frames"]))
        self.bring_back(tree, old)

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Bring whoever acts back to where a checkpoint was written under `old`."""

    def renewed(self) -> None:
        """Note that the learner has networks of another run from here on, where somebody fetches them seldom."""

    def reseed(self) -> None:
        """Begin the generators of whoever acts anew from the run's seed."""
