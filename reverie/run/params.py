"""Parameters on their way from a learner to actors: version, clock, and the policy's tensors as one flat buffer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reverie.agents.agent import Policy
from reverie.agents.learner import load_tensors, tensors_of


@dataclass(frozen=True)
class Published:
    """Parameters that actors take over. version: learner_steps behind it. env_steps: of the run when it was published.

    flat: uint8 [bytes] on the CPU, all tensors of the policy one after another.
    """

    version: int
    env_steps: int
    flat: Tensor


class Params:
    """The newest parameters of a policy, for actors that have a policy of their own.

    `publish` costs one copy on the device and one transfer, whatever the number of tensors.
    """

    def __init__(self) -> None:
        self._newest: Published | None = None

    def publish(self, version: int, env_steps: int, policy: Policy) -> None:
        """Make the policy's present tensors the newest."""
        parts = [tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in tensors_of(policy).values()]
        self._newest = Published(version, env_steps, torch.cat(parts).cpu())

    def newer(self, version: int) -> Published | None:
        """The newest parameters if they are newer than that version, else None."""
        newest = self._newest
        return newest if newest is not None and newest.version > version else None


class Follower:
    """A policy of an actor's own beside the learner's, whose parameters it takes over from version to version.

    every: learner_steps between the versions that it takes over (Horgan et al. 2018 and Kapturowski et al. 2019: 400).
    """

    def __init__(self, policy: Policy, every: int) -> None:
        self.policy, self.every = policy, every
        self.version = -1

    def follow(self, version: int, leader: Policy) -> None:
        """Take over the leader's parameters, which are of that version, if `every` learner_steps have passed since."""
        if self.version < 0 or version // self.every > self.version // self.every:
            if own := list(tensors_of(self.policy).values()):
                with torch.no_grad():
                    torch._foreach_copy_(own, list(tensors_of(leader).values()))
            self.version = version

    def metrics(self, version: int) -> dict[str, float]:
        """Age of the parameters in learner_steps, when the learner is at that version."""
        return {"parameter_age": version - self.version}

    def state_dict(self) -> dict[str, Any]:
        """Parameters, which may be older than the learner's."""
        return {"version": self.version, "tensors": tensors_of(self.policy)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        load_tensors(self.policy, state["tensors"])
        self.version = int(state["version"])


def install(published: Published, policy: Policy) -> None:
    """Copy the published tensors into a policy. Raises ValueError if it is not one of the same shape."""
    tensors = tensors_of(policy)
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors.values()]
    if sum(sizes) != published.flat.numel():
        raise ValueError(f"published parameters have {published.flat.numel()} bytes, this policy {sum(sizes)}")
    with torch.no_grad():
        for tensor, part in zip(tensors.values(), published.flat.split(sizes), strict=True):
            values = part.clone().view(tensor.dtype) if math.prod(tensor.shape) else tensor.new_empty(0).cpu()
            tensor.copy_(values.view(tensor.shape))
