"""Ports: what goes into a graph and comes out of it, by name."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from reverie.errors import UserError

DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class Port:
    """Name, dtype and shape of one input or output; shape: without the leading axis, which is of any size.

    space: of its values, where it is an environment's.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    space: spaces.Space | None = None

    def described(self) -> dict[str, Any]:
        """The port as a document."""
        return {"name": self.name, "dtype": str(self.dtype).removeprefix("torch."), "shape": ["batch", *self.shape]}

    def example(self, batch: int, generator: np.random.Generator) -> torch.Tensor:
        """Values [batch, ...] out of the space; otherwise uniform in [0, 1), and as many ones as zeros."""
        if self.space is not None:
            space = copy.deepcopy(self.space)
            space.seed(int(generator.integers(2**31)))
            drawn = np.stack([np.asarray(space.sample()) for _ in range(batch)])
            return torch.from_numpy(drawn.reshape(batch, *self.shape)).to(self.dtype)
        drawn = generator.random((batch, *self.shape))
        return torch.from_numpy(drawn if self.dtype.is_floating_point else drawn < 0.5).to(self.dtype)

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor) -> Port:
        """The port of a tensor [B, ...]."""
        return cls(name, tensor.dtype, tuple(tensor.shape[1:]))


def dtype_of(dtype: np.dtype[Any] | None, what: str) -> torch.dtype:
    """The dtype in torch and ONNX of an array that an environment gives or takes. Raises UserError if there is none."""
    if str(dtype) not in DTYPES:
        raise UserError(
            f"{what} is {dtype}, which exports do not have; declare one of {', '.join(DTYPES)} in its space"
        )
    return DTYPES[str(dtype)]
