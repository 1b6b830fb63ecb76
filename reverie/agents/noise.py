"""Noise: all the randomness of acting and learning, as uniform numbers from generators that have a name and an owner.

::

    Noise(seed)          draws from a generator of its own, whose state is part of a checkpoint
    Tape(u)              gives out numbers that were drawn already: [T, B, n] for an unroll, its rows for steps

Whoever needs randomness is handed one of the two and asks for a shape. `step` and `unroll` of a policy agree when the
rows of one tape go to the steps and the whole tape to the unroll.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


class Noise:
    """Uniform random numbers in [0, 1), float32, from one generator.

    device: where the numbers are wanted. host: the generator lives on the CPU all the same, so that the numbers do not
    depend on the device (actors); otherwise it lives on the device, and a recorded update can draw from it (learners).
    """

    def __init__(self, seed: int, device: torch.device | None = None, host: bool = False) -> None:
        self.device = device or torch.device("cpu")
        self.generator = torch.Generator("cpu" if host else self.device).manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        """Fresh numbers of that shape."""
        numbers = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return numbers.to(self.device)

    def tape(self, *shape: int) -> Tape:
        """Fresh numbers of that shape, to be given out later."""
        return Tape(self.uniform(*shape))

    def state(self) -> Tensor:
        """The generator's state, uint8 on the CPU."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Inverse of `state`.

        A state of another kind of device, whose generators work otherwise, cannot be returned to: numbers then follow
        from that state as from a seed.
        """
        state = state.cpu()
        if state.shape != self.generator.get_state().shape:
            self.generator.manual_seed(zlib.crc32(state.numpy().tobytes()))
            return
        self.generator.set_state(state)


class Tape(Noise):
    """Numbers u [..., n] that were drawn already; asked for exactly their shape, it gives them out.

    Raises ValueError for another shape: a consumer that needs other numbers than it was given must not get any.
    """

    def __init__(self, u: Tensor) -> None:
        self.u = u
        self.device = u.device

    def uniform(self, *shape: int) -> Tensor:
        """The numbers."""
        if tuple(shape) != tuple(self.u.shape):
            raise ValueError(f"noise of shape {tuple(shape)} was asked for, this tape holds {tuple(self.u.shape)}")
        return self.u

    def __getitem__(self, rows: int | slice) -> Tape:
        """The tape of some of its rows."""
        return Tape(self.u[rows])

    def state(self) -> Tensor:
        """No state to save: raises TypeError."""
        raise TypeError("a tape has no generator")

    def restore(self, state: Tensor) -> None:
        """No state to restore: raises TypeError."""
        raise TypeError("a tape has no generator")
