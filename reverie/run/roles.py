"""Roles: Actor, Trainer, Evaluator. None of them knows where it lives or who calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Learner, Noise, Policy, Result, Seat
from reverie.agents.capture import CapturedUpdate
from reverie.data.feed import Feed
from reverie.data.rows import EXTRA, Rows, RowSpec, State, row_spec
from reverie.data.sequences import Batch
from reverie.envs.env import Step, VectorEnv
from reverie.envs.faults import EnvFault
from reverie.run.finite import Finite, Mode
from reverie.run.updates import Updates

Sink = Callable[[Rows, np.ndarray | None, State, int], None]
"""Takes rows [M, ...], their streams [M] (None: all), the states before them, and the version that acted."""

Ended = tuple[int, float, int]
"""An episode that ended: stream, score, length in env_steps."""

Tell = Callable[[list[Ended], Mapping[int, Mapping[str, float]]], None]
"""Takes episodes that ended, and what the environment says of them, by stream."""


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


class Actor:
    """Role that steps a vector environment with a policy and hands on complete rows.

    `step` takes one decision per stream: act on the rows that were seen last, complete them with the action, pass them
    to the sink, step the environment. Where a stream has just ended (is_last), the action is not taken and the row
    carries zeros for it. finite: looks at all rows and actions.
    """

    def __init__(
        self, env: VectorEnv, policy: Policy, sink: Sink | None, seed: int, finite: Finite | None = None
    ) -> None:
        self.env, self.policy, self.sink = env, policy, sink
        self.finite = finite or Finite(id=env.spec.id)
        self.device = policy.device
        self.seed = seed
        self.noise = Noise(seed, self.device, host=True)
        self.fields: RowSpec = row_spec(env.spec.observation, env.spec.action)
        self.streams = np.arange(env.num_envs)
        self.episodes = Episodes(env.num_envs)
        self.rows: Rows = {}
        self.episode_info: Mapping[int, Mapping[str, float]] = {}
        """what the environment says of episodes that ended with the last `step`, see `reverie.envs.env.Step`"""
        self.state: State = policy.initial_state(env.num_envs)
        self.seat = Seat.alone(env.num_envs)
        """that of the last `step`"""
        self.lost = 0
        """decisions of the last `step` that came to nothing, see `reverie.envs.env.Step`"""
        self.env_steps = 0
        """decisions since this role was made, without those that came to nothing"""

    def start(self) -> list[Ended]:
        """Reset the environment, before the first `step`; no episode ends with that."""
        rows = self.env.reset(self.seed)
        self.finite.rows(rows, self.streams, np.zeros_like(self.streams), self.seat.env_steps)
        return self._see(rows, self._no_action())

    def step(self, seat: Seat, version: int = 0) -> list[Ended]:
        """Episodes that ended with one decision per stream. version: of the policy's parameters."""
        before, self.seat = self.state, seat
        generator = self.noise.state()
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value).to(self.device) for name, value in self.rows.items()}
            decision = self.policy.step(before, tensors, self.noise, seat)
        action = decision.action.cpu().numpy().astype(self.fields["action"].dtype, copy=False)
        is_last = self.rows["is_last"]
        action = np.where(is_last.reshape(-1, *[1] * (action.ndim - 1)), np.zeros_like(action), action)
        extras = {EXTRA + name: value.cpu().numpy() for name, value in decision.extras.items()}
        self.finite.action(action, self.episodes.length, seat.env_steps)
        try:
            result = self.env.step(action)
        except EnvFault:
            self.noise.restore(generator)  # what is saved now is the moment before
            raise
        self._look(result, seat.env_steps)
        decided = self.rows | {"action": action} | extras
        self.lost = 0 if result.lost is None else len(result.lost)
        self.env_steps += int((~is_last).sum()) - self.lost
        if result.lost is None:
            self._pass(decided, None, before, version)
        else:
            went = np.setdiff1d(self.streams, result.lost)
            self._pass({name: value[went] for name, value in decided.items()}, went, _of(before, went), version)
            self._cut(result.lost, before, version)
        self.state = decision.state
        self.episode_info = result.episode_info
        ended = []
        if result.ends is not None and result.streams is not None and len(result.streams):
            no_decision = {
                name: np.zeros_like(value[result.streams]) for name, value in ({"action": action} | extras).items()
            }
            closing = result.ends | {"prev_action": action[result.streams]} | no_decision
            self._pass(closing, result.streams, _of(self.state, result.streams), version)
            ended = self.episodes.add(closing, result.streams, result.earned)
        return ended + self._see(result.rows, action, result.earned)

    def begin_anew(self, seed: int, version: int = 0) -> None:
        """Close open episodes as time limits and reset all streams, for environments that cannot be brought back.

        version: of the parameters that acted last.
        """
        self._cut(self.streams, self.state, version)
        self.state = self.policy.initial_state(self.env.num_envs)
        self.seed = seed
        self.start()

    def metrics(self) -> dict[str, float]:
        """Metrics of the policy about how it acts now, and of the environment."""
        return self.policy.metrics(self.seat) | self.env.metrics()

    def _cut(self, streams: np.ndarray, state: State, version: int) -> None:
        """Close open episodes as time limits, without what would have followed.

        ::

            stored   ...  t-1  |  t      the row that was seen last becomes the closing row, with the reward that
            seen                  t      action t-1 earned; a row that begins an episode is dropped instead
        """
        streams = streams[~self.rows["is_first"][streams]]
        if len(streams):
            fields = row_spec(self.env.spec.observation, self.env.spec.action, self.policy.extras)
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
        return np.zeros((self.env.num_envs, *field.shape), field.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Rows seen but not acted on, recurrent state, episode sums, generator."""
        return {
            "rows": dict(self.rows),
            "state": dict(self.state),
            "score": self.episodes.score.copy(),
            "length": self.episodes.length.copy(),
            "generator": self.noise.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rows = state["rows"]
        self.state = {name: value.to(self.device) for name, value in state["state"].items()}
        self.episodes.score, self.episodes.length = state["score"].copy(), state["length"].copy()
        self.noise.restore(state["generator"])


def rollout(actor: Actor, seat: Seat, version: int, stride: int, more: Callable[[int], bool], tell: Tell) -> None:
    """Take one decision per stream after another while `more`, given the number of them so far, says so.

    seat: of the first one; stride: env_steps of the run from one to the next. version: of the policy's parameters.
    tell: takes what ended with each, see `Tell`.
    """
    made = 0
    while more(made):
        ended = actor.step(replace(seat, env_steps=seat.env_steps + made * stride), version)
        tell(ended, actor.episode_info)
        made += 1


def _of(state: State, streams: np.ndarray) -> State:
    index = torch.from_numpy(streams)
    return {name: value[index] for name, value in state.items()}


class Trainer(Updates):
    """Role that takes batches from the feed, updates, sends feedback. capture: updates are replayed as a CUDA graph.

    finite: looks at losses and gradients where metrics are read, and at all parameters before they are saved.
    """

    def __init__(self, learner: Learner, feed: Feed, capture: bool = False, finite: Finite | None = None) -> None:
        super().__init__(learner, finite)
        self.feed = feed
        self.update: Callable[[Batch], Result] = CapturedUpdate(learner) if capture else learner.update

    def learn(self, at_most: int | None = None) -> None:
        """Make as many learner_steps as the store allows now, or at most so many."""
        while at_most != 0 and (batch := self.feed.next()) is not None:
            self.step(batch)
            at_most = None if at_most is None else at_most - 1

    def drain(self) -> None:
        """Learn what was drawn ahead: afterwards nothing is under way."""
        while (batch := self.feed.next(drain=True)) is not None:
            self.step(batch)
        self.feed.settle()

    def step(self, batch: Batch) -> None:
        """Make one learner_step."""
        result = self.update(batch)
        self.note(result.metrics)
        self.feed.give(result.feedback)
        self.meter.add({"age": batch.ages.double().mean()})


def cut_line(cut: int, episodes: int, limit: int) -> str:
    """Line that says that episodes of an evaluation were cut."""
    return (
        f"{cut} of {episodes} episodes of the evaluation did not end within {limit} env_steps and were cut, with the "
        "score that they had; their limit is run.eval_limit"
    )


class Stopped(Exception):
    """Somebody asked an evaluation to end before it was over."""


class Evaluator:
    """Role that plays whole episodes greedily, on a fresh environment; each stream plays its share of them.

    Equal shares, not the first to finish: otherwise short episodes would count too often. Where streams are of several
    tasks, as many episodes are played of each.
    limit: env_steps after which an episode is cut, with the score that it has (0: never). A stream whose episode was
    cut waits until the others have played, then all are reset, for what is missing of its share.
    """

    def __init__(
        self, env: VectorEnv, policy: Policy, episodes: int, seed: int, limit: int = 0, nonfinite: Mode = "stop"
    ) -> None:
        self.actor = Actor(env, policy, None, seed, Finite(nonfinite, env.spec.id, "evaluation: "))
        self.seat = Seat.alone(env.num_envs, "greedy")
        self.tasks, self.limit = env.spec.tasks, limit
        self.count = episodes * max(1, len(self.tasks))
        self.share = -(-self.count // env.num_envs)
        self.cut: list[list[bool]] = [[] for _ in range(env.num_envs)]
        self.scores: list[list[float]] = [[] for _ in range(env.num_envs)]
        self.lengths: list[list[int]] = [[] for _ in range(env.num_envs)]
        self.info: list[list[Mapping[str, float]]] = [[] for _ in range(env.num_envs)]

    def run(
        self, watch: Callable[[Rows], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Scores and lengths of `episodes` episodes, how many were cut, and means of what the environment says (info).

        Of several tasks also ``tasks``: task -> scores.

        watch: sees the rows before each decision. stop: asked before each decision; raises Stopped when it says so.
        """
        self.actor.start()
        waiting: set[int] = set()
        while missing := {stream for stream, scores in enumerate(self.scores) if len(scores) < self.share}:
            if stop is not None and stop():
                raise Stopped
            if missing <= waiting:
                waiting.clear()
                self.actor.seed += 1
                self.actor.start()
            if watch is not None:
                watch(self.actor.rows)
            for stream, score, length in self.actor.step(self.seat):
                if stream in missing - waiting:
                    self._note(stream, score, length, False)
            episodes = self.actor.episodes
            for stream in np.flatnonzero(episodes.length >= self.limit).tolist() if self.limit else ():
                if stream in missing - waiting and not self.actor.rows["is_last"][stream]:
                    self._note(stream, float(episodes.score[stream]), int(episodes.length[stream]), True)
                    waiting.add(stream)
        scores, lengths = self._in_turn(self.scores), self._in_turn(self.lengths)
        infos, cut = self._in_turn(self.info), self._in_turn(self.cut)
        names = dict.fromkeys(name for info in infos for name in info)
        info = {name: float(np.mean([each[name] for each in infos if name in each])) for name in names}
        results = {"scores": scores, "lengths": lengths, "info": info, "cut": sum(cut)}
        each: dict[str, list[float]] = {task: [] for task in self.tasks}
        if self.tasks:
            streams = self._in_turn([[stream] * len(played) for stream, played in enumerate(self.scores)])
            for stream, score in zip(streams, scores, strict=True):
                each[self.tasks[stream % len(self.tasks)]].append(score)
        return results | ({"tasks": each} if each else {})

    def _in_turn(self, of_streams: Sequence[list[Any]]) -> list[Any]:
        """Of the first episodes of all streams, then of their second ones, and so on: those that were asked for."""
        return [each for turn in zip(*of_streams, strict=True) for each in turn][: self.count]

    def _note(self, stream: int, score: float, length: int, cut: bool) -> None:
        self.scores[stream].append(score)
        self.lengths[stream].append(length)
        self.info[stream].append({} if cut else self.actor.episode_info.get(stream, {}))
        self.cut[stream].append(cut)
