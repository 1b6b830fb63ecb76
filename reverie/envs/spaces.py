"""Space adaptation: any observation and action space of Gymnasium, turned into the few that rows can hold.

Observations become a flat dictionary of uint8 images [H, W, C], float32 vectors and int64 indices; actions become
Discrete, MultiDiscrete or a Box in [-1, 1]. What each space turns into::

    uint8 Box, 3-D              image, as it is; [C, H, W] with 1, 3 or 4 channels before two large sides is transposed
    uint8 Box, 2-D              image, with a channel axis added
    other Box                   vector, float32, flattened (float images are refused: they belong in uint8)
    Discrete, MultiDiscrete     index, int64, counted from 0
    MultiBinary                 vector, float32
    Dict, Tuple                 their parts, under their own names; nested names are joined with "/"

A lone, unnamed observation is called ``image``, ``vector`` or ``index`` after what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from reverie.errors import UserError

IMAGE_SIDE = 16
"""Two sides at least this long make a float array an image, and a leading 1, 3 or 4 a channel axis (pixels)."""
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Part:
    """One observation key: where it is found, the space it gets, and how a batch [N, ...] of it is converted.

    `convert` always copies: environments may write the next frame into the same memory.
    """

    key: str
    path: tuple[str | int, ...]
    space: spaces.Space
    convert: Callable[[np.ndarray], np.ndarray]


class ObservationAdapter:
    """Adapter from observations of `space` to ``{key: array}``, one at a time (`one`) or batched on axis 0 (`batch`).

    `spaces`: key -> adapted space (Box, Discrete or MultiDiscrete). Raises UserError on spaces that have no arrays of
    fixed shape (Text, Graph, Sequence, OneOf), on float images, and on keys that would collide.
    """

    def __init__(self, space: spaces.Space) -> None:
        self.parts = tuple(_parts(space, ()))
        keys = [part.key for part in self.parts]
        if not keys:
            raise UserError(f"observation space {space} is empty; give it at least one key")
        if len(set(keys)) != len(keys):
            raise UserError(f"observation keys {keys} collide after joining nested names with '/'; rename one of them")
        self.spaces: dict[str, spaces.Space] = {part.key: part.space for part in self.parts}

    def batch(self, observation: Any) -> dict[str, np.ndarray]:
        """Observations batched on axis 0, as a Gymnasium vector environment returns them -> key -> [N, ...]."""
        return {part.key: part.convert(np.asarray(_at(observation, part.path))) for part in self.parts}

    def one(self, observation: Any) -> dict[str, np.ndarray]:
        """One observation, as a single environment returns it -> key -> [...]."""
        return {part.key: part.convert(np.asarray(_at(observation, part.path))[None])[0] for part in self.parts}


class ActionAdapter:
    """Adapter from row actions to those of `space`.

    `space`: Discrete and MultiDiscrete counted from 0 (MultiBinary becomes MultiDiscrete of twos), or Box [-1, 1]^A.
    A bounded Box is normalised: ``native = low + (clip(a, -1, 1) + 1) / 2 · (high - low)``, per dimension, so that
    asymmetric bounds are reached in full. Raises UserError on an unbounded Box and on Dict, Tuple and other spaces.
    """

    def __init__(self, space: spaces.Space) -> None:
        self.native = space
        self.space: spaces.Space
        if isinstance(space, spaces.Discrete):
            self.space = spaces.Discrete(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete):
            self.space = spaces.MultiDiscrete(np.asarray(space.nvec).reshape(-1))
        elif isinstance(space, spaces.MultiBinary):
            self.space = spaces.MultiDiscrete(np.full(int(np.prod(space.shape)), 2))
        elif isinstance(space, spaces.Box):
            if not (np.all(np.isfinite(space.low)) and np.all(np.isfinite(space.high))):
                raise UserError(
                    f"action space {space} has infinite bounds; clip it with gymnasium.wrappers.RescaleAction or "
                    "give the environment finite ones"
                )
            self.space = spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
        else:
            raise UserError(
                f"action space {space} is not supported; flatten it to Discrete, MultiDiscrete, MultiBinary or Box"
            )

    def batch(self, action: np.ndarray) -> np.ndarray:
        """Row actions [N, ...] -> native actions [N, ...] in the native shape and dtype."""
        native = self.native
        if isinstance(native, spaces.Box):
            unit = (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
            unit = unit.reshape(-1, *native.shape)
            low, high = native.low.astype(np.float64), native.high.astype(np.float64)
            # Rounding must not carry an action past its bound: some environments assert containment.
            scaled = np.clip(low + unit * (high - low), low, high)
            return np.rint(scaled).astype(native.dtype) if native.dtype.kind in "iu" else scaled.astype(native.dtype)
        start = getattr(native, "start", 0)
        return (np.asarray(action).reshape(-1, *(native.shape or ())) + start).astype(native.dtype)

    def one(self, action: np.ndarray) -> Any:
        """One row action [...] -> one native action (a Python int for Discrete)."""
        native = self.batch(np.asarray(action)[None])[0]
        return int(native) if isinstance(self.native, spaces.Discrete) else native


def is_float_image(space: spaces.Box) -> bool:
    """Whether a Box holds an image in floats: 3-D with two large sides, or 2-D with both sides large."""
    large = sum(side >= IMAGE_SIDE for side in space.shape)
    return space.dtype.kind == "f" and len(space.shape) in (2, 3) and large >= 2


def _parts(space: spaces.Space, path: tuple[str | int, ...]) -> Iterator[Part]:
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _parts(child, (*path, key))
        return
    if isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from _parts(child, (*path, index))
        return
    kind, adapted, convert = _leaf(space, "/".join(map(str, path)))
    yield Part("/".join(map(str, path)) or kind, path, adapted, convert)


def _leaf(space: spaces.Space, name: str) -> tuple[str, spaces.Space, Callable[[np.ndarray], np.ndarray]]:
    where = f"observation {name!r}" if name else "the observation"
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return "index", spaces.Discrete(int(space.n)), lambda x: x.astype(np.int64) - start
    if isinstance(space, spaces.MultiDiscrete):
        starts = np.asarray(space.start).reshape(-1)
        adapted = spaces.MultiDiscrete(np.asarray(space.nvec).reshape(-1))
        return "index", adapted, lambda x: x.reshape(len(x), -1).astype(np.int64) - starts
    if isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        return "vector", spaces.Box(0.0, 1.0, (size,), np.float32), _flat
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"{where} has space {type(space).__name__}, which has no arrays of fixed shape; drop it with "
            "gymnasium.wrappers.FilterObservation or encode it as Box, Discrete or MultiDiscrete"
        )
    if is_float_image(space):
        raise UserError(
            f"{where} is an image {space.shape} of {space.dtype}; return uint8 in 0..255 instead "
            "(for example with gymnasium.wrappers.TransformObservation)"
        )
    if space.dtype == np.uint8 and len(space.shape) in (2, 3):
        return "image", *_image(space)
    if space.dtype == np.uint8 and len(space.shape) > 3:
        raise UserError(f"{where} is a stack of images {space.shape}; return one frame, agents stack frames themselves")
    low, high = (bound.astype(np.float32).reshape(-1) for bound in (space.low, space.high))
    return "vector", spaces.Box(low, high, dtype=np.float32), _flat


def _image(space: spaces.Box) -> tuple[spaces.Space, Callable[[np.ndarray], np.ndarray]]:
    shape = space.shape
    if len(shape) == 2:
        return spaces.Box(0, 255, (*shape, 1), np.uint8), lambda x: x[..., None].astype(np.uint8)
    first, *sides = shape
    if first in CHANNELS and min(sides) >= IMAGE_SIDE:
        return spaces.Box(0, 255, (*sides, first), np.uint8), lambda x: np.moveaxis(x, 1, -1).astype(np.uint8, "C")
    return spaces.Box(0, 255, shape, np.uint8), lambda x: x.astype(np.uint8)


def _flat(x: np.ndarray) -> np.ndarray:
    return cast(np.ndarray, x.reshape(len(x), -1).astype(np.float32))


def _at(observation: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        observation = observation[key]
    return observation
