"""Portable operations: what a few operations of torch on bytes are written as in a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node


def portable(program: ExportedProgram) -> ExportedProgram:
    """The program with operations that ONNX runtimes have, for those of bytes that they do not have.

    Products and quotients of bytes in int32; in its loops, too. The same program if there are none: to write them is as
    much work as to trace it.
    """
    graphs = (module.graph for module in program.graph_module.modules() if isinstance(module, GraphModule))
    nodes = (node for graph in graphs for node in graph.nodes)
    there = any(node.target in _WRITTEN and _dtype(node.args[0]) == torch.uint8 for node in nodes)
    return program.run_decompositions(dict(_WRITTEN)) if there else program


def _dtype(given: Any) -> torch.dtype | None:
    """Dtype of what a node is given, if that is a tensor."""
    value = given.meta.get("val") if isinstance(given, Node) else None
    return value.dtype if isinstance(value, Tensor) else None


def multiplied(x: Tensor, y: Tensor | int) -> Any:
    """x y modulo 256 of bytes; other dtypes as torch."""
    return torch.mul(_wide(x), _wide(y)).to(torch.uint8) if _is_byte(x) and _is_byte(y) else NotImplemented


def divided(x: Tensor, y: Tensor | int, *, rounding_mode: str | None) -> Any:
    """Whole quotient of bytes; other dtypes, and quotients that are not rounded, as torch."""
    if rounding_mode is None or not (_is_byte(x) and _is_byte(y)):
        return NotImplemented
    return torch.div(_wide(x), _wide(y), rounding_mode=rounding_mode).to(torch.uint8)


def _wide(x: Tensor | int) -> Tensor | int:
    return x.to(torch.int32) if isinstance(x, Tensor) else x


def _is_byte(x: Any) -> bool:
    return isinstance(x, int) or (isinstance(x, Tensor) and x.dtype == torch.uint8)


_ATEN = torch.ops.aten
_WRITTEN = {
    _ATEN.mul.Tensor: multiplied,
    _ATEN.div.Tensor_mode: divided,
}
"""operation -> what it is written as"""
