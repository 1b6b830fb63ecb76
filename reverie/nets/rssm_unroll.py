"""A whole unroll of DreamerV2's memory as one operation, whose gradient of each weight is one product for all rows.

::

    h~, z~ = k_t h_{t-1} + (1 - k_t) start, ...            k_t = 0 where row t is_first, else 1
    x_t = act(norm(driven_t + W_z z~))                     driven_t: what the action has in it
    r, c, u = LayerNorm(W_g [x_t; h~] + b_g)               h_t = h~ + sigmoid(u - 1) (tanh(sigmoid(r) c) - h~)
    l_t = W_o act(norm(embedded_t + W_p h_t)) + b_o        z_t ~ softmax(l_t)

Going back, the loop has only what later rows decide: factors of one row are made for all rows before it, gradients of
the weights after it, where autograd would add up one matrix per row and weight. The numbers are those of the loop,
`reverie.nets.state_space.StateSpace.observe`, but for rounding.
Source: as `reverie.nets.rssm`; straight-through gradients of z (Hafner et al. 2021, algorithm 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reverie.nets.latents import Categorical
from reverie.nets.layers import ACTIVATIONS
from reverie.ops.categorical import sample_index
from reverie.ops.precision import full
from reverie.ops.softmax import softmax

EPS = 1e-3
"""of every LayerNorm here"""


class Weights(NamedTuple):
    """Parameters of the loop, None where there is none. *_scale, *_shift: of the LayerNorm that follows a layer."""

    stoch: Tensor
    into_scale: Tensor | None
    into_shift: Tensor | None
    gates: Tensor
    gates_bias: Tensor | None
    gates_scale: Tensor
    gates_shift: Tensor
    post: Tensor
    post_scale: Tensor | None
    post_shift: Tensor | None
    out: Tensor
    out_bias: Tensor


class Entering(NamedTuple):
    """What rows begin from. mask: [T, B, 1], 0 where a row is_first. *_start: the state there [1, ...]; None: zeros."""

    mask: Tensor
    deter: Tensor
    stoch: Tensor
    deter_start: Tensor | None
    stoch_start: Tensor | None


class Form(NamedTuple):
    """What is no tensor. act: of the two hidden layers. latent: distribution of z. update_bias: of the gate u."""

    act: str
    latent: Categorical
    update_bias: float

    def variables(self, z: Tensor) -> Tensor:
        """z [..., Z] as its variables [..., stoch, classes], a view."""
        return z.unflatten(-1, (self.latent.stoch, self.latent.classes))

    def activated(self, x: Tensor) -> Tensor:
        """Outputs of the activation."""
        return ACTIVATIONS[self.act](x)

    def slope(self, x: Tensor) -> Tensor:
        """Derivative of the activation at x."""
        if self.act == "silu":
            s = torch.sigmoid(x)
            return s * (1 + x * (1 - s))
        if self.act == "tanh":
            return 1 - torch.tanh(x).square()
        return x.clamp(max=0.0).exp() if self.act == "elu" else (x > 0).to(x.dtype)


def unroll(
    form: Form, weights: Weights, driven: Tensor, embedded: Tensor, u: Tensor, entering: Entering
) -> tuple[Tensor, Tensor, Tensor]:
    """States h [T, B, D] and z [T, B, Z] of rows, and the outputs l [T, B, Z] that parameterise their posteriors.

    driven, embedded: [T, B, hidden], of one dtype, which products have. u: uniform [T, B, stoch]. No gradient reaches
    a learned z that begins an episode; second derivatives are not to be had.
    """
    outputs: tuple[Tensor, Tensor, Tensor] = _Unroll.apply(form, driven, embedded, u, *entering, *weights)
    return outputs


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, form: Form, driven: Tensor, embedded: Tensor, u: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = len(Entering._fields)
        entering, given = Entering(*tensors[:count]), Weights(*tensors[count:])  # type: ignore[arg-type]
        weights, low = _in_precision(given, driven.dtype), driven.dtype
        mask, deter, stoch, *starts = entering
        (time, batch, hidden), units, numbers = driven.shape, deter.shape[-1], stoch.shape[-1]
        into, post, outs = torch.empty_like(driven), torch.empty_like(driven), driven.new_empty(time, batch, numbers)
        joined, gates = driven.new_empty(time, batch, hidden + units), driven.new_empty(time, batch, 3 * units)
        before_h, before_z = deter.new_empty(time, batch, units), stoch.new_empty(time, batch, numbers)
        deters, stochs, probs = torch.empty_like(before_h), torch.zeros_like(before_z), []
        begun = [(1 - mask) * start for start in starts if start is not None]
        w_stoch, w_gates, w_post, w_out = (w.t() for w in (weights.stoch, weights.gates, weights.post, weights.out))
        # Views are made for all rows at once: one at a time they would take longer than the arithmetic of small cells.
        rows = zip(
            *(x.unbind() for x in (mask, u, driven, embedded, into, post, joined, *joined.split([hidden, units], -1))),
            *(x.unbind() for x in (gates, before_h, before_z, deters, form.variables(stochs), outs)),
            strict=True,
        )
        for t, row in enumerate(rows):
            mask_t, u_t, driven_t, embedded_t, into_t, post_t, both, x, h, gate, h_in, z_in, h_out, z_out, out = row
            torch.mul(deter, mask_t, out=h_in)
            torch.mul(stoch, mask_t, out=z_in)
            for before, start in zip((h_in, z_in), begun, strict=False):
                before += start[t]
            torch.addmm(driven_t, z_in.to(low), w_stoch, out=into_t)
            x.copy_(form.activated(_normed(into_t, weights.into_scale, weights.into_shift)))
            h.copy_(h_in)
            _product(both, w_gates, weights.gates_bias, gate)
            reset, mixed, update = _normed(gate, weights.gates_scale, weights.gates_shift).chunk(3, -1)
            candidate = torch.sigmoid(reset).mul_(mixed).tanh_()
            torch.lerp(h_in, candidate, torch.sigmoid(update + form.update_bias), out=h_out)
            torch.addmm(embedded_t, h_out.to(low), w_post, out=post_t)
            read = form.activated(_normed(post_t, weights.post_scale, weights.post_shift))
            _product(read.to(low), w_out, weights.out_bias, out)
            probs.append(softmax(form.latent.stats(out)[0]))
            z_out.scatter_(-1, sample_index(probs[-1], u_t).unsqueeze(-1), 1.0)
            deter, stoch = h_out, z_out.flatten(-2)
        ctx.form = form
        ctx.save_for_backward(mask, into, post, joined, gates, before_h, before_z, deters, torch.stack(probs), *given)
        return deters, stochs, outs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, d_deter: Tensor, d_stoch: Tensor, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients, back through time; d_ of what is the loss's by it."""
        form, (mask, into, post, joined, gates, before_h, before_z, deters, probs, *given) = ctx.form, ctx.saved_tensors
        weights, hidden, units = _in_precision(Weights(*given), into.dtype), into.shape[-1], deters.shape[-1]
        of_into = _Layer(into, weights.into_scale, weights.into_shift)
        of_post = _Layer(post, weights.post_scale, weights.post_shift)
        of_gates = _Layer(gates, weights.gates_scale, weights.gates_shift)
        by_gate, kept = _by_gate(of_gates.normed, before_h, form.update_bias)
        mix = form.latent.unimix
        pure = (probs - mix / form.latent.classes) / (1 - mix) if mix else probs
        d_outs, d_before = torch.empty_like(d_out), torch.empty_like(before_h)
        rows = zip(
            *(x.unbind() for x in (mask, d_deter, form.variables(d_stoch), d_out, pure, kept, by_gate)),
            *(form.slope(layer.normed).unbind() for layer in (of_into, of_post)),
            *(x.unbind() for x in (of_into.d_normed, of_post.d_normed, of_gates.d_normed.unflatten(-1, (3, -1)))),
            *(x.unbind() for x in (d_outs, d_before)),
            strict=True,
        )
        back_h, back_z = torch.zeros_like(before_h[0]), torch.zeros_like(before_z[0])
        for t, row in reversed(list(enumerate(rows))):
            mask_t, d_h, d_z, d_l, prob, stays, factor, s_into, s_post, d_into, d_post, d_gate, to_out, to_before = row
            d_z = torch.ops.aten._softmax_backward_data(d_z + form.variables(back_z), prob, -1, prob.dtype)
            torch.add(d_l, d_z.flatten(-2), alpha=1 - mix, out=to_out)
            torch.mul(to_out.mm(weights.out), s_post, out=d_post)
            d_h = d_h + back_h + of_post.back(t).mm(weights.post)
            torch.mul(d_h.unsqueeze(-2), factor, out=d_gate)
            d_x, d_carried = of_gates.back(t).mm(weights.gates).split([hidden, units], -1)
            torch.mul(d_x, s_into, out=d_into)
            torch.addcmul(d_carried.to(d_h.dtype), d_h, stays, out=to_before)
            back_h = to_before * mask_t
            back_z = of_into.back(t).mm(weights.stoch) * mask_t
        needed = ctx.needs_input_grad
        asked = Weights(*needed[-len(Weights._fields) :])
        d_start = (d_before * (1 - mask)).sum((0, 1)).unsqueeze(0) if needed[7] else None
        return (
            *(None, of_into.d_rows, of_post.d_rows, None, None, back_h, back_z, d_start, None),
            _d_weight(asked.stoch, of_into.d_rows, before_z),
            *of_into.d_norm(asked.into_scale),
            _d_weight(asked.gates, of_gates.d_rows, joined),
            _d_bias(asked.gates_bias, of_gates.d_rows),
            *of_gates.d_norm(asked.gates_scale),
            _d_weight(asked.post, of_post.d_rows, deters),
            *of_post.d_norm(asked.post_scale),
            _d_weight(asked.out, d_outs, form.activated(of_post.normed)),
            _d_bias(asked.out_bias, d_outs),
        )


class _Layer:
    """Outputs of a linear layer for all rows, [T, B, n], with what its LayerNorm, if there is one, makes of them.

    normed: what follows reads. d_normed: its gradient, which the loop fills row by row. d_rows: that of the outputs
    themselves, for rows that `back` was called for.
    """

    def __init__(self, rows: Tensor, scale: Tensor | None, shift: Tensor | None) -> None:
        self.normed, self.norm = rows, (scale, shift)
        if scale is not None:
            self.normed, *statistics = torch.native_layer_norm(full(rows), rows.shape[-1:], scale, shift, EPS)
            self.given = (full(rows), *statistics)
        self.d_normed = torch.empty_like(self.normed)
        self.d_rows = self.d_normed if scale is None else torch.empty_like(rows)
        self.each = [] if scale is None else list(zip(*(x.unbind() for x in (*self.given, self.d_normed)), strict=True))
        self.d_each = self.d_rows.unbind()

    def back(self, t: int) -> Tensor:
        """Gradient of row t [B, n], in the precision of products."""
        if self.each:
            self.d_each[t].copy_(self._gradients([True, False, False], *self.each[t])[0])
        return self.d_each[t]

    def d_norm(self, asked: Any) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of scale and shift, from those of all rows."""
        if not asked:
            return None, None
        flat = (x.flatten(0, 1) for x in (*self.given, self.d_normed))
        _, scale, shift = self._gradients([False, True, True], *flat)
        return scale, shift

    def _gradients(self, which: list[bool], rows: Tensor, mean: Tensor, inverse: Tensor, d: Tensor) -> Any:
        return torch.ops.aten.native_layer_norm_backward(d, rows, rows.shape[-1:], mean, inverse, *self.norm, which)


def _normed(rows: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """LayerNorm of rows in float32 at least, or rows as they are where there is none."""
    return rows if scale is None else torch.native_layer_norm(full(rows), rows.shape[-1:], scale, shift, EPS)[0]


def _by_gate(normed: Tensor, before: Tensor, update_bias: float) -> tuple[Tensor, Tensor]:
    """Derivatives of h by the three inputs of the gates [T, B, 3, D] and by the state before [T, B, D], of all rows."""
    reset, mixed, update = normed.chunk(3, -1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update + update_bias)
    candidate = torch.tanh(reset * mixed)
    inner = update * (1 - candidate.square()) * reset
    outer = (candidate - before) * update * (1 - update)
    return torch.stack([inner * mixed * (1 - reset), inner, outer], -2), 1 - update


def _in_precision(weights: Weights, dtype: torch.dtype) -> Weights:
    """Weights with those of products in a dtype; norms keep theirs."""
    kept = {"into_scale", "into_shift", "gates_scale", "gates_shift", "post_scale", "post_shift"}
    each = weights._asdict().items()
    return Weights(**{name: w if w is None or name in kept else w.to(dtype) for name, w in each})


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """x W + b into `out`."""
    if bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)


def _d_weight(asked: Any, d_rows: Tensor, inputs: Tensor) -> Tensor | None:
    """Gradient of a layer's weight from those of its outputs and from its inputs, both [T, B, ...]."""
    return d_rows.flatten(0, 1).t().mm(inputs.flatten(0, 1).to(d_rows.dtype)) if asked else None


def _d_bias(asked: Any, d_rows: Tensor) -> Tensor | None:
    return d_rows.flatten(0, 1).sum(0) if asked else None
