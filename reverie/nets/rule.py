"""Rules: how gradients change parameters, and what is remembered of them for that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Rule(ABC):
    """One update for parameters in groups, each of which may have settings of its own, such as its learning rate.

    params: parameters, or groups of them: dicts with ``params`` and what differs. settings: of all other groups.
    PyTorch's own base class does this too, but imports its compiler when the first one is made, which every process
    that learns would wait for, and does more around each step. Raises ValueError if there is no parameter or one
    twice, which each step would change twice.
    """

    moments: ClassVar[dict[str, float]]
    """what is kept of every parameter, in its memory layout, and its first value"""
    counts: ClassVar[bool] = False
    """whether ``step`` is kept too, a parameter's number of steps: on its device, so that a recorded update counts"""

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], **settings: Any) -> None:
        given: list[Any] = list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {**settings, **group, "params": list(group["params"])} for group in groups
        ]
        tensors = [parameter for group in self.param_groups for parameter in group["params"]]
        if not tensors or len(set(tensors)) != len(tensors):
            raise ValueError(f"expected parameters, each once, got {len(tensors)}, of which {len(set(tensors))} differ")
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        """moments by parameter; none before its first step"""

    def first(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is kept of a parameter, as it is before its first step."""
        count = {"step": torch.zeros((), device=parameter.device)} if self.counts else {}
        return count | {name: torch.full_like(parameter, value) for name, value in self.moments.items()}

    @abstractmethod
    def update(
        self, group: dict[str, Any], tensors: list[Tensor], grads: list[Tensor], moments: dict[str, list[Tensor]]
    ) -> None:
        """Change tensors and moments, in place, by their gradients. group: the settings."""

    @torch.no_grad()
    def step(self) -> None:
        """Use the gradients that are there. Nothing waits for the device."""
        for group in self.param_groups:
            tensors: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not tensors:
                continue
            states = [self.state[tensor] for tensor in tensors]
            for state, tensor in zip(states, tensors, strict=True):
                if not state:
                    state |= self.first(tensor)
            grads: list[Tensor] = [tensor.grad for tensor in tensors if tensor.grad is not None]
            self.update(group, tensors, grads, {name: [state[name] for state in states] for name in states[0]})
