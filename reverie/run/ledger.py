"""Rows between a policy and environments: what was seen last, what was decided about it, and which episodes end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Decision, Policy, Seat
from reverie.data.rows import EXTRA, Rows, RowSpec, State, row_spec
from reverie.envs.env import EnvSpec, Step
from reverie.run.finite import Finite

Sink = Callable[[Rows, np.ndarray | None, State, int], None]
"""Takes rows [M, ...], their streams [M] (None: all), the states before them, and the version that acted."""

Ended = tuple[int, float, int]
"""An episode that ended: stream, score, length in env_steps."""


class Episodes:
    """Scores and lengths of the episodes in N streams of rows.

    score: sum of rewards, or of what the environments themselves paid where wrappers change it; length: env_steps.
    """

    def __init__(self, streams: int) -> None:
        self.score = np.zeros(streams)
        self.length = np.zeros(streams, np.int64)

    def add(self, rows: Rows, streams: np.ndarray, earned: np.ndarray | None = None) -> list[Ended]:
        """Episodes that end with these rows of these streams, all of which are taken into account.

        earned: [N], see `reverie.envs.env.Step`.
        """
        first, paid = rows["is_first"], rows["reward"] if earned is None else earned[streams]
        self.score[streams] = np.where(first, 0.0, self.score[streams] + paid)
        self.length[streams] = np.where(first, 0, self.length[streams] + 1)
        return [(int(s), float(self.score[s]), int(self.length[s])) for s in streams[rows["is_last"]]]


@dataclass(frozen=True)
class Decided:
    """What was decided on the rows that were seen last, until it is known what follows.

    action: as the environment takes it. extras: by their names in rows. after: states of the policy after these rows.
    version: of the parameters that acted.
    """

    action: np.ndarray
    extras: Rows
    after: State
    version: int


class Ledger:
    """Rows of N streams that a policy decides about, from the moment they are seen until they are complete.

    ::

        begin(first rows) -->  rows, state  --- decision --->  settle -> action .... the environments .... Step
                                    ^                                                                       |
                                    +----- rows that are seen next ---  enter  <----------------------------+
                                                                          +---> sink: the rows of before, with what
                                                                                was decided, and closing rows

    Nothing here knows where the environments are, or who else the policy decides for. spec: of the environments.
    finite: looks at all rows and actions.
    """

    def __init__(
        self, spec: EnvSpec, streams: int, policy: Policy, sink: Sink | None, finite: Finite | None = None
    ) -> None:
        self.policy, self.sink = policy, sink
        self.finite = finite or Finite(id=spec.id)
        self.device = policy.device
        self._spec = spec
        self.fields: RowSpec = row_spec(spec.observation, spec.action)
        self.streams = np.arange(streams)
        self.episodes = Episodes(streams)
        self.rows: Rows = {}
        """that were seen last; none before `begin`"""
        self.decided: Decided | None = None
        """about them, between `settle` and `enter`"""
        self.episode_info: Mapping[int, Mapping[str, float]] = {}
        """what the environment says of episodes that ended with the last Step, see `reverie.envs.env.Step`"""
        self.state: State = policy.initial_state(streams)
        """before the rows that were seen last"""
        self.seat = Seat.alone(streams)
        """that of the last decision"""
        self.lost = 0
        """decisions of the last Step that came to nothing, see `reverie.envs.env.Step`"""
        self.env_steps = 0
        """decisions since this ledger was made, without those that came to nothing"""
        self.torn = False
        """whether rows were passed on in part: the sink failed, and what is here does not follow on what it has"""

    def begin(self, rows: Rows) -> list[Ended]:
        """Take the first rows of all streams; no episode ends with them."""
        self.finite.rows(rows, self.streams, np.zeros_like(self.streams), self.seat.env_steps)
        return self._see(rows, self._no_action())

    def settle(self, decision: Decision, seat: Seat, version: int) -> np.ndarray:
        """The action of a decision about the rows that were seen last, as the environment takes it.

        Where a stream has just ended (is_last), the action is not taken and the row carries zeros for it.
        """
        self.seat = seat
        action = decision.action.cpu().numpy().astype(self.fields["action"].dtype, copy=False)
        is_last = self.rows["is_last"]
        action = np.where(is_last.reshape(-1, *[1] * (action.ndim - 1)), np.zeros_like(action), action)
        extras = {EXTRA + name: value.cpu().numpy() for name, value in decision.extras.items()}
        self.finite.action(action, self.episodes.length, seat.env_steps)
        self.decided = Decided(action, extras, decision.state, version)
        return action

    def enter(self, result: Step) -> list[Ended]:
        """Episodes that ended with what followed on the last decision, whose rows are passed on.

        Raises ValueError if nothing was decided.
        """
        if self.decided is None:
            raise ValueError("rows follow on no decision")
        action, extras, version = self.decided.action, self.decided.extras, self.decided.version
        before, after = self.state, self.decided.after
        self._look(result, self.seat.env_steps)
        decided = self.rows | {"action": action} | extras
        self.torn = True
        self.lost = 0 if result.lost is None else len(result.lost)
        self.env_steps += int((~self.rows["is_last"]).sum()) - self.lost
        if result.lost is None:
            self._pass(decided, None, before, version)
        else:
            went = np.setdiff1d(self.streams, result.lost)
            self._pass({name: value[went] for name, value in decided.items()}, went, _of(before, went), version)
            self._cut(result.lost, before, version)
        self.state, self.decided = after, None
        self.episode_info = result.episode_info
        ended = []
        if result.ends is not None and result.streams is not None and len(result.streams):
            no_decision = {
                name: np.zeros_like(value[result.streams]) for name, value in ({"action": action} | extras).items()
            }
            closing = result.ends | {"prev_action": action[result.streams]} | no_decision
            self._pass(closing, result.streams, _of(self.state, result.streams), version)
            ended = self.episodes.add(closing, result.streams, result.earned)
        self.torn = False
        return ended + self._see(result.rows, action, result.earned)

    def close(self, version: int) -> None:
        """Close open episodes as time limits; all streams are to `begin` anew. A decision under way came to nothing.

        version: of the parameters that acted last.
        """
        if self.rows:
            self._cut(self.streams, self.state, version)
        self.rows, self.decided = {}, None
        self.state = self.policy.initial_state(len(self.streams))

    def _cut(self, streams: np.ndarray, state: State, version: int) -> None:
        """Close open episodes as time limits, without what would have followed.

        ::

            stored   ...  t-1  |  t      the row that was seen last becomes the closing row, with the reward that
            seen                  t      action t-1 earned; a row that begins an episode is dropped instead
        """
        streams = streams[~self.rows["is_first"][streams]]
        if len(streams):
            fields = row_spec(self._spec.observation, self._spec.action, self.policy.extras)
            blank = {name: np.zeros((len(streams), *field.shape), field.dtype) for name, field in fields.items()}
            closing = blank | {name: value[streams] for name, value in self.rows.items()}
            closing["is_last"] = np.ones(len(streams), bool)
            self._pass(closing, streams, _of(state, streams), version)

    def _look(self, result: Step, env_steps: int) -> None:
        """Look at the rows of a step: closing rows, and those that are seen next."""
        steps = self.episodes.length + 1
        if result.ends is not None and result.streams is not None:
            self.finite.rows(result.ends, result.streams, steps, env_steps)
        self.finite.rows(result.rows, self.streams, np.where(result.rows["is_first"], 0, steps), env_steps)

    def _see(self, rows: Rows, action: np.ndarray, earned: np.ndarray | None = None) -> list[Ended]:
        first = rows["is_first"].reshape(-1, *[1] * (action.ndim - 1))
        self.rows = rows | {"prev_action": np.where(first, np.zeros_like(action), action)}
        return self.episodes.add(self.rows, self.streams, earned)

    def _pass(self, rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
        if self.sink is not None:
            self.sink(rows, streams, state, version)

    def _no_action(self) -> np.ndarray:
        field = self.fields["action"]
        return np.zeros((len(self.streams), *field.shape), field.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Rows seen but not acted on, recurrent state, episode sums."""
        return {
            "rows": dict(self.rows),
            "state": dict(self.state),
            "score": self.episodes.score.copy(),
            "length": self.episodes.length.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rows = state["rows"]
        self.state = {name: value.to(self.device) for name, value in state["state"].items()}
        self.episodes.score, self.episodes.length = state["score"].copy(), state["length"].copy()


def _of(state: State, streams: np.ndarray) -> State:
    index = torch.tensor(streams)  # a copy: what comes from elsewhere cannot be written to
    return {name: value[index] for name, value in state.items()}
