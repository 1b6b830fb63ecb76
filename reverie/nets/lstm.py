"""A whole LSTM unroll with resets as one operation: what depends on the inputs alone is one product for all rows.

::

    gates_t = x_t W_x^T + b + (k_t h_{t-1}) W_h^T          k_t = 0 where row t is_first, else 1
    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of its quarters
    c_t = f k_t c_{t-1} + i g,     h_t = o tanh(c_t)

The loop holds only the recurrent product and the gates; going back, the gradient of W_h is again one product for all
rows, where autograd would add up one matrix per row. Source: Hochreiter & Schmidhuber 1997, with forget gates; order of
the gates as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Unroll(torch.autograd.Function):
    """Of x W_x^T + b [T, B, 4H], W_h [4H, H], h and c [B, H], keep [T, B, 1] -> outputs [T, B, H], last h, last c."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps the activated gates, the cells and what entered each step."""
        time, batch, four = projected.shape
        units = four // 4
        gates = projected.clone()
        entered = projected.new_empty(2, time, batch, units)  # k h, k c
        cells, outputs = projected.new_empty(time, batch, units), projected.new_empty(time, batch, units)
        turned = weight.t()
        for t in range(time):
            torch.mul(hidden, keep[t], out=entered[0, t])
            torch.mul(cell, keep[t], out=entered[1, t])
            now = gates[t].addmm_(entered[0, t], turned)
            now[:, : 2 * units].sigmoid_()
            now[:, 2 * units : 3 * units].tanh_()
            now[:, 3 * units :].sigmoid_()
            take, forget, new, give = now.chunk(4, 1)
            cell = torch.mul(forget, entered[1, t], out=cells[t]).addcmul_(take, new)
            hidden = torch.mul(give, cell.tanh(), out=outputs[t])
        ctx.save_for_backward(weight, keep, gates, entered, cells)
        return outputs, hidden.clone(), cell.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, d_outputs: Tensor, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Back through time."""
        weight, keep, gates, entered, cells = ctx.saved_tensors
        squashed = cells.tanh()
        d_gates = torch.empty_like(gates)
        for t in range(len(gates) - 1, -1, -1):
            take, forget, new, give = gates[t].chunk(4, 1)
            d_take, d_forget, d_new, d_give = d_gates[t].chunk(4, 1)
            d_hidden = d_hidden + d_outputs[t]
            d_cell = d_cell + d_hidden * give * (1 - squashed[t] * squashed[t])
            torch.mul(d_hidden * squashed[t], give * (1 - give), out=d_give)
            torch.mul(d_cell * new, take * (1 - take), out=d_take)
            torch.mul(d_cell * entered[1, t], forget * (1 - forget), out=d_forget)
            torch.mul(d_cell * take, 1 - new * new, out=d_new)
            d_hidden = d_gates[t].mm(weight) * keep[t]
            d_cell = d_cell * forget * keep[t]
        d_weight = d_gates.flatten(0, 1).t().mm(entered[0].flatten(0, 1)) if ctx.needs_input_grad[1] else None
        return d_gates, d_weight, d_hidden, d_cell, None


def lstm_unroll(
    projected: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [T, B, H], last hidden and last cell [B, H] of an LSTM that is zeroed where is_first.

    projected: x W_x^T + both biases, [T, B, 4H]. weight: W_h [4H, H]. hidden, cell: [B, H] before the first row.
    is_first: bool [T, B]. All of one dtype, which the result has.
    """
    keep = (~is_first).to(projected.dtype).unsqueeze(-1)
    like = projected.dtype
    outputs: tuple[Tensor, Tensor, Tensor] = _Unroll.apply(
        projected, weight.to(like), hidden.to(like), cell.to(like), keep
    )
    return outputs
