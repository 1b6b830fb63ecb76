"""Heads: an MLP with a linear output."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from reverie.nets.layers import MLP


@dataclass(frozen=True)
class HeadConfig:
    """layers x units before the linear output."""

    layers: int = 4
    units: int = 400
    act: str = "elu"
    norm: bool = False


class Head(nn.Module):
    """MLP and a linear output: [..., inputs] -> [..., outputs], or [...] if outputs is None (a scalar per row)."""

    def __init__(self, inputs: int, outputs: int | None, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = MLP(inputs, config.layers, config.units, config.act, config.norm)
        self.out = nn.Linear(self.mlp.outputs, 1 if outputs is None else outputs)
        self.scalar = outputs is None

    def forward(self, x: Tensor) -> Tensor:
        """Float32 outputs, also under autocast: they are parameters of distributions."""
        x = self.out(self.mlp(x)).float()
        return x.squeeze(-1) if self.scalar else x
