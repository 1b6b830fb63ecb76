"""Conversions of observations: from how an environment gives them to how rows have them, [N, ...] -> [N, ...].

Each is a function that always copies, and an object whose fields say what it does, so that the same can be done
elsewhere than in numpy (`reverie.export`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from reverie.envs.reading import Layout
from reverie.errors import UserError

Convert = Callable[[np.ndarray], np.ndarray]


BYTES = np.array(0.0), np.array(255.0)
"""bounds of what a byte holds"""


@dataclass(frozen=True, eq=False)
class Picture:
    """Conversion of a picture to uint8 [N, H, W, C]: ``round(255 (x - low) / (high - low))``; bytes stay what they are.

    name: of the observation, for messages. layout: of its axes. low, high: float64 [H, W, C]; None of bytes.
    Raises UserError for numbers outside of them.
    """

    name: str
    layout: Layout
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @cached_property
    def scale(self) -> np.ndarray:
        """Factor 255 / (high - low), float64 [H, W, C]; 255 where there is nothing between."""
        assert self.low is not None
        assert self.high is not None
        return np.asarray(255 / np.where(self.high > self.low, self.high - self.low, 1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Pictures as rows have them."""
        x = channels_last(x, self.layout)
        if self.low is None or self.high is None:
            whole = x if x.dtype == np.uint8 else checked(x, *BYTES, self.name)
            return np.array(whole, np.uint8, order="C")
        return np.rint((checked(x, self.low, self.high, self.name) - self.low) * self.scale).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Planes:
    """Conversion of a grid of codes to uint8 [N, H, W, K]: a plane of 0 and 255 for each code of each of its planes.

    name, layout: see `Picture`. first, counts: the lowest code of each of the grid's own planes and how many there are,
    [C]. Raises UserError for other codes.
    """

    name: str
    layout: Layout
    first: np.ndarray
    counts: np.ndarray

    @cached_property
    def plane(self) -> np.ndarray:
        """The grid's own plane that each plane of rows is of, int64 [K]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def code(self) -> np.ndarray:
        """The code that each plane of rows stands for, float64 [K]."""
        return np.asarray(np.concatenate([np.arange(n) for n in self.counts]) + self.first[self.plane])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Planes as rows have them."""
        cells = checked(channels_last(x, self.layout), self.first, self.first + self.counts - 1, self.name)
        return np.where(cells[..., self.plane] == self.code, np.uint8(255), np.uint8(0))


@dataclass(frozen=True, eq=False)
class Codes:
    """Conversion of a list of codes to int64 [N, K], counted from 0. name: see `Picture`. low, counts: [K].

    Raises UserError for other codes.
    """

    name: str
    low: np.ndarray
    counts: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Indices as rows have them."""
        return np.asarray((checked(x, self.low, self.low + self.counts - 1, self.name) - self.low).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Numbers:
    """Conversion to numbers, flattened, float32 [N, K], divided by a scale float64 [K] if there is one."""

    scale: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Vectors as rows have them."""
        flat = x.reshape(len(x), -1)
        return cast(np.ndarray, (flat if self.scale is None else flat / self.scale).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Counted:
    """Conversion to indices counted from 0, int64. start, n: first and number of them, of the space's flat shape.

    where: the observation, for messages. Raises UserError for one outside, which would have no code.
    """

    start: np.ndarray
    n: np.ndarray
    where: str

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Indices as rows have them."""
        index = x.reshape(len(x), *self.start.shape).astype(np.int64) - self.start
        outside = (index < 0) | (index >= self.n)
        if outside.any():
            raise UserError(
                f"{self.where} is {x[outside.reshape(len(x), -1).any(1)][0]}, outside its space, "
                f"which counts from {self.start.tolist()} to {(self.start + self.n - 1).tolist()}"
            )
        return np.asarray(index)


def channels_last(x: np.ndarray, layout: Layout) -> np.ndarray:
    """[..., H, W, C] of an array in another layout; a view."""
    if layout == "hw":
        return x[..., None]
    return np.moveaxis(x, -3, -1) if layout == "chw" else x


def checked(x: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> np.ndarray:
    """x itself. Raises UserError for numbers outside the bounds, which bytes and codes cannot hold."""
    if not ((x >= low) & (x <= high)).all():  # NaN is outside too
        wrong = x[~((x >= low) & (x <= high))].flat[0]
        raise UserError(
            f"{called(name)} has the value {wrong:g}, outside its bounds {np.min(low):g} to {np.max(high):g}"
        )
    return x


def called(name: str) -> str:
    """What an observation is called in messages; those of one alone have no name."""
    return f"observation {name!r}" if name else "the observation"
