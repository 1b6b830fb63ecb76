"""Redundancy reduction: by hand, against a slow loop in float64, and its gradient where an entry never changes."""

import math

import pytest
import torch

from reverie.ops.redundancy import redundancy


def test_two_entries_by_hand() -> None:
    """Three rows: standardised (-1, 0, 1); the second entry of y is the first turned round."""
    x = torch.tensor([[1.0, 0.0], [2.0, 5.0], [3.0, 10.0]])
    y = torch.tensor([[2.0, 7.0], [4.0, 5.0], [6.0, 3.0]])
    # C = (2 / 3) [[1, -1], [1, -1]] with std over N - 1 and a mean over N.
    expected = (1 - 2 / 3) ** 2 + (1 + 2 / 3) ** 2 + 0.1 * 2 * (2 / 3) ** 2
    assert redundancy(x, y, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_it_is_the_slow_loop() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 4, generator=g), torch.randn(9, 4, generator=g) * 3 + 1

    def column(code: torch.Tensor, i: int) -> list[float]:
        values = [float(v) for v in code[:, i]]
        mean = sum(values) / 9
        std = math.sqrt(sum((v - mean) ** 2 for v in values) / 8)
        return [(v - mean) / (std + 1e-8) for v in values]

    total = 0.0
    for i in range(4):
        for j in range(4):
            c = sum(a * b for a, b in zip(column(x, i), column(y, j), strict=True)) / 9
            total += (1 - c) ** 2 if i == j else 5e-4 * c**2
    assert redundancy(x, y).item() == pytest.approx(total, rel=1e-5)
    with pytest.raises(ValueError, match=r"at least 2 rows, got \(1, 4\)"):
        redundancy(x[:1], y[:1])


def test_entries_that_never_change_correlate_with_nothing_and_spoil_no_gradient() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = torch.ones(6, 3)
    loss = redundancy(torch.cat([x[:, :2], torch.zeros(6, 1)], 1), y)
    assert loss.item() == pytest.approx(3.0)
    loss.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    g = torch.Generator().manual_seed(2)
    x = torch.randn(32, 8, generator=g)
    y = (x + 0.1 * torch.randn(32, 8, generator=g)).requires_grad_()
    plain = redundancy(x, y)
    (slope,) = torch.autograd.grad(plain, y)
    with torch.autocast("cpu", torch.bfloat16):
        cast = redundancy(x, y)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    assert torch.equal(torch.autograd.grad(cast, y)[0], slope)
