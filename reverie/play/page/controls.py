"""Controls: what a person's keys and fingers do, for every space of actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.env import EnvSpec
from reverie.errors import UserError

IDLE = {"noop", "stay", "none", "nothing", "idle"}
"""names of actions that mean: do nothing"""
WORDS = {"left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown", "fire": "Space"}
WORDS |= {"main": "ArrowUp", "do": "Space"}
DIGITS = [f"Digit{k}" for k in (*range(1, 10), 0)]
LETTERS = [f"Key{letter}" for letter in "QWEYUIOGHJKZXCVBM"]
"""keys for actions without a direction; letters that the page itself uses are left out"""
PAIRS = [("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("KeyQ", "KeyW"), ("KeyZ", "KeyX")]
PAIRS += [("KeyU", "KeyI"), ("KeyJ", "KeyK"), ("KeyV", "KeyB"), ("KeyG", "KeyH")]
"""keys that pull a number down and up, for the first numbers of an action"""
KNOWN: dict[str, tuple[str, ...]] = {
    "CartPole": ("left", "right"),
    "MountainCar-": ("left", "stay", "right"),
    "Acrobot": ("left", "none", "right"),
    "LunarLander-": ("none", "left", "main", "right"),
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("down", "up", "right", "left", "pick up", "drop off"),
}
"""names of the actions of Gymnasium's own environments, by how their ids begin; they do not say them"""


@dataclass(frozen=True)
class Controls:
    """Controls of an action space.

    kind: ``choice`` (Discrete), ``choices`` (MultiDiscrete) or ``numbers`` (Box). names: of the actions, of the factors
    or of the numbers. chords: of each action, the keys that are held for it (none: no key); of each factor or number,
    the pair that pulls it down and up. sizes: choices of each factor. idle: the action that is taken while nothing is
    held; None: no action means nothing, so time waits for a key.
    """

    kind: str
    names: tuple[str, ...]
    chords: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...] = ()
    idle: Any = None

    def document(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "kind": self.kind,
            "names": self.names,
            "chords": self.chords,
            "sizes": self.sizes,
            "idle": self.idle,
        }

    def action(self, given: Any) -> np.ndarray:
        """Row action [1, ...] of what a client sent. Raises UserError unless it is one of this space."""
        if self.kind == "choice":
            if type(given) is not int or not 0 <= given < len(self.names):
                raise UserError(f"an action here is a whole number from 0 to {len(self.names) - 1}")
            return np.array([given], np.int64)
        if not isinstance(given, list) or len(given) != len(self.names):
            raise UserError(f"an action here is a list of {len(self.names)} numbers")
        if self.kind == "choices":
            if any(type(g) is not int or not 0 <= g < n for g, n in zip(given, self.sizes, strict=True)):
                raise UserError(f"an action here is a list of whole numbers below {list(self.sizes)}")
            return np.array([given], np.int64)
        if any(type(g) not in (int, float) or not math.isfinite(g) or abs(g) > 1 for g in given):
            raise UserError(f"an action here is a list of {len(self.names)} numbers from -1 to 1")
        return np.array([given], np.float32)


def controls(spec: EnvSpec, said: Sequence[str] = ()) -> Controls:
    """Controls of an environment's actions. said: what it calls them (`VectorEnv.action_names`).

    Raises UserError for a space that nobody can steer.
    """
    space = spec.action
    if isinstance(space, spaces.Discrete):
        names = tuple(name.lower().replace("_", " ") for name in said) or _known(spec.id, int(space.n))
        idle = next((i for i, name in enumerate(names) if name in IDLE), None)
        return Controls("choice", names, _chords(names), idle=idle)
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec)
        names = tuple(f"factor {i + 1}" for i in range(len(sizes)))
        return Controls("choices", names, _pairs(len(sizes)), sizes, [0] * len(sizes))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        count = int(space.shape[0])
        return Controls("numbers", tuple(f"number {i + 1}" for i in range(count)), _pairs(count), idle=[0.0] * count)
    raise UserError(f"{spec.id} has actions {space!r}, which the page has no controls for")


def _known(id: str, count: int) -> tuple[str, ...]:
    """Names of actions by the id of their environment, else by number; both ways of few actions are guessed."""
    found = next((names for start, names in KNOWN.items() if id.startswith(start) and len(names) == count), None)
    return found or tuple(f"action {i}" for i in range(count))


def _chords(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Keys of each action: arrows and the space bar for what its name says, else the next free digit or letter."""
    taken: set[tuple[str, ...]] = set()
    chords: list[tuple[str, ...]] = []
    for name in names:
        found = [] if name in IDLE else _directions(name)
        chord = tuple(sorted(set(found)))
        chords.append(chord if chord and chord not in taken else ())
        taken.add(chords[-1])
    free = iter([*DIGITS, *LETTERS])
    return tuple(
        chord if chord or name in IDLE else tuple(key for key in (next(free, None),) if key)
        for name, chord in zip(names, chords, strict=True)
    )


def _directions(name: str) -> list[str]:
    """Keys of the directions that a name is made of, as ``upleftfire`` or ``move left``; none if it says more."""
    rest = name.removeprefix("move ")
    keys = []
    while rest:
        word = next((word for word in WORDS if rest.startswith(word)), None)
        if word is None:
            return []
        keys.append(WORDS[word])
        rest = rest.removeprefix(word).lstrip()
    return keys


def _pairs(count: int) -> tuple[tuple[str, ...], ...]:
    """A pair of keys for each of the first numbers; the others have their sliders."""
    return tuple(PAIRS[i] if i < len(PAIRS) else () for i in range(count))
