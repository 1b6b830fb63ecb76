"""Constraints: a quantity is held below a target by a weight that learns, not by one that is set.

::

    min over networks, max over w >= 0     f + w (x - target),      w = e^l

    above the target w grows, below it w shrinks; where x lies at the target, w is what it takes
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Constraint(nn.Module):
    """Lagrange multiplier w of x <= target, learned by its logarithm: it has an optimiser of its own.

    target: in the unit of x. start: first w, positive. Raises ValueError otherwise.
    Source: Zhu et al. 2023 (RePo), section 3.2, and its code (log_beta).
    """

    def __init__(self, target: float, start: float) -> None:
        super().__init__()
        if not 0.0 < start < math.inf:
            raise ValueError(f"start, the first weight of a constraint, must be positive and finite, got {start}")
        self.target = target
        self.log_weight = nn.Parameter(torch.tensor(math.log(start)))

    @property
    def weight(self) -> Tensor:
        """w, a scalar without a gradient."""
        return self.log_weight.detach().exp()

    def penalty(self, x: Tensor) -> Tensor:
        """w (x - target), a scalar: what is added to the loss of the networks, whose gradients alone it has."""
        return self.weight * (x - self.target)

    def loss(self, x: Tensor) -> Tensor:
        """-l (x - target), a scalar, whose descent makes w grow where x is above the target; x gets no gradient."""
        return -self.log_weight * (x.detach() - self.target)
