"""The one rule about precision in `ops`: nothing is computed in half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.amp import is_autocast_available


def product(x: Tensor, y: Tensor) -> Tensor:
    """x y, a product of matrices in full precision where autocast is in force too."""
    with without_autocast(x):
        return full(x) @ full(y)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Context in which autocast, if it is in force, is not, on the device of x."""
    kind = x.device.type
    given = is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if given else nullcontext()


def full(x: Tensor) -> Tensor:
    """x in float32 if it is float16 or bfloat16, as it is otherwise. Gradients return in the dtype of x."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
