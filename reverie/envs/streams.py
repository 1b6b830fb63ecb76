"""Streams of single environments and their books, from which each is brought back exactly, wherever it is stepped.

An episode that ends is followed at once by the reset of the next, so no action is ever wasted::

    step(a)  ->  ends: the is_last row of stream i      rows[i]: already the is_first row of its next episode

Every episode is reset with `episode_seed(seed, stream, episode)`. A stream in mid-episode is therefore saved as
(seed, episode, actions so far) and brought back by playing those actions again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.data.rows import Rows
from reverie.envs.env import EnvSpec, ResumeError, Step, VectorEnv
from reverie.envs.resume import ActionLog, row_checksum
from reverie.envs.stream import Place, Turn
from reverie.envs.wrappers import Carried
from reverie.errors import UserError, notice

RESTARTS = "env_restarts"
"""name of the measure of how often environments were made anew"""


class Streams(VectorEnv):
    """N streams of `Turn`s, and the books about them. A child says where they are stepped.

    The books are written when all streams have stepped: after an `EnvFault` they are those before.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.spec, self.num_envs = spec, num_envs
        self._seed: int | None = None
        self._episode = np.zeros(num_envs, np.int64)
        self._restarts = np.zeros(num_envs, np.int64)
        self._log = [ActionLog(spec.action) for _ in range(num_envs)]
        self._rows: list[Rows] = []
        self._said: set[str] = set()
        self._carried: list[Carried | None] = [None] * num_envs

    @abstractmethod
    def go(self, seed: int, places: Sequence[Place]) -> list[Turn]:
        """Bring every stream to its place."""

    @abstractmethod
    def advance(self, action: np.ndarray) -> list[Turn]:
        """Step every stream with its row action."""

    def reset(self, seed: int) -> Rows:
        """First rows [N, ...] of all streams, which begin anew at their episode 0; all ``is_first``."""
        self._enter(int(seed), [Place(restarts=int(count)) for count in self._restarts])
        return stack(self._rows)

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of every environment; see `VectorEnv.step` for the action."""
        self.check_action(action)
        # As it is recorded: float64 actions would not be replayed to the last bit.
        action = np.asarray(action).astype(self._log[0].dtype)
        turns = self.advance(action)
        ends: list[Rows] = []
        streams: list[int] = []
        episode_info: dict[int, Mapping[str, float]] = {}
        for i, turn in enumerate(turns):
            if turn.end is None and not turn.lost:
                self._log[i].append(action[i])
                continue
            self._log[i].clear()
            self._episode[i] += 1
            if turn.end is not None:
                ends.append(turn.end)
                streams.append(i)
                if turn.info:
                    episode_info[i] = turn.info
        self._note(turns)
        lost = np.flatnonzero([turn.lost for turn in turns]) if any(turn.lost for turn in turns) else None
        earned = None
        if any(turn.earned is not None for turn in turns):
            earned = np.array([turn.earned or 0.0 for turn in turns])
        if not ends:
            return Step(stack(self._rows), lost=lost, earned=earned)
        return Step(stack(self._rows), stack(ends), np.asarray(streams, np.int64), episode_info, lost, earned)

    def carried(self) -> Carried | None:
        """By the wrappers of the first stream, as of the beginning of its open episode."""
        return self._carried[0]

    def metrics(self) -> dict[str, float]:
        """Restarts so far, if environments may be started anew."""
        return {RESTARTS: float(self._restarts.sum())} if self._restarts.any() else {}

    def state_dict(self) -> dict[str, Any]:
        """Seed, and per stream its episode number, the actions of its open episode and a checksum of its last row."""
        if self._seed is None:
            raise RuntimeError(f"{self.spec.id} was not reset: there is nothing to save")
        return {
            "seed": self._seed,
            "episode": self._episode.copy(),
            "restarts": self._restarts.copy(),
            "actions": [log.actions() for log in self._log],
            "checksum": np.array([row_checksum(row) for row in self._rows], np.int64),
        } | ({"carried": list(self._carried)} if any(self._carried) else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play the open episodes again from their seeds. Raises ResumeError if a stream arrives somewhere else."""
        if len(state["actions"]) != self.num_envs:
            raise ResumeError(f"{self.spec.id}: {len(state['actions'])} streams were saved, {self.num_envs} are here")
        restarts = state.get("restarts", np.zeros(self.num_envs, np.int64))
        told = state.get("carried", [None] * self.num_envs)
        episodes = zip(state["episode"], state["actions"], restarts, told, strict=True)
        try:
            self._enter(int(state["seed"]), [Place(int(k), a, int(n), each) for k, a, n, each in episodes])
        except UserError as error:
            raise ResumeError(f"{self.spec.id}: {error}") from error
        for i, row in enumerate(self._rows):
            if row_checksum(row) != int(state["checksum"][i]):
                raise ResumeError(
                    f"{self.spec.id}: stream {i} is elsewhere after {len(self._log[i])} env_steps of episode "
                    f"{self._episode[i]}; the environment is not deterministic under reset(seed)"
                )

    def _enter(self, seed: int, places: Sequence[Place]) -> None:
        turns = self.go(seed, places)
        self._seed = seed
        self._episode[:] = [place.episode for place in places]
        for log, place in zip(self._log, places, strict=True):
            log.clear()
            for action in place.actions:
                log.append(action)
        self._note(turns)

    def _note(self, turns: Sequence[Turn]) -> None:
        self._rows = [turn.row for turn in turns]
        self._restarts[:] = [turn.restarts for turn in turns]
        for i, turn in enumerate(turns):
            if turn.carried is not None:
                self._carried[i] = turn.carried
        for line in (line for turn in turns for line in turn.said):
            if line not in self._said:
                self._said.add(line)
                notice(f"{self.spec.id}: {line}" if self.spec.id not in line else line)


def stack(rows: Sequence[Rows]) -> Rows:
    """Rows [N, ...] of N rows [...]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
