"""The runner whose actors are environments alone: this process has the only policy, and decides for all of them.

::

    environments (Ray)   what follows on one decision of each of E streams ---->  whoever is there: one batch, one step
                         <----------------- actions, at once, before learning --  rows -> store -> feed -> learner

Actors are lost and replaced, and the run is saved, as in `reverie.run.distributed`. One decision of an actor is under
way at a time. It is made when the rows before it have been taken in, and counts when what followed on it is: so updates
in between make it older than the parameters that there are by then, by as many as there were.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

from reverie.agents.agent import Noise
from reverie.config import Config
from reverie.data.store import Store
from reverie.envs.env import Step
from reverie.errors import UserError
from reverie.run.build import build_outbox, derive
from reverie.run.distributed import LEAST_ROWS, Distributed
from reverie.run.inference import Inference, Seen
from reverie.run.remote import Crash, Host, Report, life_seed, proportional_memory

MEMORY_EVERY = 5.0
"""seconds between two looks at a process's memory, which cost more than a decision"""


class EnvHost(Host):
    """Body of a process that has environments alone: it answers actions with what follows on them."""

    def begin(self, config: Config, chunk: int) -> None:
        """Reset the environments. chunk: decisions after which a life counts as one that works."""
        self.chunk = chunk
        self.step = Step(self.env.reset(self.seed))
        self.done = self.looked = time.perf_counter()
        self.durations: deque[float] = deque(maxlen=50)
        self.memory = proportional_memory()

    def rollout(self, action: np.ndarray | None, version: int) -> Report | Crash:
        """What follows on the actions of one decision, which were made by that version; None: the first rows."""
        return self.answer(lambda: self._rollout(action, version))

    def _rollout(self, action: np.ndarray | None, version: int) -> Report:
        since, before, taken = time.perf_counter(), self.done, 0
        if action is not None:
            going = int((~self.step.rows["is_last"]).sum())
            self.step = self.env.step(np.array(action))  # a copy: what arrives cannot be written to
            taken = going - (0 if self.step.lost is None else len(self.step.lost))
        self.done = now = time.perf_counter()
        if now - self.looked > MEMORY_EVERY:
            self.looked, self.memory = now, proportional_memory()
        seen = Seen(self.birth.actor, self.birth.incarnation, self.sequence, self.step, since - before)
        self.sequence += 1
        whole = self.sequence > self.chunk  # the first message has no decision
        self.durations.append(now - before)
        seconds = sum(self.durations) / len(self.durations)  # single decisions say little about how fast they come
        told, metrics = self.env.carried(), self.env.metrics()
        return Report(seen, [], [], metrics, version, taken, seconds, self.memory, told, whole)


class Central(Distributed):
    """The parts of a run whose environments are elsewhere, and whose policy is here. Arguments as in `Distributed`."""

    host = EnvHost
    inbox: Inference

    def preflight(self) -> None:
        """Raise UserError also where settings mean nothing to actors without a policy."""
        check_central(self.config)
        super().preflight()

    def chunk(self) -> int:
        """Decisions after which an actor's life counts as one that works: as many as other actors' rollouts have."""
        return LEAST_ROWS

    def receiver(self) -> Inference:
        """Whoever decides, with the learner's own policy, and an outbox beside the store."""
        config, env, policy = self.config, self.agent.env, self.learner.policy
        actors, streams = config.ray.actors, config.env.num_envs
        assert isinstance(self.store, Store)
        outbox = build_outbox(config, self.store, env, streams, policy, self.learner.windows)
        seed = derive(config.run.seed, "actor")
        inference = Inference(policy, outbox.put, env, actors, streams // actors, seed, self.finite, config.run.compile)
        self.parts |= {"outbox": outbox, "inference": inference}
        return inference

    def publish(self) -> None:
        """Nothing: the policy's parameters are the learner's."""

    def exchange(self, timeout: float, more: Callable[[], bool]) -> None:
        """Take in what follows on earlier decisions, of all that are there, and decide for them at once."""
        self.ask()
        self.fleet.collect(timeout, lambda: True)
        self.ask()

    def ask(self) -> None:
        """Decide for all actors that wait, in one batch, and ask those that have just begun for their first rows."""
        clock = self.run.clock
        for actor, action in self.inbox.decide(self.play, clock.env_steps, clock.version).items():
            self.fleet.ask(actor, action, clock.version)
        for actor in self.fleet.idle():
            self.fleet.ask(actor, None, clock.version)

    def receive(self, report: Report | Crash) -> None:
        """Take in what followed on a decision, and write down the episodes that ended with it."""
        if isinstance(report, Crash):
            return
        seen = report.delivery
        assert isinstance(seen, Seen)
        try:
            ended = self.inbox.take(seen)
        except UserError as error:
            seed = life_seed(self.config, seen.actor, seen.incarnation)
            raise UserError(f"actor {seen.actor} (life {seen.incarnation}, seed {seed}): {error}") from error
        if ended is not None:
            self.run.episodes(ended, seen.step.episode_info)
            self.acts(report)

    def torn(self) -> bool:
        """Whether the rows of a decision are in the store, and those that close episodes then are not."""
        return any(ledger.torn for ledger in self.inbox.ledgers)

    def metrics(self) -> dict[str, float]:
        """As of all distributed runs, with how the policy acts and what that takes."""
        return self.inbox.metrics() | super().metrics()

    def reseed(self) -> None:
        """Begin the generator of decisions anew; each life of an actor has a seed of its own."""
        seed = derive(self.config.run.seed, "actor")
        self.inbox.noise.restore(Noise(seed, self.inbox.policy.device, host=True).state())


def check_central(config: Config) -> None:
    """Raise UserError with settings that mean nothing where the policy is beside the learner."""
    for key, given, why in (
        ("run.publish_every", config.run.publish_every, "whose parameters are always the newest"),
        ("ray.shards", config.ray.shards, "in the process that has all rows first"),
        ("ray.rows", config.ray.rows, "one decision after another, so that no rows travel in chunks"),
    ):
        if given:
            raise UserError(
                f"{key} is {given}, but with ray.inference = central the learner's own policy decides, {why}: "
                f"set {key} = 0"
            )
