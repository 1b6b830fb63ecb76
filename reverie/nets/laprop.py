"""LaProp, and gradients clipped tensor by tensor: how DreamerV3 learns since 2024."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.nets.rule import Rule


@torch.no_grad()
def clip_adaptively_(parameters: Iterable[nn.Parameter], share: float, least: float = 1e-3) -> None:
    """Scale each gradient, in place, to a norm of at most share * max(|w|, least), norms over the whole tensor.

    Source: Brock et al. 2021 (NFNets), equation 3, per tensor and not per unit; least and its place as in DreamerV3's
    code.
    """
    tensors: list[Tensor] = [p for p in parameters if p.grad is not None]
    grads: list[Tensor] = [p.grad for p in tensors if p.grad is not None]
    limit = torch._foreach_norm(tensors)
    torch._foreach_clamp_min_(limit, least)
    torch._foreach_mul_(limit, share)
    excess = torch._foreach_div(torch._foreach_norm(grads), limit)
    torch._foreach_clamp_min_(excess, 1.0)
    torch._foreach_div_(grads, excess)


class LaProp(Rule):
    """RMSProp first, momentum after it.

    ::

        s <- b2 s + (1 - b2) g^2,    u = g / (sqrt(s / (1 - b2^t)) + eps)
        m <- b1 m + (1 - b1) u,      w <- w - lr m / (1 - b1^t)

    Adam divides the momentum of g by the root of s instead, so that a large gradient in the past, whose square is in s
    for longer than it is in the momentum, makes later steps small. Where every g is the same both are the same.
    Source: Ziyin, Wang & Ueda 2020, algorithm 2; eps 1e-20 as in DreamerV3's code.
    """

    moments: ClassVar[dict[str, float]] = {"square": 0.0, "momentum": 0.0}
    counts: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)

    def update(
        self, group: dict[str, Any], tensors: list[Tensor], grads: list[Tensor], moments: dict[str, list[Tensor]]
    ) -> None:
        """Both moments in turn. The learning rate may be a tensor [], see `Adam.update`."""
        steps, square, momentum = moments["step"], moments["square"], moments["momentum"]
        fast, slow = group["betas"]
        torch._foreach_add_(steps, 1.0)
        torch._foreach_mul_(square, slow)
        torch._foreach_addcmul_(square, grads, grads, value=1.0 - slow)
        scale = torch._foreach_div(square, _correction(steps, slow))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_lerp_(momentum, torch._foreach_div(grads, scale), 1.0 - fast)
        change = torch._foreach_div(momentum, _correction(steps, fast))
        torch._foreach_mul_(change, group["lr"])
        torch._foreach_sub_(tensors, change)


def _correction(steps: list[Tensor], beta: float) -> list[Tensor]:
    """1 - beta^t, a number per tensor, on its device."""
    powers = torch._foreach_pow(beta, steps)
    torch._foreach_neg_(powers)
    torch._foreach_add_(powers, 1.0)
    return list(powers)
