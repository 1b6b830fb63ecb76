"""The convolution of a doubled picture without doubling it, and RMSNorm's gradient by the kernel of LayerNorm."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reverie.nets.pooled import DoubledConv
from reverie.nets.rms import RMSNorm


def plain(conv: DoubledConv, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), conv.weight, conv.bias, padding="same")


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 5, 3), (3, 4, 1, 1)])
@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
def test_it_is_the_convolution_of_the_doubled_picture(shape: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    conv = DoubledConv(shape[1], 5).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    seen = x.to(memory_format=torch.channels_last) if last else x
    ours, theirs = conv(seen), plain(conv, seen)
    assert ours.shape == (shape[0], 5, 2 * shape[2], 2 * shape[3])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    into = torch.randn_like(ours)
    wanted = (x, conv.weight, conv.bias)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, into), torch.autograd.grad(theirs, wanted, into), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_by_hand() -> None:
    """A row of pixels 1, 10, doubled to 1 1 10 10, with the taps 1, 2, 3, 4, 5 in the middle line of the kernel."""
    conv = DoubledConv(1, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 2] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
        conv.bias.fill_(0.5)
    out = conv(torch.tensor([[[[1.0, 10.0]]]]))
    row = [3 + 4 + 50, 2 + 3 + 40 + 50, 1 + 2 + 30 + 40, 1 + 20 + 30]
    assert out.tolist() == [[[[value + 0.5 for value in row]] * 2]]


def test_its_parameters_are_those_of_the_convolution() -> None:
    """What was saved before is loaded."""
    saved = nn.Conv2d(3, 4, 5, padding="same").state_dict()
    DoubledConv(3, 4).load_state_dict(saved)


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 16), (1, 1), (5, 0, 3)])
def test_rms_norm_against_the_formula(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(shape[-1]).double()
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    theirs = x / (x.square().mean(-1, keepdim=True) + 1e-4).sqrt() * norm.weight
    ours, into = norm(x), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    wanted = (x, norm.weight)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, into), torch.autograd.grad(theirs, wanted, into), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), theirs, rtol=1e-12, atol=1e-12)


def test_rms_norm_passes_gradcheck_and_refuses_what_it_cannot() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(6).double()
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    (first,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_rms_norm_of_rows_of_zeros_and_in_bfloat16() -> None:
    norm = RMSNorm(8)
    x = torch.zeros(2, 8, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((2, 8), 100.0))
    low = torch.randn(4, 8).to(torch.bfloat16)
    assert norm(low).dtype == torch.bfloat16
