"""One policy that decides for actors elsewhere: what is in a batch, whose state is whose, and which messages count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie import overrides
from reverie.agents.agent import Decision, Noise, Policy, Seat
from reverie.data.rows import Rows, State
from reverie.envs.env import Step, VectorEnv
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run.build import build_agent, build_env, build_policy
from reverie.run.finite import Finite
from reverie.run.inference import Inference, Seen
from tests.contracts.test_counting import OBS, CountingPolicy, check_rows, same_step

ACTORS, STREAMS = 3, 2


class Noted(CountingPolicy):
    """Notes what each step is given."""

    def __init__(self) -> None:
        super().__init__(extras=True)
        self.seats: list[Seat] = []
        self.given: list[State] = []

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        self.seats.append(seat)
        self.given.append(state)
        return super().step(state, rows, noise, seat)


class Kept:
    """All that was passed on, by stream: rows, and the states before them."""

    def __init__(self) -> None:
        self.rows: list[list[dict[str, np.ndarray]]] = [[] for _ in range(ACTORS * STREAMS)]
        self.states: list[list[dict[str, Tensor]]] = [[] for _ in range(ACTORS * STREAMS)]
        self.versions: list[list[int]] = [[] for _ in range(ACTORS * STREAMS)]

    def __call__(self, rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
        assert streams is not None
        for at, stream in enumerate(streams.tolist()):
            self.rows[stream].append({name: value[at].copy() for name, value in rows.items()})
            self.states[stream].append({name: value[at].clone() for name, value in state.items()})
            self.versions[stream].append(version)

    def stream(self, number: int) -> Rows:
        return {name: np.stack([row[name] for row in self.rows[number]]) for name in self.rows[number][0]}


class Elsewhere:
    """Actors' environments, stepped when they are told to; numbers their messages."""

    def __init__(self, inference: Inference, envs: Sequence[VectorEnv]) -> None:
        self.inference, self.envs = inference, envs
        self.lives, self.sent = [0] * len(envs), [0] * len(envs)

    def message(self, actor: int, step: Any) -> Seen:
        seen = Seen(actor, self.lives[actor], self.sent[actor], step, 0.25)
        self.sent[actor] += 1
        return seen

    def first(self, actor: int) -> Seen:
        self.lives[actor], indices = self.inference.begin(actor)
        assert indices.tolist() == [0] * STREAMS
        self.sent[actor] = 0
        return self.message(actor, Step(self.envs[actor].reset(10 * actor + self.lives[actor])))

    def after(self, actor: int, action: np.ndarray) -> Seen:
        return self.message(actor, self.envs[actor].step(action))


def counting(kept: Kept, whole: bool = False) -> tuple[Inference, Elsewhere]:
    envs = [same_step(STREAMS) for _ in range(ACTORS)]
    inference = Inference(Noted(), kept, envs[0].spec, ACTORS, STREAMS, 5, Finite(id="toy/count"), whole)
    return inference, Elsewhere(inference, envs)


def test_whoever_waits_is_in_one_batch_and_every_state_is_its_streams_own() -> None:
    kept = Kept()
    inference, elsewhere = counting(kept)
    assert isinstance(inference.policy, Noted)
    rng = np.random.default_rng(0)
    for actor in range(ACTORS):
        assert inference.take(elsewhere.first(actor)) == []
    under_way: dict[int, np.ndarray] = {}
    expected = []
    for turn in range(80):
        waiting = sorted(set(range(ACTORS)) - set(under_way))
        actions = inference.decide("explore", turn, version=turn)
        assert sorted(actions) == waiting
        expected += [waiting] if waiting else []
        under_way |= actions
        # Some answer, in any order; the others are under way meanwhile.
        for actor in rng.permutation(sorted(under_way))[: rng.integers(0, ACTORS + 1)].tolist():
            assert inference.take(elsewhere.after(actor, under_way.pop(actor))) is not None
    seats = inference.policy.seats
    assert [seat.streams for seat in seats] == [
        tuple(stream for actor in waiting for stream in range(actor * STREAMS, (actor + 1) * STREAMS))
        for waiting in expected
    ]
    assert {len(seat.streams) for seat in seats} == {2, 4, 6}
    assert {seat.total for seat in seats} == {ACTORS * STREAMS}
    assert (0, 1, 4, 5) in {seat.streams for seat in seats}
    steps = 0
    for stream in range(ACTORS * STREAMS):
        rows = kept.stream(stream)
        check_rows(rows)
        assert rows["is_terminal"].any()
        steps += len(rows["reward"])
        # Golden: the state before a row is that which the policy was given when it decided about it.
        steps_of = zip(seats, inference.policy.given, strict=True)
        given = [state["count"][seat.streams.index(stream)] for seat, state in steps_of if stream in seat.streams]
        passed = list(zip(kept.states[stream], kept.rows[stream], strict=True))
        decided = [state["count"] for state, row in passed if not row["is_last"]]
        assert len(given) - len(decided) in (0, 1)  # one decision may be under way
        assert [int(count) for count in decided] == [int(count) for count in given[: len(decided)]]
        assert all(row["is_first"] or int(state["count"]) == row[OBS][0] for state, row in passed)
    assert steps > 150
    metrics = inference.metrics()
    assert metrics["inference_streams"] == pytest.approx(STREAMS * np.mean([len(waiting) for waiting in expected]))
    assert metrics["inference_wait_s"] == 0.25
    assert metrics["inference_s"] > 0.0
    assert "inference_streams" not in inference.metrics()


def recurrent() -> tuple[Policy, list[VectorEnv]]:
    """R2D2's, with an LSTM, fed actions and rewards, that acts greedily."""
    words: dict[str, Any] = {"agent.explore.evaluation": 0.0, "agent.units": 8, "agent.torso.units": 8}
    config = overrides.apply(make_config("r2d2", "cpu", "CartPole-v1"), words)
    envs = [build_env(config, STREAMS) for _ in range(ACTORS)]
    return build_policy(config, build_agent(config, envs[0].spec)), envs


def test_a_batch_of_all_is_what_each_would_do_alone() -> None:
    """A deterministic policy with a memory: all at once, and actor after actor, give the same rows and states."""
    kept: list[Kept] = []
    for alone in (False, True):
        policy, envs = recurrent()
        kept.append(Kept())
        inference = Inference(policy, kept[-1], envs[0].spec, ACTORS, STREAMS, 1, Finite())
        elsewhere = Elsewhere(inference, envs)
        messages = [elsewhere.first(actor) for actor in range(ACTORS)]
        for _ in range(40):
            actions: dict[int, np.ndarray] = {}
            for seen in messages:
                assert inference.take(seen) is not None
                if alone:
                    actions |= inference.decide("greedy", 0, 0)
            actions |= inference.decide("greedy", 0, 0)
            messages = [elsewhere.after(actor, action) for actor, action in actions.items()]
    together, apart = kept
    ends = 0
    for stream in range(ACTORS * STREAMS):
        a, b = together.stream(stream), apart.stream(stream)
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(a["action"], b["action"])
        ends += int(a["is_last"].sum())
        for one, other in zip(together.states[stream], apart.states[stream], strict=True):
            assert {name for name in one} == {name for name in other}
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)
    assert ends > 3
    assert any(state.abs().max() > 0 for state in together.states[0][-1].values())


def test_a_life_that_is_lost_closes_its_episodes_and_its_messages_come_too_late() -> None:
    kept = Kept()
    inference, elsewhere = counting(kept)
    assert inference.take(elsewhere.first(1)) == []
    for _ in range(3):
        (action,) = inference.decide("explore", 0, 7).values()
        seen = elsewhere.after(1, action)
        assert inference.take(seen) is not None
    before = [len(rows) for rows in kept.rows]
    assert inference.take(seen) is None  # it comes twice
    (action,) = inference.decide("explore", 0, 8).values()
    late = elsewhere.after(1, action)
    inference.begin(1)  # lost, with a decision under way
    assert inference.take(late) is None
    assert inference.dropped == 2
    assert inference.decide("explore", 0, 9) == {}
    for stream in (2, 3):
        rows = kept.stream(stream)
        check_rows({name: value[:-1] for name, value in rows.items()})
        # The row that was seen last is the closing row, as at a time limit, unless an episode began with it.
        if len(rows["reward"]) > before[stream]:
            assert rows["is_last"][-1]
            assert not rows["is_terminal"][-1]
            assert rows["prev_action"][-1] == rows["action"][-2]
            assert not rows["action"][-1]
    assert any(len(kept.rows[stream]) > before[stream] for stream in (2, 3))
    first = elsewhere.first(1)
    inference.take(first)
    with pytest.raises(ValueError, match="follow on no decision"):
        inference.take(replace(first, sequence=1))


def test_batches_of_one_size_decide_for_whoever_waits_and_for_nobody_else() -> None:
    kept = Kept()
    inference, elsewhere = counting(kept, whole=True)
    assert isinstance(inference.policy, Noted)
    messages = [elsewhere.first(actor) for actor in range(ACTORS)]
    for turn in range(30):
        actor = turn % ACTORS
        inference.take(messages[actor])
        actions = inference.decide("explore", 0, 0)
        assert list(actions) == [actor]
        messages[actor] = elsewhere.after(actor, actions[actor])
    assert {len(state["count"]) for state in inference.policy.given} == {ACTORS * STREAMS}
    assert inference.metrics()["inference_streams"] == STREAMS
    for stream in range(ACTORS * STREAMS):
        rows = kept.stream(stream)
        check_rows(rows)
        assert len(rows["reward"]) >= 9


def test_a_message_that_is_missing_is_no_slip() -> None:
    inference, elsewhere = counting(Kept())
    inference.take(elsewhere.first(0))
    (action,) = inference.decide("explore", 0, 0).values()
    with pytest.raises(ValueError, match="delivers 2, but 1 was not received"):
        inference.take(replace(elsewhere.after(0, action), sequence=2))


def test_what_is_saved_goes_on_with_closed_episodes() -> None:
    """Also of actors that have not said anything yet, and without the decision that was under way."""
    inference, elsewhere = counting(Kept())
    inference.take(elsewhere.first(0))
    for _ in range(4):
        (action,) = inference.decide("explore", 0, 3).values()
        inference.take(elsewhere.after(0, action))
    inference.decide("explore", 0, 4)
    saved = inference.state_dict()
    kept = Kept()
    other, _ = counting(kept)
    other.load_state_dict(saved)
    assert other.noise.uniform(3).tolist() == inference.noise.uniform(3).tolist()
    for actor in range(ACTORS):
        incarnation, _ = other.begin(actor)
        assert incarnation == (2 if actor == 0 else 1)
    closed = [rows[-1] for rows in kept.rows if rows]
    assert closed
    assert all(row["is_last"] and not row["is_terminal"] for row in closed)
    assert not any(kept.rows[stream] for stream in range(STREAMS, ACTORS * STREAMS))
    for stream in range(STREAMS):
        for row, state in zip(kept.rows[stream], kept.states[stream], strict=True):
            assert int(state["count"]) == row[OBS][0]


def test_numbers_that_are_not_finite_are_told() -> None:
    inference, elsewhere = counting(Kept())
    seen = elsewhere.first(2)
    seen.step.rows["reward"][1] = np.nan
    with pytest.raises(UserError, match=r"stream 1.*the reward is nan"):
        inference.take(seen)
