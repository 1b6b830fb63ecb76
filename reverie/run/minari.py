"""Datasets of Minari as rows: episodes that others recorded, in an environment's own terms.

::

    episode    observations 0 .. T       actions 0 .. T-1       rewards 0 .. T-1       terminations, truncations
    rows       obs_t = o_t, action_t = a_t (row T: none), reward_t = r_{t-1} (row 0: none), t = 0 .. T
                                                                              row T is_last; is_terminal: terminated

The environment of the run says how: its adapter makes rows of observations, and row actions of actions, whose spaces
must be those of the dataset. Source: Minari's documentation of ``EpisodeData``; Younis et al. 2024, "Minari".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from reverie.data.rows import OBS, Rows, row_spec
from reverie.data.sequences import Chunk
from reverie.envs.env import VectorEnv
from reverie.envs.spaces import at
from reverie.errors import UserError, notice

PREFIX = "minari:"
"""before the name of a dataset, as in ``minari:D4RL/door/human-v2``"""


class Source(Protocol):
    """Rows of several streams to learn from. folder: where they are, in words."""

    folder: Any

    @property
    def streams(self) -> list[int]:
        """Streams with rows."""

    def __len__(self) -> int:
        """Rows in all streams."""

    def chunks(self, stream: int) -> Iterator[Chunk]:
        """Chunks of a stream, in order of time."""


class MinariDataset:
    """Episodes of a dataset, one after another in a single stream, as rows of an environment.

    name: of the dataset, with `PREFIX`; it is downloaded if it is not on this machine.
    Raises UserError where Minari or the dataset is missing, or where the environment repeats its actions or has other
    spaces than the one that was recorded.
    """

    def __init__(self, name: str, env: VectorEnv) -> None:
        self.folder = name
        self.spec, self.adapter = env.spec, env.adapter
        self.fields = row_spec(env.spec.observation, env.spec.action)
        self._recorded = _load(name)
        self._check()

    @property
    def streams(self) -> list[int]:
        """The one there is."""
        return [0]

    def __len__(self) -> int:
        """Rows: env_steps, and a closing row of each episode."""
        return int(self._recorded.total_steps) + int(self._recorded.total_episodes)

    def chunks(self, stream: int) -> Iterator[Chunk]:
        """A chunk for each episode. Raises UserError, too, for files that cannot be read."""
        start, episodes = 0, self._recorded.iterate_episodes()
        while (episode := self._next(episodes)) is not None:
            chunk = Chunk(stream, start, self.rows(episode))
            yield chunk
            start += len(chunk)

    def _next(self, episodes: Iterator[Any]) -> Any:
        """The next episode; None after the last."""
        try:
            return next(episodes, None)
        except Exception as error:
            raise UserError(f"{self.folder} cannot be read: {_words(error)}") from error

    def rows(self, episode: Any) -> Rows:
        """Rows [T + 1, ...] of an episode of T env_steps. One that ends in neither way was cut: a time limit.

        Raises UserError for numbers that are not finite, and for an episode of no env_steps or of several in one.
        """
        where = f"{self.folder}, episode {episode.id}"
        shapes = {name: np.shape(getattr(episode, name)) for name in ("rewards", "terminations", "truncations")}
        if len(set(shapes.values())) > 1 or len(shapes["rewards"]) != 1:
            told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise UserError(f"{where} has {told}; there must be one number of each per env_step")
        if np.asarray(episode.rewards).dtype.kind not in "biuf":
            raise UserError(f"{where}: its rewards are no numbers")
        steps = len(episode.rewards)
        ends = np.asarray(episode.terminations, bool) | np.asarray(episode.truncations, bool)
        if not steps or ends[:-1].any():
            what = f"ends after {int(ends.argmax()) + 1} of {steps} env_steps" if steps else "has no env_steps"
            raise UserError(f"{where} {what}: leave it out, or cut it (minari's filter_episodes, split_dataset)")
        try:
            seen, _ = self.adapter.observe(episode.observations, steps + 1)
            taken = np.asarray(episode.actions)
            if taken.dtype.kind == "f" and not np.isfinite(taken).all():
                raise UserError("action is not finite; leave that episode out, or clip its numbers")
            action = self.adapter.action.rows(taken)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if len(action) != steps:
            raise UserError(f"{where}: {len(action)} actions and {steps} rewards; there must be as many")
        none, first = np.zeros_like(action[:1]), np.zeros(steps + 1, bool)
        first[0] = True
        last = first[::-1].copy()
        rows = {OBS + key: value for key, value in seen.items()}
        rows |= {"prev_action": np.concatenate([none, action]), "action": np.concatenate([action, none])}
        rows["reward"] = np.concatenate([np.zeros(1), episode.rewards]).astype(np.float32)
        rows |= {"is_first": first, "is_last": last, "is_terminal": last & bool(episode.terminations[-1])}
        for name, value in rows.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UserError(f"{where}: {name} is not finite; leave that episode out, or clip its numbers")
        return {name: rows[name].astype(field.dtype, copy=False) for name, field in self.fields.items()}

    def _check(self) -> None:
        """Raise UserError where the environment is another than the one that was recorded."""
        spec, recorded = self.spec, self._recorded
        id, of = spec.id, f"{self.folder} was recorded in {_id(recorded)}"
        if spec.tasks:
            raise UserError(f"{self.folder} is of one environment, {id} are several: name one")
        if spec.action_mask:
            raise UserError(f"{self.folder} has no action masks, which {id} gives: --env.options.action_mask ignore")
        if spec.action_repeat != 1:
            raise UserError(f"{of}, step by step, but {id} repeats each action {spec.action_repeat} times")
        if spec.flags.get("flicker"):
            raise UserError(f"{self.folder} has whole observations, but {id} hides some: leave env.options.flicker out")
        if recorded.action_space != self.adapter.action.native:
            raise UserError(f"{of} with actions {recorded.action_space}; {id} has {self.adapter.action.native}")
        for part in self.adapter.observation.parts:
            try:
                theirs = at(recorded.observation_space, part.path, part.key)
            except UserError as error:
                raise UserError(f"{of}, not in {id}: {error}") from None
            if not _alike(theirs, part.own):
                raise UserError(f"{of} with {part.key!r} in {theirs}; {id} has {part.own}")
        if recorded.env_spec is not None and _id(recorded).rpartition(":")[2] != id.rpartition(":")[2]:
            notice(f"{of}, and {id} is what this run is evaluated in")


def is_minari(path: str) -> bool:
    """Whether a dataset's path names one of Minari's."""
    return path.startswith(PREFIX)


def _load(name: str) -> Any:
    """Minari's own object of a dataset."""
    try:
        import h5py  # noqa: F401  what most datasets are stored in
        import minari
    except ModuleNotFoundError as error:
        raise UserError(f"{name} needs {error.name}; install it with: pip install 'reverie-rl[minari]'") from None
    bare = name.removeprefix(PREFIX)
    try:
        return minari.load_dataset(bare)
    except FileNotFoundError:
        local = os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")
        notice(f"{name} is not in {local} (MINARI_DATASETS_PATH): it is downloaded")
    except Exception as error:
        raise UserError(f"{name} cannot be opened: {_words(error)}") from error
    try:
        return minari.load_dataset(bare, download=True)
    except Exception as error:
        raise UserError(f"{name} cannot be downloaded: {_words(error)}") from error


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _alike(recorded: spaces.Space, own: spaces.Space) -> bool:
    """Whether a recorded space has the same numbers: kind, shape and dtype, and of a Box the bounds that both have."""
    if not isinstance(own, spaces.Box) or not isinstance(recorded, spaces.Box):
        return recorded == own
    if (recorded.shape, recorded.dtype) != (own.shape, own.dtype):
        return False
    for one, other in ((recorded.low, own.low), (recorded.high, own.high)):
        both = np.isfinite(one) & np.isfinite(other)
        if not np.allclose(one[both], other[both], rtol=1e-3):
            return False
    return True


def _id(recorded: Any) -> str:
    """The environment that was recorded, where that is said."""
    return getattr(recorded.env_spec, "id", None) or "another environment"
