"""Space adaptation: any observation and action space of Gymnasium, turned into the few that rows can hold.

Observations become a flat dictionary of uint8 images [H, W, C], float32 vectors and int64 indices; actions become
Discrete, MultiDiscrete or a Box in [-1, 1]. What each space turns into::

    Box                         image, planes of a grid, or vector, see `reverie.envs.boxes`
    Discrete, MultiDiscrete     index, int64, counted from 0
    MultiBinary                 vector, float32
    Dict, Tuple                 their parts, under their own names; nested names are joined with "/"

A lone, unnamed observation is called ``image``, ``grid``, ``vector`` or ``index`` after what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.boxes import Adapted, adapt_box
from reverie.envs.conversions import Convert, Counted, Numbers
from reverie.envs.reading import Reading, Said, option
from reverie.errors import UserError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Part:
    """One observation key: where it is found, its own space, the space it gets, and how batches [N, ...] are converted.

    `convert` always copies: environments may write the next frame into the same memory.
    """

    key: str
    path: Path
    own: spaces.Space
    space: spaces.Space
    convert: Convert


class ObservationAdapter:
    """Adapter from observations of `space` to ``{key: array}``, one at a time (`one`) or batched on axis 0 (`batch`).

    reading: what was said of observations whose spaces do not tell what they are.
    `spaces`: key -> adapted space (Box, Discrete or MultiDiscrete). Raises UserError on spaces that have no arrays of
    fixed shape (Text, Graph, Sequence, OneOf), on what must be said and was not, and on keys that would collide.
    """

    def __init__(self, space: spaces.Space, reading: Reading | None = None) -> None:
        leaves = list(_leaves(space, ()))
        names = ["/".join(map(str, path)) for path, _ in leaves]
        if len(set(names)) != len(names):
            raise UserError(f"observation keys {names} collide after joining nested names with '/'; rename one of them")
        said = (reading or Reading()).of({name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)})
        parts = []
        for name, (path, leaf) in zip(names, leaves, strict=True):
            if said[name].kind != "drop":
                adapted = _adapt(leaf, name, said[name])
                parts.append(Part(name or adapted.kind, path, leaf, adapted.space, adapted.convert))
        keys = [part.key for part in parts]
        if len(set(keys)) != len(keys):
            raise UserError(f"observation keys {names} collide, because an empty one is called {keys[0]!r}; rename it")
        if not parts:
            raise UserError(f"observation space {space} is empty; give it at least one key")
        self.own, self.parts = space, tuple(parts)
        self.spaces: dict[str, spaces.Space] = {part.key: part.space for part in self.parts}

    @classmethod
    def of_rows(cls, observation: Mapping[str, spaces.Space]) -> ObservationAdapter:
        """The adapter of observations that are as rows have them already: key -> space, or one alone."""
        adapter = cls.__new__(cls)
        lone = len(observation) == 1
        adapter.own = next(iter(observation.values())) if lone else spaces.Dict(dict(observation))
        adapter.parts = tuple(
            Part(key, () if lone else (key,), space, space, np.copy) for key, space in observation.items()
        )
        adapter.spaces = dict(observation)
        return adapter

    def batch(self, observation: Any) -> dict[str, np.ndarray]:
        """Observations batched on axis 0, as a Gymnasium vector environment returns them -> key -> [N, ...]."""
        return {part.key: part.convert(_array(part, at(observation, part.path, part.key), 1)) for part in self.parts}

    def one(self, observation: Any) -> dict[str, np.ndarray]:
        """One observation, as a single environment returns it -> key -> [...]."""
        return {
            part.key: part.convert(_array(part, at(observation, part.path, part.key), 0)[None])[0]
            for part in self.parts
        }


BOUNDLESS = 1e30
"""bounds of actions from here on are none: infinity, or the largest number of a dtype, by which some say the same"""


def _boundless(dtype: Any) -> float:
    """Bounds of actions of a dtype from here on are none."""
    # Gymnasium writes infinite bounds of integers as the largest ones, less two; of bytes they are bounds.
    return np.iinfo(dtype).max - 2 if dtype.kind in "iu" and dtype.itemsize >= 4 else BOUNDLESS


class ActionAdapter:
    """Adapter from row actions to those of `space`.

    `space`: Discrete and MultiDiscrete counted from 0 (MultiBinary becomes MultiDiscrete of twos), or Box [-1, 1]^A.
    A bounded Box is normalised: ``native = low + (clip(a, -1, 1) + 1) / 2 · (high - low)``, per dimension, so that
    asymmetric bounds are reached in full. Raises UserError on a Box without bounds (`BOUNDLESS`) and on Dict, Tuple and
    other spaces.
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
            if not np.all(np.abs(np.stack([space.low, space.high]).astype(np.float64)) < _boundless(space.dtype)):
                raise UserError(
                    f"action space {space} has no bounds that could be reached; give it some, for example with "
                    "gymnasium.wrappers.TransformAction(env, lambda action: action, Box(low, high))"
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

    def rows(self, native: np.ndarray) -> np.ndarray:
        """Native actions [N, ...] -> row actions [N, ...]: the inverse of `batch`, for actions that others took.

        What lies outside of a Box is the nearest within. Raises UserError for another shape or a number too high.
        """
        own, count = self.native, len(native)
        if native.shape[1:] != tuple(own.shape or ()) or native.dtype.kind not in "biuf":
            raise UserError(f"actions are {native.dtype} of shape {native.shape[1:]}, expected those of {own}")
        if isinstance(own, spaces.Box):
            low, high = own.low.astype(np.float64), own.high.astype(np.float64)
            width = np.where(high > low, high - low, 1.0)
            unit = np.where(high > low, (np.clip(native, low, high) - low) / width, 0.5)
            return (2.0 * unit - 1.0).reshape(count, *(self.space.shape or ())).astype(np.float32)
        counted = native.astype(np.int64) - getattr(own, "start", 0)
        most = self.space.n if isinstance(self.space, spaces.Discrete) else self.space.nvec  # type: ignore[attr-defined]
        counted = counted.reshape(count, *(self.space.shape or ()))
        outside = ((counted < 0) | (counted >= most)).reshape(count, -1).any(1)
        if outside.any():
            raise UserError(f"there is an action outside of {own}: {native[outside][0]}")
        return counted

    def one(self, action: np.ndarray) -> Any:
        """One row action [...] -> one native action (a Python int for Discrete)."""
        native = self.batch(np.asarray(action)[None])[0]
        return int(native) if isinstance(self.native, spaces.Discrete) else native


def _leaves(space: spaces.Space, path: Path) -> Iterator[tuple[Path, spaces.Space]]:
    """Where each part of a space is, and its space."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from _leaves(child, (*path, index))
    else:
        yield path, space


def _adapt(space: spaces.Space, name: str, said: Said) -> Adapted:
    if isinstance(space, spaces.Box):
        return adapt_box(space, name, said)
    where = f"observation {name!r}" if name else "the observation"
    if said != Said():
        raise UserError(f"{where} is {space}: kind, layout and codes are of boxes (but anything can be of kind drop)")
    if isinstance(space, spaces.Discrete):
        return Adapted("index", spaces.Discrete(int(space.n)), Counted(np.array(space.start), np.array(space.n), where))
    if isinstance(space, spaces.MultiDiscrete):
        start, n = np.asarray(space.start).reshape(-1), np.asarray(space.nvec).reshape(-1)
        return Adapted("index", spaces.MultiDiscrete(n), Counted(start, n, where))
    if isinstance(space, spaces.MultiBinary):
        return Adapted("vector", spaces.Box(0.0, 1.0, (int(np.prod(space.shape)),), np.float32), Numbers())
    raise UserError(
        f"{where} has space {type(space).__name__}, which has no arrays of fixed shape; drop it with "
        f"{option('kind', name, 'drop')} or encode it as Box, Discrete or MultiDiscrete"
    )


def _array(part: Part, value: Any, lead: int) -> np.ndarray:
    """An observation as an array with `lead` axes before its own. Raises UserError for another shape or no numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of uneven lengths
        raise UserError(f"observation {part.key!r} is no array of shape {part.own.shape}: {error}") from None
    shape, own = array.shape[lead:], tuple(part.own.shape or ())
    if shape != own and np.prod(shape) == np.prod(own) == 1 and array.ndim >= lead:
        return array.reshape(*array.shape[:lead], *own)
    if shape != own or array.dtype.kind not in "biuf":
        raise UserError(
            f"observation {part.key!r} is {array.dtype} of shape {shape}, its space declares {part.own.dtype} of shape "
            f"{own}"
        )
    return array


def at(observation: Any, path: Sequence[str | int], key: str) -> Any:
    """The part of an observation at a path. Raises UserError if there is none."""
    for name in path:
        try:
            observation = observation[name]
        except (KeyError, IndexError, TypeError):
            got = ", ".join(map(str, observation)) if isinstance(observation, Mapping) else type(observation).__name__
            raise UserError(f"observation {key!r} is missing; got {got}") from None
    return observation
