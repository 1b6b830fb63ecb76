"""The runner whose actors are workers: they send gradients, and this process owns parameters and optimiser.

::

    worker (Ray)   play until there is a batch, gradient ----- Gradients ----->  owner: one learner_step each, in order
                   <-- newest parameters, with the next order -----------------  of arrival

Rows stay where they are played. Orders are given, workers replaced, and the run saved as in `reverie.run.distributed`.
A worker that is lost takes its open episodes and the rows that wait along: its next life begins with fresh environments
and an empty store, so that no window joins two episodes, and env_steps are those whose gradients have arrived.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reverie.agents.agent import Agent, Seat
from reverie.config import Config
from reverie.envs.env import EnvSpec
from reverie.run.build import made
from reverie.run.clock import Clock
from reverie.run.distributed import Distributed
from reverie.run.owner import Gradients, Owner
from reverie.run.remote import ActorHost, Message, Parameters
from reverie.run.roles import Actor, Tell
from reverie.run.worker import build_worker, check_workers


class WorkerHost(ActorHost):
    """Body of a worker's process. Arguments as in `ActorHost`; chunk: 0, no rows are sent."""

    def build(self, config: Config, agent: Agent, chunk: int) -> Actor:
        """The worker, whose actor it is."""
        birth = self.birth
        self.worker = build_worker(
            config, agent, self.env, birth.actor, birth.incarnation, self.seed, torch.device("cpu")
        )
        return self.worker.actor

    def adopt(self, parameters: Parameters) -> None:
        """Have the worker fetch them."""
        self.worker.fetch(parameters.published())
        self.version = self.worker.version

    def work(self, steps: int, seat: Seat, tell: Tell) -> Gradients:
        """Gradients of the worker's next batch, however many decisions that takes."""
        return self.worker.work(seat, self.total, tell)

    def left(self) -> None:
        """Nothing: rows without a gradient count for nobody."""


class Asynchronous(Distributed):
    """The parts of a run whose workers are elsewhere. Arguments as in `Distributed`."""

    host = WorkerHost
    inbox: Owner

    def preflight(self) -> None:
        """Raise UserError also where settings mean nothing to workers."""
        check_workers(self.config, self.config.ray.actors)
        super().preflight()

    def build(self, env: EnvSpec, run_dir: Path) -> Owner:
        """The owner; the run directory is made, which else the folder of rows brings about."""
        made(run_dir)
        actors = self.config.ray.actors
        self.owner = Owner(self.learner, actors, self.config.env.num_envs // actors, self.finite)
        self.parts["trainer"] = self.owner
        return self.owner

    def clock(self, repeat: int) -> Clock:
        """The clock whose env_steps are those of all workers."""
        return Clock(self.owner, self.learner, repeat)

    def chunk(self) -> int:
        """No rows are sent."""
        return 0

    def receiver(self) -> Owner:
        """The owner."""
        return self.owner

    def take(self, delivery: Message) -> bool:
        """Whether gradients are new, and applied."""
        assert isinstance(delivery, Gradients)
        return self.owner.take(delivery)

    def act(self) -> None:
        """Order rollouts, and apply the next gradients that arrive; their worker is then ordered to go on at once."""
        before = self.learner.learner_steps
        self.gather(0.2, lambda: self.learner.learner_steps == before)
        self.shown.write()

    def learn(self) -> None:
        """Nothing: a learner_step was made of each gradient when it arrived."""

    def kept(self) -> dict[str, float]:
        """Nothing: rows stay with the workers."""
        return {}

    def flow(self) -> dict[str, Any]:
        """The mean staleness of the workers' last gradients, and the largest."""
        known = self.owner.staleness[self.owner.staleness >= 0]
        return {
            "staleness": round(float(known.mean()), 2) if len(known) else None,
            "staleness_max": int(known.max()) if len(known) else None,
        }

    def status(self) -> dict[str, Any]:
        """As of all distributed runs, with the staleness of each worker's last gradient."""
        status = super().status()
        for line in status["actors"]:
            staleness = int(self.owner.staleness[line["actor"]])
            line["staleness"] = staleness if staleness >= 0 else None
        return status
