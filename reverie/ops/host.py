"""What the host may look at: work that a value makes needless is left out where reading the value costs nothing."""

from torch import Tensor


def at_hand(x: Tensor) -> bool:
    """Whether the host can read a tensor without waiting for a device: it lies in the host's own memory.

    Elsewhere updates do the same work whatever the numbers are, so that they can be recorded; it changes nothing.
    """
    return x.is_cpu
