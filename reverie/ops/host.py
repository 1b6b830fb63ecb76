"""What the host may look at: work that a value makes needless is left out where reading the value costs nothing."""

import torch
from torch import Tensor


def at_hand(x: Tensor) -> bool:
    """Whether the host can read a tensor without waiting for a device: it lies in the host's own memory.

    Elsewhere, and where a network is exported or compiled, the same is done whatever the numbers are, so that it can be
    recorded; it changes nothing.
    """
    return x.is_cpu and not torch.compiler.is_compiling()
