"""Small environments with known answers: for tests, demonstrations and first experiments on a laptop.

Each is a `gymnasium.Env` whose every episode is a function of its reset seed and actions, and which knows the exact
mean return of the best policy (``optimal_score``) and of uniformly random actions (``random_score``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.catch import Catch, NoisyCatch
from reverie.envs.env import VectorEnv
from reverie.envs.maze import Maze
from reverie.envs.options import annotated, check_options, parameters
from reverie.envs.reading import PICTURE
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest

TimeStep = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class Count(gymnasium.Env[np.ndarray, np.int64]):
    """Counts: the observation is [env_steps in this episode, episode number], the reward is that same first number.

    A row's reward therefore equals its own ``obs.vector[0]`` (0 on first rows), and lost, doubled or shifted rows
    show at once. Actions (4) change nothing. length: env_steps in an episode; max_length: if given, each episode
    draws its length from length..max_length inclusive. end: whether episodes end as ``terminal``, at a ``limit``, or
    either at random (``mixed``). With fixed length L every policy scores 1 + ... + L = L (L + 1) / 2.
    """

    counts_episodes = True

    def __init__(
        self, length: int = 8, max_length: int | None = None, end: Literal["terminal", "limit", "mixed"] = "terminal"
    ) -> None:
        if length < 1 or (max_length is not None and max_length < length):
            raise UserError(f"length {length} and max_length {max_length} must satisfy 1 <= length <= max_length")
        if end not in ("terminal", "limit", "mixed"):
            raise UserError(f"end {end!r} must be 'terminal', 'limit' or 'mixed'")
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(4)
        self._lengths = (length, max_length or length)
        self._end = end
        self._episode = -1
        lengths = np.arange(length, self._lengths[1] + 1)
        self.random_score = self.optimal_score = float(np.mean(lengths * (lengths + 1) / 2))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin episode ``options["episode"]``, or the next one."""
        super().reset(seed=seed)
        self._episode = (options or {}).get("episode", self._episode + 1)
        self._count = 0
        self._length = int(self.np_random.integers(self._lengths[0], self._lengths[1] + 1))
        self._terminal = self._end == "terminal" or (self._end == "mixed" and bool(self.np_random.integers(2)))
        return self._observe(), {}

    def step(self, action: np.int64) -> TimeStep:
        """Count on; `action` is ignored."""
        self._count += 1
        over = self._count == self._length
        return self._observe(), float(self._count), over and self._terminal, over and not self._terminal, {}

    def _observe(self) -> np.ndarray:
        return np.array([self._count, self._episode], np.float32)


class TMaze(gymnasium.Env[np.ndarray, np.int64]):
    """A cue on the first row says which way to turn `length` env_steps later; nothing in between repeats it.

    The corridor is walked by itself, so that only memory is measured: actions 0 (up) and 1 (down) count at the
    junction alone, where the episode ends (terminal) with reward +1 for the cued way and -1 for the other. Cues are
    equally likely, so random_score = 0, which is also the best any policy without memory can do (it is right half the
    time); optimal_score = 1. The last ``info["episode_info"]`` has ``success``: 1 for the cued way, else 0.

    A policy that reads its previous action has a memory of one row: it may walk with the action that it will need.

    Observation: float32 vector [cue is up, cue is down, at the junction, distractors...]; or with pixels=True a uint8
    image [size, size, 1]: a block above or below (cue) on the first row, the walker's place in the corridor on each
    row, and a bar across the end at the junction. length: corridor env_steps between cue and junction, at least 1.
    noise: how many distractors the vector has, each drawn anew from [-1, 1] on every row. Without them all that a
    network's state can hold at the junction is the cue and the time, so that even one that was never trained to
    remember may turn by what is left of the cue, always right or always wrong; distractors bring it back to chance.
    wait: each episode begins with 0..wait rows of corridor, as many as are drawn, before the cue is shown.
    reverse: in half of the episodes the junction asks for the other way: its entry is -1 (its bar is darker). Merely to
    lean one way by a trace of the cue is then right half the time; a policy must have learned what to do with it.

    Source: the T-maze of Bakker (2001), "Reinforcement learning with long short-term memory", in its passive form
    (Ni et al. 2023, "When do transformers shine in RL?", section 5.1).
    """

    action_names = ("up", "down")

    def __init__(
        self,
        length: int = 10,
        pixels: bool = False,
        size: int = 32,
        noise: int = 0,
        wait: int = 0,
        reverse: bool = False,
    ) -> None:
        if length < 1 or size < 12 or noise < 0 or wait < 0:
            raise UserError(
                f"length {length} must be at least 1, size {size} at least 12, noise {noise} and wait {wait} at least 0"
            )
        if pixels and noise:
            raise UserError(f"noise {noise} adds entries to the vector; with pixels=true there is none, set noise=0")
        low = np.array([0.0, 0.0, -1.0 if reverse else 0.0] + [-1.0] * noise, np.float32)
        self.observation_space: spaces.Space[np.ndarray] = (
            spaces.Box(0, 255, (size, size, 1), np.uint8) if pixels else spaces.Box(low, 1.0, dtype=np.float32)
        )
        self.action_space = spaces.Discrete(2)
        self.length, self._pixels, self._size, self._noise = length, pixels, size, noise
        self._wait, self._reverse = wait, reverse
        self.random_score, self.optimal_score = 0.0, 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Show a new cue, or the corridor before it."""
        super().reset(seed=seed)
        self._cue, self._place = int(self.np_random.integers(2)), 0
        if self._wait:
            self._place = -int(self.np_random.integers(self._wait + 1))
        self._reversed = self._reverse and bool(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: np.int64) -> TimeStep:
        """Walk on, or turn at the junction."""
        if self._place < self.length:
            self._place += 1
            return self._observe(), 0.0, False, False, {}
        # The closing row shows the corridor without junction or cue: nothing on it gives the answer away.
        self._place += 1
        success = float(int(action) == (1 - self._cue if self._reversed else self._cue))
        return self._observe(), 2.0 * success - 1.0, True, False, {"episode_info": {"success": success}}

    def _observe(self) -> np.ndarray:
        at_cue, at_junction = self._place == 0, self._place == self.length
        if not self._pixels:
            signs = [at_cue and self._cue == 0, at_cue and self._cue == 1, at_junction * (1 - 2 * self._reversed)]
            return np.concatenate([signs, self.np_random.uniform(-1.0, 1.0, self._noise)]).astype(np.float32)
        size, third = self._size, self._size // 3
        image = np.zeros((size, size, 1), np.uint8)
        image[third : size - third] = 64
        if at_cue:
            image[: third - 1] = 255 * (self._cue == 0)
            image[size - third + 1 :] = 255 * (self._cue == 1)
        if at_junction:
            image[:, -third:] = 112 if self._reversed else 160
        left = (size - 4) * min(max(self._place, 0), self.length) // self.length
        image[size // 2 - 2 : size // 2 + 2, left : left + 4] = 255
        return image


TOYS: dict[str, Callable[..., gymnasium.Env]] = {
    "toy/count": Count,
    "toy/catch": Catch,
    "toy/maze": Maze,
    "toy/noisy-catch": NoisyCatch,
    "toy/tmaze": TMaze,
}


def names() -> list[str]:
    """The ids of the toys."""
    return sorted(TOYS)


def protocols(id: str) -> tuple[str, ...]:
    """A toy has one protocol; its options are the arguments of its class."""
    return ("default",)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a toy. Raises UserError on an unknown id or option."""
    if id not in TOYS:
        raise UserError(f"unknown environment {id!r}{suggest(id, TOYS)}")
    check_options(id, options, annotated(TOYS[id]))
    envs: list[Any] = [TOYS[id](**options) for _ in range(num_envs)]
    pixels = len(envs[0].observation_space.shape) > 1
    return SyncVector(
        id,
        envs,
        PICTURE if pixels else None,
        make=lambda: TOYS[id](**options),
        protocol=protocol,
        flags={**parameters(TOYS[id]), **options},
        random_score=envs[0].random_score,
        optimal_score=envs[0].optimal_score,
    )
