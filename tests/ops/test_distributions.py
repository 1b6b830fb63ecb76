"""Distributions: frequencies against probabilities, densities against integrals, gradients against differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.ops import categorical
from reverie.ops import distributions as D

INF = float("inf")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(count: int) -> Tensor:
    """Midpoints of (0, 1): noise whose averages are integrals over u."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def gradient(function, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


# --- categorical -------------------------------------------------------------------------------------


def test_unimix_by_hand():
    logits = torch.tensor([3.0, 0.0]).log()
    expected = torch.tensor([0.8 * 0.75 + 0.1, 0.8 * 0.25 + 0.1])
    assert logits[1] == -INF
    # softmax(log 3, log 1) = (.75, .25)
    torch.testing.assert_close(D.unimix_logits(torch.tensor([3.0, 1.0]).log(), 0.2).exp(), expected)
    torch.testing.assert_close(D.unimix_logits(logits, 0.2).exp(), torch.tensor([0.9, 0.1]))


def test_unimix_zero_is_log_softmax_and_one_is_uniform():
    logits = 5 * torch.randn(4, 3, 6, generator=seeded())
    torch.testing.assert_close(D.unimix_logits(logits, 0.0), logits.log_softmax(-1), rtol=0, atol=0)
    torch.testing.assert_close(D.unimix_logits(logits, 1.0), torch.full_like(logits, -math.log(6)))
    torch.testing.assert_close(D.unimix_logits(logits, 0.01).exp().sum(-1), torch.ones(4, 3))


def test_sample_takes_the_first_class_whose_cumulative_probability_exceeds_u():
    logits = torch.tensor([0.125, 0.0, 0.375, 0.5]).log().expand(6, 4)
    u = torch.tensor([0.0, 0.1249, 0.125, 0.4999, 0.5, 0.9999])
    sample = D.sample_categorical(logits, u)
    assert sample.dtype == torch.int64
    assert sample.tolist() == [0, 0, 2, 2, 3, 3]


def test_sample_frequencies_are_the_probabilities():
    logits = 2 * torch.randn(5, generator=seeded())
    sample = D.sample_categorical(logits.expand(100_000, 5), grid(100_000).float())
    torch.testing.assert_close(sample.bincount(minlength=5) / 100_000, logits.softmax(-1), atol=2e-5, rtol=0.0)


@pytest.mark.parametrize("u", [0.0, 1e-30, 0.5, 1 - 2.0**-24, 1.0])
def test_impossible_classes_are_never_drawn(u: float):
    generator = seeded(1)
    logits = 4 * torch.randn(4000, 7, generator=generator)
    impossible = torch.rand(4000, 7, generator=generator) < 0.5
    impossible[:, 3] = False
    impossible[:2000, [0, 6]] = True
    logits[impossible] = -INF
    sample = D.sample_categorical(logits, torch.full((4000,), u))
    assert not impossible.gather(1, sample[:, None]).any()
    assert (D.one_hot_straight_through(logits, torch.full((4000,), u))[impossible] == 0).all()


def test_underflowing_probabilities_are_never_drawn():
    # exp(-200) is 0 in float32, so the last classes have cumulative probability exactly 1 and no share of it.
    logits = torch.tensor([-200.0, 0.0, 1.0, -200.0, -200.0]).expand(1000, 5)
    sample = D.sample_categorical(logits, torch.linspace(0, 1, 1000))
    assert set(sample.tolist()) == {1, 2}


def test_impossible_classes_survive_a_scan_that_rounds(monkeypatch: pytest.MonkeyPatch):
    # On a GPU equal partial sums may come out an ulp apart; noise that falls into that gap must not choose its class.
    apart = torch.tensor([0.5, 0.5 + 2.0**-24, 1.0])
    monkeypatch.setattr(Tensor, "cumsum", lambda self, dim: apart)
    assert D.sample_categorical(torch.tensor([0.0, -INF, 0.0]), torch.tensor(0.5)).item() == 2


def test_sums_by_product_are_those_of_a_scan_and_choose_the_same():
    # What a GPU does in place of the scan, here where its numbers can be told; under autocast too.
    probs = (3 * torch.randn(400, 32, generator=seeded())).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        sums = categorical.sums_by_product(probs)
    torch.testing.assert_close(sums, probs.double().cumsum(-1), rtol=1e-14, atol=0)
    assert torch.equal(sums, categorical.sums_by_product(probs))


def test_samples_by_product_are_those_of_the_scan(monkeypatch: pytest.MonkeyPatch):
    logits, u = 3 * torch.randn(500, 32, generator=seeded()), torch.rand(500, generator=seeded(1))
    scanned = D.sample_categorical(logits, u)
    monkeypatch.setattr(Tensor, "cumsum", lambda self, dim: categorical.sums_by_product(self))
    assert torch.equal(D.sample_categorical(logits, u), scanned)
    impossible = torch.tensor([-200.0, 0.0, -INF, 1.0, -200.0]).expand(1000, 5)
    assert set(D.sample_categorical(impossible, torch.linspace(0, 1, 1000)).tolist()) == {1, 3}


def test_one_hot_sample_is_exact_and_agrees_with_the_index():
    logits = 3 * torch.randn(50, 32, 32, generator=seeded())
    u = torch.rand(50, 32, generator=seeded(1))
    one_hot = D.one_hot_straight_through(logits.requires_grad_(), u)
    assert one_hot.requires_grad
    assert ((one_hot == 0) | (one_hot == 1)).all()
    assert (one_hot.sum(-1) == 1).all()
    assert torch.equal(one_hot.argmax(-1), D.sample_categorical(logits, u))


@pytest.mark.parametrize("draw", [lambda x: D.one_hot_straight_through(x, torch.full((6,), 0.3)), D.one_hot_mode])
def test_straight_through_gradient_is_that_of_the_probabilities(draw):
    logits = torch.randn(6, 4, generator=seeded())
    weight = torch.randn(6, 4, generator=seeded(1))
    straight = gradient(lambda x: (weight * draw(x)).sum(), logits)
    torch.testing.assert_close(straight, gradient(lambda x: (weight * x.softmax(-1)).sum(), logits))
    assert straight.abs().max() > 0.01


def test_one_hot_mode():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 3.0]])
    assert D.one_hot_mode(logits).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_categorical_numbers_by_hand():
    p, q = torch.tensor([0.5, 0.25, 0.25]).log() + 7, torch.tensor([0.25, 0.25, 0.5]).log() - 3
    torch.testing.assert_close(D.categorical_log_prob(p, torch.tensor([0.0, 1.0, 0.0])).item(), math.log(0.25))
    torch.testing.assert_close(D.categorical_entropy(p).item(), 1.5 * math.log(2))
    torch.testing.assert_close(D.categorical_kl(p, q).item(), 0.25 * math.log(2))


def test_categorical_reduces_the_last_axis_only():
    p, q = torch.randn(2, 5, 4, 3, 8, generator=seeded(), dtype=torch.float64)
    reference = torch.distributions.Categorical(logits=p)
    other = torch.distributions.Categorical(logits=q)
    torch.testing.assert_close(D.categorical_entropy(p), reference.entropy())
    torch.testing.assert_close(D.categorical_kl(p, q), torch.distributions.kl_divergence(reference, other))
    index = D.sample_categorical(p, torch.rand(5, 4, 3, generator=seeded(2)))
    one_hot = torch.nn.functional.one_hot(index, 8).double()
    torch.testing.assert_close(D.categorical_log_prob(p, one_hot), reference.log_prob(index))


def test_masked_classes_leave_values_and_gradients_finite():
    logits = torch.tensor([0.0, -INF, 1.0])
    free = torch.tensor([0.0, 1.0])
    one_hot = torch.tensor([0.0, 0.0, 1.0])
    cases = [
        (D.categorical_entropy, D.categorical_entropy),
        (lambda x: D.categorical_kl(x, logits), lambda x: D.categorical_kl(x, free)),
        (lambda x: D.categorical_log_prob(x, one_hot), lambda x: D.categorical_log_prob(x, one_hot[1:])),
    ]
    for masked, plain in cases:
        torch.testing.assert_close(masked(logits), plain(free))
        slope = gradient(masked, logits)
        torch.testing.assert_close(slope[[0, 2]], gradient(plain, free))
        assert slope[1] == 0
    assert D.categorical_kl(torch.zeros(3), logits) > 1e20


def test_kl_against_itself_is_zero_with_zero_gradient():
    logits = 5 * torch.randn(20, 32, generator=seeded())
    torch.testing.assert_close(D.categorical_kl(logits, logits), torch.zeros(20))
    for slope in (
        gradient(lambda x: D.categorical_kl(x, logits).sum(), logits),
        gradient(lambda x: D.categorical_kl(logits, x).sum(), logits),
    ):
        torch.testing.assert_close(slope, torch.zeros(20, 32), atol=1e-6, rtol=0.0)


def test_bernoulli_by_hand_with_soft_targets():
    logits, target = torch.tensor([math.log(3.0), 0.0, 80.0, -80.0]), torch.tensor([0.9, 0.0, 1.0, 1.0])
    expected = torch.tensor([0.9 * math.log(0.75) + 0.1 * math.log(0.25), math.log(0.5), 0.0, -80.0])
    torch.testing.assert_close(D.bernoulli_log_prob(logits, target), expected)
    torch.testing.assert_close(D.bernoulli_mean(logits)[:2], torch.tensor([0.75, 0.5]))
    # The best prediction of a soft target is the target itself.
    slope = gradient(lambda x: D.bernoulli_log_prob(x, torch.tensor(0.9)), torch.tensor(math.log(9.0)))
    torch.testing.assert_close(slope.item(), 0.0, atol=1e-7, rtol=0.0)


# --- normal ------------------------------------------------------------------------------------------


def test_normal_by_hand():
    x, mean = torch.tensor(3.0), torch.tensor(1.0)
    expected = -0.5 - math.log(2.0) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(D.normal_log_prob(x, mean, 2.0).item(), expected)
    torch.testing.assert_close(D.normal_log_prob(x, mean, torch.tensor(2.0)).item(), expected)
    torch.testing.assert_close(
        D.normal_entropy(torch.tensor(2.0)).item(), math.log(2) + 0.5 * math.log(2 * math.pi) + 0.5
    )


def test_normal_kl_against_torch():
    mean_p, mean_q = torch.randn(2, 30, generator=seeded(), dtype=torch.float64)
    std_p, std_q = torch.rand(2, 30, generator=seeded(1), dtype=torch.float64) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_p, std_p), torch.distributions.Normal(mean_q, std_q)
    )
    torch.testing.assert_close(D.normal_kl(mean_p, std_p, mean_q, std_q), expected)


def test_unit_normal_nll_by_hand():
    x, mean = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    mean[1, 2] = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    nll = D.unit_normal_nll(x, mean, 2, constant=False)
    assert nll.tolist() == [[0, 0, 0], [0, 0, 2.5]]
    torch.testing.assert_close(D.unit_normal_nll(x, mean, 2), nll + 2 * math.log(2 * math.pi))
    assert D.unit_normal_nll(x, mean, 0).shape == x.shape
    whole = D.unit_normal_nll(x[1], mean[1], 3)
    torch.testing.assert_close(whole, -D.normal_log_prob(x[1], mean[1], 1.0).sum())


def test_unit_normal_nll_refuses_to_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        D.unit_normal_nll(torch.zeros(3, 1), torch.zeros(3), 1)


def test_image_constant_is_the_known_one():
    image = torch.zeros(64, 64, 3)
    torch.testing.assert_close(D.unit_normal_nll(image, image, 3).item(), 11291.917, atol=0.01, rtol=0.0)


def test_normal_sample_is_the_quantile_and_reparameterised():
    mean, std = torch.tensor(1.0).double(), torch.tensor(2.0).double()
    u = torch.tensor([0.5, 0.841344746068543, 0.022750131948179]).double()
    torch.testing.assert_close(D.normal_sample(mean, std, u), torch.tensor([1.0, 3.0, -3.0]).double())
    torch.testing.assert_close(gradient(lambda s: D.normal_sample(mean, s, u).sum(), std).item(), -1.0)
    torch.testing.assert_close(gradient(lambda m: D.normal_sample(m, std, u).sum(), mean).item(), 3.0)


def test_samples_are_finite_at_the_ends_of_the_noise():
    u = torch.tensor([0.0, 2.0**-30, 1 - 2.0**-24, 1.0])
    one = torch.ones(4)
    assert D.normal_sample(0 * one, one, u).isfinite().all()
    assert D.normal_sample(0 * one, 1.0, u).abs().max() < 6
    assert D.tanh_normal_sample(0 * one, 5 * one, u).abs().max() < 1


# --- truncated normal --------------------------------------------------------------------------------

MEANS = (-1.0, -0.9, 0.0, 0.3, 1.0)
STDS = (0.1, 0.5, 2.1)
PAIRS = [(m, s) for m in MEANS for s in STDS]


def density(mean: float, std: float, count: int = 200_001) -> tuple[Tensor, Tensor]:
    """Points of [-1, 1] and the truncated density there, normalised by trapezoids: knows nothing of erf."""
    x = torch.linspace(-1, 1, count, dtype=torch.float64)
    unnormalised = torch.exp(-0.5 * ((x - mean) / std) ** 2)
    return x, unnormalised / torch.trapezoid(unnormalised, x)


@pytest.mark.parametrize(("mean", "std"), PAIRS)
def test_trunc_normal_log_prob_and_entropy_against_integrals(mean: float, std: float):
    x, p = density(mean, std)
    m, s = torch.tensor(mean), torch.tensor(std)
    torch.testing.assert_close(
        D.trunc_normal_log_prob(x[::1000].float(), m, s).double(), p[::1000].log(), atol=5e-5, rtol=1e-5
    )
    entropy = -torch.trapezoid(p * p.clamp(min=1e-300).log(), x)
    torch.testing.assert_close(D.trunc_normal_entropy(m, s).double(), entropy, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("mean", "std"), PAIRS)
def test_trunc_normal_sample_against_integrals(mean: float, std: float):
    x, p = density(mean, std)
    cdf = torch.cumulative_trapezoid(p, x)
    u = grid(1001).float()
    sample = D.trunc_normal_sample(torch.tensor(mean).expand(1001), torch.tensor(std).expand(1001), u)
    assert sample.abs().max() <= 1 - 1e-6
    assert (sample.diff() >= 0).all()
    # Where the integral reaches u. Noise near 1 is coarse in float32, hence the tolerance.
    expected = x[1:][torch.searchsorted(cdf, u.double()).clamp(max=len(cdf) - 1)]
    torch.testing.assert_close(sample.double(), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize(("mean", "std"), PAIRS)
def test_trunc_normal_gradients_against_finite_differences(mean: float, std: float):
    u = grid(41)
    m, s = torch.tensor(mean).double().expand(41), torch.tensor(std).double().expand(41)
    h = 1e-6
    for index, function in enumerate(
        [
            D.trunc_normal_sample,
            lambda a, b, _: D.trunc_normal_log_prob(u, a, b),
            lambda a, b, _: D.trunc_normal_entropy(a, b),
        ]
    ):
        for which in (0, 1):
            shift = [(h, 0.0), (0.0, h)][which]
            up, down = (function(m + k * shift[0], s + k * shift[1], u) for k in (1, -1))
            inputs = [m.clone().requires_grad_(), s.clone().requires_grad_()]
            slope = torch.autograd.grad(function(*inputs, u).sum(), inputs)[which]
            torch.testing.assert_close(slope, (up - down) / (2 * h), atol=1e-5, rtol=1e-4, msg=f"{index} {which}")


def test_trunc_normal_is_safe_in_float32():
    """Every mean, std and noise a policy can meet, ends included: finite values and gradients, inside the bounds."""
    mean = torch.linspace(-1, 1, 41)[:, None, None].expand(41, 21, 15).clone().requires_grad_()
    std = torch.linspace(0.1, 2.1, 21)[None, :, None].expand(41, 21, 15).clone().requires_grad_()
    ends = torch.tensor([0.0, 1e-38, 2.0**-24, 1e-4, 1 - 1e-4, 1 - 2.0**-24, 1.0])
    u = torch.cat([ends, torch.linspace(0.01, 0.99, 8)]).expand(41, 21, 15)
    sample = D.trunc_normal_sample(mean, std, u)
    assert sample.abs().max() < 1
    values = [sample, D.trunc_normal_log_prob(sample, mean, std), D.trunc_normal_entropy(mean, std)]
    assert (values[1] > -250).all()
    for value in values:
        assert value.isfinite().all()
        for slope in torch.autograd.grad(value.sum(), [mean, std], retain_graph=True):
            assert slope.isfinite().all()
    # Moving the mean moves a sample by at most as much, the truncation holding it back; rounding aside.
    slope = torch.autograd.grad(sample.sum(), mean)[0]
    assert slope.min() > -0.01
    assert slope.max() < 1.01


def test_trunc_normal_wide_is_uniform_and_mode_is_the_mean():
    mean, std = torch.tensor([0.2]), torch.tensor([50.0])
    torch.testing.assert_close(D.trunc_normal_entropy(mean, std), torch.tensor([math.log(2.0)]), atol=1e-3, rtol=0.0)
    assert D.trunc_normal_mode(torch.tensor([0.25])).item() == 0.25
    assert D.trunc_normal_mode(torch.tensor([1.0])).item() < 1
    assert gradient(lambda m: D.trunc_normal_mode(m).sum(), torch.tensor([1.0, -0.5])).tolist() == [1, 1]


# --- tanh normal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (0.5, 1.0), (-1.0, 0.5)])
def test_tanh_normal_density_integrates_to_one_and_fits_the_samples(mean: float, std: float):
    m, s = torch.tensor(mean).double(), torch.tensor(std).double()
    x = torch.linspace(-1 + 1e-5, 1 - 1e-5, 400_001, dtype=torch.float64)
    p = D.tanh_normal_log_prob(x, m, s).exp()
    torch.testing.assert_close(torch.trapezoid(p, x).item(), 1.0, atol=1e-4, rtol=0.0)
    sample = D.tanh_normal_sample(m, s, grid(100_000))
    for power in (1, 2):
        expected = torch.trapezoid(p * x**power, x).item()
        torch.testing.assert_close(sample.pow(power).mean().item(), expected, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(sample.median().item(), D.tanh_normal_mode(m).item(), atol=1e-4, rtol=0.0)


def test_tanh_normal_log_prob_is_finite_at_the_bounds():
    x = torch.tensor([-1.0, 1.0])
    assert D.tanh_normal_log_prob(x, torch.zeros(2), torch.ones(2)).isfinite().all()


def integrated_entropy(mean: float, std: float) -> float:
    """-integral of p(y) log p(y) over y in (-1, 1), p the density of tanh(x), as a sum over x = mean + std z."""
    z = np.linspace(-12.0, 12.0, 120_001)
    x = mean + std * z
    log_normal = -(z**2) / 2 - math.log(std) - math.log(2 * math.pi) / 2
    log_slope = 2 * (math.log(2) - np.abs(x) - np.log1p(np.exp(-2 * np.abs(x))))
    return float(-(np.exp(log_normal) * (log_normal - log_slope)).sum() * std * (z[1] - z[0]))


MEANS, STDS = (-5.0, -1.5, 0.0, 0.4, 2.5), (0.1, 0.3, 0.8, 1.1, 2.0, 4.0, 10.0, 50.0)


@pytest.mark.parametrize("std", STDS)
def test_tanh_normal_entropy_is_the_integral_and_so_are_its_gradients(std: float):
    for mean in MEANS:
        m, s = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (mean, std))
        entropy = D.tanh_normal_entropy(m, s)
        assert entropy.item() == pytest.approx(integrated_entropy(mean, std), abs=1e-7)
        assert D.tanh_normal_entropy(m.float(), s.float()).item() == pytest.approx(entropy.item(), abs=1e-5, rel=1e-6)
        step = 1e-4
        slopes = [
            (integrated_entropy(mean + step, std) - integrated_entropy(mean - step, std)) / (2 * step),
            (integrated_entropy(mean, std + step) - integrated_entropy(mean, std - step)) / (2 * step),
        ]
        found = [float(value) for value in torch.autograd.grad(entropy, (m, s))]
        assert found == pytest.approx(slopes, abs=2e-6, rel=1e-5)


def test_tanh_normal_entropy_falls_where_that_of_the_normal_rises():
    std = torch.tensor([0.2, 0.7931, 1.1, 3.0])
    slopes = gradient(lambda s: D.tanh_normal_entropy(torch.zeros(4), s).sum(), std)
    # By differences of the integral: 0.1696 at 0.7931 and -0.3469 at 1.1; the normal's are 1 / std.
    assert slopes[1:3].tolist() == pytest.approx([0.1696, -0.3469], abs=1e-4)
    assert slopes.sign().tolist() == [1, 1, -1, -1]
    assert gradient(lambda s: D.normal_entropy(s).sum(), std).sign().tolist() == [1, 1, 1, 1]


def test_tanh_normal_entropy_has_its_limits():
    """Narrow: the normal's, plus the log of the slope there, less std^2 slope. Wide: all mass at the two ends."""
    mean, small = torch.tensor([0.0, 0.5, -2.0]).double(), torch.tensor(0.1).double()
    slope = 1 - torch.tanh(mean).square()
    narrow = math.log(0.1) + 0.5 * math.log(2 * math.pi * math.e) + slope.log() - 0.01 * slope
    torch.testing.assert_close(D.tanh_normal_entropy(mean, small), narrow, atol=1e-4, rtol=0.0)
    wide = math.log(1000) + 0.5 * math.log(2 * math.pi * math.e) + 2 * math.log(2) - 2000 * math.sqrt(2 / math.pi)
    assert D.tanh_normal_entropy(torch.tensor(0.0), torch.tensor(1000.0)).item() == pytest.approx(wide, rel=1e-5)
    means, stds = torch.linspace(-5, 5, 41).double(), torch.linspace(0.1, 20, 400).double()
    table = D.tanh_normal_entropy(means, stds.unsqueeze(1))
    assert table.shape == (400, 41)
    assert table.max() < math.log(2)
    assert (table[stds > 4].diff(dim=0) < 0).all()
    torch.testing.assert_close(table, table.flip(1))


# --- dtypes, compilation -----------------------------------------------------------------------------


def everything(logits: Tensor, other: Tensor, u: Tensor) -> list[Tensor]:
    mean, std, v = torch.tanh(logits), torch.sigmoid(other) * 2 + 0.1, torch.sigmoid(other)
    one_hot = D.one_hot_straight_through(logits, u)
    sample = D.trunc_normal_sample(mean, std, v)
    return [
        D.unimix_logits(logits, 0.01),
        one_hot,
        D.one_hot_mode(logits),
        D.categorical_log_prob(logits, one_hot),
        D.categorical_entropy(logits),
        D.categorical_kl(logits, other),
        D.bernoulli_log_prob(logits, v),
        D.bernoulli_mean(logits),
        D.normal_log_prob(logits, mean, std),
        D.unit_normal_nll(logits, other, 2),
        D.normal_sample(mean, std, v),
        D.normal_entropy(std),
        D.normal_kl(mean, std, logits, std),
        sample,
        D.trunc_normal_log_prob(sample, mean, std),
        D.trunc_normal_entropy(mean, std),
        D.trunc_normal_mode(mean),
        D.tanh_normal_sample(mean, std, v),
        D.tanh_normal_log_prob(sample, mean, std),
        D.tanh_normal_entropy(logits, std),
        D.tanh_normal_mode(mean),
    ]


def test_noise_is_cut_off_before_it_is_added_and_the_sum_at_the_bounds():
    """0.2 + 0.1 and 0.2 - 0.3; 0.9 + 0.3 is beyond 1. The mean keeps its gradient there too."""
    mean, u = torch.tensor([0.2, 0.2, 0.9]).double(), torch.tensor([0.5 + 0.341344746, 1e-9, 0.999]).double()
    sample = D.clipped_normal_sample(mean, 0.1, u, 0.3)
    torch.testing.assert_close(sample, torch.tensor([0.3, -0.1, 1 - 1e-6]).double())
    torch.testing.assert_close(D.clipped_normal_sample(mean, 0.1, u, 0.05)[0].item(), 0.25)
    torch.testing.assert_close(gradient(lambda m: D.clipped_normal_sample(m, 0.1, u, 0.3).sum(), mean), 0 * mean + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype):
    logits, other = (torch.randn(3, 4, 5, generator=seeded(k)).to(dtype) for k in (0, 1))
    for value in everything(logits, other, torch.rand(3, 4, generator=seeded(2)).to(dtype)):
        assert value.dtype == torch.float32
        assert value.isfinite().all()


def test_compiles_without_graph_breaks():
    logits, other = (torch.randn(3, 4, 5, generator=seeded(k)) for k in (0, 1))
    u = torch.rand(3, 4, generator=seeded(2))
    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    for fast, slow in zip(compiled(logits, other, u), everything(logits, other, u), strict=True):
        torch.testing.assert_close(fast, slow)


def test_sums_by_product_compile_too():
    compiled = torch.compile(categorical.sums_by_product, backend="aot_eager", fullgraph=True)
    probs = torch.rand(3, 5, generator=seeded())
    assert torch.equal(compiled(probs), categorical.sums_by_product(probs))
