"""Loops: in order, with what the last turn told; one scan in an exported program, with the same outcome."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reverie.ops.loop import Tensors, loop


def turn(carry: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
    return {"x": 2.0 * carry["x"] + given["a"], "kept": carry["kept"]}, {"seen": carry["x"]}


def test_turns_by_hand() -> None:
    carry = {"x": torch.tensor([1.0]), "kept": torch.tensor([7.0])}
    end, told = loop(turn, carry, {"a": torch.tensor([[1.0], [-2.0], [4.0]])})
    assert end["x"].tolist() == [12.0]  # 1 -> 3 -> 4 -> 12
    assert end["kept"].tolist() == [7.0]
    assert told["seen"].tolist() == [4.0]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_an_exported_loop_is_one_scan_for_any_batch() -> None:
    class Looping(torch.nn.Module):
        def forward(self, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
            end, told = loop(turn, {"x": x, "kept": x}, {"a": a.transpose(0, 1)})
            return end["x"], told["seen"]

    streams = {0: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        given = (torch.rand(2), torch.rand(2, 50))
        program = torch.export.export(Looping(), given, dynamic_shapes=(streams, streams), strict=False)
        assert len(program.graph.nodes) < 20
        x, a = torch.rand(5), torch.rand(5, 50)
        for answer, expected in zip(program.module()(x, a), Looping()(x, a), strict=True):
            assert torch.equal(answer, expected)
