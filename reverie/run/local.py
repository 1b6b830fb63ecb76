"""The local runner: one process, one vector environment, actor and trainer in a deterministic round robin.

Bit-reproducible on a CPU under a seed, and exact across interruptions: a checkpoint holds everything that the next
row, batch or update depends on, so that a killed run resumed from its last checkpoint writes the very metrics that an
uninterrupted one writes (clock readings aside).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie.agents.agent import Play, Seat, placed
from reverie.config import Config, with_settings
from reverie.data.feed import Feed
from reverie.envs.env import ResumeError, shut
from reverie.errors import UserError, notice
from reverie.report.writer import Writer
from reverie.run.allocator import prepare_process
from reverie.run.build import build_agent, build_env, build_learner, build_outbox, build_store, derive, pick_device
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.checkpoint import Checkpoints, Misfit
from reverie.run.companions import gather
from reverie.run.finite import Finite
from reverie.run.fixed import check_change, way_out
from reverie.run.init import init_networks
from reverie.run.lock import Stop, alone, check_new, check_platform, interruptible
from reverie.run.params import Follower, Params
from reverie.run.roles import Actor, Trainer
from reverie.run.run import Clock, Run, Stateful
from reverie.run.saved_config import load_chain, save_chain, save_config, versions
from reverie.run.transition import resets_env, step


def train(
    config: Config, run_dir: str | Path, *, writers: Sequence[Writer] = (), callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Summary of a run that begins in a new directory and is trained to its end, see `Local.train`.

    writers, callbacks: beside those that ``config.log`` names; `resume` must be given them again.
    """
    check_platform()
    check_new(Path(run_dir))
    with interruptible() as stop:
        local = Local(config, Path(run_dir), writers=writers, callbacks=callbacks)
        with alone(Path(run_dir)):
            local.begin()
            save_config(config, Path(run_dir))
            return local.train(stop)


def resume(
    run_dir: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Summary of a run that goes on from its newest checkpoint (from the start if there is none yet), exactly.

    changes: dotted keys that have other values from there on, see `reverie.run.transition`; the configuration before is
    kept in ``config.json``. Raises UserError if the run cannot go on with them; it is then left as it was.
    writers, callbacks: as in `train`.
    """
    check_platform()
    run_dir = Path(run_dir)
    with interruptible() as stop:
        saved = load_chain(run_dir)
        chain = changed(saved, changes, run_dir) if changes else saved
        local = Local(chain.config, run_dir, chain, writers, callbacks)
        with alone(run_dir):
            try:
                local.restore()
            except UserError as error:
                if chain is saved:
                    raise
                reason = error.reason if isinstance(error, Misfit) else str(error)
                keys = ", ".join(changes or ())
                raise UserError(
                    f"{run_dir} cannot go on with another {keys}: {reason}; {way_out(saved.config)}"
                ) from error
            if chain is not saved:
                save_chain(chain, run_dir)
            return local.train(stop)


def changed(saved: Chain, changes: Mapping[str, Any], run_dir: Path) -> Chain:
    """The chain of a run with other values of these keys in force from its newest checkpoint on.

    Raises UserError for keys that cannot change.
    """
    config = with_settings(saved.config, changes)
    made = Checkpoints(run_dir).head()
    check_change(saved.config if made is None else saved.at(int(made.get("generation", 0)))[0], config)
    return Chain(config, versions()) if made is None else saved.followed_by(config, made, versions())


class Local:
    """The parts of a run in one process, and the order in which they move. chain: what was before `config`."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        companions = gather(config.log, writers, callbacks)
        prepare_process(config.run.threads)
        self.chain = chain or Chain(config, {})
        self.config, self.env = config, build_env(config)
        agent = build_agent(config, self.env.spec, self.chain.since)
        self.learner = build_learner(config, agent, pick_device(config.run.device))
        self.store = build_store(config, self.learner, self.env.spec, run_dir)
        policy, self.follower = self.learner.policy, None
        if config.run.publish_every:
            policy = placed(agent.policy(), self.learner.device)
            self.follower = Follower(policy, Params(), config.run.publish_every)
        self.outbox = build_outbox(self.store, policy, self.learner.windows)
        finite = Finite(config.run.nonfinite, config.env.id)
        self.actor = Actor(self.env, policy, self.outbox.put, derive(config.run.seed, "actor"), finite)
        feed = Feed(self.store, config.replay.batch, self.learner.device, config.run.ahead)
        self.trainer = Trainer(self.learner, feed, config.run.capture, finite)
        clock = Clock(self.store, self.learner, self.env.spec.action_repeat)
        self.run = Run(config, run_dir, clock, self.chain.since, companions)
        self.parts: dict[str, Stateful] = {"trainer": self.trainer, "store": self.store, "outbox": self.outbox}
        self.parts |= {"actor": self.actor} | ({"follower": self.follower} if self.follower else {})

    def train(self, stop: Stop) -> dict[str, Any]:
        """Summary of the run, trained until its end or until stopped, with checkpoints on the way and at the end."""
        with self.run.heeding(stop) as run:
            if run.resumed is None:
                run.episodes(self.actor.start(), self.actor.episode_info)
                if self.config.init.run:
                    self.save()  # from here on the other run is not needed
            while not run.finished and not stop():
                if run.owed:
                    run.evaluate(self.learner)
                    continue
                self.act()
                self.trainer.learn()
                if run.due("log"):
                    age = self.follower.metrics(run.clock.version) if self.follower else {}
                    run.log(train=self.trainer.metrics(), replay=self.store.metrics(), actor=self.actor.metrics() | age)
                run.owed = run.due("eval")
                run.tell()
                if run.due("checkpoint"):
                    self.save()
                run.tick()
            if run.saved_at != run.clock.env_steps:
                self.save()
            run.finish(self.learner, self.save)
        shut(self.env)
        return run.result()

    def act(self) -> None:
        """Take one decision per stream."""
        clock = self.run.clock
        if self.follower is not None:
            self.follower.follow(clock.version, clock.env_steps, self.learner.policy)
        play: Play = "random" if clock.env_steps < self.config.run.prefill else "explore"
        seat = Seat.alone(self.env.num_envs, play, clock.env_steps)
        ended = self.actor.step(seat, (self.follower or clock).version)
        self.run.episodes(ended, self.actor.episode_info)

    def save(self) -> None:
        """Write a checkpoint of everything."""
        self.trainer.drain()
        more: dict[str, Any] = {"generation": self.chain.generation} if self.chain.generation else {}
        self.run.save(self.parts, env=self.env.state_dict() if self.env.spec.resume != "truncate" else None, **more)
        self.store.saved()

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
        if old is not None and not old.run.publish_every:
            parts.pop("follower", None)  # it takes over the learner's parameters before it acts
        if self.run.checkpoints.latest() is None:
            self.begin()
        self.run.restore(parts, lambda tree: self._follow(tree, old or self.config))
        self.store.resumed()

    def _restored_config(self) -> Config | None:
        """The configuration that the newest checkpoint was made under; None where that is the present one."""
        if not self.chain.generation or (made := self.run.checkpoints.head()) is None:
            return None
        generation = int(made.get("generation", 0))
        return None if generation == self.chain.generation else self.chain.at(generation)[0]

    def _follow(self, tree: dict[str, Any], old: Config) -> None:
        """Restore the environment and make the step from another configuration, where there is one."""
        if old is not self.config:
            step(self, old, int(tree["frames"]))
        try:
            if tree["env"] is not None and not resets_env(old, self.config):
                return self.env.load_state_dict(tree["env"])
        except ResumeError as error:
            notice(f"{error}; its open episodes are closed as truncated")
        steps, version = self.run.clock.env_steps, (self.follower or self.run.clock).version
        self.actor.begin_anew(derive(self.config.run.seed, f"actor {steps}"), version)
