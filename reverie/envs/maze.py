"""A maze that pays nothing until its goal is found: a toy for exploring, with as many tasks as it has places."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.errors import UserError

WALL, WALKER = 96, 255
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Maze(gymnasium.Env[np.ndarray, np.int64]):
    """A winding corridor: places 0, 1, ... one after the other, from the upper left corner on; the walker begins at 0.

    ::

        0 1 2 3 4           the corridor of 5 cells: lines that can be walked,
        # # # # 5           joined at their ends in turn
        10 9 8 7 6

    Observation: uint8 image [size, size, 1], walls 96, the walker 255, on 0. Actions: up, down, left, right; into walls
    they change nothing. An episode is `length` env_steps and ends by that limit alone. Each env_step that ends at the
    goal is paid 1, all others nothing. The goal cannot be seen, so that mazes that differ in it alone show and do the
    same: one more task each. The last ``info["episode_info"]`` has ``coverage``: the share of all places that were
    visited in this episode.

    optimal_score = length - goal + 1 (straight there, then into a wall; 0 if it cannot be reached); random_score is
    exact too.

    size: side of the image (pixels), at least `cells`. cells: an odd number, at least 3. length: of an episode. goal:
    a place; from the end if negative (-1: the last one).

    Source: ours; a corridor that random play diffuses in is the usual hard case for exploration, such as the chains of
    Osband et al. 2016.
    """

    action_names = ("up", "down", "left", "right")

    def __init__(self, size: int = 32, cells: int = 7, length: int = 50, goal: int = -1) -> None:
        if cells < 3 or cells % 2 == 0 or size < cells or length < 1:
            raise UserError(
                f"cells {cells} must be odd and at least 3, size {size} at least cells, and length {length} at least 1"
            )
        self.path = _path(cells)
        if not -len(self.path) <= goal < len(self.path):
            raise UserError(f"goal {goal} is no place: {cells} cells have places 0 to {len(self.path) - 1}")
        self.goal = goal % len(self.path)
        self.observation_space: spaces.Space[np.ndarray] = spaces.Box(0, 255, (size, size, 1), np.uint8)
        self.action_space = spaces.Discrete(4)
        self.cells, self.size, self._length = cells, size, length
        self._places = {cell: place for place, cell in enumerate(self.path)}
        self._edges = np.arange(cells + 1) * size // cells
        self._walls = np.full((size, size, 1), WALL, np.uint8)
        for cell in self.path:
            self._fill(self._walls, cell, 0)
        self.optimal_score = float(max(length - max(self.goal, 1) + 1, 0))
        self.random_score = self._random_score()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin at place 0."""
        super().reset(seed=seed)
        self._place, self._steps, self._visited = 0, 0, {0}
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Walk, or run into a wall."""
        self._place = self._next(self._place, int(action))
        self._visited.add(self._place)
        self._steps += 1
        over = self._steps == self._length
        info = {"episode_info": {"coverage": len(self._visited) / len(self.path)}} if over else {}
        return self._observe(), float(self._place == self.goal), False, over, info

    def places(self, images: np.ndarray) -> np.ndarray:
        """The places int64 [...] that images [..., size, size, 1] show the walker at."""
        lines, columns = (np.array(x) for x in zip(*self.path, strict=True))
        shown: np.ndarray = images[..., self._edges[lines], self._edges[columns], 0]
        return shown.argmax(-1)

    def _next(self, place: int, action: int) -> int:
        line, column = self.path[place]
        down, right = MOVES[action]
        return self._places.get((line + down, column + right), place)

    def _random_score(self) -> float:
        """Mean return of uniformly random actions: the chance to be at the goal, summed over the steps."""
        step = np.zeros((len(self.path), len(self.path)))
        for place in range(len(self.path)):
            for action in range(len(MOVES)):
                step[place, self._next(place, action)] += 1 / len(MOVES)
        chance, total = np.eye(len(self.path))[0], 0.0
        for _ in range(self._length):
            chance = chance @ step
            total += chance[self.goal]
        return float(total)

    def _fill(self, image: np.ndarray, cell: tuple[int, int], value: int) -> None:
        (top, left), (bottom, right) = self._edges[list(cell)], self._edges[[x + 1 for x in cell]]
        image[top:bottom, left:right] = value

    def _observe(self) -> np.ndarray:
        image = self._walls.copy()
        self._fill(image, self.path[self._place], WALKER)
        return image


def _path(cells: int) -> list[tuple[int, int]]:
    """Cells (line, column) of the corridor in order."""
    path: list[tuple[int, int]] = []
    for line in range(0, cells, 2):
        columns = range(cells) if line % 4 == 0 else range(cells - 1, -1, -1)
        path += [(line, column) for column in columns]
        if line + 1 < cells:
            path.append((line + 1, columns[-1]))
    return path
