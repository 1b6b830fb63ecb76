"""A task with continuous actions from pixels that takes no time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Point(gymnasium.Env[np.ndarray, np.ndarray]):
    """A bright column that is pushed left and right, seen as 16x16 pixels; paid for being in the middle."""

    observation_space = spaces.Box(0, 255, (16, 16, 1), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.steps = float(self.np_random.uniform(-1, 1)), 0
        return self._image(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.x = float(np.clip(self.x + 0.3 * action[0], -1, 1))
        self.steps += 1
        return self._image(), 1.0 - abs(self.x), False, self.steps == 12, {}

    def _image(self) -> np.ndarray:
        image = np.zeros((16, 16, 1), np.uint8)
        image[:, round((self.x + 1) * 7.5)] = 200
        return image


class Place(Point):
    """The same, seen as the number that it is."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def _image(self) -> np.ndarray:
        return np.array([self.x], np.float32)
