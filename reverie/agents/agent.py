"""What an agent is: a policy that acts and a learner that updates it.

A `Policy` is all that an actor needs. It keeps no hidden state between calls: whatever belongs to one environment
stream is passed in and returned. A `Learner` turns batches into losses; the update around them (backward, clip,
optimiser) is written once, here, with static shapes and without host synchronisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reverie.data.rows import RowSpec, State
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.optim import Optimiser

Mode = Literal["sample", "mode"]


class Policy(nn.Module, ABC):
    """Acts on rows, one step at a time."""

    noise: int
    """uniform numbers that one step of one stream consumes"""
    extras: RowSpec
    """what `step` returns beside actions and states, stored with each row as ``extra.<name>``; none by default"""
    lookback: int = 0
    """rows before a window that only its observations reach back to (k - 1 for a stack of k frames), see `look`"""

    def __init__(self) -> None:
        super().__init__()
        self.extras = {}

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before an episode, name -> [B, ...]."""

    @abstractmethod
    def step(
        self, state: State, rows: Mapping[str, Tensor], u: Tensor, mode: Mode
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """One decision per stream.

        rows: the seen half of rows [B, ...] with prev_action; where is_first, the state is reset inside.
        u: uniform noise [B, noise]. Returns (action as the environment takes it [B, ...], state, extras).
        """

    @abstractmethod
    def unroll(self, state: State, rows: Mapping[str, Tensor], u: Tensor) -> tuple[Any, State]:
        """Equal to a loop of `step` over rows [T, B, ...], up to the actions; returns (outputs [T, B], state)."""

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """Take in rows [T, B, ...] as the past of observations only: frame stacks fill, the memory stays as it is."""
        return state

    def warm(self, state: State, rows: Mapping[str, Tensor], u: Tensor) -> State:
        """The state after rows [T, B, ...], without outputs: what `unroll` returns second."""
        return self.unroll(state, rows, u)[1]

    def random(self, batch: int, u: Tensor) -> Tensor:
        """A uniformly random action as the environment takes it, [B, ...]."""
        raise NotImplementedError

    def explore(self, env_steps: int, streams: range, total: int) -> None:
        """Told before decisions that are to explore (mode ``sample``): env_steps so far, which of `total` streams act.

        A function of these three only, so that nothing of it needs saving. Does nothing by default.
        """


@dataclass(frozen=True)
class Result:
    """Of one update. metrics: 0-d tensors still on the device. feedback: for the replay, or None."""

    metrics: dict[str, Tensor]
    feedback: Feedback | None = None


class Learner(nn.Module, ABC):
    """Losses of one algorithm, and the update."""

    spec: SequenceSpec
    policy: Policy
    optimisers: dict[str, Optimiser]
    updates: Tensor
    """learner_steps so far, int64 [], on the device"""
    priority_fields: tuple[str, ...] = ()
    """fields of rows that `initial_priorities` reads; empty: new windows get the replay's own priority"""

    def __init__(self, seed: int, device: torch.device, precision: torch.dtype) -> None:
        super().__init__()
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self.precision = precision
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @classmethod
    def sequence(cls, config: Any, asked: SequenceSpec, env: EnvSpec) -> SequenceSpec:
        """The windows that this agent needs, given those that ``replay.*`` asks for (which have no lookahead)."""
        return asked

    @abstractmethod
    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield the losses of one or several optimiser groups; when resumed, those groups have been updated.

        Fills `metrics` with detached 0-d tensors. May return a `Feedback` (as a generator's return value).
        """

    def initial_priorities(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Priorities [B] of new windows, from `priority_fields` of their rows [T, B, ...] as the actor left them."""
        raise NotImplementedError(f"{type(self).__name__} computes no priorities in the actor")

    def compile_parts(self) -> None:
        """Compile what is worth compiling (``run.compile``). Raises NotImplementedError where nothing is."""
        raise NotImplementedError(f"{type(self).__name__} has no compiled form")

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the networks; distributions and losses stay float32."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform noise from the learner's own generator: the only randomness of an update."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def update(self, batch: Batch) -> Result:
        """One learner_step on one batch."""
        self.schedule()
        return self.apply_update(batch)

    def schedule(self) -> None:
        """What the host decides before a learner_step: the learning rates."""
        for optimiser in self.optimisers.values():
            optimiser.schedule()

    def apply_update(self, batch: Batch) -> Result:
        """The part of `update` that runs on the device, which `reverie.agents.capture` records."""
        metrics: dict[str, Tensor] = {}
        steps = self.losses(batch, metrics)
        feedback = None
        while True:
            try:
                losses = next(steps)
            except StopIteration as stop:
                feedback = stop.value
                break
            torch.stack(list(losses.values())).sum().backward()
            for group, loss in losses.items():
                metrics[f"{group}_loss"] = loss.detach()
                metrics[f"{group}_grad_norm"] = self.optimisers[group].step()
        self.updates += 1
        return Result(metrics, feedback)

    def save(self) -> dict[str, Any]:
        """Everything that training needs to go on: parameters, targets, optimisers, generator."""
        return {
            "modules": dict(self.state_dict()),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "generator": self.generator.get_state(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Inverse of `save`."""
        self.load_state_dict(saved["modules"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"].get(name, {}))
        self.generator.set_state(saved["generator"].cpu())
