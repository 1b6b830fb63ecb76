"""Heads of value networks: a network and the meaning of its outputs, so that value, target and loss stay together.

::

    features ---> forward ---> outputs [..., A(, K)] ---> q       one value per action: what the policy compares
                                                     ---> target  what the outputs of older networks make of rewards
                                                     ---> loss    of outputs towards a target, and the error

What outputs mean is an object of `reverie.nets.values` (numbers, atoms, quantiles). A head may need noise (sampled
quantiles, noisy layers): it is passed in, `noise` uniform numbers in [0, 1) per row. Agents of the value line differ in
their heads, not in what is around them: any head works with or without a memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reverie.nets.actions import legal
from reverie.nets.layers import Numbers
from reverie.nets.values import Scalar, Values
from reverie.ops.n_step import NStep


@dataclass(frozen=True)
class Reads:
    """Parts that a target may be made of: outputs of heads without a gradient, [learn, B, ...].

    target, online: of the target network and of the online network at the rows to bootstrap from; online is None unless
    the online network chooses (Double). here: of the target network at the learned rows themselves, None unless
    `QHead.reads_here`. action: int64 [learn, B], taken at the learned rows. mask: of the actions at the rows to
    bootstrap from [learn, B, A], None: all may be taken.
    """

    target: Tensor
    online: Tensor | None
    here: Tensor | None
    action: Tensor
    mask: Tensor | None = None

    @property
    def chooser(self) -> Tensor:
        """The outputs that choose the action to bootstrap from."""
        return self.target if self.online is None else self.online


class QHead(nn.Module, ABC):
    """Head from features [..., inputs] to outputs: what they are worth, aim at and cost. values: their meaning."""

    noise: int = 0
    """uniform numbers that one reading for a decision takes"""
    reads_here: bool = False
    """whether `target` also reads the target network at the learned rows (Munchausen)"""
    heeds_masks: bool = True
    """whether targets bootstrap from allowed actions only; heads with their own `target` or `select` must say so"""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if {"target", "select"} & vars(cls).keys() and "heeds_masks" not in vars(cls):
            cls.heeds_masks = False

    def __init__(self, values: Values) -> None:
        super().__init__()
        self.values = values

    @abstractmethod
    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Outputs, float32, leading axes first. x: [..., inputs]; u: uniform [..., noise]."""

    def q(self, outputs: Tensor) -> Tensor:
        """Action values [..., A] of outputs."""
        return self.values.mean(outputs)

    def shapes(self, lead: tuple[int, int], double: bool) -> tuple[tuple[int, ...], ...]:
        """Shapes of the uniform numbers that one update reads the head with, [learn, B, ...] or broadcastable to that.

        For the learned rows; for those to bootstrap from through the online network; and through the target network.
        lead: (learn, B). double: the online network chooses.
        """
        return ((*lead, self.noise),) * 3

    def steady(self, lead: tuple[int, ...], like: Tensor) -> Tensor:
        """Noise [*lead, noise] that never changes, for gauges that compare two readings; on the device of `like`."""
        return torch.full((*lead, self.noise), 0.5, device=like.device)

    def select(self, reads: Reads) -> Tensor:
        """Actions to bootstrap from, int64 [learn, B]: the best of the target network, or (Double) of the online."""
        return best(self.q(reads.chooser), reads.mask)

    def target(self, reads: Reads, parts: NStep) -> Tensor:
        """Targets of the taken actions' outputs: rewards earned, and the chosen action's outputs where they end."""
        chosen = gather_actions(reads.target, self.select(reads))
        return self.values.backup(chosen, parts.earned, parts.discount)

    def loss(self, outputs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error of every row, [learn, B] each; errors become priorities."""
        prediction = gather_actions(outputs, action)
        return self.values.loss(prediction, target), self.values.error(prediction, target)


def stream(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A ReLU layer of `hidden` units and a linear one; the linear one alone if hidden = 0."""
    if not hidden:
        return nn.Sequential(Numbers(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), Numbers(hidden, outputs))


class PlainQ(QHead):
    """Q = f(x), one hidden layer. Source: Mnih et al. 2015 (DQN), Methods, "Model architecture" (512 units)."""

    def __init__(self, inputs: int, actions: int, hidden: int, values: Scalar | None = None) -> None:
        super().__init__(values or Scalar())
        self.body = stream(inputs, hidden, actions)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Action values [..., A] of x [..., inputs]."""
        outputs: Tensor = self.body(x)
        return outputs


class DuelingQ(QHead):
    """Q(o, a) = V(o) + A(o, a) - mean_b A(o, b), each of V and A with its own hidden layer.

    Source: Wang et al. 2016, "Dueling Network Architectures", equation 9.
    Differs from the paper in: the gradient that enters the convolutions is not scaled by 1 / sqrt(2).
    """

    def __init__(self, inputs: int, actions: int, hidden: int, values: Scalar | None = None) -> None:
        super().__init__(values or Scalar())
        self.value = stream(inputs, hidden, 1)
        self.advantage = stream(inputs, hidden, actions)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Action values [..., A] of x [..., inputs]."""
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(-1, keepdim=True)


def best(q: Tensor, mask: Tensor | None = None) -> Tensor:
    """The best action, int64 [...], of values [..., A]: of those that the mask allows, if there is one."""
    return (q if mask is None else q.masked_fill(~legal(mask), -torch.inf)).argmax(-1)


def gather_actions(outputs: Tensor, action: Tensor) -> Tensor:
    """The entries of outputs [*lead, A, *rest] at action int64 [*lead]: [*lead, *rest]."""
    lead = action.dim()
    rest = outputs.shape[lead + 1 :]
    index = action.view(*action.shape, 1, *[1] * len(rest)).expand(*action.shape, 1, *rest)
    return outputs.gather(lead, index).squeeze(lead)
