"""Crafter: an open world in a 64x64 picture, with 22 achievements to unlock. Source: Hafner 2021, arXiv 2109.06780."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.env import VectorEnv
from reverie.envs.options import annotated, check_options, parameters
from reverie.envs.reading import PICTURE
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest

IDS = {"crafter/reward": True, "crafter/noreward": False}
"""Id -> whether the environment gives its reward (without it, for unsupervised exploration, rewards are 0)."""

SMALLEST = 18
"""pixels: the game draws 9 x 9 cells, and in each cell of the inventory a number of half its size"""


class Crafter(gymnasium.Env[np.ndarray, np.int64]):
    """The game as it is: uint8 image [size, size, 3], 17 actions, at most `length` env_steps.

    Death is a true end (is_terminal), the length a time limit. At an episode's end ``info["episode_info"]`` has
    ``achievement.<name>``: 1 if it was unlocked, else 0, for the success rates and the score that the paper reports.
    """

    render_mode = "rgb_array"

    def __init__(self, reward: bool = True, size: int = 64, length: int = 10_000) -> None:
        import crafter

        if size < SMALLEST or length < 1:
            raise UserError(f"crafter: size {size} must be at least {SMALLEST} pixels, length {length} at least 1")
        self._game = crafter.Env(size=(size, size), reward=reward, length=length, seed=0)
        self.action_names = tuple(self._game.action_names)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = spaces.Discrete(int(self._game.action_space.n))
        _order_chunks(self._game._world)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new world, drawn from `seed` alone."""
        super().reset(seed=seed)
        # The game draws world k of a seed; each of our episodes is world 1 of its own.
        self._game._seed, self._game._episode = int(self.np_random.integers(2**31)), 0
        return self._game.reset(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One env_step."""
        image, reward, over, info = self._game.step(int(action))
        terminal = bool(over) and info["discount"] == 0.0
        out: dict[str, Any] = {}
        if over:
            out["episode_info"] = {f"achievement.{k}": float(v > 0) for k, v in info["achievements"].items()}
        return image, float(reward), terminal, bool(over) and not terminal, out

    def render(self) -> np.ndarray:
        """The world around the player with the inventory, uint8 [288, 288, 3]."""
        # The noise of its nights is drawn from the generator that moves the creatures: looking must not move them.
        random = self._game._world.random
        before = random.get_state()
        try:
            return np.asarray(self._game.render((288, 288)))
        finally:
            random.set_state(before)


class _Ordered(dict[Any, None]):
    """A set that remembers the order in which it was filled."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


def _order_chunks(world: Any) -> None:
    """Make the world a function of its seed.

    It keeps the creatures of each chunk in a set, whose order depends on memory addresses, and draws from that order
    which of them vanishes: the same seed and actions would drift apart from process to process.
    """
    reset = world.reset

    def ordered_reset(seed: int | None = None) -> None:
        reset(seed=seed)
        world._chunks = defaultdict(_Ordered)

    world.reset = ordered_reset


def names() -> list[str]:
    """Both ids, or none where crafter is not installed."""
    return sorted(IDS) if importlib.util.find_spec("crafter") else []


def protocols(id: str) -> tuple[str, ...]:
    """One: the game as published."""
    return ("default",)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N games. options: ``size`` (pixels) and ``length`` (env_steps).

    Raises UserError on an unknown id or option, or where crafter is missing.
    """
    if id not in IDS:
        raise UserError(f"unknown environment {id!r}{suggest(id, IDS)}")
    if importlib.util.find_spec("crafter") is None:
        raise UserError(f"{id} needs crafter; install it with: pip install 'reverie-rl[crafter]'")
    check_options(id, options, {k: v for k, v in annotated(Crafter).items() if k != "reward"})
    flags = {k: v for k, v in {**parameters(Crafter), **options}.items() if k != "reward"}

    def one() -> gymnasium.Env:
        return Crafter(IDS[id], **flags)

    return SyncVector(id, [one() for _ in range(num_envs)], PICTURE, make=one, flags=flags)
