"""Environments that do not keep what they promise, for the tests of what is said of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Giving(gymnasium.Env[Any, Any]):
    """Declares `space` and gives what `draw` draws: row by row, from a generator and the number of the row."""

    def __init__(self, space: spaces.Space, draw: Callable[[np.random.Generator, int], Any], length: int = 10) -> None:
        self.observation_space, self.draw, self.length = space, draw, length
        self.action_space = spaces.Discrete(2)
        self.rows = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.see(), 1.0, self.time >= self.length, False, {}

    def see(self) -> Any:
        self.rows += 1
        return self.draw(self.np_random, self.rows - 1)


class Failing(gymnasium.Env[np.ndarray, np.int64]):
    """Counts [env_steps of the episode, which object it is]; raises at the steps in `at` of this object's life.

    Episodes have `length` env_steps. `made` counts the objects.
    """

    made = 0

    def __init__(self, at: tuple[int, ...] = (), length: int = 8, resets: tuple[int, ...] = ()) -> None:
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.at, self.length, self.resets = at, length, resets
        self.number, self.steps, self.begun = Failing.made, 0, 0
        Failing.made += 1
        self.closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.begun += 1
        if self.begun in self.resets:
            raise TimeoutError("no answer to reset")
        self.time = 0
        return self.see(), {}

    def step(self, action: np.int64) -> Any:
        self.steps += 1
        if self.steps in self.at:
            raise ConnectionError("simulator\ngone")
        self.time += 1
        return self.see(), float(self.time), self.time >= self.length, False, {}

    def see(self) -> np.ndarray:
        return np.array([self.time, self.number], np.float32)

    def close(self) -> None:
        self.closed = True


class Leaving(Failing):
    """Ends its process where others raise, as a launcher does whose simulator cannot be had."""

    def step(self, action: np.int64) -> Any:
        try:
            return super().step(action)
        except ConnectionError:
            raise SystemExit(3) from None


class CannotClose(Failing):
    """Plays well and raises when it is closed."""

    def close(self) -> None:
        raise RuntimeError("window was closed already")


class Once(Failing):
    """Can be open once at a time, like a port."""

    here: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        if Once.here:
            raise OSError(98, "Address already in use")
        Once.here.append(self)
        super().__init__()

    def close(self) -> None:
        Once.here.clear()


def async_failing(num_envs: int, at: int = 30) -> gymnasium.vector.VectorEnv:
    """Processes of Gymnasium's own, of which number 1 fails."""
    fns = [lambda i=i: Failing(at=(at,) if i == 1 else ()) for i in range(num_envs)]
    return gymnasium.vector.AsyncVectorEnv(fns, context="fork")


def sync_failing(num_envs: int, at: int = 30) -> gymnasium.vector.VectorEnv:
    """Gymnasium's own in one process, of which number 1 fails."""
    return gymnasium.vector.SyncVectorEnv([lambda i=i: Failing(at=(at,) if i == 1 else ()) for i in range(num_envs)])


class Slow(Failing):
    """Sleeps at every step."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__(length=1000)
        self.seconds = seconds

    def step(self, action: np.int64) -> Any:
        time.sleep(self.seconds)
        return super().step(action)


ONE = Failing()


def shared() -> gymnasium.Env:
    """One object for all."""
    return ONE


def wrapped() -> gymnasium.Env:
    """One object for all, in wrappers of their own."""
    return gymnasium.wrappers.TimeLimit(ONE, 5)


VECTOR = gymnasium.vector.SyncVectorEnv([Failing, Failing])


def shared_vector(num_envs: int) -> gymnasium.vector.VectorEnv:
    """One vector environment for all."""
    return VECTOR


def scarce(most: int = 3) -> gymnasium.Env:
    """A licence for so many objects."""
    if Failing.made >= most:
        raise OSError("no licence is left")
    return Failing()
