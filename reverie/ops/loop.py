"""Loops whose turns are all alike, so that an exported graph has their body once instead of every turn of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Turn = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]


def loop(turn: Turn, carry: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
    """`carry` after all turns, and what the last turn told.

    ::

        carry, told = turn(carry, {name: x[t] for name, x in given.items()})        for t = 0 ... T - 1

    turn: a function of tensors; its carry has the names, shapes and dtypes of the one that it got. carry: name ->
    tensor of any shape. given: name -> [T, ...], T >= 1.
    While a program is exported (`torch.export`) this is one `scan`, whose body is written once; otherwise it is the
    loop above, the same operations in the same order.
    """
    if torch.compiler.is_exporting():
        return _scanned(turn, carry, given)
    told: Tensors = {}
    for t in range(next(iter(given.values())).shape[0]):
        carry, told = turn(carry, {name: x[t] for name, x in given.items()})
    return carry, told


def _scanned(turn: Turn, carry: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
    from torch._higher_order_ops.scan import scan

    def body(carry: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
        after, told = turn(carry, given)
        # What goes out of a scan's body may be no view of what went in.
        return {name: after[name].clone() for name in carry}, {name: x.clone() for name, x in told.items()}

    carry, told = scan(body, {name: x.clone() for name, x in carry.items()}, given, dim=0)
    return carry, {name: x[-1] for name, x in told.items()}
