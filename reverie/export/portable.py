"""Portable operations: what a few operations of torch that ONNX or its runtimes lack are written as in a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Wichura 1988, algorithm AS 241, PPND7: numerators and denominators of the rational functions, lowest power first.
_MIDDLE = ((3.3871327179, 50.434271938, 159.29113202, 59.109374720), (1.0, 17.895169469, 78.757757664, 67.187563600))
_TAIL = ((1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103), (1.0, 0.73700164250, 0.12021132975))


class Portable(TorchFunctionMode):
    """Context in which a trace takes operations that ONNX runtimes have, for those that they do not have.

    Phi^-1 by rational functions; tanh by exp, because runtimes' own is off by some 2e-7, which near 1 is all that the
    density of a squashed normal depends on; the first of the largest booleans, products and quotients of bytes in
    int32.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """The operation, or what stands for it."""
        kwargs = kwargs or {}
        if func is torch.special.ndtri:
            return normal_quantile(*args, **kwargs)
        if func in (torch.tanh, torch.Tensor.tanh):
            return squashed(*args, **kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if func is torch.Tensor.max and first is not None and first.dtype == torch.bool and len(args) == 2:
            x = first.to(torch.int32)
            return torch.return_types.max((x.amax(args[1]).to(torch.bool), x.argmax(args[1])))
        if func in _BYTES and first is not None and all(_is_byte(x) for x in args):
            wide = [x.to(torch.int32) if isinstance(x, Tensor) else x for x in args]
            return func(*wide, **kwargs).to(torch.uint8)
        return func(*args, **kwargs)


_BYTES = {torch.Tensor.mul, torch.Tensor.__mul__, torch.mul, torch.Tensor.__rmul__, torch.Tensor.div, torch.div}


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
