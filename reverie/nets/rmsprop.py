"""RMSProp with epsilon inside the square root (PyTorch's own adds it outside): centred as DQN used it, and plain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.nets.rule import Rule


class RMSProp(Rule):
    """s <- decay s + (1 - decay) grad^2,  w <- w - lr grad / sqrt(s + eps),  with s = 1 before the first update.

    While s is still near 1 an update is about lr grad; from s = 0 it would be lr sign(grad) / sqrt(1 - decay) at once.
    Source: Espeholt et al. 2018 (IMPALA), appendix D, and its released code, which is TensorFlow 1's RMSPropOptimizer
    without momentum: there the slot ``rms`` begins at one.
    """

    moments: ClassVar[dict[str, float]] = {"square": 1.0}

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        decay: float = 0.99,
        eps: float = 0.1,
    ) -> None:
        super().__init__(params, lr=lr, decay=decay, eps=eps)

    def variances(self, group: dict[str, Any], moments: dict[str, list[Tensor]], grads: list[Tensor]) -> list[Tensor]:
        """Fresh tensors to take the root of, epsilon included, after the moments have taken the gradients in."""
        square = moments["square"]
        torch._foreach_mul_(square, group["decay"])
        torch._foreach_addcmul_(square, grads, grads, value=1.0 - group["decay"])
        return list(torch._foreach_add(square, group["eps"]))

    def update(
        self, group: dict[str, Any], tensors: list[Tensor], grads: list[Tensor], moments: dict[str, list[Tensor]]
    ) -> None:
        """Gradients over the root of their variance. The learning rate may be a tensor [], see `Adam.update`."""
        scale = self.variances(group, moments, grads)
        torch._foreach_sqrt_(scale)
        if isinstance(group["lr"], Tensor):
            change = torch._foreach_div(grads, scale)
            torch._foreach_mul_(change, group["lr"])
            torch._foreach_sub_(tensors, change)
        else:
            torch._foreach_addcdiv_(tensors, grads, scale, value=-group["lr"])


class CentredRMSProp(RMSProp):
    """g <- decay g + (1 - decay) grad,  s <- decay s + (1 - decay) grad^2,  w <- w - lr grad / sqrt(s - g^2 + eps).

    Both begin at 0. Multiplying all gradients by c and eps by c^2 changes nothing: eps = 0.01 for sums over 32
    transitions is 0.01 / 32^2 for their mean.
    Source: Mnih et al. 2015 (DQN), Extended Data Table 1, and its released code; Graves 2013, equations 38-41.
    """

    moments: ClassVar[dict[str, float]] = {"mean": 0.0, "square": 0.0}

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        decay: float = 0.95,
        eps: float = 0.01,
    ) -> None:
        super().__init__(params, lr, decay, eps)

    def variances(self, group: dict[str, Any], moments: dict[str, list[Tensor]], grads: list[Tensor]) -> list[Tensor]:
        """Square minus the squared mean, plus epsilon."""
        mean, square, rest = moments["mean"], moments["square"], 1.0 - group["decay"]
        torch._foreach_lerp_(mean, grads, rest)
        torch._foreach_mul_(square, group["decay"])
        torch._foreach_addcmul_(square, grads, grads, value=rest)
        variances = list(torch._foreach_addcmul(square, mean, mean, value=-1.0))
        torch._foreach_clamp_min_(variances, 0.0)  # of a steady gradient it is rounding, which may be below -eps
        torch._foreach_add_(variances, group["eps"])
        return variances
