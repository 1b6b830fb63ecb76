"""Noisy layers: linear layers whose weights are drawn anew, with a learned standard deviation for each.

    y = (mu_W + sigma_W * E) x + mu_b + sigma_b * e_out,    E_ij = e_out_i e_in_j,    e = sign(z) sqrt|z|,   z ~ N(0, 1)

Since E is a product, the noisy part is e_out * (sigma_W (e_in * x)): no noisy weight is ever formed, and every row may
have noise of its own, or all rows one noise, by the shape of what is passed in. Noise comes as uniform numbers from
whoever acts or learns, and `factor_noise` makes e of them, once for all layers; 1/2 in every place is no noise at all:
the mean weights.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.layers import Numbers
from reverie.ops import distributions as D
from reverie.ops.precision import full, without_autocast

MEAN = 0.5
"""The uniform number that stands for a noise of exactly 0."""


def factor_noise(u: Tensor) -> Tensor:
    """sign(z) sqrt(|z|) of standard normal z = Phi^-1(u); u: uniform in [0, 1), any shape.

    Source: Fortunato et al. 2018, section 3, "Factorised Gaussian noise".
    """
    z = D.normal_sample(torch.zeros_like(u), 1.0, u)
    return z.sign() * z.abs().sqrt()


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise, [..., inputs] -> [..., outputs].

    mu is drawn from U(-1 / sqrt(inputs), 1 / sqrt(inputs)), as `nn.Linear` does; every sigma begins at
    sigma / sqrt(inputs). noise: factors that it takes, inputs + outputs.
    Source: Fortunato et al. 2018, "Noisy Networks for Exploration", equations 9 to 11 and section 3.2.
    """

    def __init__(self, inputs: int, outputs: int, sigma: float) -> None:
        super().__init__()
        self.inputs, self.noise = inputs, inputs + outputs
        self.mean = nn.Linear(inputs, outputs)
        start = sigma / math.sqrt(inputs)
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), start))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), start))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Outputs of x [..., inputs]; e: factors [..., noise] or any shape that broadcasts, such as [1, 1, noise]."""
        e_in, e_out = e[..., : self.inputs], e[..., self.inputs :]
        mean: Tensor = self.mean(x)
        return mean + e_out * (F.linear(x * e_in, self.weight_sigma) + self.bias_sigma)


class NoisyNumbers(NoisyLinear):
    """A noisy linear output in float32, where autocast is in force too: see `reverie.nets.layers.Numbers`."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Outputs of x."""
        with without_autocast(x):
            return super().forward(full(x), full(e))


class NoisyStream(nn.Module):
    """A ReLU layer of `hidden` units and a linear one (the linear one alone if hidden = 0), noisy or not.

    Without noise it is `reverie.nets.q_heads.stream`, parameter by parameter. noise: factors for all layers.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, sigma: float | None) -> None:
        super().__init__()
        sizes = [inputs, hidden, outputs] if hidden else [inputs, outputs]
        *below, last = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(i, o) if sigma is None else NoisyLinear(i, o, sigma) for i, o in below)
        self.layers.append(Numbers(*last) if sigma is None else NoisyNumbers(*last, sigma))
        self.counts = [layer.noise if isinstance(layer, NoisyLinear) else 0 for layer in self.layers]
        self.noise = sum(self.counts)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Outputs [..., outputs] of x [..., inputs]; e: factors [..., noise]."""
        for i, (layer, part) in enumerate(zip(self.layers, e.split(self.counts, -1), strict=True)):
            x = F.relu(x) if i else x
            x = layer(x, part) if isinstance(layer, NoisyLinear) else layer(x)
        return x
