"""What value heads' numbers mean: by hand, against slow loops, fitted to a target, and what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reverie.nets.values import Atoms, Quantiles, Scalar, Values
from reverie.ops.losses import huber, quantile_huber, td_squared
from reverie.ops.projection import atoms, categorical_projection
from reverie.ops.transforms import rescale, rescale_inverse
from tests.nets.test_outputs import fit, randn, rng, slow_softmax, slow_two_hot


def steps(*rows: int) -> tuple[Tensor, Tensor]:
    """earned and discount; some episodes ended."""
    return 3.0 * randn(*rows, seed=5), torch.rand(*rows, generator=rng(6)) * (randn(*rows, seed=7) > -1.0)


def with_levels(quantiles: Tensor, seed: int = 3) -> Tensor:
    """[..., M] -> [..., 2, M], random levels first."""
    return torch.stack([torch.rand(quantiles.shape, generator=rng(seed)), quantiles], -2)


# By hand


def test_scalar_by_hand() -> None:
    """earned 1, discount 0.5, bootstrap 4: target 3. Huber at errors 0.5 and 3: 0.125 and 2.5."""
    output = Scalar()
    target = output.backup(torch.tensor([4.0]), torch.tensor([1.0]), torch.tensor([0.5]))
    assert target.tolist() == [3.0]
    x, target = torch.tensor([2.5, 0.0]), torch.tensor([3.0, 3.0])
    assert output.loss(x, target).tolist() == [0.125, 2.5]
    assert Scalar("squared").loss(x, target).tolist() == [0.125, 4.5]
    assert output.error(x, target).tolist() == [0.5, 3.0]
    assert output.mean(x).tolist() == [2.5, 0.0]


def test_scalar_rescaled_by_hand() -> None:
    """h(x) = sqrt(x + 1) - 1 + eps x with eps 0.001: h(8) = 2.008; 7 + 0.5 * 8 = 11 -> sqrt(12) - 1 + 0.011."""
    output = Scalar("squared", rescaling=1e-3)
    target = output.backup(torch.tensor([2.008]), torch.tensor([7.0]), torch.tensor([0.5]))
    assert target.item() == pytest.approx(math.sqrt(12) - 1 + 0.011, rel=1e-5)


def test_atoms_by_hand() -> None:
    """Atoms 0, 1, 2 and p' = (1/2, 1/4, 1/4); 0.5 + 0.5 z lies at 0.5, 1, 1.5: p = (1/4, 1/4 + 1/4 + 1/8, 1/8)."""
    output = Atoms(torch.tensor([0.0, 1.0, 2.0]))
    x = torch.tensor([[0.5, 0.25, 0.25]]).log()
    target = output.backup(x, torch.tensor([0.5]), torch.tensor([0.5]))
    assert target[0].tolist() == pytest.approx([0.25, 0.625, 0.125])
    assert output.mean(x).item() == pytest.approx(0.75)
    kl = 0.25 * math.log(0.25 / 0.5) + 0.625 * math.log(0.625 / 0.25) + 0.125 * math.log(0.125 / 0.25)
    assert output.loss(x, target).item() == pytest.approx(kl)
    assert output.error(x, target).item() == pytest.approx(kl)
    # The episode ended: all mass at what was earned.
    ended = output.backup(x, torch.tensor([1.0]), torch.tensor([0.0]))
    assert ended[0].tolist() == [0.0, 1.0, 0.0]
    assert output.loss(x, ended).item() == pytest.approx(-math.log(0.25))


def test_quantiles_by_hand() -> None:
    """Quantiles 0 and 2 at levels 0.25 and 0.75, targets 1 + 0.5 (0, 4) = 1 and 3.

    Errors 1, 3 of the first: weights 0.25, Huber 0.5 and 2.5, mean 0.375. Of the second -1 and 1: weights 0.25 and
    0.75, Huber 0.5: mean 0.25.
    """
    output = Quantiles(kappa=1.0)
    other = torch.tensor([[[0.5, 0.5], [0.0, 4.0]]])
    target = output.backup(other, torch.tensor([1.0]), torch.tensor([0.5]))
    assert target.tolist() == [[1.0, 3.0]]
    x = torch.tensor([[[0.25, 0.75], [0.0, 2.0]]])
    assert output.loss(x, target).tolist() == [0.375 + 0.25]
    assert output.error(x, target).tolist() == [1.0]
    assert output.mean(x).tolist() == [1.0]
    halved = Quantiles(kappa=0.5).loss(x, target).item()
    # Huber with kappa 0.5 at 1, 3: 0.375 and 1.375; divided by kappa.
    assert halved == pytest.approx((0.25 * 0.375 + 0.25 * 1.375) / 2 / 0.5 + (0.25 * 0.375 + 0.75 * 0.375) / 2 / 0.5)


# Bit for bit the formulas that the agents are written in


def test_scalar_is_bit_for_bit_dqn_and_r2d2() -> None:
    x, other, (earned, discount) = 5.0 * randn(7, 4), 5.0 * randn(7, 4, seed=1), steps(7, 4)
    target = earned + discount * other
    assert torch.equal(Scalar().backup(other, earned, discount), target)
    assert torch.equal(Scalar().loss(x, target), huber(x, target))
    assert torch.equal(Scalar().error(x, target), target - x)
    rescaled = rescale(earned + discount * rescale_inverse(other, 1e-3), 1e-3)
    output = Scalar("squared", 1e-3)
    assert torch.equal(output.backup(other, earned, discount), rescaled)
    assert torch.equal(output.loss(x, rescaled), td_squared(x, rescaled))
    assert torch.equal(output.error(x, rescaled), rescaled - x)


def test_atoms_are_bit_for_bit_rainbow() -> None:
    support = atoms(-10.0, 10.0, 51)
    output = Atoms(support)
    x, other, (earned, discount) = randn(7, 4, 51), randn(7, 4, 51, seed=1), steps(7, 4)
    values = earned.unsqueeze(-1) + discount.unsqueeze(-1) * support
    target = categorical_projection(other.softmax(-1), values, support)
    assert torch.equal(output.backup(other, earned, discount), target)
    kl = (torch.xlogy(target, target) - target * x.log_softmax(-1)).sum(-1)
    assert torch.equal(output.loss(x, target), kl)
    assert torch.equal(output.error(x, target), kl)
    per_action = randn(7, 4, 6, 51)
    assert torch.equal(output.mean(per_action), (torch.softmax(per_action, -1) * support).sum(-1))


def test_quantiles_are_bit_for_bit_iqn() -> None:
    output = Quantiles(1.0)
    x, levels = randn(7, 4, 8), torch.rand(7, 4, 8, generator=rng(3))
    other, (earned, discount) = randn(7, 4, 5, seed=1), steps(7, 4)
    target = earned.unsqueeze(-1) + discount.unsqueeze(-1) * other
    assert torch.equal(output.backup(with_levels(other), earned, discount), target)
    assert torch.equal(output.loss(with_levels(x, 3), target), quantile_huber(x, levels, target, 1.0))
    assert torch.equal(output.error(with_levels(x), target), target.mean(-1) - x.mean(-1))


# Against slow loops


def test_atoms_against_a_loop() -> None:
    support = atoms(-2.0, 2.0, 5)
    output = Atoms(support)
    x, other, (earned, discount) = randn(30, 5), randn(30, 5, seed=1), steps(30)
    targets = output.backup(other, earned, discount)
    losses, means, z = output.loss(x, targets), output.mean(x), support.tolist()
    for i in range(30):
        expected = [0.0] * 5
        for p, atom in zip(slow_softmax(other[i].tolist()), z, strict=True):
            at = float(earned[i]) + float(discount[i]) * atom
            expected = [e + p * w for e, w in zip(expected, slow_two_hot(at, z), strict=True)]
        assert targets[i].tolist() == pytest.approx(expected, abs=1e-5)
        probs = slow_softmax(x[i].tolist())
        kl = sum(t * math.log(t / p) for t, p in zip(expected, probs, strict=True) if t > 0)
        assert losses[i].item() == pytest.approx(kl, rel=1e-3, abs=1e-5)
        assert means[i].item() == pytest.approx(sum(p * a for p, a in zip(probs, z, strict=True)), abs=1e-5)


def test_quantiles_against_a_loop() -> None:
    output = Quantiles(0.7)
    x, levels, targets = randn(9, 4), torch.rand(9, 4, generator=rng(3)), 2.0 * randn(9, 3, seed=1)
    for i in range(9):
        total = 0.0
        for value, level in zip(x[i].tolist(), levels[i].tolist(), strict=True):
            for target in targets[i].tolist():
                e = target - value
                size = 0.5 * e * e if abs(e) <= 0.7 else 0.7 * (abs(e) - 0.35)
                total += abs(level - (e < 0)) * size / 0.7 / 3
        assert output.loss(with_levels(x, 3), targets)[i].item() == pytest.approx(total, rel=1e-4)


# Fitting


@pytest.mark.parametrize("output", [Scalar(), Scalar("squared"), Scalar("squared", 1e-3)])
def test_scalars_fitted_to_a_target_predict_it(output: Scalar) -> None:
    earned, discount, values = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.0]), torch.tensor([30.0, 4.0])
    target = output.backup(output.scaled(values), earned, discount)
    x = fit(lambda x: output.loss(x, target), 2)
    assert output.unscaled(output.mean(x)).tolist() == pytest.approx([16.0, -2.0], rel=1e-3)


def test_atoms_fitted_to_a_target_predict_its_mean() -> None:
    output = Atoms(atoms(-5.0, 5.0, 21))
    earned, discount, other = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.0]), randn(2, 21)
    target = output.backup(other, earned, discount)
    x = fit(lambda x: output.loss(x, target), 2, 21)
    assert output.mean(x).tolist() == pytest.approx((earned + discount * output.mean(other)).tolist(), abs=0.02)
    assert output.error(x, target).tolist() == pytest.approx([0.0, 0.0], abs=0.02)


def test_quantiles_fitted_to_samples_are_their_quantiles() -> None:
    """Of the samples 0, 1, ..., 99 the quantiles at 0.1, 0.5 and 0.9, but for the width of Huber's bowl."""
    samples, levels = torch.arange(100.0).unsqueeze(0), torch.tensor([[0.1, 0.5, 0.9]])
    x = fit(lambda x: Quantiles(0.1).loss(torch.stack([levels, x], -2), samples), 1, 3, rate=3.0)
    assert x[0].tolist() == pytest.approx([9.5, 49.5, 89.5], abs=1.0)


# Gradients, buffers, refusals


VALUES: list[tuple[Values, tuple[int, ...]]] = [
    (Scalar(), ()),
    (Scalar("squared", 1e-3), ()),
    (Atoms(atoms(-2.0, 2.0, 5)), (5,)),
    (Quantiles(), (2, 5)),
]


@pytest.mark.parametrize(("output", "rest"), VALUES)
def test_targets_and_errors_carry_no_gradient(output: Values, rest: tuple[int, ...]) -> None:
    x, rows = randn(4, *rest).requires_grad_(), torch.rand(4, generator=rng(1))
    target = output.backup(randn(4, *rest, seed=2), rows, rows).requires_grad_()
    output.loss(x, target).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert target.grad is None
    assert not output.error(x, target.detach()).requires_grad


def test_no_gradient_reaches_the_levels() -> None:
    x = with_levels(randn(4, 5)).requires_grad_()
    Quantiles().loss(x, randn(4, 3, seed=1)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum((0, 2)).gt(0).tolist() == [False, True]


@pytest.mark.parametrize(("output", "rest"), VALUES)
def test_values_add_nothing_to_a_checkpoint(output: Values, rest: tuple[int, ...]) -> None:
    assert list(output.parameters()) == []
    assert output.state_dict() == {}


@pytest.mark.parametrize(("output", "rest"), VALUES)
def test_a_nan_reward_is_one_in_the_target_and_loss_of_its_row_only(output: Values, rest: tuple[int, ...]) -> None:
    x, (earned, discount) = randn(3, *rest), steps(3)
    target = output.backup(x, torch.where(torch.arange(3) == 1, torch.nan, earned), discount)
    assert target.isnan().reshape(3, -1).any(-1).tolist() == [False, True, False]
    assert output.loss(x, target).isnan().tolist() == [False, True, False]
    assert output.error(x, target).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(("output", "rest"), VALUES)
def test_values_refuse_other_shapes(output: Values, rest: tuple[int, ...]) -> None:
    x, rows = torch.zeros(3, 4, *rest), torch.zeros(3, 4)
    target = output.backup(x, rows, rows)
    assert output.loss(x, target).shape == output.error(x, target).shape == output.mean(x).shape == (3, 4)
    for earned, discount in ((rows[0], rows), (rows, rows[0]), (rows[..., None], rows), (rows[:, :1], rows)):
        with pytest.raises(ValueError, match="same rows"):
            output.backup(x, earned, discount)
    for other in (target[0], target[:, :1]):
        with pytest.raises(ValueError, match="got"):
            output.loss(x, other)
        with pytest.raises(ValueError, match="got"):
            output.error(x, other)


def test_atoms_refuse_another_number_of_atoms() -> None:
    output = Atoms(atoms(-2.0, 2.0, 5))
    with pytest.raises(ValueError, match=r"\[\.\.\., 5\]"):
        output.loss(torch.zeros(3, 5), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\[\.\.\., 5\]"):
        output.loss(torch.zeros(3, 4), torch.zeros(3, 4))


def test_quantiles_without_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[\.\.\., 2, M\]"):
        Quantiles().mean(torch.zeros(3, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Atoms(torch.tensor([0.0, torch.nan])), "increasing"),
        (lambda: Atoms(torch.zeros(2, 3)), "increasing"),
        (lambda: Scalar("l1"), "'l1'"),  # type: ignore[arg-type]
        (lambda: Scalar(rescaling=0.0), "positive"),
        (lambda: Scalar(rescaling=math.nan), "positive"),
        (lambda: Quantiles(0.0), "positive"),
        (lambda: Quantiles(math.nan), "positive"),
    ],
)
def test_what_is_refused_at_construction(make: Callable[[], Values], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
