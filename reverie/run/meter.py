"""Meters: means of metrics between two log lines, summed where they are computed, read only when logged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Meter:
    """Sums of 0-d tensors and floats per name. Part of a checkpoint: a resumed window ends with the same mean."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor] | dict[str, float]) -> None:
        """Add one observation of each metric; tensors stay on their device."""
        for name, value in metrics.items():
            double = torch.as_tensor(value).detach().double()
            self.sums[name] = self.sums[name] + double if name in self.sums else double
            self.counts[name] = self.counts.get(name, 0) + 1

    def flush(self) -> dict[str, float]:
        """Means since the last flush, as floats (this is where the host waits for the device)."""
        means = {name: (total / self.counts[name]).item() for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Open sums and counts."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
