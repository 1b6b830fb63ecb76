"""Means between two lines of the log: by hand, and the same to the bit after a checkpoint in their middle."""

from __future__ import annotations

import torch

from reverie.run.meter import Meter


def test_means_by_hand() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)})
    meter.add({"age": 3.0})
    meter.add({"a": torch.tensor(2.0), "b": torch.tensor(6.0)})
    meter.add({"a": torch.tensor(6.0)})
    assert {name: float(total) for name, total in meter.sums.items()} == {"a": 9.0, "b": 10.0, "age": 3.0}
    assert meter.flush() == {"a": 3.0, "b": 5.0, "age": 3.0}
    assert meter.flush() == {}
    meter.add({})
    assert meter.sums == meter.counts == {}


def test_a_checkpoint_in_the_middle_changes_no_bit() -> None:
    numbers = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * 1e3
    one, two = Meter(), Meter()
    for turn, row in enumerate(numbers):
        if turn == 100:
            saved = two.state_dict()
            two = Meter()
            two.load_state_dict(saved)
        for meter in (one, two):
            meter.add({"x": row[0], "y": row[1]})
            meter.add({"x": row[2]} if turn % 3 else {"z": row[2]})
    assert one.flush() == two.flush()


def test_sums_of_single_names_as_earlier_checkpoints_have_them_are_taken() -> None:
    meter = Meter()
    meter.load_state_dict({"sums": {"a": torch.tensor(5.0, dtype=torch.float64)}, "counts": {"a": 2}})
    meter.add({"a": torch.tensor(4.0), "b": torch.tensor(1.0)})
    assert meter.flush() == {"a": 3.0, "b": 1.0}
