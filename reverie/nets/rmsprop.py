"""Centred RMSProp as DQN used it: epsilon inside the square root (PyTorch's own adds it outside)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class CentredRMSProp(torch.optim.Optimizer):
    """g <- decay g + (1 - decay) grad,  s <- decay s + (1 - decay) grad^2,  w <- w - lr grad / sqrt(s - g^2 + eps).

    Multiplying all gradients by c and eps by c^2 changes nothing: eps = 0.01 for sums over 32 transitions is
    0.01 / 32^2 for their mean.
    Source: Mnih et al. 2015 (DQN), Extended Data Table 1, and its released code; Graves 2013, equations 38-41.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        decay: float = 0.95,
        eps: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Use the gradients that are there."""
        for group in self.param_groups:
            tensors = [p for p in group["params"] if p.grad is not None]
            grads: list[Tensor] = [p.grad for p in tensors]
            states: list[dict[str, Any]] = [self.state[p] for p in tensors]
            for state, parameter in zip(states, tensors, strict=True):
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
            mean, square = [s["mean"] for s in states], [s["square"] for s in states]
            rest = 1.0 - group["decay"]
            torch._foreach_lerp_(mean, grads, rest)
            torch._foreach_mul_(square, group["decay"])
            torch._foreach_addcmul_(square, grads, grads, value=rest)
            scale = torch._foreach_addcmul(square, mean, mean, value=-1.0)
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_sqrt_(scale)
            if isinstance(group["lr"], Tensor):
                change = torch._foreach_div(grads, scale)
                torch._foreach_mul_(change, group["lr"])
                torch._foreach_sub_(tensors, change)
            else:
                torch._foreach_addcdiv_(tensors, grads, scale, value=-group["lr"])
