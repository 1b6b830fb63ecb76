"""Rings: preallocated storage for rows, one tensor per field, written in place and gathered in one call per field.

Fields are stored in their own dtype (an image is stored once, as uint8). Memory is reserved at construction and touched
only when a slot is first written, so a large ring costs nothing until it fills.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from reverie.data.rows import RowSpec, bytes_of


class Rings:
    """`slots` places for rows of `spec`.

    data: field -> tensor [slots, *shape] on `device`.
    """

    def __init__(self, spec: RowSpec, slots: int, device: torch.device) -> None:
        self.spec = dict(spec)
        self.slots = slots
        self.device = device
        self.data: dict[str, torch.Tensor] = {}
        self._flat: dict[str, torch.Tensor] = {}
        self._numpy: dict[str, np.ndarray] = {}
        for name, field in self.spec.items():
            # numpy asks the kernel for huge pages, torch does not; both leave the pages untouched.
            host = np.empty((slots, *field.shape) if device.type == "cpu" else (0, *field.shape), field.dtype)
            if device.type == "cpu":
                tensor = torch.from_numpy(host)
                self._numpy[name] = host
            else:
                tensor = torch.empty((slots, *field.shape), dtype=torch.from_numpy(host).dtype, device=device)
            self.data[name] = tensor
            self._flat[name] = _two_axes(tensor)

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return bytes_of(self.spec) * self.slots

    def check(self, rows: Mapping[str, np.ndarray], count: int) -> None:
        """Raise ValueError unless `rows` has exactly the fields of the spec, each [count, *shape] in its dtype."""
        if len(rows) != len(self.spec):
            missing, extra = sorted(set(self.spec) - set(rows)), sorted(set(rows) - set(self.spec))
            raise ValueError(
                f"rows must carry every field of the spec and no other: missing {missing}, unknown {extra}"
            )
        for name, field in self.spec.items():
            value = rows.get(name)
            if value is None:
                raise ValueError(f"rows lack the field {name!r}; got {sorted(rows)}")
            if value.shape != (count, *field.shape) or value.dtype != field.dtype:
                raise ValueError(
                    f"{name}: expected shape {(count, *field.shape)} and dtype {field.dtype}, "
                    f"got {value.shape} and {value.dtype}"
                )

    def write(self, slots: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
        """Put row i at slots[i]. slots: int64 [N], no duplicates; rows: checked, field -> [N, ...]."""
        if self._numpy:
            for name, ring in self._numpy.items():
                ring[slots] = rows[name]
            return
        index = torch.from_numpy(slots).to(self.device)
        for name, ring_tensor in self.data.items():
            ring_tensor.index_copy_(0, index, torch.from_numpy(np.ascontiguousarray(rows[name])).to(self.device))

    def read(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """Rows at these slots, copied to the host: field -> [N, ...]."""
        index = torch.from_numpy(slots).to(self.device)
        return {name: ring.index_select(0, index).cpu().numpy() for name, ring in self.data.items()}

    def read_one(self, name: str, slots: np.ndarray) -> np.ndarray:
        """One field of the rows at these slots, on the host: [N, ...]."""
        if name in self._numpy:
            return self._numpy[name][slots]
        return self.data[name].index_select(0, torch.from_numpy(slots).to(self.device)).cpu().numpy()

    def gather(self, index: torch.Tensor, out: Mapping[str, torch.Tensor]) -> None:
        """Copy the rows at `index` into `out`: index int64 [N] on the device, out field -> contiguous [N, ...]."""
        for name, ring in self._flat.items():
            torch.index_select(ring, 0, index, out=_two_axes(out[name]))

    def buffers(self, shape: tuple[int, ...], pin: bool) -> dict[str, torch.Tensor]:
        """Empty tensors [*shape, *field shape] for `gather` (flatten the leading axes first)."""
        return {
            name: torch.empty((*shape, *tensor.shape[1:]), dtype=tensor.dtype, device=self.device, pin_memory=pin)
            for name, tensor in self.data.items()
        }


def _two_axes(tensor: torch.Tensor) -> torch.Tensor:
    """View [N, prod(shape)] of [N, *shape] ([N] of a scalar field): index_select copies whole rows at memory speed."""
    return tensor if tensor.ndim == 1 else tensor.view(tensor.shape[0], -1)
