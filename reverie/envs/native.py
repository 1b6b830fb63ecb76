"""Gymnasium's own vector environments, in each of its three reset conventions, as one `VectorEnv`.

::

    NextStep   the done step returns the true last observation; the next step ignores its action and resets:
               passed on as it is, is_last rows in place
    SameStep   the done step returns the reset observation, the last one is in info["final_obs"]:
               passed on as `Step.ends`
    Disabled   the done step returns the true last observation and waits: reset here at once, passed on as `Step.ends`

Gymnasium's Sync- and AsyncVectorEnv in Disabled mode get `episode_seed` at every reset. Other vector environments take
one seed at their first reset and go on from there, so their later episodes depend on how the earlier ones went.
Neither can be brought back in mid-episode: an interrupted episode counts as truncated.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs.adapter import Adapter
from reverie.envs.env import EnvSpec, Step, VectorEnv
from reverie.envs.reading import Reading
from reverie.envs.resume import episode_seed
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.errors import UserError


class NativeVector(VectorEnv):
    """Adapts `env`; `spec`: further fields of `EnvSpec`. Raises UserError on spaces or modes it does not know."""

    def __init__(self, id: str, env: gymnasium.vector.VectorEnv, reading: Reading | None = None, **spec: Any) -> None:
        self.env = env
        self.num_envs = int(env.num_envs)
        self._observation = ObservationAdapter(env.single_observation_space, reading)
        self._action = ActionAdapter(env.single_action_space)
        self.spec = EnvSpec(id=id, observation=self._observation.spaces, action=self._action.space, **spec)
        # Gymnasium 1.0 has no such key: its vector environments all reset in the next step.
        mode = (env.metadata or {}).get("autoreset_mode", "NextStep")
        self.mode = str(getattr(mode, "value", mode))
        if self.mode not in ("NextStep", "SameStep", "Disabled"):
            raise UserError(f"{id} has autoreset mode {self.mode!r}; use NextStep, SameStep or Disabled")
        self._seeds_streams = isinstance(
            env.unwrapped, gymnasium.vector.SyncVectorEnv | gymnasium.vector.AsyncVectorEnv
        )
        self._seed = 0
        self._episode = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)

    @property
    def adapter(self) -> Adapter:
        """Adapter of a single environment's observations and actions."""
        return Adapter(self._observation, self._action)

    def reset(self, seed: int) -> Rows:
        """First rows of all streams, which begin anew."""
        self._seed = int(seed)
        self._episode[:] = 0
        self._ended[:] = False
        # Sync- and AsyncVectorEnv take a list of seeds, which the base class does not declare.
        first: Any = self._seeds() if self._seeds_streams else episode_seed(self._seed, 0, 0)
        observation, _ = self.env.reset(seed=first)
        return self._rows(observation, is_first=np.ones(self.num_envs, bool))

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of every stream; `action` is ignored where the row before was is_last (NextStep only)."""
        observation, reward, terminated, truncated, info = self.env.step(self._action.batch(action))
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        if self.mode == "NextStep":
            first, self._ended = self._ended, terminated | truncated
            return Step(self._rows(observation, reward, first, self._ended, terminated))
        last = terminated | truncated
        streams = np.flatnonzero(last)
        if not len(streams):
            return Step(self._rows(observation, reward))
        before, after = self._turn(observation, info, last, streams)
        whole = self._rows(before, reward, is_last=last, is_terminal=terminated)
        ends = {name: value[streams] for name, value in whole.items()}
        rows = self._rows(after, np.where(last, 0.0, reward), is_first=last)
        return Step(rows, ends, streams.astype(np.int64))

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def _turn(self, observation: Any, info: dict[str, Any], last: np.ndarray, streams: np.ndarray) -> tuple[Any, Any]:
        """Observations [N] before and after the resets of the streams that ended."""
        if self.mode == "SameStep":
            return self._with_finals(observation, info["final_obs"], streams), observation
        # Adapted first, because a reset may write into the arrays that the step returned.
        before = self._observation.batch(observation)
        self._episode += last
        seeds: Any = self._seeds() if self._seeds_streams else None
        after, _ = self.env.reset(seed=seeds, options={"reset_mask": last})
        return _Adapted(before), after

    def _with_finals(self, observation: Any, finals: Any, streams: np.ndarray) -> _Adapted:
        """The observations, with those of `streams` replaced by the last ones of their episodes."""
        adapted = self._observation.batch(observation)
        if isinstance(finals, np.ndarray) and finals.dtype == object:
            for i in streams:
                for key, value in self._observation.one(finals[i]).items():
                    adapted[key][i] = value
        else:
            for key, value in self._observation.batch(finals).items():
                adapted[key][streams] = value[streams]
        return _Adapted(adapted)

    def _seeds(self) -> list[int]:
        return [episode_seed(self._seed, i, int(k)) for i, k in enumerate(self._episode)]

    def _rows(
        self,
        observation: Any,
        reward: np.ndarray | None = None,
        is_first: np.ndarray | None = None,
        is_last: np.ndarray | None = None,
        is_terminal: np.ndarray | None = None,
    ) -> Rows:
        adapted = observation if isinstance(observation, _Adapted) else self._observation.batch(observation)
        rows: Rows = {OBS + key: value for key, value in adapted.items()}
        rows["reward"] = np.zeros(self.num_envs, np.float32) if reward is None else np.asarray(reward, np.float32)
        for name, flag in (("is_first", is_first), ("is_last", is_last), ("is_terminal", is_terminal)):
            rows[name] = np.zeros(self.num_envs, bool) if flag is None else np.array(flag, bool)
        return rows


class _Adapted(dict[str, np.ndarray]):
    """Observations [N, ...] that have been through the adapter already."""
