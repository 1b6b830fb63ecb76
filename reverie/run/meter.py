"""Meters: means of metrics between two log lines, summed where they are computed, read only when logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SEPARATOR = "\n"
"""between names that came together, in a checkpoint"""


class Meter:
    """Sums of 0-d tensors and floats per name. Part of a checkpoint: a resumed window ends with the same mean.

    Those that come together are added together, in one operation.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    @property
    def sums(self) -> dict[str, Tensor]:
        """Sums since the last flush by name, float64 []."""
        sums: dict[str, Tensor] = {}
        for names, totals in self._sums.items():
            for name, total in zip(names, totals.unbind(), strict=True):
                sums[name] = sums[name] + total if name in sums else total
        return sums

    @property
    def counts(self) -> dict[str, int]:
        """Observations since the last flush by name."""
        counts: dict[str, int] = {}
        for names, count in self._counts.items():
            for name in names:
                counts[name] = counts.get(name, 0) + count
        return counts

    def add(self, metrics: Mapping[str, Tensor] | Mapping[str, float]) -> None:
        """Add one observation of each metric; tensors stay on their device."""
        tensors = {name: torch.as_tensor(value).detach() for name, value in metrics.items()}
        for device in {value.device: None for value in tensors.values()}:
            there = {name: value for name, value in tensors.items() if value.device == device}
            if len({value.dtype for value in there.values()}) > 1:
                there = {name: value.double() for name, value in there.items()}
            names, values = tuple(there), torch.stack(list(there.values())).double()
            # Sums of a checkpoint lie on the processor, wherever those of the updates lie.
            self._sums[names] = self._sums[names].to(values.device) + values if names in self._sums else values
            self._counts[names] = self._counts.get(names, 0) + 1

    def flush(self) -> dict[str, float]:
        """Means since the last flush, as floats (this is where the host waits for the device)."""
        counts = self.counts
        means = {name: (total / counts[name]).item() for name, total in self.sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Open sums and counts of those that came together, by their names."""
        counts = {SEPARATOR.join(names): count for names, count in self._counts.items()}
        return {"sums": {SEPARATOR.join(names): sums for names, sums in self._sums.items()}, "counts": counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._sums = {tuple(names.split(SEPARATOR)): sums.reshape(-1) for names, sums in state["sums"].items()}
        self._counts = {tuple(names.split(SEPARATOR)): count for names, count in state["counts"].items()}
