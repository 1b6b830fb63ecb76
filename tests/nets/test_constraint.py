"""A constraint's weight by hand, and against a slow loop of Adam in float64."""

from __future__ import annotations

import math

import pytest
import torch

from reverie.nets.constraint import Constraint
from reverie.nets.optim import OptimConfig, Optimiser

PLAIN = OptimConfig(lr=0.1, eps=1e-8, clip=math.inf, shrink=0.0)


def test_by_hand() -> None:
    """w = 1/2, x = 5, target 3: the penalty is 1/2 (5 - 3) with slope 1/2; -ln(1/2) 2 has the slope -2 in l."""
    constraint, x = Constraint(3.0, 0.5), torch.tensor(5.0, requires_grad=True)
    penalty, loss = constraint.penalty(x), constraint.loss(x)
    assert penalty.item() == pytest.approx(1.0)
    assert loss.item() == pytest.approx(2 * math.log(2))
    (slope,) = torch.autograd.grad(penalty, [x])
    assert slope.item() == pytest.approx(0.5)
    assert torch.autograd.grad(loss, [x], retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(loss, [constraint.log_weight])[0].item() == pytest.approx(-2.0)
    assert not constraint.penalty(torch.tensor(5.0)).requires_grad


@pytest.mark.parametrize(("x", "factor"), [(5.0, math.exp(0.1)), (1.0, math.exp(-0.1)), (3.0, 1.0)])
def test_the_first_step_multiplies_by_the_rate(x: float, factor: float) -> None:
    """Adam's first step is the rate by sign: above the target w grows by e^lr, below it shrinks, at it it stays."""
    constraint = Constraint(3.0, 0.5)
    optimiser = Optimiser(constraint.parameters(), PLAIN)
    constraint.loss(torch.tensor(x)).backward()
    optimiser.step()
    assert constraint.weight.item() == pytest.approx(0.5 * factor, rel=1e-6)


def test_a_random_stream_is_the_slow_loop() -> None:
    stream = (torch.rand(60, generator=torch.Generator().manual_seed(0)).double() * 8).tolist()
    constraint = Constraint(3.0, 1e-2)
    optimiser = Optimiser(constraint.parameters(), PLAIN)
    log_weight, first, second = math.log(1e-2), 0.0, 0.0
    for step, x in enumerate(stream, 1):
        constraint.loss(torch.tensor(x)).backward()
        optimiser.step()
        slope = -(x - 3.0)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        log_weight -= 0.1 * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        assert constraint.weight.item() == pytest.approx(math.exp(log_weight), rel=1e-4)


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_a_start_that_has_no_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        Constraint(3.0, start)
