"""Roles: Actor, Trainer, Evaluator. None of them knows where it lives or who calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Decision, Learner, Noise, Policy, Result, Seat
from reverie.agents.capture import CapturedUpdate
from reverie.data.feed import Feed
from reverie.data.rows import Rows, State
from reverie.data.sequences import Batch
from reverie.envs.env import GAME_RETURN, Step, VectorEnv
from reverie.envs.faults import EnvFault
from reverie.run.finite import Finite, Mode
from reverie.run.ledger import Ended, Ledger, Sink
from reverie.run.updates import Updates

Tell = Callable[[list[Ended], Mapping[int, Mapping[str, float]]], None]
"""Takes episodes that ended, and what the environment says of them, by stream."""


def decide(policy: Policy, state: State, rows: Rows, noise: Noise, seat: Seat) -> Decision:
    """One decision of a policy per stream, about rows [B, ...] that were seen; nothing is learned from it."""
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(value).to(policy.device) for name, value in rows.items()}
        return policy.step(state, tensors, noise, seat)


class Actor(Ledger):
    """Role that steps a vector environment with a policy and hands on complete rows.

    `step` takes one decision per stream: act on the rows that were seen last, step the environment, complete the rows
    with the action, pass them to the sink. finite: looks at all rows and actions.
    """

    def __init__(
        self, env: VectorEnv, policy: Policy, sink: Sink | None, seed: int, finite: Finite | None = None
    ) -> None:
        super().__init__(env.spec, env.num_envs, policy, sink, finite)
        self.env = env
        self.seed = seed
        self.noise = Noise(seed, self.device, host=True)

    def start(self) -> list[Ended]:
        """Reset the environment, before the first `step`; no episode ends with that."""
        return self.begin(self.env.reset(self.seed))

    def step(self, seat: Seat, version: int = 0) -> list[Ended]:
        """Episodes that ended with one decision per stream. version: of the policy's parameters."""
        return self.enter(self.decide(seat, version))

    def decide(self, seat: Seat, version: int = 0) -> Step:
        """What follows on one decision per stream, which is still to be entered. Arguments as in `step`."""
        generator = self.noise.state()
        action = self.settle(decide(self.policy, self.state, self.rows, self.noise, seat), seat, version)
        try:
            return self.env.step(action)
        except EnvFault:
            self.noise.restore(generator)  # what is saved now is the moment before
            raise

    def begin_anew(self, seed: int, version: int = 0) -> None:
        """Close open episodes as time limits and reset all streams, for environments that cannot be brought back.

        version: of the parameters that acted last.
        """
        self.close(version)
        self.seed = seed
        self.start()

    def metrics(self) -> dict[str, float]:
        """Metrics of the policy about how it acts now, and of the environment."""
        return self.policy.metrics(self.seat) | self.env.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Rows seen but not acted on, recurrent state, episode sums, generator."""
        return super().state_dict() | {"generator": self.noise.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        super().load_state_dict(state)
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


class Trainer(Updates):
    """Role that takes batches from the feed, updates, sends feedback. capture: updates are replayed as a CUDA graph.

    finite: looks at losses and gradients where metrics are read, and at all parameters before they are saved.
    """

    def __init__(self, learner: Learner, feed: Feed, capture: bool = False, finite: Finite | None = None) -> None:
        super().__init__(learner, finite)
        self.feed = feed
        self.update: Callable[[Batch], Result] = CapturedUpdate(learner) if capture else learner.update

    def learn(self, at_most: int | None = None, stop: Callable[[], bool] = bool) -> None:
        """Make as many learner_steps as the store allows now, or at most so many; see `Updates.learn`."""
        while at_most != 0 and not stop() and (batch := self.feed.next()) is not None:
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
        self.heard(batch, result, self.learner.learner_steps)
        self.feed.give(result.feedback)

    def heard(self, batch: Batch, result: Result, number: int) -> None:
        """Take in what a learner_step on a batch, the run's `number`-th, tells."""
        self.note(result.metrics, number)
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

    Where a life is an episode in training, one here is a whole game. Equal shares, not the first to finish: otherwise
    short episodes would count too often. Where streams are of several tasks, as many episodes are played of each.
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
        self.lasting = env.spec.lives
        """whether an end may be that of a life, and the game go on: whole games are played"""
        self.lives = [(0.0, 0) for _ in range(env.num_envs)]
        """score and env_steps of the lives of the open game that are over"""
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
                self.lives = [(0.0, 0) for _ in self.lives]
                self.actor.seed += 1
                self.actor.start()
            if watch is not None:
                watch(self.actor.rows)
            for stream, score, length in self.actor.step(self.seat):
                if stream in missing - waiting:
                    score, length = self.lives[stream][0] + score, self.lives[stream][1] + length
                    over = not self.lasting or GAME_RETURN in self.actor.episode_info.get(stream, {})
                    self.lives[stream] = (0.0, 0) if over else (score, length)
                    if over:
                        self._note(stream, score, length, False)
            episodes = self.actor.episodes
            past = np.array([length for _, length in self.lives])
            for stream in np.flatnonzero(episodes.length + past >= self.limit).tolist() if self.limit else ():
                if stream in missing - waiting and not self.actor.rows["is_last"][stream]:
                    score, length = self.lives[stream]
                    length += int(episodes.length[stream])
                    self._note(stream, score + float(episodes.score[stream]), length, True)
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
