"""Adam: by hand, and bit for bit PyTorch's own, whatever the groups, the layouts and the gradients that are missing."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from reverie.nets.adam import Adam
from reverie.nets.optim import OptimConfig


def parameters() -> list[nn.Parameter]:
    """Of several shapes, one of them channels-last."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3,), (4, 5), (2, 3, 4, 4), ())
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    made[2] = made[2].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(each) for each in made]


def test_two_steps_by_hand() -> None:
    w = nn.Parameter(torch.zeros(1))
    rule = Adam([w], lr=0.1, eps=0.5)
    m = s = want = 0.0
    for t, g in ((1, 2.0), (2, -1.0)):
        w.grad = torch.tensor([g])
        rule.step()
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        want -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + 0.5)
        assert w.item() == pytest.approx(want, rel=1e-6)


def test_it_is_pytorchs_bit_for_bit() -> None:
    ours, theirs = parameters(), parameters()
    rules = [
        kind([{"params": own[:3]}, {"params": own[3:], "lr": 0.02}], 0.01, eps=1e-5, **more)
        for kind, own, more in ((Adam, ours, {}), (torch.optim.Adam, theirs, {"fused": True}))
    ]
    generator = torch.Generator().manual_seed(1)
    for step in range(20):
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            grad = torch.randn(pair[0].shape, generator=generator)
            for parameter in pair:
                # The second has no gradient at every third step, and keeps its own count.
                parameter.grad = None if i == 1 and step % 3 == 0 else torch.empty_like(parameter).copy_(grad)
        for rule in rules:
            rule.step()
            rule.param_groups[0]["lr"] *= 0.9
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        assert set(rules[0].state[mine]) == set(rules[1].state[other])
        for name, moment in rules[0].state[mine].items():
            assert torch.equal(moment, rules[1].state[other][name]), name
            assert moment.stride() == rules[1].state[other][name].stride()


@pytest.mark.parametrize(
    ("groups", "message"), [([], "got 0, of which 0"), ([2], "got 2, of which 1"), ([1, 1], "got 2")]
)
def test_no_parameter_and_one_twice_are_refused(groups: list[int], message: str) -> None:
    w = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match=message):
        Adam([{"params": [w] * count} for count in groups], 0.1)


@pytest.mark.parametrize("settings", [{"lr": -0.1}, {"lr": math.nan}, {"lr": math.inf}, {"eps": -1e-8}])
def test_rates_that_climb_or_are_no_number_are_refused(settings: dict[str, float]) -> None:
    """As PyTorch's own Adam does; the others' were not looked at."""
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be at least 0 and finite"):
        OptimConfig(**settings)


def test_making_one_does_not_import_pytorchs_compiler() -> None:
    """Every process that learns would wait for it."""
    code = (
        "import sys, torch; from reverie.nets.optim import OptimConfig, Optimiser\n"
        "p = torch.nn.Parameter(torch.zeros(1)); p.grad = torch.ones(1)\n"
        "[Optimiser([p], OptimConfig(kind=kind)).step() for kind in ('adam', 'rmsprop', 'rmsprop-tf', 'laprop')]\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
