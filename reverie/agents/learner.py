"""Learning: a learner turns batches into losses; the update around them is written once, here.

::

    update = schedule (host)   apply_update (device: losses, backward, reduce, clip, step, targets)   advance (host)

Shapes are static and nothing in `apply_update` waits for the device, so that it can be compiled and recorded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reverie.agents.noise import Noise
from reverie.agents.policy import Policy
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.nets.optim import Optimiser
from reverie.ops import world


@dataclass(frozen=True)
class Result:
    """Outcome of one update. metrics: 0-d tensors still on the device. feedback: for the replay, or None."""

    metrics: dict[str, Tensor]
    feedback: Feedback | None = None


class Learner(nn.Module, ABC):
    """Losses of one algorithm around the networks of a policy, and the update.

    policy: shares its networks with the learner, and is moved to the device. windows: that batches consist of.
    seed: of the learner's own noise, the only randomness of an update. precision: of the networks under `autocast`.
    """

    policy: Policy
    optimisers: dict[str, Optimiser]

    def __init__(
        self,
        policy: Policy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.device = device or torch.device("cpu")
        self.precision = precision
        self.policy = policy.to(self.device)
        self.windows = windows
        self.noise = Noise(seed, self.device)
        self.optimisers = {}
        self.learner_steps = 0
        """updates so far; the one place where they are counted. On the device it is `Policy.version`."""

    @abstractmethod
    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Losses of one or several optimiser groups at a time; when resumed, those groups have been updated.

        Fills `metrics` with detached 0-d tensors. May return a `Feedback` (as a generator's return value).
        """

    def metrics(self) -> dict[str, float]:
        """Numbers about the learner as it is now, to be logged with ``train/`` before their names.

        ``<group>_lr`` is the rate of the next step. Learners with other schedules add what these give.
        """
        return {f"{name}_lr": group.rate(self.learner_steps) for name, group in self.optimisers.items()}

    def reduce(self, group: str) -> bool:
        """Whether to step a group: the hook between its backward pass and its step.

        Here gradients become their means over the processes that share the batch (`reverie.ops.world`); nothing happens
        alone. An actor that learns sends its own away, clears them and returns False. In a captured update only what it
        does on the device is replayed: its answer and what it does on the host are those of the capture.
        """
        parameters = self.optimisers[group].parameters
        world.average_([parameter.grad for parameter in parameters if parameter.grad is not None])
        return True

    def compile_parts(self) -> None:
        """Compile what is worth compiling (``run.compile``). Raises NotImplementedError where nothing is."""
        raise NotImplementedError(f"{type(self).__name__} has no compiled form")

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the networks; distributions and losses stay float32."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def update(self, batch: Batch) -> Result:
        """Result of one learner_step on one batch."""
        self.schedule()
        result = self.apply_update(batch)
        self.advance()
        return result

    def schedule(self) -> None:
        """Set what the host decides before a learner_step: the learning rates."""
        for optimiser in self.optimisers.values():
            optimiser.schedule(self.learner_steps)

    def advance(self) -> None:
        """Count a learner_step, and write the count where the device reads it."""
        self.learner_steps += 1
        self.policy.version.fill_(self.learner_steps)

    def apply_update(self, batch: Batch) -> Result:
        """The part of `update` that runs on the device, which `reverie.agents.capture` records."""
        metrics: dict[str, Tensor] = {}
        stages = self.losses(batch, metrics)
        feedback = None
        while True:
            try:
                losses = next(stages)
            except StopIteration as stop:
                feedback = stop.value
                break
            total = torch.stack(list(losses.values())).sum() if len(losses) > 1 else next(iter(losses.values()))
            total.backward()
            for group, loss in losses.items():
                metrics[f"{group}_loss"] = loss.detach()
                if self.reduce(group):
                    metrics[f"{group}_grad_norm"] = self.optimisers[group].step()
        return Result(metrics, feedback)

    def save(self) -> dict[str, Any]:
        """State that training needs to go on: parameters, targets, optimisers, noise. No tensor twice.

        Names of tensors are those of the module tree, the policy's first, so that whoever wants to act reads only
        ``policy.*``. Moments are saved by the names of their parameters.
        """
        tensors = tensors_of(self)
        names = {tensor: name for name, tensor in tensors.items()}
        return {
            "learner_steps": self.learner_steps,
            "tensors": tensors,
            "optimisers": {group: optimiser.state_dict(names) for group, optimiser in self.optimisers.items()},
            "noise": self.noise.state(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Inverse of `save`. Raises KeyError or RuntimeError if tensors or groups of moments are missing or unknown."""
        load_tensors(self, saved["tensors"])
        if set(saved["optimisers"]) != set(self.optimisers):
            raise KeyError(f"moments of {sorted(saved['optimisers'])} were saved, here are {sorted(self.optimisers)}")
        names = {tensor: name for name, tensor in tensors_of(self).items()}
        for group, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][group], names)
        self.noise.restore(saved["noise"])
        self.learner_steps = int(saved["learner_steps"])
        self.policy.version.fill_(self.learner_steps)


def tensors_of(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and persistent buffers of a module by name, each tensor once, under its first name."""
    visited: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict(prefix=prefix, keep_vars=True).items():
        if id(tensor) not in visited:
            visited.add(id(tensor))
            tensors[name] = tensor
    return tensors


def load_tensors(module: nn.Module, saved: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copy saved tensors into a module's own; the inverse of `tensors_of`.

    saved: by name; names that do not begin with `prefix` are left alone. Raises RuntimeError, naming them, if tensors
    are missing, unknown, or of another shape.
    """
    own = tensors_of(module, prefix)
    values = {name: value for name, value in saved.items() if name.startswith(prefix)}
    problems = [f"missing {name}" for name in own if name not in values]
    problems += [f"unknown {name}" for name in values if name not in own]
    for name, value in own.items():
        if name in values and values[name].shape != value.shape:
            problems.append(f"size mismatch for {name}: {tuple(values[name].shape)} saved, {tuple(value.shape)} here")
    if problems:
        raise RuntimeError("; ".join(problems[:4]) + (f" and {len(problems) - 4} more" if len(problems) > 4 else ""))
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(values[name])
