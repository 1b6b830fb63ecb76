"""Worlds: where rows come from while somebody plays, and how one goes back in them.

A `World` is at a row; `step` leads to the next. A `Place` names a row of it, and `go` returns there bit for bit: an
environment by playing the actions of its episode again, a recording by its index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from reverie.data.rows import Rows, row_spec
from reverie.envs.env import VectorEnv
from reverie.errors import UserError
from reverie.report.captions import picture

PICTURE = 320
"""pixels a side of what an environment draws, at most: as many as the page shows"""


@dataclass(frozen=True)
class Place:
    """Place of a world: `count` steps after an anchor, a state that the environment saved when an episode began.

    log: the actions since the anchor, which may go on beyond `count`. episode: how many began before this one.
    """

    anchor: dict[str, Any] | None = None
    log: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    episode: int = 0


class World(ABC):
    """A stream of rows [1, ...] with prev_action."""

    rows: Rows
    """the row that it is at"""
    place: Place

    @abstractmethod
    def step(self, action: np.ndarray) -> bool:
        """Go on to the next row; where an episode has ended, to the first row of the next one, whatever the action.

        action: [1, ...]. Returns False if this world cannot go that way, and is then where it was.
        """

    @abstractmethod
    def go(self, place: Place, rows: Rows) -> None:
        """Return to a place. rows: that were there. Raises UserError if that cannot be."""

    def recorded(self) -> np.ndarray | None:
        """The action [1, ...] that was recorded at this row, or None."""
        return None

    def close(self) -> None:
        """Free what it holds."""


class Live(World):
    """World of an environment of one stream."""

    def __init__(self, env: VectorEnv, seed: int) -> None:
        self.env, self.seed = env, seed
        self.fields = row_spec(env.spec.observation, env.spec.action)
        self.picture: np.ndarray | None = None
        """uint8 [H, W, 3] of the environment, if it draws; large ones are reduced by a whole factor"""
        self._next: Rows | None = None
        self._enter(env.reset(seed), self._no_action(), 0)

    def step(self, action: np.ndarray) -> bool:
        """Take an action."""
        action = np.asarray(action).astype(self.fields["action"].dtype)
        if self.rows["is_last"][0]:
            if self._next is None:  # a source that begins the next episode with a step of its own
                self._next = self.env.step(self._no_action()).rows
            self._enter(self._next, self._no_action(), self.place.episode + 1)
            return True
        result = self.env.step(action)
        if result.lost is not None and len(result.lost):
            self._cut(result.rows)
            return True
        place = self.place
        log = place.log if len(place.log) == place.count else place.log[: place.count]
        log.append(action)
        self.place = Place(place.anchor, log, place.count + 1, place.episode)
        if result.ends is not None and result.streams is not None and len(result.streams):
            self._next = result.rows
            self._see(result.ends, action)
        else:
            self._see(result.rows, action)
        return True

    def go(self, place: Place, rows: Rows) -> None:
        """Play the actions up to a place again, from its anchor."""
        here = self.place
        if place.log is here.log and place.count == here.count and place.episode == here.episode:
            return
        if place.anchor is None:
            raise UserError(
                f"{self.env.spec.id} cannot be brought back in mid-episode: begin afresh, or let the world wait"
            )
        self.env.load_state_dict(place.anchor)
        self._next = None
        self.place = Place(place.anchor, place.log, 0, place.episode)
        result = None
        for action in place.log[: place.count]:
            result = self.env.step(action)
        self.place = place
        if result is None:
            found = rows
        elif result.ends is not None and result.streams is not None and len(result.streams):
            found, self._next = result.ends, result.rows
        else:
            found = result.rows
        if any(not np.array_equal(value, rows[name]) for name, value in found.items()):
            raise UserError(f"{self.env.spec.id} did not come back to where it was: its episodes are not repeatable")
        self.rows = rows
        self.picture = _reduced(self.env.render())

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _enter(self, rows: Rows, action: np.ndarray, episode: int) -> None:
        """Be at the first row of an episode."""
        self._next = None
        self.place = Place(self.env.state_dict() if self.env.spec.resume != "truncate" else None, [], 0, episode)
        self._see(rows, action)

    def _see(self, rows: Rows, action: np.ndarray) -> None:
        first = rows["is_first"].reshape(-1, *[1] * (action.ndim - 1))
        self.rows = rows | {"prev_action": np.where(first, np.zeros_like(action), action)}
        self.picture = _reduced(self.env.render())

    def _cut(self, following: Rows) -> None:
        """The environment raised and was made anew: the row that was seen last closes its episode."""
        self._next = following
        self.rows = self.rows | {"is_last": np.ones(1, bool)}

    def _no_action(self) -> np.ndarray:
        field = self.fields["action"]
        return np.zeros((1, *field.shape), field.dtype)


def _reduced(drawn: np.ndarray | None) -> np.ndarray | None:
    """A picture of at most `PICTURE` pixels a side, each the mean of a square of those that were drawn."""
    if drawn is None:
        return None
    image = Image.fromarray(picture(drawn))
    factor = -(-max(image.size) // PICTURE)
    return np.asarray(image.reduce(factor) if factor > 1 else image)


class Recorded(World):
    """World of rows [T, ...] that were recorded; it goes only where they went. at: the row that it begins at."""

    def __init__(self, rows: Rows, at: int) -> None:
        self._all = rows
        self._length = len(rows["reward"])
        self.go(Place(count=at), {})

    def step(self, action: np.ndarray) -> bool:
        """Go on, if the recorded action is this one and a row follows."""
        at = self.place.count
        recorded = self.recorded()
        if recorded is None or not np.array_equal(recorded, action):
            return False
        self.go(Place(count=at + 1), {})
        return True

    def go(self, place: Place, rows: Rows) -> None:
        """Be at a row."""
        self.place = place
        self.rows = {name: value[place.count : place.count + 1] for name, value in self._all.items()}

    def recorded(self) -> np.ndarray | None:
        """What was done at this row, if another row follows."""
        action: np.ndarray = self._all["action"][self.place.count : self.place.count + 1]
        return action if self.place.count + 1 < self._length and not self.rows["is_last"][0] else None
