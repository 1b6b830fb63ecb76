"""Environments that look alike, for runs on several at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.catch import Catch


class Small(gymnasium.Env[np.ndarray, np.int64]):
    """Counts env_steps, pays the count; two actions; ends after 5 (and a draw of 0 to 2, so that streams differ)."""

    high, actions, pays, more = 100.0, 2, 1.0, 0

    def __init__(self) -> None:
        self.observation_space: spaces.Space[Any] = spaces.Box(0, self.high, (1,), np.float32)
        self.action_space = spaces.Discrete(self.actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.length = 0, 5 + int(self.np_random.integers(self.more + 1))
        return self.see(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert 0 <= action < self.actions
        self.count += 1
        return self.see(), self.pays * self.count, self.count == self.length, False, {}

    def see(self) -> np.ndarray:
        return np.array([self.count], np.float32)


class Loud(Small):
    """The same for a hundred times as much, with a third action."""

    high, actions, pays, more = 200.0, 3, 100.0, 2


class Breaks(Small):
    """Raises at its second step."""

    def step(self, action: np.int64) -> Any:
        if self.count == 1:
            raise RuntimeError("the simulator lost its licence")
        return super().step(action)


class Turns(gymnasium.Env[Any, np.ndarray]):
    """Looks like Pendulum, and has two continuous actions; pays their sum, ends after 5 env_steps."""

    observation_space: spaces.Space[Any] = spaces.Box(-8, 8, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self.see(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action.shape == self.action_space.shape
        self.count += 1
        return self.see(), float(action.sum()), False, self.count == 5, {}

    def see(self) -> Any:
        return np.full(3, self.count, np.float32)


class Far(Turns):
    """The same, which sees four numbers."""

    observation_space = spaces.Box(-8, 8, (4,), np.float32)

    def see(self) -> Any:
        return np.full(4, self.count, np.float32)


class Named(Turns):
    """One action, and two vectors by name."""

    observation_space = spaces.Dict(
        {"count": spaces.Box(0, 9, (1,), np.float32), "pose": spaces.Box(0, 20, (2, 2), np.float32)}
    )
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def see(self) -> Any:
        return {"count": np.array([self.count], np.float32), "pose": np.array([[10, 11], [12, 13]], np.float32)}


class Masked(Turns):
    """Calls something that it sees ``action_mask``."""

    observation_space = spaces.Dict(
        {"action_mask": spaces.Box(0, 1, (2,), np.float32), "x": spaces.Box(0, 9, (1,), np.float32)}
    )

    def see(self) -> Any:
        return {"action_mask": np.array([0, 1], np.float32), "x": np.array([self.count], np.float32)}


class MaskedToo(Masked):
    """The same once more."""


class Up(Named):
    """Always shows the same, and pays for pushing up; wants one number."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    sign = 1.0

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, paid, *rest = super().step(action)
        return seen, self.sign * paid, *rest  # type: ignore[return-value]

    def see(self) -> Any:
        return np.ones(1, np.float32)


class Down(Up):
    """The same, but pays for pushing down."""

    sign = -1.0


class Sees(Turns):
    """The same task in pixels."""

    observation_space = spaces.Box(0, 255, (16, 16, 1), np.uint8)

    def see(self) -> Any:
        return np.full((16, 16, 1), self.count, np.uint8)


def doubled() -> gymnasium.Env:
    """Small, whose rewards a wrapper doubles."""
    return gymnasium.wrappers.TransformReward(Small(), lambda reward: 2.0 * float(reward))


class Hundred(Catch):
    """Catch for a hundred times as much."""

    def _reward(self, over: bool) -> float:
        return 100.0 * super()._reward(over)


class Thousand(Catch):
    """Catch for a thousand times as much."""

    def _reward(self, over: bool) -> float:
        return 1000.0 * super()._reward(over)
