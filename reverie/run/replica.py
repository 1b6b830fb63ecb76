"""A learner in a process of its own that makes every learner_step together with those of other processes.

::

    batch part --update--> losses, backward, mean of gradients over all learners, step --> feedback on the part

It begins from the state of the first learner, and stays what that is, step by step: same parameters, same moments,
gradients that are the whole batch's (`reverie.ops.world`). Nothing here knows how messages travel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.agents.agent import Learner, Result
from reverie.data.parts import joined
from reverie.data.sequences import Batch, Feedback
from reverie.envs.env import EnvSpec
from reverie.nets.schedule import Length
from reverie.ops.world import average, sharing
from reverie.run.allocator import prepare_process
from reverie.run.build import build_agent, build_learner
from reverie.run.remote import proportional_memory, received
from reverie.run.ring import LOOPBACK, Broken, Ring, first_line


@dataclass(frozen=True)
class Place:
    """Place of a learner among `size`. rank: 1 or more; the first learner is in the process of the command.

    settings, path: as of an actor (`reverie.run.remote.Birth`). env, since: what the run's agent was built with.
    threads: of torch. device: that it computes on. private: all are on one machine.
    """

    rank: int
    size: int
    settings: Mapping[str, Any]
    path: tuple[str, ...]
    env: EnvSpec
    since: Length | None
    threads: int
    device: str
    private: bool


@dataclass(frozen=True)
class Done:
    """A learner_step was made. keys, priorities, states: of the feedback on its part, None if there is none."""

    keys: np.ndarray | None = None
    priorities: np.ndarray | None = None
    states: dict[str, np.ndarray] | None = None
    memory: int = 0
    pid: int = field(default_factory=os.getpid)

    @classmethod
    def of(cls, feedback: Feedback | None) -> Done:
        """As it travels."""
        if feedback is None:
            return cls(memory=proportional_memory())
        states, priorities = feedback.states, feedback.priorities
        return cls(
            _array(feedback.keys),
            None if priorities is None else _array(priorities),
            None if states is None else {name: _array(x) for name, x in states.items()},
            proportional_memory(),
        )

    def feedback(self, device: torch.device) -> Feedback | None:
        """The feedback, on a device."""
        if self.keys is None:
            return None
        states = None if self.states is None else {name: _tensor(x, device) for name, x in self.states.items()}
        priorities = None if self.priorities is None else _tensor(self.priorities, device)
        return Feedback(_tensor(self.keys, device), priorities, states)


@dataclass(frozen=True)
class Undone:
    """A learner cannot go on. why: in one line; empty if only because another one cannot."""

    why: str


class LearnerHost:
    """Body of a learner's process."""

    def __init__(self, place: Place) -> None:
        self.place, self.failed, self.ring = place, "", None
        try:
            prepare_process(place.threads)
            config = received(place.settings, place.path)
            self.device = torch.device(place.device)
            self.learner = build_learner(config, build_agent(config, place.env, place.since), self.device)
            self.patience = config.ray.patience
        except Exception as error:
            self.failed = first_line(error)

    ring: Ring | None

    def ping(self) -> tuple[int, str]:
        """Number of the process once it is ready, and why it cannot be, if so."""
        return os.getpid(), self.failed

    def restore(self, state: Mapping[str, Any]) -> Done | Undone:
        """Take over the first learner's state."""
        try:
            self.learner.restore(state)
            return Done()
        except Exception as error:
            return self._gone(error)

    def join(self, address: tuple[str, int]) -> Done | Undone:
        """Come to the meeting at that address."""
        try:
            place = self.place
            self.ring = Ring.join(address, place.rank, place.size, self.device, own_address(place), self.patience)
            return Done()
        except Exception as error:
            return self._gone(error)

    def update(self, part: Mapping[str, np.ndarray]) -> Done | Undone:
        """Make a learner_step on this learner's part of a batch, given as the arrays of `Batch.tensors`."""
        try:
            if self.ring is None:
                raise Broken("the connection is closed")
            batch = joined({name: _tensor(x, self.device) for name, x in part.items()})
            return Done.of(update_together(self.learner, self.ring, batch).feedback)
        except Exception as error:
            return self._gone(error)

    def state(self) -> dict[str, Any]:
        """All that its learner would save, on the host: to be compared with the first learner's."""
        return on_host(self.learner.save())

    def _gone(self, error: Exception) -> Undone:
        # The others must not wait for this one.
        if self.ring is not None:
            self.ring.close()
        self.ring = None
        return Undone("" if isinstance(error, Broken) else f"{type(error).__name__}: {first_line(error)}")


def update_together(learner: Learner, ring: Ring, part: Batch) -> Result:
    """Result of one learner_step that all learners of a ring make, each on its part of a batch.

    Metrics are means over the learners, float64; feedback is on the part. Raises Broken if another one is lost.
    """
    with sharing(ring, len(part.keys)):
        result = learner.update(part)
        metrics = average(torch.stack([x.detach().double() for x in result.metrics.values()]))
    return Result(dict(zip(result.metrics, metrics.unbind(), strict=True)), result.feedback)


def as_arrays(batch: Batch) -> dict[str, np.ndarray]:
    """A batch as it travels."""
    return {name: np.ascontiguousarray(_array(x)) for name, x in batch.tensors().items()}


def own_address(place: Place) -> str:
    """Address of this machine that other learners reach it by."""
    if place.private:
        return LOOPBACK
    import ray

    address: str = ray.util.get_node_ip_address()
    return address


def on_host(tree: Any) -> Any:
    """Nested dictionaries with their tensors on the CPU."""
    if isinstance(tree, Mapping):
        return {name: on_host(value) for name, value in tree.items()}
    return tree.detach().cpu() if isinstance(tree, Tensor) else tree


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


def _tensor(x: np.ndarray, device: torch.device) -> Tensor:
    # What arrives may not be written to.
    return torch.from_numpy(np.array(x)).to(device)
