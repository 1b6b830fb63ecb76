"""The one rule about precision in `ops`: nothing is computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """x in float32 if it is float16 or bfloat16, as it is otherwise. Gradients return in the dtype of x."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
