"""N single Gymnasium environments stepped in this process, as one `VectorEnv` whose streams can be resumed exactly.

An episode that ends is followed at once by the reset of the next, so no action is ever wasted::

    step(a)  ->  ends: the is_last row of stream i      rows[i]: already the is_first row of its next episode

Every episode is reset with `episode_seed(seed, stream, episode)`. A stream in mid-episode is therefore saved as
(seed, episode, actions so far) and brought back by playing those actions again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs import calls
from reverie.envs.adapter import Adapter
from reverie.envs.env import EnvSpec, ResumeError, Step, VectorEnv
from reverie.envs.masks import Masks
from reverie.envs.reading import Reading
from reverie.envs.resume import ActionLog, episode_seed, row_checksum
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.errors import UserError


class SyncVector(VectorEnv):
    """Environment of several, `envs`, stepped one after another.

    id: the name reports use. envs: N >= 1 environments with equal spaces. reading: what was said of observations whose
    spaces do not tell what they are. spec: further fields of `EnvSpec` (action_repeat, protocol, flags, random_score,
    optimal_score).

    What an environment puts in ``info["episode_info"]`` (name -> number) at its last step is passed on in
    `Step.episode_info`. An environment with a true class attribute ``counts_episodes`` gets
    ``reset(options={"episode": k})``.

    Raises UserError if the spaces differ between environments or cannot be adapted.
    """

    def __init__(self, id: str, envs: Sequence[gymnasium.Env], reading: Reading | None = None, **spec: Any) -> None:
        if not envs:
            raise UserError(f"{id} needs at least one environment; set num_envs to 1 or more")
        first = envs[0]
        for env in envs[1:]:
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                raise UserError(f"{id} gives environments with different spaces; make the factory's spaces fixed")
        calls.check_signature(id, first)
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        self._observation = ObservationAdapter(first.observation_space, reading)
        self._action = ActionAdapter(first.action_space)
        heed = reading.action_mask if reading is not None else None
        self._masks = Masks(id, self._observation.spaces, self._action.space, heed)
        self.spec = EnvSpec(
            id=id,
            observation=self._masks.extend(self._observation.spaces),
            action=self._action.space,
            action_mask=self._masks.source is not None,
            **{"resume": "replay", **spec},
        )
        self._counts_episodes = [bool(getattr(env.unwrapped, "counts_episodes", False)) for env in self.envs]
        self.render_fps = (first.metadata or {}).get("render_fps")
        self._seed: int | None = None
        self._episode = np.zeros(self.num_envs, np.int64)
        self._log = [ActionLog(self._action.space) for _ in self.envs]
        self._rows: list[Rows] = []

    @property
    def adapter(self) -> Adapter:
        """Adapter of a single environment's observations and actions."""
        return Adapter(self._observation, self._action, self._masks)

    def reset(self, seed: int) -> Rows:
        """First rows [N, ...] of all streams, which begin anew at their episode 0; all ``is_first``."""
        self._seed = int(seed)
        self._episode[:] = 0
        self._rows = [self._begin(i) for i in range(self.num_envs)]
        return _stack(self._rows)

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of every environment; see `VectorEnv.step` for the action."""
        # As it is recorded: float64 actions would not be replayed to the last bit.
        action = np.asarray(action).astype(self._log[0].dtype)
        native = self._action.batch(action)
        ends: list[Rows] = []
        streams: list[int] = []
        episode_info: dict[int, Mapping[str, float]] = {}
        for i in range(self.num_envs):
            row, info = self._act(i, native[i])
            self._log[i].append(action[i])
            if row["is_last"]:
                ends.append(row)
                streams.append(i)
                if "episode_info" in info:
                    episode_info[i] = {name: float(value) for name, value in info["episode_info"].items()}
                self._episode[i] += 1
                row = self._begin(i)
            self._rows[i] = row
        rows = _stack(self._rows)
        if not ends:
            return Step(rows)
        return Step(rows, _stack(ends), np.asarray(streams, np.int64), episode_info)

    def state_dict(self) -> dict[str, Any]:
        """Seed, and per stream its episode number, the actions of its open episode and a checksum of its last row."""
        if self._seed is None:
            raise RuntimeError(f"{self.spec.id} was not reset: there is nothing to save")
        return {
            "seed": self._seed,
            "episode": self._episode.copy(),
            "actions": [log.actions() for log in self._log],
            "checksum": np.array([row_checksum(row) for row in self._rows], np.int64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play the open episodes again from their seeds. Raises ResumeError if a stream arrives somewhere else."""
        if len(state["actions"]) != self.num_envs:
            raise ResumeError(f"{self.spec.id}: {len(state['actions'])} streams were saved, {self.num_envs} are here")
        self._seed = int(state["seed"])
        self._episode = np.array(state["episode"], np.int64)
        self._rows = [self._replay(i, actions) for i, actions in enumerate(state["actions"])]
        for i, row in enumerate(self._rows):
            if row_checksum(row) != int(state["checksum"][i]):
                raise ResumeError(
                    f"{self.spec.id}: stream {i} is elsewhere after {len(self._log[i])} env_steps of episode "
                    f"{self._episode[i]}; the environment is not deterministic under reset(seed)"
                )

    def render(self) -> np.ndarray | None:
        """Picture of the first environment, if it was made with the render mode ``rgb_array``."""
        if self.envs[0].render_mode != "rgb_array":
            return None
        return calls.drawn(self.spec.id, self.envs[0].render)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _begin(self, i: int) -> Rows:
        """First row [...] of stream i, which is reset to its current episode."""
        assert self._seed is not None
        self._log[i].clear()
        episode = int(self._episode[i])
        options = {"episode": episode} if self._counts_episodes[i] else None
        observation, info = calls.reset(self.spec.id, self.envs[i], episode_seed(self._seed, i, episode), options)
        return self._row(observation, info, is_first=True)

    def _act(self, i: int, native: Any) -> tuple[Rows, dict[str, Any]]:
        if isinstance(self._action.native, gymnasium.spaces.Discrete):
            native = int(native)
        observation, reward, terminated, truncated, info = calls.step(self.spec.id, self.envs[i], native)
        row = self._row(observation, info, reward=reward, is_last=terminated or truncated, is_terminal=terminated)
        return row, info

    def _row(
        self,
        observation: Any,
        info: Mapping[str, Any],
        reward: float = 0.0,
        is_first: bool = False,
        is_last: bool = False,
        is_terminal: bool = False,
    ) -> Rows:
        row: Rows = {OBS + key: value for key, value in self._observation.one(observation).items()}
        self._masks.one(row, info, is_last)
        row["reward"] = np.array(reward, np.float32)
        for name, flag in (("is_first", is_first), ("is_last", is_last), ("is_terminal", is_terminal)):
            row[name] = np.array(flag)
        return row

    def _replay(self, i: int, actions: np.ndarray) -> Rows:
        row = self._begin(i)
        for action in actions:
            if row["is_last"]:
                raise ResumeError(f"{self.spec.id}: stream {i} ended early when it was simulated again")
            row, _ = self._act(i, self._action.batch(action[None])[0])
            self._log[i].append(action)
        return row


def _stack(rows: Sequence[Rows]) -> Rows:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
