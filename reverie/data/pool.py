"""Buffers that batches are gathered into, used again and again: fresh ones would cost page faults for every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Buffers = dict[str, torch.Tensor]


class Guard(Protocol):
    """Reader of a buffer, which is done when `synchronize` returns (such as a CUDA event after a copy out of it)."""

    def synchronize(self) -> None:
        """Return when the buffer may be written."""


class Pool:
    """Rotation of `size` buffers for each batch size. make: fresh buffers for a batch size.

    A buffer is handed out again after `size` - 1 others, but not before the guard that was set on it lets go.
    """

    def __init__(self, make: Callable[[int], Buffers], size: int) -> None:
        self._make, self._size = make, size
        self._buffers: dict[int, list[Buffers]] = {}
        self._guards: dict[int, Guard] = {}
        self._newest: Buffers | None = None

    def reserve(self, size: int) -> None:
        """Rotate at least `size` buffers: as many as are in use at a time."""
        self._size = max(self._size, size)

    def fresh(self, batch: int) -> Buffers:
        """Buffers outside of the rotation, of the asker's own."""
        return self._make(batch)

    def next(self, batch: int) -> Buffers:
        """The buffer whose turn it is, free to be written."""
        buffers = self._buffers.setdefault(batch, [])
        if len(buffers) < self._size:
            buffers.append(self._make(batch))
        else:
            buffers.append(buffers.pop(0))
            guard = self._guards.pop(id(buffers[-1]), None)
            if guard is not None:
                guard.synchronize()
        self._newest = buffers[-1]
        return buffers[-1]

    def guard(self, guard: Guard) -> None:
        """Set a guard on the buffer that was handed out last."""
        assert self._newest is not None
        self._guards[id(self._newest)] = guard
