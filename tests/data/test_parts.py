"""Parts of batches: equal, in order, and their feedback put together as if there had been one."""

from __future__ import annotations

import pytest
import torch

from reverie.data.parts import joined, split, together
from reverie.data.sequences import Batch, Feedback


def batch(width: int = 6) -> Batch:
    rows = {"reward": torch.arange(2 * width).view(2, width).float(), "obs.x": torch.zeros(2, width, 3)}
    start = {"core.h": torch.arange(width).view(width, 1)}
    probes = {"core.h": torch.arange(3 * width).view(3, width, 1)}
    keys = torch.arange(width) * 1000
    return Batch(rows, start, keys, torch.rand(width), torch.arange(width), probes)


def test_parts_are_equal_and_in_order() -> None:
    whole = batch()
    parts = split(whole, 3)
    assert [part.keys.tolist() for part in parts] == [[0, 1000], [2000, 3000], [4000, 5000]]
    assert [part.rows["reward"].tolist() for part in parts] == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert parts[1].probes is not None
    assert parts[1].probes["core.h"].flatten().tolist() == [2, 3, 8, 9, 14, 15]
    assert parts[1].start is not None
    assert parts[1].start["core.h"].flatten().tolist() == [2, 3]
    again = joined(whole.tensors())
    assert all(torch.equal(x, whole.tensors()[name]) for name, x in again.tensors().items())
    assert again.tensors().keys() == whole.tensors().keys()
    bare = split(Batch(whole.rows, None, whole.keys, whole.probabilities, whole.ages), 2)
    assert bare[0].start is None
    assert bare[0].probes is None
    with pytest.raises(ValueError, match="6 windows cannot be shared equally by 4"):
        split(whole, 4)


def test_feedback_is_in_the_order_of_the_whole_batch() -> None:
    """Priorities of windows, and states of two rows of each of them: rows first, as `written_back` has them."""
    priorities = [
        Feedback(torch.tensor([0, 1]), torch.tensor([0.5, 1.5])),
        Feedback(torch.tensor([2, 3]), torch.ones(2)),
    ]
    whole = together(priorities, 2)
    assert whole is not None
    assert whole.keys.tolist() == [0, 1, 2, 3]
    assert whole.priorities is not None
    assert whole.priorities.tolist() == [0.5, 1.5, 1.0, 1.0]
    assert whole.states is None
    states = [
        Feedback(torch.tensor([0, 1, 10, 11]), None, {"h": torch.tensor([[0.0], [1.0], [10.0], [11.0]])}),
        Feedback(torch.tensor([2, 3, 12, 13]), None, {"h": torch.tensor([[2.0], [3.0], [12.0], [13.0]])}),
    ]
    both = together(states, 2)
    assert both is not None
    assert both.keys.tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert both.states is not None
    assert both.states["h"].flatten().tolist() == both.keys.tolist()
    assert both.priorities is None
    assert together([None, None], 2) is None
