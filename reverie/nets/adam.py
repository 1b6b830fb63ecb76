"""Adam, as one kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.nets.rule import Rule


class Adam(Rule):
    """The numbers of ``torch.optim.Adam(..., fused=True)``, bit for bit.

    ::

        m <- b1 m + (1 - b1) g,    s <- b2 s + (1 - b2) g^2
        w <- w - lr (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)

    All parameters of a group are on one device and of one dtype. Source: Kingma & Ba 2015, algorithm 1.
    """

    moments: ClassVar[dict[str, float]] = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    counts: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)

    def update(
        self, group: dict[str, Any], tensors: list[Tensor], grads: list[Tensor], moments: dict[str, list[Tensor]]
    ) -> None:
        """One call for all. The learning rate is a number, or a tensor [] where it changes and updates are recorded."""
        torch._foreach_add_(moments["step"], 1)
        torch._fused_adam_(
            tensors,
            grads,
            moments["exp_avg"],
            moments["exp_avg_sq"],
            [],
            moments["step"],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
