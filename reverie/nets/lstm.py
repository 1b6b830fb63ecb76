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
    """Outputs of x W_x^T + b [T, B, 4H], W_h [4H, H], h and c [B, H], mask [T, B, 1] -> [T, B, H], last h, last c.

    Inside, batches come last: [T, 4H, B]. W_h h is then a product of matrices as they lie in memory, which is faster
    than h W_h^T on a processor, and the quarters of the gates are blocks.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs and last states; the activated gates, the cells and what entered each step are saved."""
        time, batch, four = projected.shape
        units = four // 4
        mask = mask.transpose(1, 2)
        gates = turned(projected)
        states = gates.new_empty(time, 2, units, batch)  # h, c
        entered = torch.empty_like(states)  # k h, k c
        state, squashed = torch.stack([hidden.t(), cell.t()]), gates.new_empty(units, batch)
        # Views are made for all rows at once: one at a time they would take longer than the arithmetic of small cells.
        rows = zip(
            *(x.unbind() for x in (gates, gates[:, : 2 * units], *gates.unflatten(1, (4, units)).unbind(1), mask)),
            *(x.unbind() for pair in (entered, states) for x in (pair, pair[:, 0], pair[:, 1])),
            strict=True,
        )
        for now, i_f, i, f, g, o, mask_t, before, h, c, after, h_after, c_after in rows:
            torch.mul(state, mask_t, out=before)
            now.addmm_(weight, h)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=c_after).addcmul_(i, g)
            torch.mul(o, torch.tanh(c_after, out=squashed), out=h_after)
            state = after
        ctx.save_for_backward(weight, mask, gates, entered, states)
        return turned(states[:, 0]), turned(state[0]), turned(state[1])

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, d_outputs: Tensor, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients, back through time; factors that do not depend on later rows are computed for all rows at once."""
        weight, mask, gates, entered, states = ctx.saved_tensors
        i, f, g, o = gates.unflatten(1, (4, -1)).unbind(1)
        squashed = states[:, 1].tanh()
        to_cell = o * (1 - squashed * squashed)
        by_cell = torch.stack([g * i * (1 - i), entered[:, 1] * f * (1 - f), i * (1 - g * g)], 1)
        by_hidden, back = squashed * o * (1 - o), f * mask
        d_gates = torch.empty_like(gates)
        quarters = d_gates.unflatten(1, (4, -1))
        each = (d_gates, quarters[:, :3], quarters[:, 3], turned(d_outputs), to_cell, by_cell, by_hidden, back, mask)
        d_hidden, d_cell, back_through = d_hidden.t(), d_cell.t(), weight.t()
        for now, d_first, d_o, d_output, cell, first, hidden, earlier, mask_t in reversed(
            list(zip(*(x.unbind() for x in each), strict=True))
        ):
            d_hidden = d_hidden + d_output
            d_cell = torch.addcmul(d_cell, d_hidden, cell)
            torch.mul(d_cell, first, out=d_first)
            torch.mul(d_hidden, hidden, out=d_o)
            d_hidden = back_through.mm(now).mul_(mask_t)
            d_cell = d_cell * earlier
        d_projected, d_weight = turned(d_gates), None
        if ctx.needs_input_grad[1]:
            d_weight = d_projected.flatten(0, 1).t().mm(turned(entered[:, 0]).flatten(0, 1))
        return d_projected, d_weight, d_hidden.t(), d_cell.t(), None


def turned(x: Tensor) -> Tensor:
    """Copy of x with its last two axes exchanged: what is saved must not be what a caller may change."""
    return x.transpose(-2, -1).clone(memory_format=torch.contiguous_format)


def lstm_unroll(
    projected: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [T, B, H], last hidden and last cell [B, H] of an LSTM that is zeroed where is_first.

    projected: x W_x^T + both biases, [T, B, 4H]. weight: W_h [4H, H]. hidden, cell: [B, H] before the first row.
    is_first: bool [T, B]. All of one dtype, which the result has.
    """
    mask = (~is_first).to(projected.dtype).unsqueeze(-1)
    like = projected.dtype
    outputs: tuple[Tensor, Tensor, Tensor] = _Unroll.apply(
        projected, weight.to(like), hidden.to(like), cell.to(like), mask
    )
    return outputs
