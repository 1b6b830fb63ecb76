"""TD-MPC2's layers: normed linear ones, simplicial normalisation, and an ensemble of networks as one batched product.

::

    NormedLinear      x -> W x + b -> (dropout) -> LayerNorm -> activation
    normed_mlp        NormedLinear(Mish), NormedLinear(Mish), ..., then a plain Linear or a NormedLinear(SimNorm)
    NormedEnsemble    Q such networks with a plain Linear at the end, their weights stacked along a first axis

Source: Hansen et al. 2024 (TD-MPC2), section 3.1 and appendix on the architecture; its code, common/layers.py, init.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.ops.softmax import softmax

STD = 0.02
"""of first weights"""


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + e^x)), elementwise.

    Without a gradient on a processor by n = e^x (e^x + 2), of which tanh(log(1 + e^x)) is n / (n + 2): one exponential
    in place of torch's three functions. Source: Misra 2019.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return F.mish(x)
    power = x.clamp(max=20.0).exp_()  # beyond, the quotient is 1
    n = (power + 2.0).mul_(power)
    return n.div_(n + 2.0).mul_(x)


def simnorm(x: Tensor, group: int = 8) -> Tensor:
    """Simplicial normalisation: each group of neighbours becomes softmax(group), [..., L] -> [..., L] float32.

    ::

        x = [g_1, ..., g_{L/V}]     y = [softmax(g_1), ..., softmax(g_{L/V})]      V = group, no temperature

    Every group sums to 1. Raises ValueError if the last axis is no multiple of `group`.
    Source: Lavoie et al. 2022; Hansen et al. 2024 (TD-MPC2), equation 4.
    """
    if x.shape[-1] % group:
        raise ValueError(f"{x.shape[-1]} numbers cannot be divided into groups of {group}")
    return softmax(x.float().unflatten(-1, (-1, group))).flatten(-2)


class NormedLinear(nn.Module):
    """act(LayerNorm(W x + b)): [..., inputs] -> [..., outputs]. act: Mish, unless another is given."""

    def __init__(self, inputs: int, outputs: int, act: Callable[[Tensor], Tensor] = mish) -> None:
        super().__init__()
        self.linear, self.norm, self.act = nn.Linear(inputs, outputs), nn.LayerNorm(outputs), act
        initialise_(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of x."""
        return self.act(self.norm(self.linear(x)))


def initialise_(linear: nn.Linear, zero: bool = False) -> None:
    """First weights of a layer, in place: normal of std 0.02, cut at +-2, or zeros; the bias is zero."""
    nn.init.zeros_(linear.weight) if zero else nn.init.trunc_normal_(linear.weight, std=STD)
    nn.init.zeros_(linear.bias)


def normed_mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    act: Callable[[Tensor], Tensor] | None = None,
    zero: bool = False,
) -> nn.Sequential:
    """Normed layers of these widths and an output layer: a normed one with `act`, or a plain one without.

    zero: the weights of a plain output layer begin at zero.
    """
    widths = (inputs, *hidden)
    layers: list[nn.Module] = [NormedLinear(i, o) for i, o in pairwise(widths)]
    if act is not None:
        return nn.Sequential(*layers, NormedLinear(widths[-1], outputs, act))
    last = nn.Linear(widths[-1], outputs)
    initialise_(last, zero)
    return nn.Sequential(*layers, last)


class NormedEnsemble(nn.Module):
    """`members` networks of two normed layers and a plain output, at once: [..., inputs] -> [members, ..., outputs].

    dropout: probability with which a number behind the first product is left out, before its norm; it happens only
    where uniform numbers are given. The weights of the output begin at zero.
    """

    def __init__(self, members: int, inputs: int, units: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        widths = (inputs, units, units, outputs)
        self.members, self.units, self.dropout = members, units, dropout
        self.weights = nn.ParameterList(torch.zeros(members, i, o) for i, o in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for o in widths[1:])
        self.scales = nn.ParameterList(torch.ones(members, 1, units) for _ in range(2))
        self.shifts = nn.ParameterList(torch.zeros(members, 1, units) for _ in range(2))
        for weight in list(self.weights)[:-1]:
            nn.init.trunc_normal_(weight, std=STD)

    def forward(self, x: Tensor, u: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        """Outputs of x [..., inputs]. chosen: int64 [K], the members that are asked; all, in their order, if None.

        u: uniform [K, rows, units] for dropout, with rows the product of the leading axes of x. None: no dropout.
        """
        each = [*self.weights, *self.biases, *self.scales, *self.shifts]
        if chosen is not None:
            each = [parameter.index_select(0, chosen) for parameter in each]
        (w1, w2, w3), (b1, b2, b3), scales, shifts = each[:3], each[3:6], each[6:8], each[8:]
        rows = x.reshape(1, -1, x.shape[-1]).expand(w1.shape[0], -1, -1)
        h = rows @ w1 + b1
        if u is not None:
            h = torch.where(u < self.dropout, 0.0, h / (1.0 - self.dropout))
        h = self._normed(h, scales[0], shifts[0])
        h = self._normed(h @ w2 + b2, scales[1], shifts[1])
        return (h @ w3 + b3).view(h.shape[0], *x.shape[:-1], -1)

    def _normed(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return mish(F.layer_norm(h, (self.units,)) * scale + shift)
