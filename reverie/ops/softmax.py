"""Softmax over the last axis, which on a processor goes over few classes by way of the first.

torch's kernel for processors takes the rows of a last axis one by one, and their classes one by one where they do not
fill a vector register; over any other axis it takes many rows at once. The numbers are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from reverie.ops.precision import full

FEW = 16
"""numbers of float32 in the widest register"""


def softmax(logits: Tensor) -> Tensor:
    """Probabilities [..., K] of logits [..., K], float32 at least."""
    return _over_last(F.softmax, full(logits))


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities [..., K] of logits [..., K], float32 at least."""
    return _over_last(F.log_softmax, full(logits))


def _over_last(function: Callable[[Tensor, int], Tensor], logits: Tensor) -> Tensor:
    if logits.shape[-1] >= FEW or logits.device.type != "cpu":
        return function(logits, -1)
    return function(logits.movedim(-1, 0).contiguous(), 0).movedim(0, -1)
