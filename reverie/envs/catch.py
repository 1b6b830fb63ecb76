"""Catch, plain and before a moving background: toys from pixels whose scores are known exactly."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.background import Plaids
from reverie.errors import UserError


class Catch(gymnasium.Env[np.ndarray, Any]):
    """A ball falls one cell per env_step from a random column; the paddle on the last line must be under it.

    Observation: uint8 image [size, size, 1], ball and paddle 255 on 0. Actions: left, stay, right. After cells - 1
    env_steps the ball is on the last line: reward +1 if caught, else -1, and the episode ends (terminal); all other
    rewards are 0. The paddle starts in the middle and can reach every column in time: optimal_score = 1. The ball's
    column is uniform and independent of random actions, so they catch it with probability 1 / cells whatever the
    paddle does: random_score = 2 / cells - 1.

    size: side of the image (pixels), at least `cells`. cells: columns and lines of the board, at least 3. ball: side of
    ball and paddle (pixels), each in the middle of its cell; None: they fill their cells.
    continuous: one action in [-1, 1] instead, whose thirds are left, stay, right; scores stay what they are.

    Source: rules as the "catch" experiment of bsuite (Osband et al. 2020), on a square board.
    """

    def __init__(self, size: int = 32, cells: int = 8, ball: int | None = None, continuous: bool = False) -> None:
        if cells < 3 or size < cells:
            raise UserError(f"cells {cells} and size {size} must satisfy 3 <= cells <= size")
        if ball is not None and not 1 <= ball <= size // cells:
            raise UserError(f"ball {ball} must fit a cell: 1 to {size // cells} pixels")
        self.observation_space: spaces.Space[np.ndarray] = spaces.Box(0, 255, (size, size, 1), np.uint8)
        self.action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_names: tuple[str, ...] = ()
        if not continuous:
            self.action_space, self.action_names = spaces.Discrete(3), ("left", "stay", "right")
        self._continuous = continuous
        self.cells, self.size, self._ball = cells, size, ball
        self._edges = np.arange(cells + 1) * size // cells
        self.random_score, self.optimal_score = 2.0 / cells - 1.0, 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Drop a new ball."""
        super().reset(seed=seed)
        self._line, self._column = 0, int(self.np_random.integers(self.cells))
        self._paddle = self.cells // 2
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the paddle by action - 1 cells, let the ball fall one."""
        move = _third(float(action[0])) if self._continuous else int(action) - 1
        self._paddle = int(np.clip(self._paddle + move, 0, self.cells - 1))
        self._line += 1
        over = self._line == self.cells - 1
        return self._observe(), self._reward(over), over, False, self._end_of_episode() if over else {}

    def _reward(self, over: bool) -> float:
        return (1.0 if self._paddle == self._column else -1.0) if over else 0.0

    def _end_of_episode(self) -> dict[str, Any]:
        return {}

    def _observe(self) -> np.ndarray:
        return self._draw(np.zeros((self.size, self.size, 1), np.uint8))

    def _draw(self, image: np.ndarray) -> np.ndarray:
        for line, column in ((self._line, self._column), (self.cells - 1, self._paddle)):
            top, bottom = self._edges[line], self._edges[line + 1]
            left, right = self._edges[column], self._edges[column + 1]
            if self._ball is not None:
                top, left = (top + bottom - self._ball) // 2, (left + right - self._ball) // 2
                bottom, right = top + self._ball, left + self._ball
            image[top:bottom, left:right] = 255
        return image


def ball_columns(images: np.ndarray, cells: int) -> np.ndarray:
    """Columns int64 [...] of the ball in first rows [..., size, size, 1] of `Catch`, a board of so many cells."""
    edges = np.arange(cells + 1) * images.shape[-2] // cells
    middle = (edges[:-1] + edges[1:] - 1) // 2  # of each cell: a ball that fills it, or lies in its middle, has it
    return np.asarray((images[..., : edges[1], :, 0].max(-2) > 0)[..., middle].argmax(-1))


class NoisyCatch(Catch):
    """`Catch` in white before a moving background in colour that fills the frame: uint8 image [size, size, 3].

    The background (see `reverie.envs.background.Plaids`) is drawn afresh each episode and tells nothing about the
    task; it carries nearly all of the image's bits: ball and paddle are 8 of 1024 pixels. Every env_step is paid for,
    so that there is a reward to be modelled on every row::

        r = dense (1 - 2 d / (cells - 1)),    d: columns between paddle and ball

    optimal_score is the return of going straight under the ball, random_score that of uniformly random actions (for 8
    cells 19.5 and 7.2; 9 for staying in the middle). The last ``info["episode_info"]`` has ``success``: 1 if the ball
    was caught, else 0. strength: the background's brightest value, as a fraction of white (0 is Catch in colour).
    dense: scale of the rewards; 0: those of `Catch`, +1 or -1 at the end. continuous: see `Catch`.
    """

    def __init__(
        self,
        size: int = 32,
        cells: int = 8,
        strength: float = 0.9,
        ball: int | None = 2,
        dense: float = 3.0,
        continuous: bool = False,
    ) -> None:
        super().__init__(size, cells, ball, continuous)
        if not 0.0 <= strength <= 0.9:
            raise UserError(f"strength {strength} must be in [0, 0.9], so that ball and paddle stay visible")
        if dense < 0.0:
            raise UserError(f"dense {dense} scales rewards; it must not be negative")
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self._strength, self._dense = strength, dense
        if dense:
            self.random_score, self.optimal_score = (dense * score for score in _distance_scores(cells))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Drop a new ball before a new background."""
        # Catch.reset draws one column from the generator; the background is made at its first observation, after it.
        self._background: Plaids | None = None
        return super().reset(seed=seed, options=options)

    def _reward(self, over: bool) -> float:
        if not self._dense:
            return super()._reward(over)
        return self._dense * (1.0 - 2.0 * abs(self._paddle - self._column) / (self.cells - 1))

    def _end_of_episode(self) -> dict[str, Any]:
        return {"episode_info": {"success": float(self._paddle == self._column)}}

    def _observe(self) -> np.ndarray:
        if self._background is None:
            self._background = Plaids(self.np_random, self.size, self.size)
        return self._draw((self._background.frame(self._line) * self._strength).astype(np.uint8))


def _third(action: float) -> int:
    """-1, 0 or 1: the third of [-1, 1] that an action lies in."""
    return int(action > 1 / 3) - int(action < -1 / 3)


def _distance_scores(cells: int) -> tuple[float, float]:
    """Mean return, at scale 1, of uniformly random actions and of the best, over uniform columns of the ball."""
    columns = np.arange(cells)
    reward = 1.0 - 2.0 * np.abs(columns[:, None] - columns) / (cells - 1)  # [paddle, ball]
    move = np.zeros((cells, cells))
    for step in (-1, 0, 1):
        move[columns, np.clip(columns + step, 0, cells - 1)] += 1 / 3
    paddle = np.eye(cells)[cells // 2]
    best = np.full(cells, cells // 2)
    drift = straight = 0.0
    for _ in range(cells - 1):
        paddle = paddle @ move
        best = best + np.sign(columns - best)
        drift += float(paddle @ reward.mean(1))
        straight += float(reward[best, columns].mean())
    return drift, straight
