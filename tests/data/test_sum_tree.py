"""The sum tree against plain arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.data.sum_tree import UNSETTLED, SumTree


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([1, 2, 15, 16, 17, 255, 256, 257, 700, 20_000]),
    seed=st.integers(0, 2**32),
    rounds=st.integers(1, 8),
    scale=st.sampled_from([1.0, 1e-12, 1e12]),
)
def test_agrees_with_an_array(size: int, seed: int, rounds: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    tree, plain = SumTree(size), np.zeros(size)
    for _ in range(rounds):
        n = int(rng.integers(1, min(2 * size, 400) + 1))
        leaves = rng.integers(0, size, n)
        values = rng.choice([0.0, 1.0, 1e-9, rng.random()], n) * scale
        tree.set(leaves, values)
        for leaf, value in zip(leaves.tolist(), values.tolist(), strict=True):
            plain[leaf] = value
        np.testing.assert_array_equal(tree.get(np.arange(tree.size)), plain)
        np.testing.assert_allclose(tree.total(), plain.sum(), rtol=1e-12)
    if tree.total() == 0.0:
        return
    # Sums depend on the leaves alone.
    fresh = SumTree(size)
    fresh.load(plain)
    assert fresh.total() == tree.total()
    mass = np.concatenate([rng.random(200), [0.0, np.nextafter(1.0, 0.0), 1.0]]) * tree.total()
    found = tree.find(mass)
    assert (plain[found] > 0).all()
    ends = np.cumsum(plain)
    slack = 1e-9 * tree.total()
    assert (ends[found] >= mass - slack).all()
    assert (ends[found] - plain[found] <= mass + slack).all()


def test_every_leaf_is_found_at_its_place() -> None:
    values = np.arange(1.0, 301.0)
    tree = SumTree(300)
    tree.set(np.arange(300), values)
    begins = np.cumsum(values) - values
    assert tree.find(begins).tolist() == list(range(300))
    assert tree.find(begins + values - 0.5).tolist() == list(range(300))


def test_rounding_does_not_lead_out_of_a_node() -> None:
    # Two nodes with one leaf each. The largest mass below first + second, less the first, rounds up to the second
    # itself: without a guard the search would leave the node.
    first = float.fromhex("0x1.549539b62edf8p+6")
    second = 16 * first
    assert np.nextafter(first + second, 0.0) - first == second
    tree = SumTree(48)
    tree.set(np.array([5, 21]), np.array([first, second]))
    assert tree.find(np.array([np.nextafter(tree.total(), 0.0)])).tolist() == [21]


def test_leaves_that_nobody_asks_about_take_no_more_memory() -> None:
    tree = SumTree(8)
    for step in range(3 * UNSETTLED):
        tree.set(np.array([step % 8]), float(step))
        assert len(tree._dirty) < UNSETTLED
    assert tree.total() == sum(range(3 * UNSETTLED - 8, 3 * UNSETTLED))


def test_sums_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    tree = SumTree(1000)
    for _ in range(500):
        tree.set(rng.integers(0, 1000, 50), rng.random(50) * 10.0 ** rng.integers(-9, 9, 50))
        tree.total()
    tree.set(np.arange(1000), 0.0)
    tree.set(np.array([3]), 1e-9)
    assert tree.total() == 1e-9
