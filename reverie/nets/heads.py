"""Heads: an MLP with a linear output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reverie.nets.layers import MLP, Act, Norm, Numbers
from reverie.values import Count, Number


@dataclass(frozen=True)
class HeadConfig:
    """layers: hidden ones before the linear output. units: of each. act: activation.

    norm: what follows each layer, see `reverie.nets.layers.Norm`.
    """

    layers: Number = 4
    units: Count = 400
    act: Act = "elu"
    norm: Norm = False


class Head(nn.Module):
    """MLP and a linear output: [..., inputs] -> [..., outputs], or [...] if outputs is None (a scalar per row)."""

    def __init__(self, inputs: int, outputs: int | None, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = MLP(inputs, config.layers, config.units, config.act, config.norm)
        self.out = Numbers(self.mlp.outputs, 1 if outputs is None else outputs)
        self.scalar = outputs is None

    @torch.no_grad()
    def scale_output(self, scale: float) -> None:
        """Multiply the initial weights of the output: 0 for heads that shall begin with zeros (DreamerV3)."""
        self.out.weight.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 outputs, also under autocast: they are parameters of distributions."""
        x = self.out(self.mlp(x))
        return x.squeeze(-1) if self.scalar else x


class FirstHead(Head):
    """A head that reads the first `inputs` of its features: [..., inputs or more] -> [..., outputs]."""

    def __init__(self, inputs: int, outputs: int | None, config: HeadConfig) -> None:
        super().__init__(inputs, outputs, config)
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Float32 outputs of a part of the features."""
        return super().forward(x[..., : self.inputs])
