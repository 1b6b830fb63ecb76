"""Ensembles: several heads for one thing, which begin from different parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.nets.heads import Head, HeadConfig


class Ensemble(nn.Module):
    """K heads of the same inputs: [..., inputs] -> [K, ..., outputs], float32. Raises ValueError for fewer than 2."""

    def __init__(self, inputs: int, outputs: int, members: int, config: HeadConfig) -> None:
        super().__init__()
        if members < 2:
            raise ValueError(f"an ensemble has at least 2 members, got {members}")
        self.members = nn.ModuleList(Head(inputs, outputs, config) for _ in range(members))

    def forward(self, x: Tensor) -> Tensor:
        """What each member says of x."""
        return torch.stack([member(x) for member in self.members])
