"""Disagreement of ensembles: by hand, against a slow loop, and its gradient."""

import math

import pytest
import torch

from reverie.ops.disagreement import disagreement


def test_three_members_by_hand() -> None:
    # One place, two dimensions: members say (1, 0), (2, 0), (3, 3).
    means = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 3.0]])
    variances = ((1 + 0 + 1) / 3, (1 + 1 + 4) / 3)
    assert disagreement(means).item() == pytest.approx(sum(variances) / 2)
    roots = sum(math.sqrt(v) for v in variances) / 2
    assert disagreement(means, "std").item() == pytest.approx(roots)


@pytest.mark.parametrize("spread", ["variance", "std"])
def test_it_is_the_slow_loop(spread: str) -> None:
    means = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    found = disagreement(means, spread)  # type: ignore[arg-type]
    for t in range(3):
        for b in range(2):
            total = 0.0
            for j in range(5):
                values = [float(means[k, t, b, j]) for k in range(4)]
                mean = sum(values) / 4
                variance = sum((x - mean) ** 2 for x in values) / 4
                total += variance if spread == "variance" else math.sqrt(variance)
            assert found[t, b].item() == pytest.approx(total / 5, rel=1e-5)


def test_members_that_agree_give_nothing_and_no_slope() -> None:
    for spread in ("variance", "std"):
        means = torch.ones(3, 2, 4, requires_grad=True)
        found = disagreement(means, spread)  # type: ignore[arg-type]
        assert found.tolist() == [0.0, 0.0]
        found.sum().backward()
        assert means.grad is not None
        assert not means.grad.any()
    with pytest.raises(ValueError, match="at least 2 members, got 1"):
        disagreement(torch.zeros(1, 2, 3))
