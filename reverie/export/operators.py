"""Operators of ONNX for operations of torch that its runtimes lack, or do too coarsely. Needs onnxscript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, INT32, INT64, opset20

op: Any = opset20  # its stubs know less than it takes

# Wichura 1988, algorithm AS 241, PPND7: numerators and denominators of the rational functions, lowest power first.
_MIDDLE = ((3.3871327179, 50.434271938, 159.29113202, 59.109374720), (1.0, 17.895169469, 78.757757664, 67.187563600))
_TAIL = ((1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103), (1.0, 0.73700164250, 0.12021132975))


def squashed(x: FLOAT) -> FLOAT:
    """tanh(x) = sign(x) (1 - 2 e / (1 + e)), e = exp(-2 |x|), elementwise; off by 1e-7 at most, by 3e-8 near 1.

    Runtimes' own is off by some 2e-7, which near 1 is all that the density of a squashed normal depends on.
    """
    e = op.Exp(op.Mul(op.Abs(x), -2.0))
    return op.Mul(op.Sign(x), op.Sub(1.0, op.Div(op.Mul(e, 2.0), op.Add(e, 1.0))))


def normal_quantile(p: FLOAT) -> FLOAT:
    """Phi^-1(p), elementwise, for p in [1e-10, 1 - 2^-24], where this library's noise is.

    Relative error about 1e-7, that of float32. Source: Wichura 1988, "The percentage points of the normal
    distribution", algorithm AS 241, PPND7.
    """
    q = op.Sub(p, 0.5)
    middle = op.Mul(q, _rational(_MIDDLE, op.Sub(0.180625, op.Mul(q, q))))
    r = op.Sqrt(op.Neg(op.Log(op.Min(p, op.Sub(1.0, p)))))
    tail = op.Mul(op.Sign(q), _rational(_TAIL, op.Sub(r, 1.6)))
    return op.Where(op.LessOrEqual(op.Abs(q), 0.425), middle, tail)


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Any) -> Any:
    above, below = (_polynomial(part, x) for part in coefficients)
    return op.Div(above, below)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    *lower, last = coefficients
    value: Any = last
    for c in reversed(lower):
        value = op.Add(op.Mul(x, value), c)
    return value


def largest(x: BOOL | FLOAT | INT32 | INT64, dim: int, keepdim: bool = False) -> Any:
    """Largest along an axis and the place of the first of them, as `Tensor.max`; runtimes know none of booleans."""
    numbers = op.Cast(x, to=INT32.dtype) if x.dtype == BOOL.dtype else x
    most = op.ReduceMax(numbers, [dim], keepdims=keepdim)
    return op.Cast(most, to=x.dtype) if x.dtype == BOOL.dtype else most, op.ArgMax(numbers, axis=dim, keepdims=keepdim)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.special_ndtri.default: normal_quantile,
    torch.ops.aten.tanh.default: squashed,
    torch.ops.aten.max.dim: largest,
}
"""operation -> the operators that it is written as"""
