"""Transforms: inverses, precision in float32 against float64, slopes at zero, two-hot codes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reverie.ops import transforms as X

HYPOTHESIS = settings(max_examples=100, deadline=None, derandomize=True)


def magnitudes() -> Tensor:
    """float32 numbers of both signs from 1e-6 to 1e6, and 0."""
    positive = torch.logspace(-6, 6, 4001, dtype=torch.float64).float()
    return torch.cat([-positive.flip(0), torch.zeros(1), positive])


def slope(function, at: float) -> float:
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(function(x), x)[0].item()


def textbook_inverse(y: Tensor, eps: float) -> Tensor:
    return y.sign() * ((((1 + 4 * eps * (y.abs() + 1 + eps)).sqrt() - 1) / (2 * eps)) ** 2 - 1)


def test_rescale_golden_values():
    x = torch.tensor([0.1, 1.0, 10.0, 100.0, 1e4, 1e6], dtype=torch.float64)
    expected = torch.tensor([0.048909, 0.415214, 2.326625, 9.149876, 109.005, 1999.0005], dtype=torch.float64)
    torch.testing.assert_close(X.rescale(x), expected, atol=1e-6, rtol=1e-7)
    torch.testing.assert_close(X.rescale(-x), -expected, atol=1e-6, rtol=1e-7)
    y = torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=torch.float64)
    inverse = torch.tensor([0.209539, 2.988057, 117.430323, 8546.626307], dtype=torch.float64)
    torch.testing.assert_close(X.rescale_inverse(y), inverse, atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize("eps", [1e-3, 1e-2])
def test_rescale_and_its_inverse_are_exact_to_rounding_in_float32(eps: float):
    x = magnitudes()
    wide = x.double()
    exact = wide.sign() * ((wide.abs() + 1).sqrt() - 1) + eps * wide
    torch.testing.assert_close(X.rescale(x, eps).double(), exact, rtol=4e-7, atol=1e-15)
    # float64 has room enough for the textbook formula, though not at the smallest numbers.
    torch.testing.assert_close(X.rescale_inverse(x, eps).double(), textbook_inverse(wide, eps), rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(X.rescale_inverse(X.rescale(x, eps), eps), x, rtol=2e-6, atol=0.0)
    torch.testing.assert_close(X.rescale(X.rescale_inverse(x, eps), eps), x, rtol=2e-6, atol=0.0)


def test_textbook_inverse_is_not_exact_in_float32():
    """The reason for the other algebra; if this ever fails, use the textbook's."""
    y = torch.linspace(5e-4, 2e-3, 100)
    assert (textbook_inverse(y, 1e-3) / X.rescale_inverse(y) - 1).abs().max() > 1e-2


def test_rescale_without_eps():
    x = magnitudes()
    torch.testing.assert_close(X.rescale_inverse(X.rescale(x, 0.0), 0.0), x, rtol=2e-6, atol=0.0)
    assert X.rescale_inverse(torch.tensor(3.0), 0.0).item() == 15.0


def test_symlog_by_hand_and_inverse():
    x = torch.tensor([0.0, math.e - 1, 1 - math.e, math.e**3 - 1])
    torch.testing.assert_close(X.symlog(x), torch.tensor([0.0, 1.0, -1.0, 3.0]))
    torch.testing.assert_close(X.symexp(torch.tensor([1.0, -3.0])), torch.tensor([math.e - 1, 1 - math.e**3]))
    x = magnitudes()
    torch.testing.assert_close(X.symexp(X.symlog(x)), x, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("at", [-2.0, 0.0, 3.0])
def test_slopes_are_true_even_at_zero(at: float):
    assert slope(X.symlog, at) == pytest.approx(1 / (1 + abs(at)))
    assert slope(X.symexp, at) == pytest.approx(math.exp(abs(at)))
    of_h = 0.5 / math.sqrt(abs(at) + 1) + 1e-3
    assert slope(X.rescale, at) == pytest.approx(of_h)
    y = X.rescale(torch.tensor(at, dtype=torch.float64)).item()
    assert slope(X.rescale_inverse, y) == pytest.approx(1 / of_h)


def test_two_hot_by_hand():
    bins = torch.tensor([-2.0, 0.0, 1.0, 5.0])
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0, 2.0, 5.0, 9.0, -9.0])
    expected = [
        [1, 0, 0, 0],
        [0.25, 0.75, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0.75, 0.25],
        [0, 0, 0, 1],
        [0, 0, 0, 1],
        [1, 0, 0, 0],
    ]
    assert X.two_hot(x, bins).tolist() == expected


@HYPOTHESIS
@given(
    st.lists(st.floats(-90, 90, width=32), min_size=1, max_size=6),
    st.sets(st.integers(-100, 100), min_size=2, max_size=20),
)
def test_two_hot_decodes_to_its_input(values: list[float], edges: set[int]):
    bins = torch.tensor(sorted(edges), dtype=torch.float32)
    x = torch.tensor(values)
    weights = X.two_hot(x, bins)
    assert weights.shape == (len(values), len(edges))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(values)))
    assert ((weights > 0).sum(-1) <= 2).all()
    assert ((weights > 0).int().diff(dim=-1).abs().sum(-1) <= 2).all()  # neighbours
    torch.testing.assert_close(X.two_hot_mean(weights, bins), x.clamp(bins[0], bins[-1]), atol=1e-4, rtol=1e-5)


def test_two_hot_in_value_space_decodes_small_and_large():
    bins = X.symexp_bins(255)
    x = magnitudes()
    torch.testing.assert_close(X.two_hot_mean(X.two_hot(x, bins), bins), x, rtol=1e-5, atol=1e-7)


def test_equal_weights_on_symmetric_bins_give_exactly_zero():
    for count in (3, 41, 255):
        bins = X.symexp_bins(count)
        assert bins.shape == (count,)
        assert torch.equal(bins, -bins.flip(0))
        assert (bins.diff() > 0).all()
        assert X.two_hot_mean(torch.zeros(4, count).softmax(-1), bins).tolist() == [0.0] * 4
    assert bins[-1].item() == pytest.approx(math.exp(20) - 1)


@pytest.mark.parametrize("x", [-9.0, -2.0, -0.5, 0.0, 0.25, 1.0, 4.0, 5.0, 9.0])
def test_two_hot_cross_entropy_is_the_sum_over_all_bins(x: float):
    """Written out over all bins, with its gradient: at bins, between them, and beyond the outermost."""
    bins = torch.tensor([-2.0, 0.0, 1.0, 5.0], dtype=torch.float64)
    logits = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    loss = X.two_hot_cross_entropy(logits, torch.tensor(x, dtype=torch.float64), bins)
    (gradient,) = torch.autograd.grad(loss, logits)
    weights = X.two_hot(torch.tensor(x, dtype=torch.float64), bins)
    exps = [math.exp(value) for value in logits.tolist()]
    probs = [value / sum(exps) for value in exps]
    assert loss.item() == pytest.approx(-sum(w * math.log(p) for w, p in zip(weights.tolist(), probs, strict=True)))
    assert gradient.tolist() == pytest.approx([p - w for w, p in zip(weights.tolist(), probs, strict=True)])


def test_mirrored_pairs_count_each_bin_once():
    """By hand: 0.1 (-4) + 0.2 (-1) + 0.3 (2) + 0.4 (8) = 3.2, and with a middle bin 0.1 (-4) + 0.6 (-1) + 0.3 (2)."""
    mean = X.two_hot_mean(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([-4.0, -1.0, 2.0, 8.0]))
    assert mean.item() == pytest.approx(3.2)
    mean = X.two_hot_mean(torch.tensor([0.1, 0.6, 0.3]), torch.tensor([-4.0, -1.0, 2.0]))
    assert mean.item() == pytest.approx(-0.4)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_symexp_bins_need_a_middle(count: int):
    with pytest.raises(ValueError, match="odd"):
        X.symexp_bins(count)


def test_reward_transforms_by_name():
    reward = torch.tensor([-3.0, 0.0, 0.5])
    expected = {"identity": [-3.0, 0.0, 0.5], "sign": [-1.0, 0.0, 1.0]}
    for name, values in expected.items():
        assert X.reward_transform(name)(reward).tolist() == values
    torch.testing.assert_close(X.reward_transform("tanh")(reward), reward.tanh())
    torch.testing.assert_close(X.reward_transform("symlog")(reward)[0].item(), -math.log(4))
    clipped = X.reward_transform("clip")(torch.tensor([-3.0, -0.4, 0.0, 0.7, 9.0]))
    assert clipped.tolist() == pytest.approx([-1.0, -0.4, 0.0, 0.7, 1.0])
    with pytest.raises(ValueError, match=r"tanh.*'cut'"):
        X.reward_transform("cut")


def everything(x: Tensor) -> list[Tensor]:
    bins = X.symexp_bins(15, 5.0)
    names = ("identity", "tanh", "sign", "symlog")
    functions = [X.symlog, X.symexp, X.rescale, X.rescale_inverse, *(X.reward_transform(n) for n in names)]
    mean = X.two_hot_mean(X.two_hot(x, bins).to(x.dtype), bins)
    loss = X.two_hot_cross_entropy(x.new_zeros(*x.shape, 15), x, bins)
    return [*(f(x) for f in functions), X.two_hot(x, bins), mean, loss]


def test_half_precision_is_computed_in_float32():
    for value in everything(torch.linspace(-3, 3, 12).reshape(3, 4).half()):
        assert value.dtype == torch.float32
        assert value.isfinite().all()


def test_compiles_without_graph_breaks():
    x = torch.linspace(-3, 3, 12).reshape(3, 4)
    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    for fast, slow in zip(compiled(x), everything(x), strict=True):
        torch.testing.assert_close(fast, slow)
