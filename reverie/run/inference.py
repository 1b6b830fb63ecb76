"""Role that decides for streams whose environments are elsewhere: one policy, one batch of whoever waits.

::

    actor 0   rows ---+                                                      +---> actions   actor 0
    actor 1   (steps) |-->  rows, states of those that wait  --> one step ---|
    actor 2   rows ---+     [2 E, ...]                           of a policy +---> actions   actor 2
                            what was decided waits in a ledger per actor; when its environments have gone on, the rows
                            are complete and pass to the store

Recurrent states, exploration and first priorities are here, beside the learner; actors know of environments alone. The
policy may be another from one decision to the next, as the learner goes on: what each row has of the policy (extras,
start states, version) is what that decision was made with.

Source: Babaeizadeh et al. 2017 (GA3C), section 4, predictors; Espeholt et al. 2020 (SEED), section 3.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Decision, Noise, Play, Policy, Seat
from reverie.data.inbox import Lives, Receiver
from reverie.data.rows import Rows, State
from reverie.envs.env import EnvSpec, Step
from reverie.run.finite import Finite
from reverie.run.ledger import Ended, Ledger, Sink
from reverie.run.meter import Meter
from reverie.run.roles import decide


@dataclass(frozen=True)
class Seen:
    """What an actor's environments show after one decision, or first.

    actor, incarnation, sequence: whose they are, its how-manieth life, and the how-manieth message of that life; the
    first one has the first rows alone. waited: seconds that they stood still since the message before; 0 in the first.
    """

    actor: int
    incarnation: int
    sequence: int
    step: Step
    waited: float = 0.0


class Inference(Receiver):
    """Decisions for `actors` actors with `streams` streams each, in batches of those that wait.

    Stream s of actor a is stream a * streams + s of the run, of the policy's seat and of the sink.

    policy: that decides, with whatever parameters it then has. sink: takes the rows when they are complete.
    env: what an actor's environments are. seed: of the noise. finite: looks at all rows and actions.
    whole: every batch has the size of all streams, for policies that are compiled for each size: the rows of one actor
    that waits fill up what is missing, and what is decided about those goes nowhere.
    """

    def __init__(
        self,
        policy: Policy,
        sink: Sink,
        env: EnvSpec,
        actors: int,
        streams: int,
        seed: int,
        finite: Finite,
        whole: bool = False,
    ) -> None:
        self.policy, self.streams, self.total, self.whole = policy, streams, actors * streams, whole
        self.lives = Lives(actors)
        self.noise = Noise(seed, policy.device, host=True)
        self.ledgers = [
            Ledger(env, streams, policy, partial(_passed, sink, actor * streams, streams), finite)
            for actor in range(actors)
        ]
        self.waiting: set[int] = set()
        """actors whose environments stand still"""
        self.seat = Seat.alone(self.total)
        """of the last decision"""
        self.version = 0
        """of the parameters that decided last"""
        self.meter = Meter()

    def begin(self, actor: int) -> tuple[int, np.ndarray]:
        """Incarnation of a new life of an actor, and the index of its first row in each stream: its rows are kept here.

        Messages of its earlier lives are no longer taken; what was decided last came to nothing, and episodes that were
        open end with the row that was seen last, as at a time limit.
        """
        self.ledgers[actor].close(self.version)
        self.waiting.discard(actor)
        return self.lives.begin(actor), np.zeros(self.streams, np.int64)

    def take(self, seen: Seen) -> list[Ended] | None:
        """Episodes that ended with what an actor's environments show, by its own streams; None if it is not taken.

        Only what is new and of the actor's present life is. Raises ValueError if the message before it is missing, or
        if it follows on no decision; UserError for numbers that are not finite.
        """
        if not self.lives.due(seen):
            return None
        ledger = self.ledgers[seen.actor]
        ended = ledger.enter(seen.step) if seen.sequence else ledger.begin(seen.step.rows)
        self.lives.taken(seen)
        self.waiting.add(seen.actor)
        if seen.sequence:
            self.meter.add({"inference_wait_s": seen.waited})
        return ended

    def decide(self, play: Play, env_steps: int, version: int) -> dict[int, np.ndarray]:
        """Actions for every actor that waits, by its number, from one step of the policy. Arguments as in `Seat`.

        version: of the policy's parameters. Raises UserError for actions that are not finite.
        """
        if not self.waiting:
            return {}
        since = time.perf_counter()
        actors = sorted(self.waiting)
        count = len(actors)
        if self.whole:
            actors += [actors[0]] * (len(self.ledgers) - count)
        ledgers = [self.ledgers[actor] for actor in actors]
        streams = tuple(chain.from_iterable(range(a * self.streams, (a + 1) * self.streams) for a in actors))
        self.seat, self.version = Seat(streams, self.total, env_steps, play), version
        rows = {name: np.concatenate([ledger.rows[name] for ledger in ledgers]) for name in ledgers[0].rows}
        state = {name: torch.cat([ledger.state[name] for ledger in ledgers]) for name in ledgers[0].state}
        parts = _split(decide(self.policy, state, rows, self.noise, self.seat), self.streams)
        actions = {
            actor: ledger.settle(part, self.seat, version)
            for actor, ledger, part in zip(actors[:count], ledgers, parts, strict=False)
        }
        self.waiting.clear()
        self.meter.add({"inference_streams": float(count * self.streams), "inference_s": time.perf_counter() - since})
        return actions

    def metrics(self) -> dict[str, float]:
        """Those of the policy, and means since the last call: of streams and seconds per batch, and of the wait."""
        return self.policy.metrics(self.seat) | self.meter.flush()

    def state_dict(self) -> dict[str, Any]:
        """Lives of the actors, rows that were seen last with the states before them, generator.

        On a return, all of their open episodes are closed.
        """
        return self.lives.state_dict() | {
            "noise": self.noise.state(),
            "version": self.version,
            "ledgers": {str(actor): ledger.state_dict() for actor, ledger in enumerate(self.ledgers)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; every actor must `begin` before it sends."""
        self.lives.load_state_dict(state)
        self.noise.restore(state["noise"])
        self.version = int(state["version"])
        for actor, ledger in enumerate(self.ledgers):
            ledger.load_state_dict(state["ledgers"][str(actor)])


def _passed(
    sink: Sink, first: int, count: int, rows: Rows, streams: np.ndarray | None, state: State, version: int
) -> None:
    """Hand rows of an actor's own streams (None: all) to the sink of all, whose numbers begin with `first`."""
    sink(rows, first + (np.arange(count) if streams is None else streams), state, version)


def _split(decision: Decision, streams: int) -> list[Decision]:
    """Decisions for so many streams each; actions and extras come from the device together."""
    extras = {name: value.cpu().split(streams) for name, value in decision.extras.items()}
    states = {name: value.split(streams) for name, value in decision.state.items()}
    return [
        Decision(
            action,
            {name: parts[at] for name, parts in states.items()},
            {name: parts[at] for name, parts in extras.items()},
        )
        for at, action in enumerate(decision.action.cpu().split(streams))
    ]
