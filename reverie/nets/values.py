"""Outputs of action values: what a value head's numbers mean, and the target that follows from them.

| output | x, per action | target | loss | error (priority) |
|---|---|---|---|---|
| `Scalar` | a number [...] | earned + discount x' | Huber's or half the square | target - x |
| ... with rescaling | h(value) | h(earned + discount h^-1(x')) | the same | on the scale of h |
| `Atoms` | logits [..., K] | earned + discount z, projected onto the atoms | KL(target, x) | the KL |
| `Quantiles` | levels, quantiles [..., 2, M] | earned + discount x'_j | quantile regression | difference of means |

x' are the numbers of the action that is bootstrapped from, earned and discount those of `reverie.ops.n_step`. Since
value, target and loss are one object, an agent with a memory, n steps or Double's choice of action is the same for all
of them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.nets.outputs import Output, check_shapes
from reverie.ops.losses import huber, quantile_huber, td_squared
from reverie.ops.projection import categorical_projection
from reverie.ops.transforms import rescale, rescale_inverse

LossKind = Literal["huber", "squared"]


class Values(Output):
    """An `Output` whose targets are made of its own numbers. A target is what `backup` returns, in its units."""

    @abstractmethod
    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss of every row, float32 [...]. x: of the action that was taken. target: of `backup`; no gradient.

        Raises ValueError if the shapes do not fit.
        """

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Action values [...], the larger the better: what actions are chosen by."""

    @abstractmethod
    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """Target that follows from the rewards and from the numbers x of the action bootstrapped from.

        x: [*rows] or [*rows, K]. earned, discount: [*rows], as in `reverie.ops.n_step.NStep`.
        Raises ValueError if the rows differ.
        """

    @abstractmethod
    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """Error that becomes a priority, float32 [...], without gradient; signed where it is a difference."""


def _check_rows(x: Tensor, earned: Tensor, discount: Tensor, axes: int) -> None:
    """Raise ValueError unless earned and discount have the shape of x without its last `axes`."""
    rows = x.shape[: x.dim() - axes]
    if earned.shape != rows or discount.shape != rows:
        shapes = ", ".join(str(tuple(each.shape)) for each in (x, earned, discount))
        raise ValueError(f"outputs, earned and discount must have the same rows, got {shapes}")


class Scalar(Values):
    """One number per action: its value, or h(value) = sign(v) (sqrt(|v| + 1) - 1) + eps v.

        target = earned + discount x',    or    h(earned + discount h^-1(x'))

    kind: of the loss, "huber" (delta 1) or "squared" (halved). rescaling: eps of h, positive; None: h is the identity.
    h is increasing, so that the best action is the same on both scales; `mean` stays on that of the targets.
    Raises ValueError for other values.
    Source: Mnih et al. 2015 (DQN), Methods; Kapturowski et al. 2019 (R2D2), section 2.3, for h.
    """

    def __init__(self, kind: LossKind = "huber", rescaling: float | None = None) -> None:
        super().__init__()
        if kind not in ("huber", "squared"):
            raise ValueError(f"kind must be 'huber' or 'squared', got {kind!r}")
        if rescaling is not None and not rescaling > 0.0:
            raise ValueError(f"rescaling must be positive or none, got {rescaling}")
        self.kind, self.rescaling = kind, rescaling

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [...]."""
        return huber(x, target) if self.kind == "huber" else td_squared(x, target)

    def mean(self, x: Tensor) -> Tensor:
        """x itself, on the scale of h."""
        return x

    def scaled(self, value: Tensor) -> Tensor:
        """h(value): from units of rewards to the scale of h."""
        return value if self.rescaling is None else rescale(value, self.rescaling)

    def unscaled(self, x: Tensor) -> Tensor:
        """h^-1(x): in units of rewards."""
        return x if self.rescaling is None else rescale_inverse(x, self.rescaling)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """Target [...], on the scale of h."""
        _check_rows(x, earned, discount, 0)
        return self.scaled(earned + discount * self.unscaled(x))

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """Difference target - x, on the scale of h."""
        check_shapes(x, target, 1)
        return target - x.detach()


class Atoms(Values):
    """Logits of a distribution of returns over fixed atoms z (C51).

        target = projection of {earned + discount z_j with probability softmax(x')_j} onto z,    loss = KL(target || x)

    The KL has the gradient of the cross-entropy, and is 0 where the distribution is known, however wide it is: as a
    priority it does not prefer what is random.
    support: z, [K], increasing, K >= 2. Raises ValueError otherwise.
    Source: Bellemare et al. 2017 (C51), algorithm 1; Hessel et al. 2018 (Rainbow), for the KL as priority.
    """

    support: Tensor

    def __init__(self, support: Tensor) -> None:
        super().__init__()
        if support.dim() != 1 or len(support) < 2 or not bool((support.diff() > 0).all()):
            raise ValueError(f"support must be at least 2 increasing numbers, got {support.tolist()}")
        self.register_buffer("support", support.float(), persistent=False)
        self.params = len(support)

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] in nats of x, target [..., K]."""
        if x.shape != target.shape or x.shape[-1] != self.params:
            raise ValueError(
                f"outputs and targets must be [..., {self.params}], got {tuple(x.shape)} and {tuple(target.shape)}"
            )
        target = target.detach()
        log_probs = x.float().log_softmax(-1)
        return (torch.xlogy(target, target) - target * log_probs).sum(-1)

    def mean(self, x: Tensor) -> Tensor:
        """Action values sum_i z_i p_i, [..., K] -> [...]."""
        return (F.softmax(x.float(), -1) * self.support).sum(-1)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """Probabilities of the atoms, [..., K]."""
        _check_rows(x, earned, discount, 1)
        values = earned.unsqueeze(-1) + discount.unsqueeze(-1) * self.support
        return categorical_projection(x.float().softmax(-1), values, self.support)

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """The KL, at least 0 up to rounding."""
        return self.loss(x.detach(), target)


class Quantiles(Values):
    """Quantiles of the return and the levels that they were read at (IQN): x is [..., 2, M], the levels tau first.

        target_j = earned + discount x'_j,    loss = sum_i mean_j |tau_i - 1[e_ij < 0]| huber_kappa(e_ij) / kappa

    with e_ij = target_j - x_i. A sampled quantile function means nothing without its levels, so they travel together; a
    target is samples of the return and has none, [..., M'] for any M'. A head makes one number per action and level, so
    `params` is 1. kappa: where Huber's loss becomes linear, positive. Raises ValueError otherwise.
    Source: Dabney et al. 2018 (IQN), section 3 and algorithm 1; Dabney et al. 2018 (QR-DQN), equation 10.
    """

    def __init__(self, kappa: float = 1.0) -> None:
        super().__init__()
        if not kappa > 0.0:
            raise ValueError(f"kappa must be positive, got {kappa}")
        self.kappa = kappa

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x [..., 2, M], target [..., M']."""
        levels, quantiles = self._parts(x)
        return quantile_huber(quantiles, levels, target, self.kappa)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the levels, [..., 2, M] -> [...]."""
        return self._parts(x)[1].mean(-1)

    def backup(self, x: Tensor, earned: Tensor, discount: Tensor) -> Tensor:
        """Target [..., M], samples of the target's distribution."""
        quantiles = self._parts(x)[1]
        _check_rows(quantiles, earned, discount, 1)
        return earned.unsqueeze(-1) + discount.unsqueeze(-1) * quantiles

    def error(self, x: Tensor, target: Tensor) -> Tensor:
        """Difference mean_j target_j - mean_i x_i, [...]."""
        mean, aim = self.mean(x.detach()), target.mean(-1)
        if mean.shape != aim.shape:
            raise ValueError(
                f"quantiles and targets must have the same rows, got {tuple(x.shape)} and {tuple(target.shape)}"
            )
        return aim - mean

    @staticmethod
    def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and quantiles, [..., M] each."""
        if x.dim() < 2 or x.shape[-2] != 2:
            raise ValueError(f"expected levels and quantiles [..., 2, M], got {tuple(x.shape)}")
        return x[..., 0, :], x[..., 1, :]
