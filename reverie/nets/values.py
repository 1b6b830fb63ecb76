"""What a value head's numbers mean: a number, probabilities of atoms, or quantiles of the return of one action.

Each meaning says how numbers are read (`mean`), what they become after rewards (`backup`), and what they cost against
such a target (`loss`, `error`). x is what a network says of one action, [...] for numbers, [..., K] for atoms, [..., M]
for quantiles; networks and the choice of actions are the heads' (`reverie.nets.q_heads`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.ops.losses import huber, quantile_huber, td_squared
from reverie.ops.projection import categorical_projection
from reverie.ops.transforms import rescale, rescale_inverse


class Values(nn.Module, ABC):
    """A meaning of numbers that are bootstrapped. params: numbers per action."""

    params: int = 1

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """The expected value that actions are compared by, [...]."""

    @abstractmethod
    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """The target for what led here: earned + discount * return, in this meaning.

        x: of the action bootstrapped from. earned, discount: [...], see `reverie.ops.n_step.NStep`.
        """

    @abstractmethod
    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x towards a target that `backup` made."""

    @abstractmethod
    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """The number [...] that becomes a priority."""


class Scalar(Values):
    """A number: the action value itself, or h of it.

    kind: ``huber`` with delta 1 (DQN) or ``squared``, halved (R2D2). rescaling: the eps of
    h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x; targets are h(earned + discount h^-1(x)). None: h is the identity.
    Source: Mnih et al. 2015 (DQN); Pohlen et al. 2018 and Kapturowski et al. 2019 (R2D2), section 2.3, for h.
    """

    def __init__(self, kind: Literal["huber", "squared"] = "huber", rescaling: float | None = None) -> None:
        super().__init__()
        if kind not in ("huber", "squared"):
            raise ValueError(f"kind must be 'huber' or 'squared', got {kind!r}")
        self.kind, self.rescaling = kind, rescaling

    def mean(self, x: Tensor) -> Tensor:
        """x: h is monotone, so that actions compare alike with and without it."""
        return x

    def unscaled(self, x: Tensor) -> Tensor:
        """h^-1(x): values in units of rewards."""
        return x if self.rescaling is None else rescale_inverse(x, self.rescaling)

    def scaled(self, value: Tensor) -> Tensor:
        """h(value)."""
        return value if self.rescaling is None else rescale(value, self.rescaling)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """h(earned + discount h^-1(x))."""
        return self.scaled(earned + discount * self.unscaled(x))

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Huber's or half the squared error, on the rescaled values."""
        return huber(x, target) if self.kind == "huber" else td_squared(x, target)

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """target - x, on the rescaled values."""
        return target - x


class Atoms(Values):
    """Logits of a distribution over fixed atoms z [K]: C51.

    The target is the distribution of earned + discount z, projected onto the atoms; loss and error are the
    KL(target || p) that is minimised, whose gradient is the cross-entropy's.
    Source: Bellemare et al. 2017 (C51), algorithm 1; Hessel et al. 2018 (Rainbow) for the KL as a priority.
    """

    support: Tensor

    def __init__(self, support: Tensor) -> None:
        super().__init__()
        self.register_buffer("support", support, persistent=False)
        self.params = len(support)

    def mean(self, x: Tensor) -> Tensor:
        """sum_i z_i p_i."""
        return (F.softmax(x, -1) * self.support).sum(-1)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """Probabilities of the atoms, [..., K]."""
        values = earned.unsqueeze(-1) + discount.unsqueeze(-1) * self.support
        return categorical_projection(x.softmax(-1), values, self.support)

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """KL(target || softmax(x)), nats."""
        return (torch.xlogy(target, target) - target * x.log_softmax(-1)).sum(-1)

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """The loss itself."""
        return self.loss(x, target)


class Quantiles(Values):
    """Quantiles of the return, read at levels: x is [..., 2, M], the levels first, then the quantiles at these levels.

    A sampled quantile function means nothing without the levels that it was read at, so they travel together. A target
    is samples of the return, [..., M'], without levels. kappa: where Huber's loss becomes linear.
    Source: Dabney et al. 2018 (QR-DQN), equation 10; Dabney et al. 2018 (IQN), section 3.
    """

    def __init__(self, kappa: float = 1.0) -> None:
        super().__init__()
        if kappa <= 0.0:
            raise ValueError(f"kappa must be positive, got {kappa}")
        self.kappa = kappa

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the levels."""
        return x[..., 1, :].mean(-1)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """earned + discount * quantile, [..., M]."""
        return earned.unsqueeze(-1) + discount.unsqueeze(-1) * x[..., 1, :]

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Quantile regression towards the samples."""
        return quantile_huber(x[..., 1, :], x[..., 0, :], target, self.kappa)

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """The difference of the means."""
        return target.mean(-1) - x[..., 1, :].mean(-1)
