"""Batches move between devices whole."""

import torch

from reverie.data.sequences import Batch


def test_every_tensor_of_a_batch_moves() -> None:
    one = torch.ones(2, 3)
    batch = Batch({"reward": one, "is_first": one > 0}, {"h": one}, one[0], one[0], one[0])
    moved = batch.to(torch.device("meta"))
    tensors = [*moved.rows.values(), *(moved.start or {}).values(), moved.keys, moved.probabilities, moved.ages]
    assert len(tensors) == 6
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert Batch({}, None, one, one, one).to(torch.device("meta")).start is None
