"""Balancers against numbers worked by hand, slow references, and their published identities."""

from __future__ import annotations

import math
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from reverie.errors import UserError
from reverie.nets.balance import (
    BalanceKind,
    DynamicWeightAverage,
    Harmony,
    HarmonyClosed,
    NashMTL,
    UncertaintyWeighting,
    best_sigma,
    make_balancer,
)
from reverie.nets.nash import RIDGE, TINY, bargain

LOSSES = (0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 100.0, 1000.0)


def settle(balancer: nn.Module, loss: float) -> float:
    """sigma after gradient descent on s alone, for a constant loss."""
    (s,) = balancer.parameters()
    optimiser = torch.optim.Adam([s], lr=0.05)
    for _ in range(1500):
        total, _ = balancer(torch.tensor([loss]), [])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return float(torch.exp(s.detach()))


@pytest.mark.parametrize("loss", [0.01, 1.0, 3.0, 100.0])
def test_learned_sigma_settles_at_the_closed_form(loss: float) -> None:
    rectified = (loss + math.sqrt(loss * loss + 4 * loss)) / 2
    assert settle(Harmony(1), loss) == pytest.approx(rectified, rel=2e-3)
    assert settle(Harmony(1, rectified=False), loss) == pytest.approx(loss, rel=2e-3)
    assert settle(UncertaintyWeighting(1), loss) == pytest.approx(loss, rel=2e-3)


def test_best_sigma_by_hand() -> None:
    # sigma^2 = L (1 + sigma): 1 -> golden ratio; 0.01 -> 0.105125; 100 -> 100.990195; 1000 -> 1000.999
    expected = [0.0321267, 0.1051249, 0.3701562, 1.6180340, 3.7912878, 10.9160798, 100.9901951, 1000.9990020]
    assert best_sigma(torch.tensor(LOSSES)).tolist() == pytest.approx(expected, rel=1e-5)


def test_harmony_by_hand() -> None:
    balancer = Harmony(2)
    with torch.no_grad():
        balancer.log_sigma.copy_(torch.tensor([math.log(2.0), 0.0]))
    losses = torch.tensor([3.0, 5.0], requires_grad=True)
    total, weights = balancer(losses, [])
    # 3/2 + log 3 + 5/1 + log 2
    assert total.item() == pytest.approx(1.5 + math.log(3) + 5 + math.log(2))
    assert weights.tolist() == [0.5, 1.0]
    assert not weights.requires_grad
    total.backward()
    assert losses.grad is not None
    assert balancer.log_sigma.grad is not None
    assert losses.grad.tolist() == [0.5, 1.0]
    # -L/sigma + sigma/(1 + sigma)
    assert balancer.log_sigma.grad.tolist() == pytest.approx([-1.5 + 2 / 3, -5 + 1 / 2])


def test_unrectified_and_uncertainty_weighting_by_hand() -> None:
    losses = torch.tensor([3.0, 5.0])
    plain, uncertain = Harmony(2, rectified=False), UncertaintyWeighting(2)
    for balancer in (plain, uncertain):
        (s,) = balancer.parameters()
        with torch.no_grad():
            s.copy_(torch.tensor([math.log(2.0), 0.0]))
    total, _ = plain(losses, [])
    assert total.item() == pytest.approx(1.5 + math.log(2) + 5)
    half, weights = uncertain(losses, [])
    assert half.item() == pytest.approx(total.item() / 2)
    assert weights.tolist() == [0.25, 0.5]


def test_closed_harmony_begins_at_weights_of_one_and_follows_the_running_mean() -> None:
    assert best_sigma(HarmonyClosed(2).mean).tolist() == pytest.approx([1.0, 1.0])
    balancer = HarmonyClosed(2, decay=0.9)
    _, weights = balancer(torch.tensor([1.0, 100.0]), [])  # means: 0.55 and 10.45
    assert weights.tolist() == pytest.approx([0.9381175, 0.0879573], rel=1e-5)
    total, weights = balancer(torch.tensor([4.0, 100.0]), [])
    mean = 0.9 * 0.55 + 0.1 * 4.0
    assert float(weights[0]) == pytest.approx(2 / (mean + math.sqrt(mean * mean + 4 * mean)), rel=1e-5)
    assert total.item() == pytest.approx(4.0 * float(weights[0]) + 100.0 * float(weights[1]))
    at_once = HarmonyClosed(2, decay=0.0)
    assert at_once(torch.tensor([1.0, 100.0]), [])[1].tolist() == pytest.approx([1 / 1.6180340, 1 / 100.9901951])
    with pytest.raises(ValueError, match="decay"):
        HarmonyClosed(2, decay=1.0)


def test_dynamic_weight_average_against_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    window, temperature, tasks = 4, 2.0, 3
    balancer = DynamicWeightAverage(tasks, window, temperature)
    seen = [np.ones(tasks)] * (2 * window)
    for update in range(30):
        losses = rng.uniform(0.1, 5.0, tasks)
        seen.append(losses)
        ratio = np.mean(seen[-window:], 0) / np.mean(seen[-2 * window : -window], 0)
        expected = np.ones(tasks)
        if update > window:
            expected = tasks * np.exp(ratio / temperature) / np.exp(ratio / temperature).sum()
        total, weights = balancer(torch.tensor(losses, dtype=torch.float32), [])
        assert weights.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
        assert total.item() == pytest.approx(float((expected * losses).sum()), rel=1e-4)


def test_dynamic_weight_average_favours_the_loss_that_stopped_falling() -> None:
    balancer = DynamicWeightAverage(2, window=5)
    for update in range(40):
        _, weights = balancer(torch.tensor([1.0, math.exp(-0.2 * update)]), [])
    # Ratios 1 and e^-1, temperature 2: weights 2 softmax(0.5, 0.5 / e).
    share = math.exp(0.5) / (math.exp(0.5) + math.exp(0.5 / math.e))
    assert weights.tolist() == pytest.approx([2 * share, 2 - 2 * share], rel=1e-4)


def test_bargaining_by_hand() -> None:
    # Diagonal M: a_i = 1 / sqrt(M_ii). M = [[1, .5], [.5, 1]]: 1.5 a^2 = 1.
    assert bargain(np.diag([4.0, 0.25])) == pytest.approx([0.5, 2.0], rel=1e-6)
    assert bargain(np.array([[1.0, 0.5], [0.5, 1.0]])) == pytest.approx([1.5**-0.5] * 2, rel=1e-6)


def test_bargaining_solves_random_problems_whatever_the_scales() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        gradients = rng.normal(size=(3, 20)) * 10.0 ** rng.uniform(-2, 2, (3, 1))
        gram = gradients @ gradients.T
        gram /= np.linalg.norm(gram)
        a = bargain(gram)
        assert (a > 0).all()
        assert a * (gram @ a) == pytest.approx(np.ones(3), rel=1e-3)


def test_bargaining_between_opposite_gradients() -> None:
    # |g| = 1 each, cos -0.99: M = [[1, -.99], [-.99, 1]] / 2, so 0.005 a^2 = 1. Exactly opposite ones have no solution.
    for cosine, a in ((-0.95, 40**0.5), (-0.99, 200**0.5), (-0.9999, 20_000**0.5)):
        assert bargain(np.array([[0.5, cosine / 2], [cosine / 2, 0.5]])) == pytest.approx([a, a], rel=1e-4)
    opposite = bargain(np.array([[0.5, -0.5], [-0.5, 0.5]]))
    assert opposite == pytest.approx([(0.5 * RIDGE + TINY) ** -0.5] * 2, rel=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cancelling", [None, 0.1, 1e-2, 1e-4, 0.0])
@pytest.mark.parametrize(("tasks", "numbers"), [(3, 1), (3, 2), (3, 3), (3, 5), (9, 2)])
def test_bargaining_ends_for_conflicting_gradients(tasks: int, numbers: int, cancelling: float | None) -> None:
    """In few dimensions, or with a last gradient that undoes a mixture of the others but for noise of that size."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        gradients = rng.normal(size=(tasks, numbers))
        if cancelling is not None:
            share = rng.dirichlet(np.ones(tasks))
            gradients[-1] = cancelling * gradients[-1] - share[:-1] @ gradients[:-1] / share[-1]
        gram = gradients @ gradients.T
        gram /= np.linalg.norm(gram)
        a = bargain(gram)
        assert (a > 0).all()
        # The ridge is beside the scaled diagonal, so M_ii (1 + RIDGE) in M's units.
        assert a * (gram @ a + (RIDGE * np.diag(gram) + TINY) * a) == pytest.approx(np.ones(tasks), abs=1e-3)


def test_bargaining_says_when_gradients_are_not_finite() -> None:
    with pytest.raises(UserError, match="not finite"):
        bargain(np.array([[1.0, math.nan], [math.nan, 1.0]]))


def test_nash_weights_undo_the_scale_of_a_loss() -> None:
    """Two tasks with orthogonal gradients: alpha_i is inverse to the gradient's norm, so both move theta equally."""
    theta = nn.Parameter(torch.tensor([1.0, 1.0]))
    for scale in (1.0, 100.0):
        balancer = NashMTL(2)
        losses = torch.stack([scale * theta[0], theta[1]])
        total, weights = balancer(losses, [theta])
        theta.grad = None
        total.backward()
        assert theta.grad is not None
        assert float(theta.grad[0]) == pytest.approx(float(theta.grad[1]), rel=1e-3)
        assert float(weights[1] / weights[0]) == pytest.approx(scale, rel=1e-3)


def test_nash_takes_parameters_that_some_losses_do_not_reach() -> None:
    both, first = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    losses = torch.stack([both.sum() + first.sum(), both[0] * 1.0])
    total, weights = NashMTL(2)(losses, [both, first])
    # G G^T = [[5, 1], [1, 1]], Frobenius norm sqrt(28).
    gram = np.array([[5.0, 1.0], [1.0, 1.0]]) / math.sqrt(28)
    assert gram @ weights.numpy() == pytest.approx(1 / weights.numpy(), rel=1e-4)
    total.backward()
    with pytest.raises(ValueError, match="share"):
        NashMTL(2)(torch.ones(2), [])


def test_nash_leaves_a_loss_alone_that_shares_nothing() -> None:
    """As that of a head whose gradients are stopped: it has nothing to bargain with."""
    shared, alone = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    losses = torch.stack([shared.sum(), alone.sum(), 3.0 * shared[0]])
    total, weights = NashMTL(3)(losses, [shared])
    assert weights[1].item() == 1.0
    assert weights[[0, 2]].tolist() == NashMTL(2)(losses[[0, 2]], [shared])[1].tolist()
    total.backward()
    assert alone.grad is not None
    assert alone.grad.tolist() == [1.0, 1.0, 1.0]
    assert NashMTL(1)(alone.sum()[None], [shared])[1].tolist() == [1.0]


@pytest.mark.parametrize("kind", get_args(BalanceKind))
def test_every_kind_can_be_made_and_saved(kind: BalanceKind) -> None:
    balancer = make_balancer(kind, 3)
    if balancer is None:
        assert kind == "fixed"
        return
    theta = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def go(module: nn.Module, updates: int) -> list[float]:
        for update in range(updates):
            _, weights = module(theta * torch.tensor([1.0, 2.0, 3.0 / (update + 1)]), [theta])
        return weights.tolist()

    go(balancer, 5)
    again = make_balancer(kind, 3)
    assert again is not None
    again.load_state_dict(balancer.state_dict())
    assert go(again, 3) == go(balancer, 3)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'harmonious'"):
        make_balancer("harmonious", 3)  # type: ignore[arg-type]


def test_nashmtl_names_what_it_needs_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"reverie-rl\[nash\]"):
        NashMTL(3)
