"""What a head's numbers mean: by hand, against slow loops, fitted to a target, and what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reverie.nets.outputs import Bernoulli, OneHots, Output, SquaredError, SymlogMSE, TwoHot, UnitNormal
from reverie.ops.categorical import bernoulli_log_prob, bernoulli_mean
from reverie.ops.continuous import unit_normal_nll
from reverie.ops.transforms import symexp_bins


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def slow_symlog(x: float) -> float:
    return math.copysign(math.log(1 + abs(x)), x)


def slow_softmax(x: list[float]) -> list[float]:
    top = max(x)
    parts = [math.exp(each - top) for each in x]
    return [part / sum(parts) for part in parts]


def slow_two_hot(x: float, bins: list[float]) -> list[float]:
    weights = [0.0] * len(bins)
    x = min(max(x, bins[0]), bins[-1])
    for k in range(len(bins) - 1):
        if bins[k] <= x <= bins[k + 1]:
            upper = (x - bins[k]) / (bins[k + 1] - bins[k])
            weights[k], weights[k + 1] = 1 - upper, upper
            break
    return weights


# By hand


def test_unit_normal_by_hand() -> None:
    x, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert UnitNormal(1, constant=False).loss(x, target).tolist() == [(1 + 4) / 2, 9 / 2]
    with_constant = UnitNormal(1).loss(x, target) - UnitNormal(1, constant=False).loss(x, target)
    assert with_constant.tolist() == pytest.approx([math.log(2 * math.pi)] * 2)
    assert UnitNormal(0, constant=False).loss(x, target).tolist() == [[0.5, 2.0], [0.0, 4.5]]
    assert UnitNormal().mean(x).tolist() == x.tolist()


def test_symlog_mse_by_hand() -> None:
    """symlog(e - 1) = 1 and symlog(1 - e^2) = -2: errors 1 - 0.5 and -2 - 1, squared, not halved."""
    target, x = torch.tensor([[math.e - 1, 1 - math.e**2]]), torch.tensor([[0.5, 1.0]])
    assert SymlogMSE(1).loss(x, target).tolist() == pytest.approx([0.25 + 9.0])
    assert SymlogMSE().loss(x, target)[0].tolist() == pytest.approx([0.25, 9.0])
    assert SymlogMSE().mean(torch.tensor([1.0, -2.0])).tolist() == pytest.approx([math.e - 1, 1 - math.e**2])


def test_bernoulli_by_hand() -> None:
    """A logit of log 3 means 3/4; a soft target of 0.9 costs 0.9 log 4/3 + 0.1 log 4."""
    x = torch.full((3,), math.log(3.0))
    losses = Bernoulli().loss(x, torch.tensor([1.0, 0.0, 0.9]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4), 0.9 * math.log(4 / 3) + 0.1 * math.log(4)])
    assert Bernoulli().mean(x).tolist() == pytest.approx([0.75] * 3)


def test_two_hot_by_hand() -> None:
    """Bins -2, 0, 4 and p = (1/6, 2/6, 3/6): 1 is 3/4 bin 0 and 1/4 bin 4; the mean is -2/6 + 12/6."""
    output = TwoHot(torch.tensor([-2.0, 0.0, 4.0]), squashed=False)
    x = torch.tensor([1.0, 2.0, 3.0]).log()
    assert output.params == 3
    loss = -(0.75 * math.log(2 / 6) + 0.25 * math.log(3 / 6))
    assert output.loss(x, torch.tensor(1.0)).item() == pytest.approx(loss)
    assert output.loss(x, torch.tensor(9.0)).item() == pytest.approx(math.log(2)), "beyond the last bin it counts as it"
    assert output.mean(x).item() == pytest.approx(10 / 6)


def test_two_hot_in_symlog_space_by_hand() -> None:
    """The same bins hold symlog(y) here: y = e - 1 is 1 there, and the mean is symexp(10 / 6), not 10 / 6."""
    output = TwoHot(torch.tensor([-2.0, 0.0, 4.0]), squashed=True)
    x = torch.tensor([1.0, 2.0, 3.0]).log()
    loss = -(0.75 * math.log(2 / 6) + 0.25 * math.log(3 / 6))
    assert output.loss(x, torch.tensor(math.e - 1)).item() == pytest.approx(loss)
    assert output.mean(x).item() == pytest.approx(math.exp(10 / 6) - 1)


def test_the_two_kinds_of_bins() -> None:
    uniform, spread = TwoHot.uniform(), TwoHot.spread()
    assert uniform.params == spread.params == 255
    assert (uniform.squashed, spread.squashed) == (True, False)
    assert uniform.bins[[0, 127, 254]].tolist() == [-20.0, 0.0, 20.0]
    assert uniform.bins.diff().tolist() == pytest.approx([40 / 254] * 254, rel=1e-4)
    assert torch.equal(spread.bins, symexp_bins(255, 20.0))
    tdmpc2 = TwoHot.uniform(101, 10.0)
    assert tdmpc2.bins.diff().tolist() == pytest.approx([0.2] * 100, rel=1e-4)
    for output in (uniform, spread, tdmpc2):
        assert output.mean(torch.zeros(output.params)).item() == 0.0, "equal logits predict exactly 0"
    # Half of 0 and half of 100 is 50 in the raw space, and symexp(symlog(100) / 2) = sqrt(101) - 1 in the other.
    for output, mean in ((uniform, math.sqrt(101) - 1), (spread, 50.0)):
        zero, hundred = output.bins.new_tensor(0.0), output.bins.new_tensor(100.0)
        probs = [torch.tensor(slow_two_hot(float(y), output.bins.tolist())) for y in (zero, hundred)]
        if output.squashed:
            probs = [torch.tensor(slow_two_hot(slow_symlog(float(y)), output.bins.tolist())) for y in (zero, hundred)]
        logits = (0.5 * probs[0] + 0.5 * probs[1]).log()
        assert output.mean(logits).item() == pytest.approx(mean, rel=1e-4)


# Bit for bit the formulas that the agents are written in


def test_likelihoods_are_bit_for_bit_those_of_the_operations() -> None:
    x, target = randn(5, 3, 4, 4, 2), randn(5, 3, 4, 4, 2, seed=1)
    for constant in (True, False):
        assert torch.equal(UnitNormal(3, constant).loss(x, target), unit_normal_nll(target, x.float(), 3, constant))
    row, other = randn(5, 3), 0.99 * (randn(5, 3, seed=1) > 0).float()
    assert torch.equal(Bernoulli().loss(row, other), -bernoulli_log_prob(row, other))
    assert torch.equal(Bernoulli().mean(row), bernoulli_mean(row))


# Against slow loops


@pytest.mark.parametrize("output", [TwoHot.uniform(11, 3.0), TwoHot.spread(11, 3.0)])
def test_two_hot_against_a_loop(output: TwoHot) -> None:
    x, targets, bins = randn(20, 11), 8.0 * randn(20, seed=1), output.bins.tolist()
    for row, target, loss, mean in zip(
        x.tolist(), targets.tolist(), output.loss(x, targets).tolist(), output.mean(x).tolist(), strict=True
    ):
        probs = slow_softmax(row)
        weights = slow_two_hot(slow_symlog(target) if output.squashed else target, bins)
        assert loss == pytest.approx(-sum(w * math.log(p) for w, p in zip(weights, probs, strict=True)), rel=1e-4)
        expected = sum(p * b for p, b in zip(probs, bins, strict=True))
        if output.squashed:
            expected = math.copysign(math.exp(abs(expected)) - 1, expected)
        assert mean == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_symlog_mse_against_a_loop() -> None:
    x, targets = randn(6, 5), 30.0 * randn(6, 5, seed=1)
    for row, target, loss in zip(x.tolist(), targets.tolist(), SymlogMSE(1).loss(x, targets).tolist(), strict=True):
        assert loss == pytest.approx(sum((slow_symlog(t) - p) ** 2 for p, t in zip(row, target, strict=True)), rel=1e-4)


# Fitting


def fit(loss: Callable[[Tensor], Tensor], *shape: int, rate: float = 0.3, updates: int = 400) -> Tensor:
    """The numbers that gradient descent finds, from zeros."""
    x = torch.zeros(*shape, requires_grad=True)
    adam = torch.optim.Adam([x], rate)
    for update in range(updates):
        adam.param_groups[0]["lr"] = rate * (1 - update / updates)
        adam.zero_grad()
        loss(x).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    return x.detach()


@pytest.mark.parametrize(
    ("output", "targets"),
    [
        (UnitNormal(), [-3.0, 0.5, 7.0]),
        (SymlogMSE(), [-30.0, 0.5, 700.0]),
        (Bernoulli(), [0.1, 0.5, 0.997]),
        (TwoHot.uniform(41, 8.0), [-30.0, 0.5, 700.0]),
        (TwoHot.spread(41, 8.0), [-30.0, 0.5, 700.0]),
    ],
)
def test_the_mean_of_a_fitted_output_is_the_target(output: Output, targets: list[float]) -> None:
    target = torch.tensor(targets)
    shape = (3,) if output.params == 1 else (3, output.params)
    x = fit(lambda x: output.loss(x, target), *shape)
    assert output.loss(x, target).shape == output.mean(x).shape == target.shape
    assert output.mean(x).tolist() == pytest.approx(targets, rel=0.01, abs=0.01)


def test_which_mean_a_random_target_has() -> None:
    """0 and 100 by turns: all but the symlog scale learn 50; that learns symexp of the mean symlog."""
    target = torch.tensor([0.0, 100.0])
    for output, mean in ((TwoHot.spread(41, 8.0), 50.0), (TwoHot.uniform(41, 8.0), math.sqrt(101) - 1)):
        x = fit(lambda x, output=output: output.loss(x.expand(2, 41), target), 41)  # type: ignore[misc]
        assert output.mean(x).item() == pytest.approx(mean, rel=0.02)
    for plain, mean in ((UnitNormal(), 50.0), (SymlogMSE(), math.sqrt(101) - 1)):
        x = fit(lambda x, plain=plain: plain.loss(x.expand(2), target), 1, rate=1.0)  # type: ignore[misc]
        assert plain.mean(x).item() == pytest.approx(mean, rel=0.02)


# Gradients, buffers, refusals


LIKELIHOODS: list[Output] = [UnitNormal(), SymlogMSE(), Bernoulli(), TwoHot.uniform(11, 3.0), TwoHot.spread(11, 3.0)]


@pytest.mark.parametrize("output", LIKELIHOODS)
def test_likelihoods_send_no_gradient_into_targets_and_accept_half_precision(output: Output) -> None:
    shape = (4,) if output.params == 1 else (4, output.params)
    x, target = randn(*shape).requires_grad_(), torch.rand(4, generator=rng(1)).requires_grad_()
    output.loss(x, target).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert target.grad is None
    half = x.detach().bfloat16()
    assert output.loss(half, target.detach()).dtype == output.mean(half).dtype == torch.float32
    assert torch.equal(output.loss(half, target.detach()), output.loss(half.float(), target.detach()))


@pytest.mark.parametrize("output", LIKELIHOODS)
def test_outputs_add_nothing_to_a_checkpoint(output: Output) -> None:
    assert list(output.parameters()) == []
    assert output.state_dict() == {}


def test_a_nan_in_a_target_or_an_output_is_one_in_the_loss_of_its_row_only() -> None:
    for output in LIKELIHOODS:
        shape = (3,) if output.params == 1 else (3, output.params)
        x, target = randn(*shape), torch.rand(3, generator=rng(1))
        poisoned = torch.where(torch.arange(3) == 1, torch.nan, target)
        assert output.loss(x, poisoned).isnan().tolist() == [False, True, False], type(output).__name__
        x[1] = torch.nan
        assert output.loss(x, target).isnan().tolist() == [False, True, False], type(output).__name__


@pytest.mark.parametrize("output", LIKELIHOODS)
def test_likelihoods_refuse_other_shapes(output: Output) -> None:
    shape = (3, 4) if output.params == 1 else (3, 4, output.params)
    output.loss(torch.zeros(shape), torch.zeros(3, 4))
    for other in ((4,), (3, 1), (3, 4, 1)):
        with pytest.raises(ValueError, match=r"got|size"):
            output.loss(torch.zeros(shape), torch.zeros(other))
    with pytest.raises(ValueError, match=r"got|size"):
        output.loss(torch.zeros(3, 4, 7), torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UnitNormal(-1), "dims"),
        (lambda: SymlogMSE(-1), "dims"),
        (lambda: TwoHot(torch.tensor([0.0, torch.nan, 1.0]), True), "increasing"),
        (lambda: TwoHot(torch.tensor([0.0, 0.0, 1.0]), True), "increasing"),
        (lambda: TwoHot(torch.tensor([0.0]), True), "at least 2"),
        (lambda: TwoHot.uniform(254), "odd"),
        (lambda: TwoHot.spread(254), "odd"),
    ],
)
def test_what_is_refused_at_construction(make: Callable[[], Output], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_squared_error_is_neither_halved_nor_given_a_constant() -> None:
    output = SquaredError(2)
    x, target = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 2.0], [5.0, 4.5]]])
    assert output.loss(x, target).tolist() == [1 + 4 + 0.25]
    assert torch.equal(output.mean(x), x)
    assert SquaredError().loss(torch.tensor(3.0), torch.tensor(1.0)).item() == 4.0


def test_indices_are_cross_entropies_side_by_side() -> None:
    output = OneHots([2, 3])
    x = torch.tensor([[math.log(3.0), 0.0, 0.0, 0.0, math.log(2.0)]])
    target = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
    assert output.loss(x, target).tolist() == pytest.approx([-math.log(3 / 4) - math.log(1 / 4)])
    assert output.mean(x)[0].tolist() == pytest.approx([0.75, 0.25, 0.25, 0.25, 0.5])
    with pytest.raises(ValueError, match="expected outputs"):
        output.loss(x, target[:, :4])
