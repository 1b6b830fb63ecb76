"""`Hold`: an environment is held to the spaces that it declares, while it is trained in.

What would become another observation without a word is a fault: another shape, missing keys, floats where the space
has whole numbers (0..1 read as bytes is black), indices and whole numbers outside their bounds. What changes nothing is
let pass: lists, other widths of the same kind, keys that nobody asked for. What may be meant is said once: floats
outside their bounds, and changes that are lost because rows hold float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.stepping import Check

FIRST = 100
"""rows that are looked at under ``first``"""
ENOUGH = 10
"""changes of an entry before anything is said of those that are lost"""


class Hold:
    """Check of the observations of one source, in the order in which they come.

    space: as declared, of one stream or of a batch. said: lines to be said, which `look` adds to, each once.
    """

    def __init__(self, space: spaces.Space, check: Check) -> None:
        self.space, self.check = space, check
        self.said: list[str] = []
        self._looked = 0
        self._known: set[str] = set()
        self._before: dict[str, np.ndarray] = {}
        self._changes: dict[str, np.ndarray] = {}
        """name -> [2, ...]: how often entries changed, and how often that is lost in float32"""

    def look(self, observation: Any) -> str | None:
        """What is wrong with an observation; None if nothing is, or if it need not be looked at."""
        if self.check == "none" or (self.check == "first" and self._looked >= FIRST):
            return None
        self._looked += 1
        return self._part(self.space, observation, "")

    def _part(self, space: spaces.Space, value: Any, name: str) -> str | None:
        what = f"observation {name!r}" if name else "the observation"
        if isinstance(space, spaces.Dict):
            if not isinstance(value, Mapping) or (missing := [key for key in space.spaces if key not in value]):
                got = f"lacks {missing}" if isinstance(value, Mapping) else f"is a {type(value).__name__}"
                return f"{what} {got}; its space declares the keys {sorted(map(str, space.spaces))}"
            parts = [(child, value[key], key) for key, child in space.spaces.items()]
        elif isinstance(space, spaces.Tuple):
            if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
                got = f"{len(value)} parts" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
                return f"{what} is {got}; its space declares a tuple of {len(space.spaces)}"
            parts = [(child, value[i], str(i)) for i, child in enumerate(space.spaces)]
        else:
            return self._array(space, value, name, what)
        found = (self._part(child, part, f"{name}/{key}" if name else str(key)) for child, part, key in parts)
        return next((line for line in found if line is not None), None)

    def _array(self, space: spaces.Space, value: Any, name: str, what: str) -> str | None:
        if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return None  # texts and graphs are only there where they are dropped, see `reverie.envs.reading`
        try:
            array = np.asarray(value)
        except ValueError:
            return f"{what} has no shape (its parts differ in length); its space declares {space.shape}"
        if array.dtype.kind not in "biuf":
            return f"{what} is {_short(value)}, which holds no numbers; its space declares {space}"
        if space.shape is None or space.dtype is None:
            return None
        if array.shape != space.shape and not array.size == np.prod(space.shape) == 1:
            return f"{what} has shape {array.shape}; its space declares {space.shape}"
        if space.dtype.kind in "biu" and array.dtype.kind == "f":
            return (
                f"{what} is {array.dtype}, {_span(array)}; its space declares {space.dtype}"
                f"{_range(space)}, and fractions would be cut off"
            )
        if space.dtype.kind == "f":
            self._floats(space, array, what, name)
            return None
        low, high = _limits(space)
        if array.size and ((array < low).any() or (array > high).any()):
            return f"{what} has values {_span(array)}; its space declares {space.dtype}{_range(space)}"
        return None

    def _floats(self, space: spaces.Space, array: np.ndarray, what: str, name: str) -> None:
        if isinstance(space, spaces.Box):
            flat = array.reshape(space.shape)
            if ((flat < space.low) | (flat > space.high)).any():
                self._say(
                    f"{what} has values {_span(array)}, outside the declared bounds{_range(space)}; they are kept"
                )
        narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
        if narrow or array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype.itemsize <= 2):
            return
        before, self._before[name] = self._before.get(name), np.array(array)
        if before is None or before.shape != array.shape:
            return
        changed = before != array
        with np.errstate(over="ignore"):
            lost = changed & (before.astype(np.float32) == array.astype(np.float32))
        counts = self._changes.setdefault(name, np.zeros((2, *array.shape), np.int64))
        counts += np.stack([changed, lost])
        if ((counts[0] >= ENOUGH) & (2 * counts[1] > counts[0])).any():
            self._say(
                f"{what} is {array.dtype} and rows hold float32: most changes of some entries are lost (values "
                f"{_span(array)}); return differences or smaller numbers"
            )

    def _say(self, line: str) -> None:
        kind = line.partition(",")[0].partition("(")[0]
        kind = kind.partition(" has values")[0] if " has values" in kind else kind
        if kind not in self._known:
            self._known.add(kind)
            self.said.append(line)


def _limits(space: spaces.Space) -> tuple[Any, Any]:
    """Smallest and largest whole numbers of a space."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    return (space.low, space.high) if isinstance(space, spaces.Box) else (-np.inf, np.inf)


def _range(space: spaces.Space) -> str:
    low, high = _limits(space)
    return f" in {np.min(low):g}..{np.max(high):g}"


def _span(array: np.ndarray) -> str:
    return f"{array.min():g}..{array.max():g}" if array.size else "empty"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
