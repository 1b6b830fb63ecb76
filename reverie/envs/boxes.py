"""Boxes of numbers: which are pictures, which are codes of grids, which are vectors; and how each is converted.

A Box tells its shape, its dtype and its bounds, not what it is. What is certain is taken, all else is asked for::

    integers, low 0 and high 255, two sides >= 16      a picture
    floats, fewer than two sides >= 16                 numbers
    integers in a row (1-D), single ones               numbers
    everything else                                    UserError, until `Reading` says what it is

The channel axis of an array of three axes is the one that is below 16 where the others are not, or the one that differs
where the others are equal; otherwise ``layout`` must say where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.conversions import Codes, Convert, Numbers, Picture, Planes, called, channels_last
from reverie.envs.reading import Layout, Said, option
from reverie.errors import UserError

SIDE = 16
"""Sides at least this long make an array look like a picture (pixels)."""
PLANES = 128
"""Most planes of one-hot codes that a grid may have in all."""
SMALL = 255
"""Largest integer by which vectors are scaled; of larger bounds nobody knows what is usual."""


@dataclass(frozen=True)
class Adapted:
    """An observation as rows have it. kind: what it is called where it has no name. convert: batches [N, ...]."""

    kind: str
    space: spaces.Space
    convert: Convert


def adapt_box(space: spaces.Box, name: str, said: Said) -> Adapted:
    """The Box `space` of the observation `name` ("" if it has none), read as it must be or as was `said`.

    Raises UserError, with the option that settles it, if that is not clear or does not fit.
    """
    kind = said.kind or ("image" if said.layout else "grid" if said.codes else _certain(space))
    if kind is None:
        raise UserError(_question(space, name))
    if kind == "vector":
        if said.layout or said.codes:
            raise UserError(f"{called(name)} is a vector, which has no {'layout' if said.layout else 'codes'}")
        return Adapted("vector", *_vector(space))
    if kind == "grid" and len(space.shape) == 1:
        return _list_of_codes(space, name, said)
    layout = _layout(space, name, said.layout)
    if kind == "grid":
        return Adapted("grid", *_grid(space, name, layout, said.codes))
    if said.codes:
        raise UserError(f"{called(name)} is an image, which has no codes; say {option('kind', name, 'grid')}")
    return Adapted("image", *_image(space, name, layout))


def _certain(space: spaces.Box) -> str | None:
    """What a Box is, if that is certain."""
    large = sum(side >= SIDE for side in space.shape)
    if space.dtype.kind == "f":
        return "vector" if large < 2 else None
    if len(space.shape) < 2:
        return "vector"
    bytes_ = bool(np.all(space.low == 0)) and bool(np.all(space.high == 255))
    return "image" if bytes_ and large >= 2 and len(space.shape) < 4 else None


def _question(space: spaces.Box, name: str) -> str:
    shown = f"{called(name)} is {space.dtype} {space.shape} from {np.min(space.low):g} to {np.max(space.high):g}"
    if len(space.shape) > 3:
        return (
            f"{shown}, which is no picture; return one frame, agents stack frames themselves, or have it read as "
            f"numbers by {option('kind', name, 'vector')}"
        )
    if space.dtype.kind == "f":
        return (
            f"{shown}: a picture or numbers? Say {option('kind', name, 'image')} (stored as 256 shades, the bounds are "
            f"black and white) or {option('kind', name, 'vector')}"
        )
    return (
        f"{shown}: a picture, codes or numbers? Say {option('kind', name, 'image')}, {option('kind', name, 'grid')} "
        f"(a plane for each code) or {option('kind', name, 'vector')}"
    )


def _layout(space: spaces.Box, name: str, said: Layout | None) -> Layout:
    axes = len(space.shape)
    if axes not in (2, 3):
        raise UserError(f"{called(name)} has the shape {space.shape}; a picture or a grid has two axes or three")
    if said is not None:
        if len(said) != axes:
            raise UserError(f"{option('layout', name, said)} has {len(said)} axes, {called(name)} is {space.shape}")
        return said
    if axes == 2:
        return "hw"
    sides = space.shape
    small = [axis for axis in range(3) if sides[axis] < SIDE]
    odd = [axis for axis in range(3) if sides[axis - 1] == sides[axis - 2] != sides[axis]]
    found = small if len(small) == 1 else odd
    if found == [2]:
        return "hwc"
    if found == [0]:
        return "chw"
    raise UserError(
        f"{called(name)} has the shape {sides}; say where its channels are: {option('layout', name, 'hwc')} or "
        f"{option('layout', name, 'chw')}"
    )


def _bounds(space: spaces.Box, name: str, layout: Layout | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Finite bounds in float64, channels last."""
    low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(f"{called(name)} has no finite bounds to scale it by: give its Box a low and a high")
    return (low, high) if layout is None else (channels_last(low, layout), channels_last(high, layout))


def _image(space: spaces.Box, name: str, layout: Layout) -> tuple[spaces.Space, Convert]:
    """A picture: ``round(255 (x - low) / (high - low))``."""
    low, high = _bounds(space, name, layout)
    box = spaces.Box(0, 255, low.shape, np.uint8)
    if space.dtype == np.uint8 and (low == 0).all() and (high == 255).all():
        return box, Picture(name, layout)
    return box, Picture(name, layout, low, high)


def _codes(space: spaces.Box, name: str, low: np.ndarray, high: np.ndarray, said: Any, axis: int | None) -> np.ndarray:
    """Number of codes of each plane [C] (of a list: of each entry)."""
    if space.dtype.kind == "f":
        raise UserError(f"{called(name)} is {space.dtype}; codes of a grid are integers")
    own = high - low + 1 if axis is None else (high.max((0, 1)) - low.min((0, 1)) + 1)
    if said is None:
        return own.astype(np.int64)
    if len(said) not in (1, len(own)):
        raise UserError(f"{option('codes', name, str(list(said)))}: {called(name)} has {len(own)} planes")
    return np.broadcast_to(np.array(said, np.int64), own.shape)


def _grid(space: spaces.Box, name: str, layout: Layout, said: Any) -> tuple[spaces.Space, Convert]:
    """A plane of 0 and 255 for each code of each of the grid's own planes, in their order."""
    low, high = _bounds(space, name, layout)
    counts = _codes(space, name, low, high, said, axis=2)
    if counts.sum() > PLANES:
        raise UserError(
            f"{called(name)} would be {counts.sum()} planes, one for each value of its bounds; say how many codes its "
            f"{len(counts)} plane{'s have' if len(counts) > 1 else ' has'}: "
            f"{option('codes', name, '[' + ','.join('N' * len(counts)) + ']')}"
        )
    convert = Planes(name, layout, low.min((0, 1)), counts)
    return spaces.Box(0, 255, (*low.shape[:2], int(counts.sum())), np.uint8), convert


def _list_of_codes(space: spaces.Box, name: str, said: Said) -> Adapted:
    if said.layout:
        raise UserError(f"{called(name)} is a list of codes {space.shape}, which has no layout")
    low, high = _bounds(space, name)
    counts = _codes(space, name, low, high, said.codes, axis=None)
    return Adapted("index", spaces.MultiDiscrete(counts), Codes(name, low, counts))


def _vector(space: spaces.Box) -> tuple[spaces.Space, Convert]:
    """Numbers, flattened. Integers of a size up to 255 are divided by their largest size, where that is above 1."""
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    size = np.maximum(np.abs(low), np.abs(high))
    if space.dtype.kind in "iu" and ((size > 1) & (size <= SMALL)).any():
        scale = np.where((size > 1) & (size <= SMALL), size, 1.0)
        box = spaces.Box((low / scale).astype(np.float32), (high / scale).astype(np.float32), dtype=np.float32)
        return box, Numbers(scale)
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32), Numbers()
