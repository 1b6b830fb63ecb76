"""Portable operations: what a few operations of torch that ONNX or its runtimes lack are written as in a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

# Wichura 1988, algorithm AS 241, PPND7: numerators and denominators of the rational functions, lowest power first.
_MIDDLE = ((3.3871327179, 50.434271938, 159.29113202, 59.109374720), (1.0, 17.895169469, 78.757757664, 67.187563600))
_TAIL = ((1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103), (1.0, 0.73700164250, 0.12021132975))


def portable(program: ExportedProgram) -> ExportedProgram:
    """The program with operations that ONNX runtimes have, for those that they do not have; in its loops, too.

    Phi^-1 by rational functions; tanh by exp, because runtimes' own is off by some 2e-7, which near 1 is all that the
    density of a squashed normal depends on; the first of the largest booleans, products and quotients of bytes in
    int32.
    """
    return program.run_decompositions(dict(_WRITTEN))


def first_largest(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """Largest of booleans along an axis and the place of the first of them, as `Tensor.max`; other dtypes as torch."""
    if x.dtype != torch.bool:
        return NotImplemented
    numbers = x.to(torch.int32)
    return numbers.amax(dim, keepdim).to(torch.bool), numbers.argmax(dim, keepdim)


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


def squashed(x: Tensor) -> Tensor:
    """tanh(x) = sign(x) (1 - 2 e / (1 + e)), e = exp(-2 |x|), elementwise; off by 1e-7 at most, by 3e-8 near 1."""
    e = torch.exp(-2.0 * x.abs())
    return torch.sign(x) * (1.0 - 2.0 * e / (1.0 + e))


def normal_quantile(p: Tensor) -> Tensor:
    """Phi^-1(p), elementwise, for p in [1e-10, 1 - 2^-24], where this library's noise is.

    Relative error about 1e-7, that of float32. Source: Wichura 1988, "The percentage points of the normal
    distribution", algorithm AS 241, PPND7.
    """
    q = p - 0.5
    middle = q * _rational(_MIDDLE, 0.180625 - q * q)
    r = torch.sqrt(-torch.log(torch.minimum(p, 1.0 - p)))
    tail = torch.sign(q) * _rational(_TAIL, r - 1.6)
    return torch.where(q.abs() <= 0.425, middle, tail)


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    above, below = (_polynomial(part, x) for part in coefficients)
    return above / below


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


_ATEN = torch.ops.aten
_WRITTEN = {
    _ATEN.special_ndtri.default: normal_quantile,
    _ATEN.tanh.default: squashed,
    _ATEN.max.dim: first_largest,
    _ATEN.mul.Tensor: multiplied,
    _ATEN.div.Tensor_mode: divided,
}
"""operation -> what it is written as"""
