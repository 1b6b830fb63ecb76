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
        states = projected.new_empty(time, 2, batch, units)  # h, c
        entered = torch.empty_like(states)  # k h, k c
        state, turned = torch.stack([hidden, cell]), weight.t()
        rows = zip(gates.unbind(), keep.unbind(), entered.unbind(), states.unbind(), strict=True)
        for now, kept, before, after in rows:
            hidden, cell = torch.mul(state, kept, out=before).unbind()
            now.addmm_(hidden, turned)
            now[:, : 2 * units].sigmoid_()
            now[:, 2 * units : 3 * units].tanh_()
            now[:, 3 * units :].sigmoid_()
            take, forget, new, give = now.chunk(4, 1)
            torch.mul(forget, cell, out=after[1]).addcmul_(take, new)
            torch.mul(give, after[1].tanh(), out=after[0])
            state = after
        ctx.save_for_backward(weight, keep, gates, entered, states)
        # Copies: what is saved must not be what a caller may change, nor grow with a view of it.
        return states[:, 0].clone(), state[0].clone(), state[1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, d_outputs: Tensor, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Back through time; every factor that does not depend on later rows is computed for all rows at once."""
        weight, keep, gates, entered, states = ctx.saved_tensors
        take, forget, new, give = gates.unflatten(-1, (4, -1)).unbind(-2)
        squashed = states[:, 1].tanh()
        to_cell = give * (1 - squashed * squashed)
        by_cell = torch.stack(
            [new * take * (1 - take), entered[:, 1] * forget * (1 - forget), take * (1 - new * new)], -2
        )
        by_hidden, back = squashed * give * (1 - give), forget * keep
        d_gates = torch.empty_like(gates)
        for t in range(len(gates) - 1, -1, -1):
            d_hidden = d_hidden + d_outputs[t]
            d_cell = torch.addcmul(d_cell, d_hidden, to_cell[t])
            now = d_gates[t].unflatten(-1, (4, -1))
            torch.mul(d_cell.unsqueeze(1), by_cell[t], out=now[:, :3])
            torch.mul(d_hidden, by_hidden[t], out=now[:, 3])
            d_hidden = d_gates[t].mm(weight).mul_(keep[t])
            d_cell = d_cell * back[t]
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = d_gates.flatten(0, 1).t().mm(entered[:, 0].flatten(0, 1))
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
