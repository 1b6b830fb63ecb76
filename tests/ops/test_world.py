"""Sums, counts and statistics of a batch that processes share, by hand; alone they are the plain operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reverie.ops import world
from reverie.ops.losses import balanced_kl, masked_mean
from reverie.ops.stats import EmaNormaliser, PercentileScale, StreamNorm


class Two(world.World):
    """The first or second of two processes, whose other one sends what a list says, message by message."""

    size = 2

    def __init__(self, *others: object, rank: int = 0) -> None:
        self.others = [torch.as_tensor(other) for other in others]
        self.rank = rank

    def add(self, x: Tensor) -> None:
        x += self.others.pop(0).to(x.dtype)

    def least(self, x: Tensor) -> None:
        torch.minimum(x, self.others.pop(0).to(x.dtype), out=x)

    def collect(self, x: Tensor) -> list[Tensor]:
        return [x, self.others.pop(0).to(x.dtype)]


def test_a_masked_mean_divides_by_the_mean_count() -> None:
    """Rows 1, 2 count here and 6 rows of sum 21 there: the mean is 24 / 8, that of (3 * 2 / 8, 21 * 2 / 8)."""
    x, mask = torch.tensor([1.0, 2.0, 9.0], requires_grad=True), torch.tensor([True, True, False])
    two = Two(6)
    with world.sharing(two, 3):
        mean = masked_mean(x, mask)
        again = masked_mean(x, mask)  # a mask is counted once
    assert mean.item() == again.item() == 0.75
    assert (0.75 + 21 * 2 / 8) / 2 == 24 / 8
    mean.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.25, 0.25, 0.0]
    with world.sharing(Two(0), 3):
        assert masked_mean(x, torch.zeros(3, dtype=torch.bool)).item() == 0.0


def test_sums_and_minima() -> None:
    x = torch.tensor([3.0, -1.0])
    with world.sharing(Two([1.0, 1.0], [5.0, 0.0], [2.0, -4.0]), 1):
        assert world.total(x).tolist() == [4.0, 0.0]
        assert world.average(x).tolist() == [4.0, -0.5]
        assert world.minimum(x).tolist() == [2.0, -4.0]
        assert world.summed(x.sum()).item() == 4.0
        assert world.whole(5) == 10
        assert world.size() == 2
    assert x.tolist() == [3.0, -1.0]


@pytest.mark.parametrize(("other", "mean", "slope"), [(0.0, 1.0, 0.0), (4.0, 0.5, 0.25)])
def test_the_whole_mean_meets_the_threshold(other: float, mean: float, slope: float) -> None:
    """0.5 here: with 0 there the mean 0.25 is below 1, with 4 there 2.25 is above it though 0.5 is not."""
    x = torch.tensor([0.0, 1.0, 0.5, 0.5], requires_grad=True)
    with world.sharing(Two(other), 4):
        loss = world.floored_mean(x, 1.0)
    assert loss.item() == mean
    loss.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [slope] * 4


def test_free_nats_are_of_the_whole_batch() -> None:
    """Two rows of 2 nats here and of 0 there: the mean 1 is below 1.5, though 2 is not."""

    def kl(p: Tensor, q: Tensor) -> Tensor:
        return p - q

    with world.sharing(Two(0.0), 2):
        loss, _ = balanced_kl(kl, (torch.full((2,), 2.0),), (torch.zeros(2),), None, 1.5)
    assert loss.item() == 1.5


def test_statistics_take_the_whole_batch_in() -> None:
    """Rows 1, 3 here and 5, 7 there: mean 4, variance 5; the mean of |x| is 4; percentiles are those of all four."""
    rows = torch.tensor([[1.0], [3.0]])
    ema, stream, scale = EmaNormaliser(0.9, (1,)), StreamNorm(0.5), PercentileScale(0.0, 0.0, 1.0)
    # Means there: 6; squares around the mean there: (1 + 9) / 2.
    with world.sharing(Two([6.0], [5.0], 6.0, [5.0, 7.0]), 2):
        ema.update(rows)
        stream.update(rows)
        scale.update(rows)
    assert ema.mean.item() == pytest.approx(4.0)
    assert ema.variance.item() == pytest.approx(5.0)
    assert stream.magnitude.item() == 0.5 + 0.5 * 4.0
    assert (scale.low.item(), scale.high.item()) == (1.0, 7.0)


def test_random_numbers_are_slices_of_those_of_the_whole_batch() -> None:
    """Two rows of windows, time first, of which the second process has the windows 2 and 3 of 0..3."""

    def counted(*shape: int) -> Tensor:
        return torch.arange(torch.Size(shape).numel()).view(shape)

    with world.sharing(Two(rank=1), 2):
        drawn = world.draw(counted, 1, 4, 1, axis=1)
        assert drawn.flatten().tolist() == [2, 3, 6, 7]
        assert world.draw(counted, 3, 2, axis=1).tolist() == [[2, 3], [6, 7], [10, 11]]
        assert world.part(counted(1, 1, 3), 1, 4).tolist() == [[[0, 1, 2]]]
        assert world.part(counted(1, 4), 1, 4).tolist() == [[2, 3]]


def test_gradients_become_means_in_one_message() -> None:
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)
    ring = Two([3.0, 0.0, 1.0])
    with world.sharing(ring, 1):
        world.average_([one, two])
        world.average_([])
    assert not ring.others
    assert (one.tolist(), two.item()) == ([[2.0, 1.0]], 2.0)


PLAIN: list[tuple[Callable[[Tensor], object], Callable[[Tensor], object]]] = [
    (world.total, lambda x: x),
    (world.average, lambda x: x),
    (world.minimum, lambda x: x),
    (world.summed, lambda x: x),
    (world.gathered, lambda x: x.flatten()),
    (lambda x: world.ratio(x.sum(), x > 0), lambda x: x.sum() / (x > 0).sum().clamp(min=1)),
    (lambda x: world.floored_mean(x, 0.3), lambda x: x.mean().clamp(min=0.3)),
    (lambda x: world.moments(x)[0], lambda x: x.mean(0)),
    (lambda x: world.moments(x)[1], lambda x: x.var(0, correction=0)),
]


@pytest.mark.parametrize(("function", "plain"), PLAIN)
def test_alone_each_is_the_plain_operation(
    function: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    """Bit for bit, with the same gradient."""
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    one, other = function(x), plain(x)
    assert torch.equal(one, other)
    assert one.requires_grad or function is world.minimum or function is world.gathered
    assert world.size() == 1
    tensors = [torch.ones(2)]
    world.average_(tensors)
    assert tensors[0].tolist() == [1.0, 1.0]


def test_a_context_ends_though_an_update_fails() -> None:
    with pytest.raises(ValueError, match="no"), world.sharing(Two(), 1):
        raise ValueError("no")
    assert world.size() == 1
