"""Few classes go by way of the first axis, with the numbers of the last one's kernel."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.ops.softmax import FEW, log_softmax, softmax

SHAPES = [(3,), (5, 8), (2, 3, FEW - 1), (4, FEW), (2, 33)]


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)], [-math.inf, 1.0, 1.0]])
    expected = torch.tensor([[0.125, 0.25, 0.625], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(softmax(logits), expected)
    torch.testing.assert_close(log_softmax(logits), expected.log())


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_last_axis(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=g, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(shape, generator=g, dtype=torch.float64)
    for ours, theirs in ((softmax, F.softmax), (log_softmax, F.log_softmax)):
        here, there = ours(logits), theirs(logits, -1)
        torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-14)
        grads = [torch.autograd.grad((y * weights).sum(), logits)[0] for y in (here, there)]
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.tensor([3.0, 1.0, 0.5], dtype=torch.bfloat16)
    assert softmax(logits).dtype == log_softmax(logits).dtype == torch.float32


def test_few_classes_never_meet_the_kernel_of_the_last_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: list[int] = []

    def recorded(x: Tensor, axis: int) -> Tensor:
        axes.append(axis)
        return x.softmax(axis)

    monkeypatch.setattr(F, "softmax", recorded)
    softmax(torch.zeros(4, FEW - 1))
    softmax(torch.zeros(4, FEW))
    assert axes == [0, -1]
