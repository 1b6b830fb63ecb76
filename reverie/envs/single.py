"""One stream as a plain `gymnasium.Env`: what lies beneath a `VectorEnv`, or its rows."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.data.rows import Rows, observations
from reverie.envs.env import VectorEnv
from reverie.envs.native import NativeVector
from reverie.envs.partial import Partial
from reverie.envs.tasks import Tasks
from reverie.envs.vector import SyncVector
from reverie.errors import UserError


def single(env: VectorEnv) -> gymnasium.Env:
    """The environment of a `VectorEnv` with one stream, as its author wrote it where there is such a thing.

    Raises UserError where the stream lies in a vector environment of Gymnasium's, or flickers.
    """
    if isinstance(env, Partial):
        if env.flickers:
            raise UserError(f"{env.spec.id} flickers by rows: play it as make_env gives it, or without flicker")
        return single(env.env)  # entries that are masked are hidden by the adapter
    if isinstance(env, Tasks):
        raise UserError(f"{env.spec.id} is several environments: name one of them")
    if isinstance(env, SyncVector):
        return env.envs[0]
    if isinstance(env, NativeVector):
        raise UserError(
            f"{env.spec.id} is a vector environment with none for a single stream: play it as make_env gives it"
        )
    return Single(env)


class Single(gymnasium.Env[Any, Any]):
    """The one stream of `env`, a source of rows. Raises UserError for more streams.

    Observations are those of its rows: a dictionary, or the array alone where there is one. ``reset()`` after an end
    begins the episode that the source has begun itself; ``reset(seed)`` begins all anew.
    """

    def __init__(self, env: VectorEnv) -> None:
        if env.num_envs != 1:
            raise UserError(f"{env.spec.id} has {env.num_envs} streams; a single one is made of 1")
        self.env = env
        self.observation_space = env.adapter.observation.own
        self.action_space = env.adapter.action.native
        self._rows: Rows | None = None
        self._next: Rows | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """First observation of an episode."""
        super().reset(seed=seed)
        if seed is not None or self._rows is None or not (self._next or self._rows["is_last"][0]):
            self._rows = self.env.reset(int(self.np_random.integers(2**31)) if seed is None else seed)
        elif self._next is not None:
            self._rows = self._next
        else:
            self._rows = self.env.step(
                np.zeros((1, *(self.env.spec.action.shape or ())), self.env.spec.action.dtype)
            ).rows
        self._next = None
        return self._seen(self._rows), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Observation, reward, terminated, truncated, and what the source measured over an episode that ended."""
        if self._rows is None or self._next is not None or self._rows["is_last"][0]:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        step = self.env.step(np.asarray(action)[None])
        self._rows = rows = step.rows
        if step.ends is not None and len(step.ends["is_last"]):
            self._next, rows = step.rows, step.ends
        last, terminal = bool(rows["is_last"][0]), bool(rows["is_terminal"][0])
        info = {"episode_info": dict(step.episode_info[0])} if 0 in step.episode_info else {}
        return self._seen(rows), float(rows["reward"][0]), terminal, last and not terminal, info

    def close(self) -> None:
        """Close the source."""
        self.env.close()

    def _seen(self, rows: Rows) -> Any:
        seen = {key: value[0] for key, value in observations(rows).items()}
        return seen if isinstance(self.observation_space, spaces.Dict) else next(iter(seen.values()))
