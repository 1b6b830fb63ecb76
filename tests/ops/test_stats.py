"""Running statistics against the same numbers computed from the whole stream."""

import pytest
import torch
from torch import nn

from reverie.ops.stats import EmaNormaliser, PercentileScale, RunningScale, StreamNorm


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_ema_normaliser_by_hand():
    norm = EmaNormaliser(momentum=0.5)
    assert norm(torch.tensor([3.0])).item() == 3.0
    norm.update(torch.tensor([1.0, 3.0]))
    assert (norm.mean.item(), norm.std().item()) == (2.0, 1.0)
    assert norm(torch.tensor([5.0])).item() == 3.0
    # Weights of the two batches are 1/3 and 2/3: mean (2 + 2*8)/3 = 6, variance (1 + 16)/3 + 2*(0 + 4)/3 = 25/3.
    norm.update(torch.tensor([8.0, 8.0]))
    torch.testing.assert_close(norm.mean.item(), 6.0)
    torch.testing.assert_close(norm.variance.item(), 25 / 3)


def test_ema_normaliser_is_the_weighted_stream():
    generator = seeded()
    batches = 3 * torch.randn(20, 6, 4, 2, generator=generator) + torch.randn(20, 1, 1, 2, generator=generator)
    norm = EmaNormaliser(momentum=0.9, shape=(2,))
    for batch in batches:
        norm.update(batch)
    weight = 0.9 ** torch.arange(19.0, -1, -1)
    weight = (weight / weight.sum())[:, None, None].expand(20, 24, 1) / 24
    rows = batches.reshape(20, 24, 2)
    mean = (weight * rows).sum((0, 1))
    torch.testing.assert_close(norm.mean, mean)
    torch.testing.assert_close(norm.std(), (weight * (rows - mean) ** 2).sum((0, 1)).sqrt())


def test_ema_normaliser_keeps_precision_far_from_zero():
    norm = EmaNormaliser(momentum=0.9)
    for k in range(50):
        norm.update(10_000 + torch.randn(1000, generator=seeded(k)))
    torch.testing.assert_close(norm.std().item(), 1.0, atol=0.02, rtol=0.0)


def test_ema_normaliser_floor():
    norm = EmaNormaliser(floor=0.1)
    norm.update(torch.full((5,), 7.0))
    torch.testing.assert_close(norm(torch.tensor([8.0])).item(), 10.0)


def test_percentile_scale_starts_at_its_floor_and_follows_the_batches():
    scale = PercentileScale(momentum=0.5)
    assert scale.scale().item() == 1.0
    x = torch.arange(101.0)[torch.randperm(101, generator=seeded())].reshape(1, 101)
    scale.update(x)
    torch.testing.assert_close((scale.low.item(), scale.high.item()), (2.5, 47.5))
    scale.update(x)
    torch.testing.assert_close((scale.low.item(), scale.high.item()), (3.75, 71.25))
    torch.testing.assert_close(scale(torch.tensor(135.0)).item(), 2.0)


def test_percentile_scale_does_not_enlarge_small_returns():
    scale = PercentileScale(momentum=0.0)
    scale.update(0.01 * torch.randn(1000, generator=seeded()))
    assert scale(torch.tensor(0.5)).item() == 0.5


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_percentiles_are_torch_quantiles(count: int):
    x = torch.randn(count, generator=seeded(count))
    scale = PercentileScale(momentum=0.0, low=0.1, high=0.83)
    scale.update(x)
    torch.testing.assert_close(scale.low, x.quantile(0.1))
    torch.testing.assert_close(scale.high, x.quantile(0.83))


def test_stream_norm_with_momentum_one_is_the_identity():
    norm = StreamNorm()
    x = 100 * torch.randn(50, generator=seeded())
    norm.update(x)
    assert torch.equal(norm(x), x)


def test_stream_norm_by_hand():
    norm = StreamNorm(momentum=0.75, scale=2.0)
    norm.update(torch.tensor([-4.0, 6.0]))  # .75 * 1 + .25 * 5 = 2
    torch.testing.assert_close(norm(torch.tensor([3.0])).item(), 3.0)


@pytest.mark.parametrize("make", [EmaNormaliser, PercentileScale, lambda: StreamNorm(0.9)])
def test_statistics_are_saved_updated_in_place_and_without_gradient(make):
    norm: nn.Module = make()
    addresses = [b.data_ptr() for b in norm.buffers()]
    x = torch.randn(64, generator=seeded()).requires_grad_()
    norm.update(500 * x)  # type: ignore[operator]
    assert [b.data_ptr() for b in norm.buffers()] == addresses
    assert not any(b.requires_grad for b in norm.buffers())
    assert norm(x).requires_grad
    other: nn.Module = make()
    assert not torch.equal(other(x), norm(x))
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other(x), norm(x))
    assert norm(x.half()).dtype == torch.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: EmaNormaliser(1.0),
        lambda: EmaNormaliser(0.9, floor=0.0),
        lambda: PercentileScale(1.5),
        lambda: PercentileScale(low=0.9, high=0.1),
        lambda: StreamNorm(-0.1),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_compiles_without_graph_breaks():
    modules = [EmaNormaliser(), PercentileScale(), StreamNorm(0.9)]
    plain = [EmaNormaliser(), PercentileScale(), StreamNorm(0.9)]

    def everything(norms: list, x: torch.Tensor) -> list[torch.Tensor]:
        for norm in norms:
            norm.update(x)
        return [norm(x) for norm in norms]

    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    for k in range(3):
        x = 5 * torch.randn(4, 8, generator=seeded(k))
        torch.testing.assert_close(compiled(modules, x), everything(plain, x))


def test_running_scale_by_hand():
    """0, 1 ... 20: percentiles 1 and 19, a range of 18; S = 1, then 1 + 0.1 (18 - 1), then a range below the floor."""
    scale = RunningScale(0.1)
    assert scale.value.item() == 1.0
    scale.update(torch.arange(21.0).flip(0))
    assert scale.value.item() == pytest.approx(2.7)
    scale.update(torch.full((4, 5), 7.0))
    assert scale.value.item() == pytest.approx(0.9 * 2.7 + 0.1)
    x = torch.tensor([5.06], requires_grad=True)
    scale(x).backward()
    assert scale(x).item() == pytest.approx(5.06 / 2.53)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(1 / 2.53)


def test_running_scale_averages_ranges_that_are_each_at_least_the_floor():
    """Ranges 4 and 0 in turn, around numbers far apart: 4 and 1 count, and where they are does not."""
    scale, slow, ends = RunningScale(0.5, 0.0, 1.0), 1.0, PercentileScale(0.5, 0.0, 1.0)
    for i in range(6):
        x = 100.0 * i + torch.tensor([0.0, 4.0 * (i % 2)])
        scale.update(x)
        ends.update(x)
        slow = 0.5 * slow + 0.5 * (4.0 if i % 2 else 1.0)
    assert scale.value.item() == pytest.approx(slow)
    assert ends.scale().item() < slow - 0.3


def test_running_scale_refuses():
    for given in ({"rate": 1.5}, {"low": 0.9, "high": 0.1}, {"floor": 0.0}):
        with pytest.raises(ValueError, match="expected rate in"):
            RunningScale(**given)
