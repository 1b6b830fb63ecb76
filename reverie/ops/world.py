"""The whole batch, where several processes share it: sums, means, counts and extremes that are of all their parts.

::

    batch [T, B]  =  part 0 | part 1 | ... | part N-1      equal parts along B, one for each process
    loss_k           of part k, made so that   loss = mean_k loss_k   and   gradient = mean_k gradient_k

Most of a loss is a mean over rows of equal parts, whose mean over processes is the batch's. What is not needs one of
these functions, and they are the only place that knows of processes:

| of the batch | here | alone |
|---|---|---|
| sum x / count | `ratio`, `masked_ratio` | x.sum() / count |
| sum x | `summed` | x.sum() |
| mean x, as a number without a gradient | `average` | x.mean() |
| sum or minimum of numbers | `total`, `minimum` | as they are |
| mean and variance of each entry | `moments` | x.mean(0), x.var(0) |
| all entries, for percentiles | `gathered` | x |
| a threshold under a mean | `floored_mean` | x.mean().clamp(min) |
| random numbers of rows | `draw`, `part` | as drawn |

With one process, which is always so outside of `sharing`, each is the plain operation, bit for bit. Sums over processes
carry no gradient: counts and statistics have none. All processes must ask for the same in the same order.

Source: Espeholt et al. 2018 (IMPALA), section 3: "synchronous" learners, of which each has a part of the batch.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class World(ABC):
    """Processes that share batches. rank: of this one, in 0..size-1. What they exchange has one shape and dtype."""

    rank: int
    size: int

    @abstractmethod
    def add(self, x: Tensor) -> None:
        """Replace x by its sum over all processes, the same bits in each."""

    @abstractmethod
    def least(self, x: Tensor) -> None:
        """Replace x by its minimum over all processes."""

    @abstractmethod
    def collect(self, x: Tensor) -> list[Tensor]:
        """The x of all processes, by rank."""


class _Shared:
    """One batch of a world. width: windows of this process's part."""

    def __init__(self, world: World, width: int) -> None:
        self.world, self.width = world, width
        self.counts: dict[tuple[int, int | None], tuple[Tensor, Tensor]] = {}
        """masks that were counted, by identity and axis -> themselves, and how many entries are true in all parts"""


_worlds: dict[int, _Shared] = {}
"""thread -> the batch that it shares; a plain dictionary, because compilers can read it"""


def _shared() -> _Shared | None:
    return _worlds.get(threading.get_ident()) if _worlds else None


@contextmanager
def sharing(world: World, width: int) -> Iterator[None]:
    """Context of an update on this process's part of a batch, of `width` windows; all parts are as large."""
    thread = threading.get_ident()
    _worlds[thread] = _Shared(world, width)
    try:
        yield
    finally:
        del _worlds[thread]


def size() -> int:
    """How many processes share the batch."""
    shared = _shared()
    return 1 if shared is None else shared.world.size


@torch.no_grad()
def total(x: Tensor) -> Tensor:
    """Sum of x [...] over processes, without a gradient where there are several."""
    if (shared := _shared()) is None:
        return x
    x = x.detach().clone()
    shared.world.add(x)
    return x


def average(x: Tensor) -> Tensor:
    """Mean of x [...] over processes, without a gradient where there are several."""
    return x if _shared() is None else total(x) / size()


@torch.no_grad()
def minimum(x: Tensor) -> Tensor:
    """Minimum of x [...] over processes, entry by entry."""
    if (shared := _shared()) is None:
        return x
    x = x.detach().clone()
    shared.world.least(x)
    return x


@torch.no_grad()
def gathered(x: Tensor) -> Tensor:
    """All entries of x of all processes, [n], in no order that means anything."""
    if (shared := _shared()) is None:
        return x.flatten()
    return torch.cat(shared.world.collect(x.detach().flatten().contiguous()))


def count(mask: Tensor, axis: int | None = None) -> Tensor:
    """How many entries of a mask are true in the whole batch, int64, at least 1; each mask is counted once.

    axis: along which they are counted, on which windows lie; None: all of them, [].
    """
    if (shared := _shared()) is None:
        return mask.sum(axis).clamp(min=1)
    known = shared.counts.get((id(mask), axis))
    if known is None:
        known = shared.counts[id(mask), axis] = mask, total(mask.sum(axis)).clamp(min=1)
    return known[1]


def ratio(numerator: Tensor, mask: Tensor, axis: int | None = None) -> Tensor:
    """numerator / how many entries of the mask are true: a mean over the rows of the whole batch that count.

    numerator: sum over the rows of this part, of the shape of the counts; it keeps its gradient. mask: bool, of this
    part. axis: as in `count`.
    """
    shared, counts = _shared(), count(mask, axis)
    return numerator / counts if shared is None else numerator * shared.world.size / counts


def summed(x: Tensor) -> Tensor:
    """The sum over the whole batch, given that over this part, []: what the mean over processes makes it."""
    shared = _shared()
    return x if shared is None else x * shared.world.size


def floored_mean(x: Tensor, least: float) -> Tensor:
    """max(mean x, least), []: the mean is the whole batch's, and the gradient is its, or none below the threshold."""
    if _shared() is None:
        return x.mean().clamp(min=least)
    mean = x.mean()
    return torch.where(average(mean) < least, least, mean)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by n) of each entry over all rows, [...] each; rows: [n, ...], no gradient.

    With several processes in two passes of float64, so that nothing cancels.
    """
    if _shared() is None:
        return rows.mean(0), rows.var(0, correction=0)
    wide = rows.detach().double()
    mean = average(wide.mean(0))
    variance = average((wide - mean).square().mean(0))
    return mean.to(rows.dtype), variance.to(rows.dtype)


def whole(width: int) -> int:
    """Windows of the whole batch, given those of this part."""
    return width * size()


def part(x: Tensor, axis: int, length: int) -> Tensor:
    """This process's part along an axis on which the whole batch lies, of `length` entries.

    Where x has another length there, it is of no window in particular, and all of it is everybody's.
    """
    shared = _shared()
    if shared is None or x.shape[axis] != length:
        return x
    width = length // shared.world.size
    return x.narrow(axis, shared.world.rank * width, width)


def draw(uniform: Callable[..., Tensor], *shape: int, axis: int) -> Tensor:
    """Random numbers of that shape: the slice of those that one process would draw for the whole batch.

    uniform: draws a shape, from generators that are in one state in all processes. axis: on which windows lie, or rows
    of windows, time first (k times as long).
    """
    shared = _shared()
    if shared is None:
        return uniform(*shape)
    times, length = shape[axis] // shared.width, whole(shared.width)
    numbers = uniform(*shape[:axis], times, length, *shape[axis + 1 :])
    return part(numbers, axis + 1, length).flatten(axis, axis + 1)


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over processes, in one message; nothing alone."""
    shared = _shared()
    if shared is None or not tensors:
        return
    flat = torch.cat([x.detach().reshape(-1) for x in tensors])
    shared.world.add(flat)
    flat /= shared.world.size
    for x, mean in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
        x.copy_(mean.view(x.shape))
