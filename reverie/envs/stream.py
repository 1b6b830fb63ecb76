"""One stream: a single Gymnasium environment, episode after episode, held to its spaces, started anew if it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs import calls
from reverie.envs.adapter import Adapter
from reverie.envs.env import ResumeError
from reverie.envs.faults import EnvFault, faults_of
from reverie.envs.hold import Hold
from reverie.envs.resume import episode_seed
from reverie.envs.stepping import Stepping
from reverie.envs.wrappers import Carried, carried, carry, tally


@dataclass(frozen=True)
class Place:
    """Place of a stream: its episode, and the row actions [L, ...] taken in it.

    restarts: of its environment so far. carried: by its wrappers at the beginning of the episode, None: as it is.
    """

    episode: int = 0
    actions: np.ndarray | tuple[()] = ()
    restarts: int = 0
    carried: Carried | None = None


@dataclass(frozen=True)
class Turn:
    """What one env_step of a stream brought.

    row: [...] seen now. end: the is_last row before it, if the episode ended; info: what the environment says of that.
    lost: the environment raised and was started anew: nothing followed on the action, and `row` begins another episode.
    restarts: of the environment so far. said: lines for the user. earned: what the environment itself paid, where
    wrappers change its rewards. carried: by its wrappers, where an episode begins.
    """

    row: Rows
    end: Rows | None = None
    info: Mapping[str, float] = field(default_factory=dict)
    lost: bool = False
    restarts: int = 0
    said: tuple[str, ...] = ()
    earned: float | None = None
    carried: Carried | None = None


class Stream:
    """A stream of rows from `env`.

    id: the name reports use. number: of the stream in its run, from 0. make: makes another such environment, None if
    that cannot be. Raises EnvFault where the environment raises, breaks Gymnasium's interface, or departs from its
    spaces.
    """

    def __init__(
        self,
        id: str,
        number: int,
        env: gymnasium.Env,
        adapter: Adapter,
        stepping: Stepping,
        make: Callable[[], gymnasium.Env] | None = None,
    ) -> None:
        self.id, self.number, self.env, self.make, self.stepping = id, number, env, make, stepping
        self._adapter = adapter
        self._hold = Hold(env.observation_space, stepping.check)
        self._counts_episodes = bool(getattr(env.unwrapped, "counts_episodes", False))
        self._seed = self._episode = self._env_steps = self._restarts = 0
        self._said: list[str] = []
        self._tally = tally(env)
        self._begun: Carried | None = None

    def place(self, seed: int, place: Place) -> Turn:
        """Go to a place, by playing its actions from the seed of its episode. Raises ResumeError if that fails."""
        self._seed, self._episode, self._restarts = seed, place.episode, place.restarts
        if place.carried is not None:
            carry(self.env, place.carried)
        row = self._begin()
        try:
            for action in place.actions:
                if row["is_last"]:
                    raise ResumeError(f"{self.id}: stream {self.number} ended early when it was simulated again")
                row, _ = self._act(self._adapter.action.one(action))
        except EnvFault as fault:
            raise ResumeError(f"{fault}, when it was simulated again") from fault
        self._earned()
        return self._turn(row, carried=self._begun)

    def step(self, action: Any) -> Turn:
        """Take one native action."""
        try:
            row, info = self._act(action)
        except EnvFault as fault:
            self._start_anew(fault)
            self._episode += 1
            return self._turn(self._begin(), lost=True, carried=self._begun)
        earned = self._earned()
        if not row["is_last"]:
            return self._turn(row, earned=earned)
        self._episode += 1
        return self._turn(self._begin(), end=row, info=info, earned=earned, carried=self._begun)

    def _earned(self) -> float | None:
        """What the environment itself paid since the last call, where that is another thing than its rewards."""
        return None if self._tally is None else self._tally.take()

    def _turn(self, row: Rows, **more: Any) -> Turn:
        said, self._said = (*self._said, *self._hold.said), []
        self._hold.said.clear()
        return Turn(row, restarts=self._restarts, said=said, **more)

    def __str__(self) -> str:
        """Where it is, in words."""
        seed = episode_seed(self._seed, self.number, self._episode)
        return f"{self.id}: stream {self.number}, env_step {self._env_steps} of episode {self._episode} (seed {seed})"

    def _begin(self) -> Rows:
        """First row of the current episode."""
        while True:
            self._env_steps = 0
            self._begun = carried(self.env)
            options = {"episode": self._episode} if self._counts_episodes else None
            seed = episode_seed(self._seed, self.number, self._episode)
            try:
                with faults_of(lambda: f"{self}: reset()"):
                    observation, info = calls.reset(self, self.env, seed, options)
                self._earned()
                return self._row(observation, info, is_first=True)
            except EnvFault as fault:
                self._start_anew(fault)

    def _act(self, native: Any) -> tuple[Rows, Mapping[str, float]]:
        self._env_steps += 1
        with faults_of(lambda: f"{self}: step()"):
            observation, reward, terminated, truncated, info = calls.step(self, self.env, native)
        row = self._row(observation, info, reward, is_last=terminated or truncated, is_terminal=terminated)
        return row, calls.numbers(info.get(calls.EPISODE_INFO)) if row["is_last"] else {}

    def _row(
        self,
        observation: Any,
        info: Mapping[str, Any],
        reward: float = 0.0,
        is_first: bool = False,
        is_last: bool = False,
        is_terminal: bool = False,
    ) -> Rows:
        if wrong := self._hold.look(observation):
            raise EnvFault(
                f"{self} departs from its spaces: {wrong}; mend it, or its space (reverie check-env lists all "
                "that it finds; env.check none lets it pass)"
            )
        with faults_of(lambda: f"{self}: its observation"):
            row: Rows = {OBS + key: value for key, value in self._adapter.observation.one(observation).items()}
            if self._adapter.masks is not None:
                self._adapter.masks.one(row, info, is_last)
        row["reward"] = np.array(reward, np.float32)
        for name, flag in (("is_first", is_first), ("is_last", is_last), ("is_terminal", is_terminal)):
            row[name] = np.array(flag)
        return row

    def _start_anew(self, fault: EnvFault) -> None:
        """Make the environment anew. Raises `fault`, or what it fails with then, if that may not be done again."""
        while self._restarts < self.stepping.restarts and self.make is not None:
            self._restarts += 1
            self._said.append(f"{fault}; it is made anew ({self._restarts} of {self.stepping.restarts})")
            with suppress(Exception):  # it is broken already
                self.env.close()
            try:
                with faults_of(lambda: f"{self}: its maker"):
                    self.env = self.make()
                self._tally = tally(self.env)
                if self._begun is not None:
                    carry(self.env, self._begun)
                self._hold = Hold(self.env.observation_space, self.stepping.check)
                return
            except EnvFault as another:
                fault = another
        raise fault
