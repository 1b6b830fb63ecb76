"""Sinkhorn's assignments and moved pictures: by hand, and against slow loops in float64."""

import math

import pytest
import torch

from reverie.ops.sinkhorn import sinkhorn
from reverie.ops.translate import translated


def test_two_rows_by_hand() -> None:
    """exp(scores / eps) = [[3, 1], [1, 1]]: columns to 1/2 each, rows to 1/2 each, times two."""
    scores = torch.log(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    # Columns: [[3/8, 1/4], [1/8, 1/4]]; rows: divided by 5/8 and 3/8.
    assert sinkhorn(scores, 1.0, 1).flatten().tolist() == pytest.approx([3 / 5, 2 / 5, 1 / 3, 2 / 3])


def test_it_is_the_slow_loop() -> None:
    rows, clusters, eps = 7, 5, 0.05
    scores = torch.rand(rows, clusters, generator=torch.Generator().manual_seed(0)) * 2 - 1
    q = [[math.exp(float(scores[n, k]) / eps) for k in range(clusters)] for n in range(rows)]
    for _ in range(3):
        for k in range(clusters):
            total = sum(q[n][k] for n in range(rows))
            for n in range(rows):
                q[n][k] /= total * clusters
        for n in range(rows):
            total = sum(q[n])
            q[n] = [x / (total * rows) for x in q[n]]
    found = sinkhorn(scores, eps, 3)
    assert torch.allclose(found, torch.tensor(q) * rows, rtol=1e-4, atol=1e-7)
    assert torch.allclose(found.sum(1), torch.ones(rows))
    balanced = sinkhorn(scores, eps, 500)
    assert torch.allclose(balanced.sum(0), torch.full((clusters,), rows / clusters), rtol=1e-3)
    assert sinkhorn(scores * 1000, 1e-2).isfinite().all()
    with pytest.raises(ValueError, match="eps must be positive and iterations at least 1, got 0"):
        sinkhorn(scores, 0.0)


def test_pictures_move_by_parts_of_pixels() -> None:
    images = torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    shift = torch.tensor([[1.0, -2.0], [0.25, 0.5], [-7.5, 0.0]])
    moved = translated(images, shift)
    for n in range(3):
        for y in range(5):
            for x in range(4):
                down = min(max(y - float(shift[n, 1]), 0.0), 4.0)
                across = min(max(x - float(shift[n, 0]), 0.0), 3.0)
                top, left = min(int(down), 3), min(int(across), 2)
                for c in range(2):
                    corner = images[n, c, top : top + 2, left : left + 2].double()
                    above = corner[0, 0] * (1 - across + left) + corner[0, 1] * (across - left)
                    below = corner[1, 0] * (1 - across + left) + corner[1, 1] * (across - left)
                    expected = above * (1 - down + top) + below * (down - top)
                    assert moved[n, c, y, x].item() == pytest.approx(float(expected), abs=1e-5)
    assert torch.equal(translated(images, torch.zeros(3, 2)), images) or torch.allclose(
        translated(images, torch.zeros(3, 2)), images, atol=1e-6
    )
