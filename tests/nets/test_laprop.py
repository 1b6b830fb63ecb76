"""LaProp and adaptive clipping against steps that are written out; warm-up; save and restore."""

import math

import pytest
import torch
from torch import nn

from reverie.nets.laprop import LaProp, clip_adaptively_
from reverie.nets.optim import OptimConfig, Optimiser


def test_three_steps_written_out() -> None:
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    rule = LaProp([w], lr=0.1)
    want = [1.0, -2.0]
    square, momentum = [0.0, 0.0], [0.0, 0.0]
    for t, grad in enumerate(([0.5, -4.0], [0.25, 0.0], [-8.0, 1e-3]), start=1):
        w.grad = torch.tensor(grad)
        rule.step()
        for i, g in enumerate(grad):
            square[i] = 0.999 * square[i] + 0.001 * g * g
            u = g / (math.sqrt(square[i] / (1 - 0.999**t)) + 1e-20)
            momentum[i] = 0.9 * momentum[i] + 0.1 * u
            want[i] -= 0.1 * momentum[i] / (1 - 0.9**t)
        assert w.tolist() == pytest.approx(want, rel=1e-4)


def test_it_is_not_adam_after_a_large_gradient() -> None:
    """Adam's second step still has most of the large gradient in its momentum; LaProp's has it at its own scale."""
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    rules = [LaProp([weights[0]], 1.0), torch.optim.Adam([weights[1]], 1.0, eps=1e-20)]
    for g in (100.0, 1.0):
        for w, rule in zip(weights, rules, strict=True):
            w.grad = torch.tensor([g])
            rule.step()
    u = 1 / math.sqrt((0.999 * 10 + 0.001) / (1 - 0.999**2))
    assert weights[0].item() == pytest.approx(-1 - (0.9 * 0.1 + 0.1 * u) / (1 - 0.81), rel=1e-4)
    assert abs(weights[0] - weights[1]).item() > 0.1


def test_gradients_are_clipped_tensor_by_tensor() -> None:
    """0.3 of the norm 5 is 1.5, of the least norm 1e-3 for zeros 3e-4; small gradients stay as they are."""
    ws = [nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.tensor([10.0]))]
    grads = [torch.tensor([30.0, 40.0]), torch.tensor([0.0, -1.0]), torch.tensor([2.0])]
    for w, grad in zip(ws, grads, strict=True):
        w.grad = grad.clone()
    clip_adaptively_([*ws, nn.Parameter(torch.ones(1))], 0.3)
    assert ws[0].grad.tolist() == pytest.approx([0.9, 1.2])
    assert ws[1].grad.tolist() == pytest.approx([0.0, -3e-4])
    assert ws[2].grad.tolist() == [2.0]


CONFIG = OptimConfig(lr=0.1, eps=1e-20, clip=float("inf"), shrink=0.0, kind="laprop", warmup=4, agc=0.3)


def test_the_first_update_has_rate_0_and_the_fifth_the_whole() -> None:
    w = nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser([w], CONFIG)
    assert [optimiser.rate(k) for k in range(6)] == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1, 0.1])
    moves = []
    for k in range(5):
        before = w.item()
        w.grad = torch.tensor([1e-3])
        optimiser.schedule(k)
        assert optimiser.step().item() == pytest.approx(1e-3)
        moves.append(before - w.item())
    assert moves == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1], rel=1e-3)


def test_warmup_comes_before_a_decay_and_agc_is_part_of_the_step() -> None:
    config = OptimConfig(lr=1.0, lr_end=0.0, lr_over=10, warmup=2)
    assert [Optimiser([nn.Parameter(torch.ones(1))], config).rate(k) for k in (0, 1, 5, 10)] == [0.0, 0.45, 0.5, 0.0]
    w = nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser([w], OptimConfig(lr=1.0, eps=1.0, shrink=0.0, kind="laprop", agc=0.3))
    w.grad = torch.tensor([9.0])
    optimiser.step()
    assert w.item() == pytest.approx(1 - 0.3 / 1.3, rel=1e-5)
    with pytest.raises(ValueError, match="agc must be at least 0"):
        OptimConfig(agc=-1.0)


def test_moments_travel_by_name() -> None:
    def make() -> tuple[nn.Linear, Optimiser]:
        torch.manual_seed(0)
        layer = nn.Linear(2, 2)
        return layer, Optimiser(layer.parameters(), CONFIG)

    def advance(layer: nn.Linear, optimiser: Optimiser, k: int) -> None:
        for p in layer.parameters():
            p.grad = torch.full_like(p, 0.5 - k)
        optimiser.schedule(k)
        optimiser.step()

    whole, half = make(), make()
    for k in range(3):
        advance(*whole, k)
        advance(*half, k)
    names = {p: n for n, p in half[0].named_parameters()}
    saved = {n: {m: v.clone() for m, v in each.items()} for n, each in half[1].state_dict(names).items()}
    assert set(saved["weight"]) == {"step", "square", "momentum"}
    again = make()
    with torch.no_grad():
        for own, other in zip(again[0].parameters(), half[0].parameters(), strict=True):
            own.copy_(other)
    again[1].load_state_dict(saved, {p: n for n, p in again[0].named_parameters()})
    for k in range(3, 6):
        advance(*whole, k)
        advance(*again, k)
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), again[0].parameters(), strict=True))
