"""Settings of processes beside the learner's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reverie.config.bounds import at_least


@dataclass(frozen=True)
class RayConfig:
    """Actors in processes of their own, on the engine Ray (docs/distributed.md).

    actors: processes, which share the env.num_envs streams equally; 0 is the local runner, which needs no Ray.
    learners: processes that share each batch of replay.batch windows and make every learner_step together, this one
    among them; docs/distributed.md says which agents can.
    inference: who decides: each ``actor`` with parameters of its own, or this process for all of them, in batches, with
    the learner's (``central``).
    address: ``local`` for a private cluster of this machine, ``auto`` or host:port for one that was started by hand.
    rows: of a stream per chunk and rollout; 0: the windows' period, repeated up to at least 20.
    in_flight: rollouts of each actor that are ordered or wait to be collected. threads: CPU threads of each actor.
    memory: bytes of the object store of a private cluster.
    patience: seconds until all actors must be there. silence: seconds without a report, or ten times the usual ones,
    after which an actor is replaced. crashes: lives of one actor in a row that may end before the first report.
    shards: processes that hold the replay, each that of some actors; 0: the learner's process holds it.
    requests: batches that may be under way from the shards while the learner updates.
    """

    actors: int = 0
    learners: int = 1
    inference: Literal["actor", "central"] = "actor"
    address: str = "local"
    rows: int = 0
    in_flight: int = 2
    threads: int = 1
    memory: int = 500_000_000
    patience: float = 120.0
    silence: float = 60.0
    crashes: int = 2
    shards: int = 0
    requests: int = 3

    def __post_init__(self) -> None:
        at_least(0, actors=self.actors, rows=self.rows, crashes=self.crashes, shards=self.shards)
        at_least(1, learners=self.learners, in_flight=self.in_flight, threads=self.threads, requests=self.requests)
        at_least(80_000_000, memory=self.memory)
        if not (self.patience > 0 and self.silence > 0):
            raise ValueError(f"patience and silence must be positive, got {self.patience} and {self.silence}")
        if self.inference == "central" and not self.actors:
            raise ValueError(
                "there are no actors to decide for: set ray.actors (--actors); without any, one policy decides for all "
                "streams in any case"
            )
