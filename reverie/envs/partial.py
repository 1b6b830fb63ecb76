"""Partial observability for any environment: whole observations that flicker, and single entries that are masked.

What is hidden is zero; keys, shapes and dtypes stay, so one network serves all settings of a comparison. Rewards,
flags and scores are those of the environment beneath, and random play scores the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK, OBS, Rows
from reverie.envs.adapter import Adapter
from reverie.envs.env import Step, VectorEnv
from reverie.envs.wrappers import Carried
from reverie.errors import UserError

Mask = Sequence[int] | Mapping[str, Sequence[int]]
RESERVED = ("flicker", "mask", "stepping")
"""Options that `make_env` takes for every environment; no environment can have its own of that name."""


class Partial(VectorEnv):
    """Streams of `env` with parts of their observations replaced by zeros.

    flicker: probability in [0, 1) that a row shows nothing: all its images and vectors are 0. Every row has its own
        draw, the first and the last of an episode too. A zero is a value of Discrete observations, so environments
        that have some are refused.
    mask: entries of a vector that are 0 in every row: a list of their positions where there is one vector, else
        key -> list. ``[1, 3]`` takes the two velocities out of CartPole.

    The draw of row t of stream i is a function of (seed, i, t), t counted from `reset`, whatever the source beneath.
    So a stream is resumed as `env` resumes, with the draws set to the row that it had reached::

        state_dict = state of env + seed + rows shown per stream

    ``spec.flags`` gain both settings; ``optimal_score`` becomes unknown. Raises UserError on values out of range and
    on observations that cannot be hidden.

    Source: flicker as in Hausknecht & Stone 2015, "Deep recurrent Q-learning for partially observable MDPs", section 5,
    where p = 0.5.
    """

    def __init__(self, env: VectorEnv, flicker: float = 0.0, mask: Mask = ()) -> None:
        self.env = env
        self.num_envs, self.render_fps, self.action_names = env.num_envs, env.render_fps, env.action_names
        self._flicker = _checked_flicker(env, flicker)
        self._entries = _masked_entries(env, mask)
        flags = {**env.spec.flags, "flicker": self._flicker, "mask": {k: list(v) for k, v in self._entries.items()}}
        hidden = {
            key: space if _is_mask(env, key) else self._space(key, space) for key, space in env.spec.observation.items()
        }
        self.spec = replace(env.spec, observation=hidden, flags=flags, optimal_score=None)
        self._hideable = [key for key in env.spec.observation if not _is_mask(env, key)]
        self._seed = 0
        self._rows_shown = np.zeros(self.num_envs, np.int64)
        self._draws: list[np.random.Generator] = []

    @property
    def flickers(self) -> bool:
        """Whether rows show nothing now and then."""
        return self._flicker > 0

    @property
    def adapter(self) -> Adapter:
        """Adapter of the environment beneath, which hides the masked entries; it does not flicker."""
        return replace(self.env.adapter, hidden=self._entries)

    def render(self) -> np.ndarray | None:
        """Picture of the environment beneath, of which nothing is hidden."""
        return self.env.render()

    def reset(self, seed: int) -> Rows:
        """First rows of all streams, which begin anew, their draws too."""
        rows = self.env.reset(seed)
        self._seed_draws(int(seed), np.zeros(self.num_envs, np.int64))
        return self._show(rows, np.arange(self.num_envs))

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of the environment beneath.

        Closing rows come before `Step.rows` in their streams, so they draw first.
        """
        step = self.env.step(action)
        if step.ends is not None and step.streams is not None:
            step = replace(step, ends=self._show(step.ends, step.streams))
        return replace(step, rows=self._show(step.rows, np.arange(self.num_envs)))

    def state_dict(self) -> dict[str, Any]:
        """State of `env`, and the number of rows that each stream has shown."""
        return {"env": self.env.state_dict(), "seed": self._seed, "rows_shown": self._rows_shown.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring `env` back its own way. Raises ResumeError if it would differ."""
        self.env.load_state_dict(state["env"])
        self._seed_draws(int(state["seed"]), np.array(state["rows_shown"], np.int64))

    def carried(self) -> Carried | None:
        """What the environment beneath carries."""
        return self.env.carried()

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Have the environment beneath carry that."""
        self.env.adopt(carried, keep)

    def metrics(self) -> dict[str, float]:
        """Metrics of the environment beneath."""
        return self.env.metrics()

    def close(self) -> None:
        """Close the environment beneath."""
        self.env.close()

    def _space(self, key: str, space: spaces.Space) -> spaces.Space:
        """The space of an observation of which some may be 0."""
        if not isinstance(space, spaces.Box):
            return space
        low, high = np.array(space.low), np.array(space.high)
        if self._flicker:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        if key in self._entries:
            low[self._entries[key]] = high[self._entries[key]] = 0
        return spaces.Box(low, high, dtype=space.dtype.type)

    def _seed_draws(self, seed: int, rows_shown: np.ndarray) -> None:
        self._seed, self._rows_shown = seed, rows_shown
        # Three words in the key: the seeds of episodes have two (see `reverie.envs.resume.episode_seed`).
        sequences = [np.random.SeedSequence(seed, spawn_key=(i, 0, 0)) for i in range(self.num_envs)]
        # One draw takes one word of the generator.
        self._draws = [
            np.random.Generator(np.random.PCG64(sequence).advance(int(count)))
            for sequence, count in zip(sequences, rows_shown, strict=True)
        ]

    def _show(self, rows: Rows, streams: np.ndarray) -> Rows:
        """The rows [n, ...] of these streams with zeros where the agent sees nothing; what came in is not changed."""
        rows = dict(rows)
        for key, entries in self._entries.items():
            rows[OBS + key] = rows[OBS + key].copy()
            rows[OBS + key][:, entries] = 0
        if self._flicker:
            dark = np.array([self._draws[i].random() for i in streams]) < self._flicker
            for key in self._hideable if dark.any() else ():
                rows[OBS + key] = rows[OBS + key].copy()
                rows[OBS + key][dark] = 0
        self._rows_shown[streams] += 1
        return rows


def _is_mask(env: VectorEnv, key: str) -> bool:
    """Whether a key says which actions may be taken, which is never hidden."""
    return env.spec.action_mask and key == ACTION_MASK


def _checked_flicker(env: VectorEnv, flicker: float) -> float:
    if isinstance(flicker, bool) or not isinstance(flicker, int | float) or not 0.0 <= flicker < 1.0:
        raise UserError(f"flicker {flicker!r} must be a probability in [0, 1), for example 0.5")
    discrete = [key for key, space in env.spec.observation.items() if not isinstance(space, spaces.Box)]
    if flicker and discrete:
        raise UserError(
            f"flicker cannot hide observation {discrete[0]!r} of {env.spec.id}: it is "
            f"{env.spec.observation[discrete[0]]}, where 0 is a value; give it as a vector (for example one-hot)"
        )
    return float(flicker)


def _masked_entries(env: VectorEnv, mask: Mask) -> dict[str, list[int]]:
    """Key -> positions, checked against the observations of `env`."""
    shapes = {k: s.shape for k, s in env.spec.observation.items() if isinstance(s, spaces.Box) and s.shape is not None}
    vectors = {key: shape[0] for key, shape in shapes.items() if len(shape) == 1 and not _is_mask(env, key)}
    if not isinstance(mask, Mapping):
        if mask and len(vectors) != 1:
            have = (
                f"the vectors {', '.join(vectors)}; say which: mask.{next(iter(vectors))}" if vectors else "no vector"
            )
            raise UserError(f"mask {mask!r} hides entries of a vector, but {env.spec.id} has {have}")
        mask = dict.fromkeys(vectors, mask) if mask else {}
    for key, entries in mask.items():
        if key not in vectors:
            raise UserError(f"mask.{key}: {env.spec.id} has no vector {key!r}; it has {', '.join(vectors) or 'none'}")
        listed = isinstance(entries, list | tuple) and all(type(entry) is int for entry in entries)
        if not listed or not all(0 <= entry < vectors[key] for entry in entries):
            raise UserError(f"mask {entries!r} must list entries of {key!r} in 0..{vectors[key] - 1}, such as [0]")
    return {key: sorted(set(entries)) for key, entries in mask.items() if entries}
