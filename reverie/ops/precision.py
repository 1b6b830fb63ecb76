"""The one rule about precision in `ops`: nothing is computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; everything else stays as it is. Gradients return in the dtype of x."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
