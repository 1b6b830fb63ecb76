"""Adapters as modules: the environment's own observations and actions at the ends of a graph.

`reverie.envs.adapter` does the same in numpy; there, what is outside of a space is refused, here it is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.data.rows import ACTION_MASK, OBS
from reverie.envs.adapter import Adapter
from reverie.envs.conversions import Codes, Counted, Numbers, Picture, Planes
from reverie.envs.spaces import ActionAdapter, Part
from reverie.errors import UserError
from reverie.export.port import Port, dtype_of


class Conversion(nn.Module):
    """Conversion [B, *own] -> [B, ...] of one part of an observation, as `Part.convert` does it in numpy.

    Raises UserError for a conversion that is not one of `reverie.envs.conversions`.
    """

    first: Tensor
    factor: Tensor
    index: Tensor

    def __init__(self, part: Part) -> None:
        super().__init__()
        convert = part.convert
        self.kind, self.layout = type(convert), getattr(convert, "layout", "hwc")
        self.shape = part.space.shape or ()
        if isinstance(convert, Picture) and convert.low is not None:
            self._keep(first=convert.low, factor=convert.scale)
        elif isinstance(convert, Planes):
            self._keep(first=convert.code.astype(np.int64), index=convert.plane)
        elif isinstance(convert, Codes):
            self._keep(first=convert.low.astype(np.int64))
        elif isinstance(convert, Counted):
            self._keep(first=np.asarray(convert.start, np.int64))
        elif isinstance(convert, Numbers) and convert.scale is not None:
            self._keep(factor=convert.scale)
        elif not isinstance(convert, Picture | Numbers) and convert is not np.copy:
            raise UserError(
                f"observation {part.key!r} is converted by {convert!r}, which is not known to exports: "
                "use those of reverie.envs.conversions"
            )

    def _keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The part as rows have it."""
        if self.kind is Picture:
            x = self._channels_last(x)
            return torch.round((x.double() - self.first) * self.factor).to(torch.uint8) if hasattr(self, "first") else x
        if self.kind is Planes:
            cells = self._channels_last(x).long().index_select(-1, self.index)
            return 255 * (cells == self.first).to(torch.uint8)
        if self.kind in (Codes, Counted):
            return x.reshape(x.shape[0], *self.shape).long() - self.first
        if self.kind is Numbers:
            x = x.reshape(x.shape[0], *self.shape)
            return x.float() if not hasattr(self, "factor") else (x.double() / self.factor).float()
        return x

    def _channels_last(self, x: Tensor) -> Tensor:
        if self.layout == "hw":
            return x.unsqueeze(-1)
        return x.movedim(-3, -1) if self.layout == "chw" else x


class Observations(nn.Module):
    """Observations from an environment, ``obs.<key>`` [B, *own] each -> as rows have them.

    A mask that the environment tells in its info is one more input, ``action_mask`` int8 [B, n].
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.parts = adapter.observation.parts
        self.conversions = nn.ModuleList(Conversion(part) for part in self.parts)
        self.hidden = {key: list(entries) for key, entries in adapter.hidden.items()}
        self.told = adapter.masks is not None and adapter.masks.source == "info"
        self.ports = [
            Port(
                OBS + part.key,
                dtype_of(part.own.dtype, f"observation {part.key!r}"),
                tuple(part.own.shape or ()),
                part.own,
            )
            for part in self.parts
        ]
        if self.told:
            assert adapter.masks is not None
            self.ports.append(Port(ACTION_MASK, torch.int8, (adapter.masks.size,)))

    def forward(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Observations of rows, ``obs.<key>``."""
        rows = {}
        for part, convert in zip(self.parts, self.conversions, strict=True):
            x = convert(given[OBS + part.key])
            if part.key in self.hidden:
                entries = torch.tensor([i in self.hidden[part.key] for i in range(x.shape[-1])])
                x = torch.where(entries, 0.0, x)
            rows[OBS + part.key] = x
        if self.told:
            rows[OBS + ACTION_MASK] = given[ACTION_MASK].float()
        return rows


class RowActions(nn.Module):
    """Actions between rows and an environment: `forward` gives what it takes, `back` what rows have of that.

    port: of an action as the environment takes it. Integers between bounds come back rounded.
    """

    low: Tensor
    width: Tensor
    start: Tensor

    def __init__(self, adapter: ActionAdapter) -> None:
        super().__init__()
        native = adapter.native
        self.box, self.row_shape = isinstance(native, spaces.Box), tuple(adapter.space.shape or ())
        self.scalar = isinstance(adapter.space, spaces.Discrete)
        self.native_shape = tuple(native.shape or ())
        self.dtype = dtype_of(native.dtype, "the action")
        self.port = Port("action", self.dtype, self.native_shape, native)
        if isinstance(native, spaces.Box):
            low, high = native.low.astype(np.float64), native.high.astype(np.float64)
            self.register_buffer("low", torch.from_numpy(low), persistent=False)
            self.register_buffer("width", torch.from_numpy(np.asarray(high - low)), persistent=False)
        else:
            start = np.array(getattr(native, "start", 0), np.int64)
            self.register_buffer("start", torch.from_numpy(start), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """Actions as the environment takes them [B, *native], of row actions [B, ...]."""
        native = action.reshape(action.shape[0], *self.native_shape)
        if not self.box:
            return (native + self.start).to(self.dtype)
        unit = (native.double().clamp(-1.0, 1.0) + 1.0) / 2.0
        scaled = (self.low + unit * self.width).clamp(self.low, self.low + self.width)
        return (scaled if self.dtype.is_floating_point else torch.round(scaled)).to(self.dtype)

    def back(self, native: Tensor) -> Tensor:
        """Row actions [B, ...] of actions [B, *native]; dimensions without width are 0."""
        if self.box:
            width = torch.where(self.width > 0, self.width, 1.0)
            unit = torch.where(self.width > 0, 2.0 * (native.double() - self.low) / width - 1.0, 0.0)
            return unit.clamp(-1.0, 1.0).float().reshape(native.shape[0], *self.row_shape)
        return (native.long() - self.start).reshape(native.shape[0], *self.row_shape)
