"""RMSProp of A2C and IMPALA: epsilon inside the root, not centred, squares that begin at one."""

import copy
import math

import pytest
import torch

from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.rmsprop import RMSProp

CONFIG = OptimConfig(kind="rmsprop-tf", lr=0.1, eps=0.01, clip=math.inf, shrink=0.0)


def test_by_hand() -> None:
    """Three updates of one weight with gradients 1, 3 and -2."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser([weight], CONFIG)
    square, expected = 1.0, 1.0
    for gradient in (1.0, 3.0, -2.0):
        weight.grad = torch.tensor([gradient])
        optimiser.step()
        square = 0.99 * square + 0.01 * gradient**2
        expected -= 0.1 * gradient / math.sqrt(square + 0.01)
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_first_updates_of_small_gradients_are_small() -> None:
    """From 1 an update is about lr grad; PyTorch's, from 0, is lr / sqrt(1 - decay) whatever the gradient."""
    ours, theirs = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    rules = (RMSProp([ours], lr=0.1, eps=1e-10), torch.optim.RMSprop([theirs], lr=0.1, alpha=0.99, eps=1e-10))
    for weight, rule in zip((ours, theirs), rules, strict=True):
        weight.grad = torch.tensor([1e-3])
        rule.step()
    assert ours.item() == pytest.approx(-1e-4, rel=0.01)
    assert theirs.item() == pytest.approx(-1.0, rel=1e-3)


def test_epsilon_is_inside_the_root() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    rule = RMSProp([weight], lr=1.0, eps=3.01)
    weight.grad = torch.zeros(1)
    rule.step()  # 0.99
    weight.grad = torch.ones(1)
    rule.step()  # 0.99 * 0.99 + 0.01 = 0.9901
    assert weight.item() == pytest.approx(-1 / math.sqrt(0.9901 + 3.01))


def test_it_goes_on_where_it_was_saved() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 4), torch.randn(4, 3, 4)
    whole = torch.nn.Parameter(start.clone())
    optimiser = Optimiser([whole], CONFIG)
    for gradient in gradients[:2]:
        whole.grad = gradient.clone()
        optimiser.step()
    other = torch.nn.Parameter(whole.detach().clone())
    again = Optimiser([other], CONFIG)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict({whole: "weight"})), {other: "weight"})
    for gradient in gradients[2:]:
        for parameter, rule in ((whole, optimiser), (other, again)):
            parameter.grad = gradient.clone()
            rule.step()
    assert torch.equal(whole, other)


def test_it_reads_a_learning_rate_from_memory() -> None:
    """As a recorded step does."""
    ends = []
    rate: float | torch.Tensor
    for rate in (0.1, torch.tensor(0.1)):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        rule = RMSProp([weight], lr=rate)  # type: ignore[arg-type]
        for gradient in ((1.0, 2.0), (3.0, -1.0)):
            weight.grad = torch.tensor(gradient)
            rule.step()
        ends.append(weight.detach().clone())
    assert torch.allclose(*ends, rtol=1e-6)
