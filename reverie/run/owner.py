"""Role that owns parameters and optimiser: workers send it gradients, it steps on them in order of arrival.

::

    worker 0   fetch v0 | play n | gradient of v0 ------+      fetch v1 | play n | ...
    worker 1   fetch v0 | play n | gradient of v0 ------|---+      fetch v2 | play n | ...
                                                        v   v
    owner      v0 ................................... v1   v2             staleness 0, then 1

    staleness of a gradient = learner_steps when it is applied - learner_steps behind the parameters that it is of

One optimiser means one set of moments: whatever it keeps of past gradients it keeps of those of all workers (Mnih et
al. 2016, section 4, "shared RMSProp"). Norms are clipped here, gradient by gradient, as in every step of an optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Learner
from reverie.data.inbox import Lives, Receiver
from reverie.run.finite import Finite
from reverie.run.updates import Updates


@dataclass(frozen=True)
class Gradients:
    """Gradients of one batch of a worker's own rows, on their way to the owner.

    actor, incarnation, sequence: the worker, its how-manieth life, the how-manieth gradients of that life.
    version: learner_steps behind the parameters that they are of. env_steps: decisions since the worker's last ones.
    groups: of the optimisers -> float32 [parameters], on the host. metrics: of the batch.
    """

    actor: int
    incarnation: int
    sequence: int
    version: int
    env_steps: int
    groups: dict[str, np.ndarray]
    metrics: dict[str, float] = field(default_factory=dict)


class Owner(Updates, Receiver):
    """Learner whose gradients come from `workers` workers. finite: see `Updates`.

    learner: has the parameters and the optimisers, counts the learner_steps, and is what is saved and evaluated.
    streams: of each worker.
    """

    def __init__(self, learner: Learner, workers: int, streams: int, finite: Finite | None = None) -> None:
        super().__init__(learner, finite)
        self.streams, self.lives = streams, Lives(workers)
        self.decisions = np.zeros(workers, np.int64)
        """env_steps by worker, int64 [workers]: those whose gradients have been applied, or that came with them"""
        self.staleness = np.full(workers, -1, np.int64)
        """of the last gradient of each worker, int64 [workers]; -1: there is none yet"""
        self.stalest = 0
        """the largest since metrics were read last"""

    @property
    def env_steps(self) -> int:
        """Decisions of all workers."""
        return int(self.decisions.sum())

    def begin(self, worker: int) -> tuple[int, np.ndarray]:
        """Incarnation of a new life of a worker, and the index of its first row in each stream: its rows stay there."""
        return self.lives.begin(worker), np.zeros(self.streams, np.int64)

    def take(self, gradients: Gradients) -> bool:
        """Whether gradients are new and of their worker's present life; only then they are applied, once.

        Raises ValueError if those before them are missing.
        """
        if not self.lives.due(gradients):
            return False
        self.apply(gradients)
        self.lives.taken(gradients)
        return True

    def apply(self, gradients: Gradients) -> None:
        """Make one learner_step on gradients, whatever parameters they are of.

        Raises ValueError if they are of other groups or parameters, or of a version that has not been yet.
        """
        learner, worker = self.learner, gradients.actor
        staleness = learner.learner_steps - gradients.version
        if staleness < 0:
            raise ValueError(f"gradients of version {gradients.version}, but there were {learner.learner_steps}")
        if set(gradients.groups) != set(learner.optimisers):
            raise ValueError(f"gradients of {sorted(gradients.groups)}, but groups are {sorted(learner.optimisers)}")
        learner.schedule()
        told, device = gradients.metrics, learner.device
        metrics = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in told.items()}
        for group, flat in gradients.groups.items():
            # A copy: what arrives may be memory that cannot be written to, and the optimiser clips in place.
            learner.optimisers[group].put(torch.from_numpy(np.array(flat)))
            metrics[f"{group}_grad_norm"] = learner.optimisers[group].step()
        learner.advance()
        self.note(metrics, self.learner.learner_steps)
        self.meter.add({"staleness": float(staleness)})
        self.decisions[worker] += gradients.env_steps
        self.staleness[worker], self.stalest = staleness, max(self.stalest, staleness)

    def metrics(self) -> dict[str, float]:
        """Those of all updates, and the largest staleness since the last call beside the mean."""
        stalest, self.stalest = self.stalest, 0
        return super().metrics() | {"staleness_max": float(stalest)}

    def state_dict(self) -> dict[str, Any]:
        """Parameters, moments and counts."""
        return super().state_dict() | {
            "lives": self.lives.state_dict(),
            "decisions": self.decisions.copy(),
            "staleness": self.staleness.copy(),
            "stalest": self.stalest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; workers elsewhere must `begin` before they send."""
        super().load_state_dict(state)
        self.lives.load_state_dict(state["lives"])
        self.decisions[:] = state["decisions"]
        self.staleness[:] = state["staleness"]
        self.stalest = int(state["stalest"])
