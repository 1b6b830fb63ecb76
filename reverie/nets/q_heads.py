"""Heads of value networks. A head's outputs are its own; `q` says what they mean: one value per action.

Distributional heads return more per action than a number (logits of atoms, quantiles) and reduce it in `q`. A head may
need noise (sampled quantiles, noisy layers): it is passed in, `noise` uniform numbers in [0, 1) per row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class QHead(nn.Module, ABC):
    """Features [..., inputs] -> outputs, and outputs -> action values [..., A]."""

    noise: int = 0

    @abstractmethod
    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """x: [..., inputs]; u: uniform [..., noise]. Returns float32 outputs, leading axes first."""

    def q(self, outputs: Tensor) -> Tensor:
        """Action values [..., A] of outputs; here they are the outputs."""
        return outputs


def stream(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A ReLU layer of `hidden` units and a linear one; the linear one alone if hidden = 0."""
    if not hidden:
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class PlainQ(QHead):
    """Q = f(x), one hidden layer. Source: Mnih et al. 2015 (DQN), Methods, "Model architecture" (512 units)."""

    def __init__(self, inputs: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.values = stream(inputs, hidden, actions)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """[..., inputs] -> [..., A]."""
        return self.values(x).float()


class DuelingQ(QHead):
    """Q(o, a) = V(o) + A(o, a) - mean_b A(o, b), each of V and A with its own hidden layer.

    Source: Wang et al. 2016, "Dueling Network Architectures", equation 9.
    Differs from the paper in: the gradient that enters the convolutions is not scaled by 1 / sqrt(2).
    """

    def __init__(self, inputs: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.value = stream(inputs, hidden, 1)
        self.advantage = stream(inputs, hidden, actions)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """[..., inputs] -> [..., A]."""
        advantage = self.advantage(x).float()
        return self.value(x).float() + advantage - advantage.mean(-1, keepdim=True)


def gather_actions(outputs: Tensor, action: Tensor) -> Tensor:
    """The entries of outputs [*lead, A, *rest] at action int64 [*lead]: [*lead, *rest]."""
    lead = action.dim()
    rest = outputs.shape[lead + 1 :]
    index = action.view(*action.shape, 1, *[1] * len(rest)).expand(*action.shape, 1, *rest)
    return outputs.gather(lead, index).squeeze(lead)
