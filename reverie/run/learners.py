"""The runner with many actors and several learners: each batch is shared, and each learner_step made by all.

::

    actors (Ray) ---- rows ---->  store -> feed -> batch -+- part 0 -> learner of this process --+-> one mean gradient,
                                                          +- part 1 -> learner elsewhere (Ray) --+   the same step

Everything else is `reverie.run.distributed`'s: this process owns the run directory, the store and the log, evaluates
and saves. A run can go on with another number of learners: what is saved is the first one's, and all are the same.

Source: Espeholt et al. 2018 (IMPALA), section 3; figure 1, right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reverie.agents.agent import Agent
from reverie.agents.learner import Result
from reverie.config import Config
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.run.build import pick_device
from reverie.run.distributed import Distributed
from reverie.run.roles import Trainer
from reverie.run.team import Team


class Learners(Distributed):
    """The parts of a run with several learners, over those of any kind (`shared`). Arguments as in `Distributed`."""

    team: Team | None = None

    def preflight(self) -> None:
        """Raise UserError also where learners cannot share batches."""
        check_learners(self.config, self.agent)
        super().preflight()

    def build(self, env: EnvSpec, run_dir: Path) -> Trainer:
        """The trainer, whose updates are made by all."""
        trainer = super().build(env, run_dir)
        assert isinstance(trainer, Trainer)
        trainer.feed.device = torch.device("cpu")  # parts are sent from there
        trainer.update = self.update
        self.spec = env
        return trainer

    def update(self, batch: Batch) -> Result:
        """Result of one learner_step; of the first learner alone before the others are there, and after they end."""
        if self.team is None:
            return self.learner.update(batch.to(self.learner.device))
        return self.team.update(batch)

    def start(self) -> None:
        """Begin the other learners beside the actors."""
        self.team = Team(self.ray, self.config, self.learner, self.spec, self.chain.since, self.say)
        self.team.call()
        super().start()
        self.team.start()

    def learn(self) -> None:
        """Make one learner_step, if the store allows one. Raises UserError if learners fail again and again."""
        super().learn()
        if self.team is not None and self.team.over:
            self.save()
            raise UserError(self.team.over)

    def end(self) -> None:
        """End all actors, then all other learners; what is still to be learned then is learned alone."""
        try:
            super().end()
        finally:
            if self.team is not None:
                self.team.stop()

    def metrics(self) -> dict[str, float]:
        """Numbers about the learners too."""
        team = self.team
        if team is None:
            return super().metrics()
        own = {"learners": 1 + len(team.others), "learner_restarts": team.restarts}
        return super().metrics() | own | {"learners_memory": sum(other.memory for other in team.others)}

    def status(self) -> dict[str, Any]:
        """As of all distributed runs, with the learners elsewhere."""
        return super().status() | {"learners": [] if self.team is None else self.team.status()}


def shared(kind: type[Distributed]) -> type[Distributed]:
    """The runner that is of that kind but for its updates, which several learners make."""
    return Learners if kind is Distributed else type(f"{kind.__name__}Learners", (Learners, kind), {})


def check_learners(config: Config, agent: Agent) -> None:
    """Raise UserError with an agent or settings that are not known to learn the same with several learners."""
    count, name = config.ray.learners, config.name
    if reason := agent.unshared():
        raise UserError(f"ray.learners is {count}, but {name} {reason}: set ray.learners = 1")
    for key, given in (("run.capture", config.run.capture), ("run.compile", config.run.compile)):
        if given:
            raise UserError(
                f"{key} is true, but an update of several learners is of several processes; set it to false"
            )
    if config.replay.store.place == "device":
        raise UserError(
            'replay.store.place is "device", but batches of several learners are sent from the host: set it to "host"'
        )
    batch = config.replay.batch
    if batch % count:
        nearest = -(-batch // count) * count
        raise UserError(
            f"replay.batch is {batch}, which {count} learners cannot share equally: set it to {nearest}, or another "
            "ray.learners"
        )
    device = pick_device(config.run.device)
    if device.type == "cuda" and config.ray.address == "local" and torch.cuda.device_count() < count:
        raise UserError(
            f"{count} learners need as many GPUs, and this machine has {torch.cuda.device_count()}: set ray.learners "
            "to that, or run.device to cpu"
        )
