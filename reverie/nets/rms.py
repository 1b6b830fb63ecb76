"""RMSNorm, and its gradient on a processor by the kernel of LayerNorm.

::

    y = w x / rms,    rms = sqrt(mean of x^2 + eps)                                   over the last axis, n entries
    dx = (w g - (x / rms) mean(w g x / rms)) / rms,      dw = sum of g x / rms        for dy = g

    LayerNorm's dx, told a mean of 0 and that rms, lacks mean(w g) / rms, which is g w / (n rms) in a product

PyTorch has no kernel for it on a processor: it makes RMSNorm of a dozen passes over the rows, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean of x^2 + eps) * scale over the last axis, computed in float32, eps 1e-4.

    Source: Zhang & Sennrich 2019; eps as in DreamerV3's code.
    """

    weight: nn.Parameter

    def __init__(self, units: int) -> None:
        super().__init__(units, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Rows, each normalised, in the precision of x."""
        rows = x if x.dtype == torch.float64 else x.float()
        if rows.device.type == "cpu" and torch.is_grad_enabled():
            return _OnProcessor.apply(rows, self.weight, self.eps).to(x.dtype)
        return super().forward(rows).to(x.dtype)


class _OnProcessor(torch.autograd.Function):
    """RMSNorm of float rows [..., n], see the module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        gradient, units = gradients[0].contiguous(), x.shape[-1]
        of_x, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, [units], torch.zeros_like(inverse), inverse, weight, None, [True, True, False]
        )
        of_x.addcmul_((gradient @ weight).unsqueeze(-1), inverse, value=1 / units)
        return of_x, of_weight, None
