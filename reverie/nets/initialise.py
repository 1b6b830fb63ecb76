"""First parameters of actor-critics as their published codes have them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["torch", "sonnet", "orthogonal"]
INITS: tuple[Init, ...] = ("torch", "sonnet", "orthogonal")


def initialise(kind: Init, body: nn.Module, actor: nn.Linear, critic: nn.Linear, forget_bias: float = 0.0) -> None:
    """Initialise torso and memory (body) and two heads in place.

    torch: as they are. sonnet: kernels truncated normals of std 1 / sqrt(fan in), LSTM Glorot-uniform. orthogonal: of
    gain sqrt(2), for the actor 0.01, for the critic and the LSTM 1. Both have biases of zero, but for forget_bias, to
    which sonnet adds 1.
    Raises ValueError for another kind.
    Source: sonnet: the defaults of Sonnet 1 and TensorFlow 1 (whose LSTM cell adds 1 to forget gates), as in IMPALA's
    released code. orthogonal: OpenAI Baselines, a2c.
    """
    if kind not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {kind!r}")
    orthogonal = nn.init.orthogonal_
    if kind == "sonnet":
        for module in (body, actor, critic):
            _each(module, _truncated_, _glorot_cell_, 1.0 + forget_bias)
    elif kind == "orthogonal":
        for module, gain in ((body, sqrt(2.0)), (actor, 0.01), (critic, 1.0)):
            _each(module, partial(orthogonal, gain=gain), _orthogonal_cell_, forget_bias)


Cell = nn.LSTMCell | nn.GRUCell


def _each(
    module: nn.Module, weight: Callable[[Tensor], object], cell: Callable[[Cell], None], forget_bias: float
) -> None:
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            weight(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LSTMCell | nn.GRUCell):
            cell(child)
            nn.init.zeros_(child.bias_ih)
            nn.init.zeros_(child.bias_hh)
            if isinstance(child, nn.LSTMCell):
                with torch.no_grad():
                    child.bias_ih[child.hidden_size : 2 * child.hidden_size] = forget_bias


def _orthogonal_cell_(cell: Cell) -> None:
    nn.init.orthogonal_(cell.weight_ih)
    nn.init.orthogonal_(cell.weight_hh)


def _glorot_cell_(cell: Cell) -> None:
    """Glorot-uniform over the one kernel [x, h] -> gates that TensorFlow's cell has."""
    limit = sqrt(6.0 / (cell.input_size + cell.hidden_size + len(cell.weight_ih)))
    nn.init.uniform_(cell.weight_ih, -limit, limit)
    nn.init.uniform_(cell.weight_hh, -limit, limit)


def _truncated_(weight: Tensor) -> None:
    """Normal of std 1 / sqrt(fan in), cut at two of them."""
    std = 1.0 / sqrt(weight[0].numel())
    nn.init.trunc_normal_(weight, 0.0, std, -2.0 * std, 2.0 * std)
