"""The one rule about precision in `ops`: nothing is computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def product(x: Tensor, y: Tensor) -> Tensor:
    """x y, a product of matrices in full precision where autocast is in force too."""
    with torch.autocast(x.device.type, enabled=False):
        return full(x) @ full(y)


def full(x: Tensor) -> Tensor:
    """x in float32 if it is float16 or bfloat16, as it is otherwise. Gradients return in the dtype of x."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
