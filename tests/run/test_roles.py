"""Actor, Episodes, Evaluator, Meter and loaded policies, on environments whose every row is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny_runs import Never, begin, config
from torch import Tensor

import reverie
from reverie.agents.agent import Decision, Noise, Policy, Seat
from reverie.data.rows import Field, Rows, State
from reverie.envs.env import EnvSpec, Step, VectorEnv
from reverie.envs.make import make_env
from reverie.errors import UserError
from reverie.play.evaluate import evaluate
from reverie.play.load import LoadedPolicy, load
from reverie.run.build import build_env, derive
from reverie.run.ledger import Episodes
from reverie.run.meter import Meter
from reverie.run.roles import Actor, Evaluator, rollout
from reverie.run.tree import load_tree, save_tree


class Script(VectorEnv):
    """Stream i has episodes of lengths[i] env_steps, the reward of each is 1; ends as `kind` says."""

    def __init__(self, lengths: list[int], kind: str) -> None:
        self.spec = EnvSpec("script", {"vector": spaces.Box(-9, 9, (1,), np.float32)}, spaces.Discrete(5))
        self.num_envs, self.lengths, self.kind = len(lengths), np.array(lengths), kind
        self.actions: list[np.ndarray] = []

    def _rows(self, clock: np.ndarray, last: np.ndarray) -> Rows:
        return {
            "obs.vector": clock[:, None].astype(np.float32),
            "reward": (clock > 0).astype(np.float32),
            "is_first": clock == 0,
            "is_last": last,
            "is_terminal": last & (self.lengths[: len(last)] % 2 == 0),
        }

    def reset(self, seed: int) -> Rows:
        self.seed, self.clock = seed, np.zeros(self.num_envs, np.int64)
        return self._rows(self.clock, np.zeros(self.num_envs, bool))

    def step(self, action: np.ndarray) -> Step:
        self.actions.append(action.copy())
        if self.kind == "next step":
            over = self.clock == self.lengths
            self.clock = np.where(over, 0, self.clock + 1)
            last = self.clock == self.lengths
            return Step(self._rows(self.clock, last), episode_info=self._info(last))
        self.clock += 1
        last = self.clock == self.lengths
        ends = {name: value[last] for name, value in self._rows(self.clock, last).items()}
        self.clock = np.where(last, 0, self.clock)
        rows = self._rows(self.clock, np.zeros(self.num_envs, bool))
        return Step(rows, ends, np.flatnonzero(last), self._info(last)) if last.any() else Step(rows)

    def _info(self, last: np.ndarray) -> dict[int, dict[str, float]]:
        return {i: {"twice": 2.0 * self.lengths[i], f"only_{i}": 1.0} for i in np.flatnonzero(last).tolist()}


class Plus(Policy):
    """Acts (observation + 1) greedily, (observation + 2) exploring, modulo 5; its state counts all rows it has seen."""

    noise = 2

    def __init__(self) -> None:
        super().__init__()
        self.noises: list[Tensor] = []

    def initial_state(self, batch: int) -> State:
        return {"rows": torch.zeros(batch)}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        u = noise.uniform(len(rows["is_first"]), self.noise)
        self.noises.append(u)
        action = (rows["obs.vector"][:, 0].long() + (1 if seat.play == "greedy" else 2)) % 5
        if seat.play == "random":
            action = (u[:, 1] * 5).long()
        return Decision(action, {"rows": state["rows"] + 1}, {"logit": u[:, :1]})

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Any, State]:
        raise NotImplementedError


def explore(streams: int) -> Seat:
    return Seat.alone(streams, "explore")


class Sink:
    """All rows passed on, per stream."""

    def __init__(self, streams: int) -> None:
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(streams)]

    def __call__(self, rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
        for at, stream in enumerate(range(len(self.rows)) if streams is None else streams.tolist()):
            row = {name: value[at].copy() for name, value in rows.items()}
            self.rows[stream].append(row | {"state": float(state["rows"][at])})

    def column(self, stream: int, name: str) -> list[Any]:
        return [np.asarray(row[name]).squeeze().tolist() for row in self.rows[stream]]


def test_rows_of_a_same_step_source() -> None:
    env, sink = Script([2, 3], "same step"), Sink(2)
    actor = Actor(env, Plus(), sink, seed=7)
    assert actor.start() == []
    assert env.seed == 7
    ended = [actor.step(explore(2)) for _ in range(4)]
    assert ended == [[], [(0, 2.0, 2)], [(1, 3.0, 3)], [(0, 2.0, 2)]]
    assert sink.column(0, "obs.vector") == [0, 1, 2, 0, 1, 2]
    assert sink.column(0, "action") == [2, 3, 0, 2, 3, 0]
    assert sink.column(0, "prev_action") == [0, 2, 3, 0, 2, 3]
    assert sink.column(0, "reward") == [0, 1, 1, 0, 1, 1]
    assert sink.column(0, "is_first") == [True, False, False, True, False, False]
    assert sink.column(0, "is_last") == [False, False, True, False, False, True]
    assert sink.column(0, "is_terminal") == [False, False, True, False, False, True]
    # The policy does not act on closing rows, so they leave its state alone.
    assert sink.column(0, "state") == [0, 1, 2, 2, 3, 4]
    assert sink.column(1, "obs.vector") == [0, 1, 2, 3, 0]
    assert sink.column(1, "action") == [2, 3, 4, 0, 2]
    assert not any(sink.column(1, "is_terminal"))
    assert sink.column(0, "extra.logit")[2] == 0.0
    assert all(0 < value < 1 for value in sink.column(0, "extra.logit")[:2])
    assert all(row.keys() == sink.rows[0][0].keys() for stream in sink.rows for row in stream)


def test_rows_of_a_next_step_source() -> None:
    env, sink = Script([2, 3], "next step"), Sink(2)
    actor = Actor(env, Plus(), sink, seed=7)
    actor.start()
    assert [actor.step(explore(2)) for _ in range(5)] == [[], [(0, 2.0, 2)], [(1, 3.0, 3)], [], [(0, 2.0, 2)]]
    # A row that is_last takes a call of step but no decision.
    assert [sink.column(stream, "is_last").count(False) for stream in range(2)] == [4, 4]
    assert sink.column(0, "obs.vector") == [0, 1, 2, 0, 1]
    assert sink.column(0, "action") == [2, 3, 0, 2, 3]
    assert sink.column(0, "prev_action") == [0, 2, 3, 0, 2]
    assert sink.column(0, "reward") == [0, 1, 1, 0, 1]
    assert sink.column(0, "is_last") == [False, False, True, False, False]
    assert sink.column(1, "obs.vector") == [0, 1, 2, 3, 0]
    assert [actions.tolist() for actions in env.actions] == [[2, 2], [3, 3], [0, 4], [2, 0], [3, 2]]


class Losing(Script):
    """As Script, but decision `at` of stream 0 comes to nothing: it begins a new episode instead."""

    at = 3

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        if len(self.actions) != self.at:
            return step
        self.clock[0] = 0
        return Step(self._rows(self.clock, np.zeros(self.num_envs, bool)), lost=np.array([0]))


def test_a_decision_that_came_to_nothing_is_no_env_step_and_no_row() -> None:
    env, sink = Losing([5, 9], "same step"), Sink(2)
    policy = Plus()
    policy.extras = {"logit": Field((1,), np.dtype(np.float32))}
    actor = Actor(env, policy, sink, seed=7)
    actor.start()
    counts = []
    for _ in range(4):
        assert actor.step(explore(2)) == []
        counts.append((actor.env_steps, actor.lost))
    assert counts == [(2, 0), (4, 0), (5, 1), (7, 0)]
    # Row 2 of stream 0, on which that was decided, closes the episode as a time limit; its reward was earned.
    assert sink.column(0, "obs.vector") == [0, 1, 2, 0]
    assert sink.column(0, "reward") == [0, 1, 1, 0]
    assert sink.column(0, "is_last") == [False, False, True, False]
    assert not any(sink.column(0, "is_terminal"))
    assert sink.column(0, "action") == [2, 3, 0, 2]
    assert sink.column(0, "extra.logit")[2] == 0.0
    assert sink.column(0, "is_first") == [True, False, False, True]
    assert sink.column(0, "prev_action") == [0, 2, 3, 0]
    assert sink.column(1, "obs.vector") == [0, 1, 2, 3]


def test_a_sink_that_fails_between_two_rows_leaves_a_torn_ledger() -> None:
    """The decided row is there, the closing one is not: what the ledger holds must not be saved."""

    class Full(Sink):
        def __call__(self, rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
            if rows["is_last"].all():
                raise UserError("the disk is full")
            super().__call__(rows, streams, state, version)

    actor = Actor(Script([2, 9], "same step"), Plus(), Full(2), seed=7)
    actor.start()
    actor.step(explore(2))
    assert not actor.torn
    with pytest.raises(UserError, match="full"):
        actor.step(explore(2))
    assert actor.torn


def test_env_steps_are_decisions_taken_and_not_those_about_closing_rows() -> None:
    # A stream whose episodes end in the next step is asked about closing rows too, and its answer is not taken.
    actor = Actor(Script([2, 3], "next step"), Plus(), Sink(2), seed=7)
    actor.start()
    counts = []
    for _ in range(4):
        actor.step(explore(2))
        counts.append(actor.env_steps)
    assert counts == [2, 4, 5, 6]


def test_random_actions_and_noise_belong_to_the_seed() -> None:
    def play(seed: int, random: bool) -> tuple[list[Any], list[Tensor]]:
        env, policy = Script([4, 5, 6], "same step"), Plus()
        actor = Actor(env, policy, None, seed)
        actor.start()
        for _ in range(30):
            actor.step(Seat.alone(3, "random" if random else "explore"))
        return [actions.tolist() for actions in env.actions], policy.noises

    torch.manual_seed(0)
    first, noise = play(1, True)
    torch.manual_seed(1)
    second, _ = play(1, True)
    other, _ = play(2, True)
    assert first == second != other
    assert {action for row in first for action in row} == {0, 1, 2, 3, 4}
    assert noise[0].shape == (3, 2)
    # The recurrent state and the noise go on alike whether actions are random or not.
    assert all(map(torch.equal, noise, play(1, False)[1]))


@pytest.mark.parametrize("kind", ["same step", "next step"])
def test_an_actor_goes_on_from_its_state(tmp_path: Path, kind: str) -> None:
    env, sink = Script([2, 3], kind), Sink(2)
    actor = Actor(env, Plus(), sink, seed=7)
    actor.start()
    for _ in range(4):
        actor.step(explore(2))
    save_tree(tmp_path / "c", {"actor": actor.state_dict()})
    live = actor.state_dict()
    clock = env.clock.copy()
    length = len(sink.rows[0])
    expected = [actor.step(Seat.alone(2, "random" if n == 3 else "explore")) for n in range(5)]
    saved = load_tree(tmp_path / "c")["actor"]
    # What state_dict gave out has not moved with the actor.
    assert live["score"].tolist() == saved["score"].tolist()
    assert live["length"].tolist() == saved["length"].tolist()

    later, again = Script([2, 3], kind), Sink(2)
    later.reset(0)
    later.clock = clock
    actor = Actor(later, Plus(), again, seed=99)
    actor.load_state_dict(saved)
    assert [actor.step(Seat.alone(2, "random" if n == 3 else "explore")) for n in range(5)] == expected
    assert [str(row) for row in again.rows[0]] == [str(row) for row in sink.rows[0][length:]]


def test_scores_of_episodes() -> None:
    episodes = Episodes(3)

    def add(streams: list[int], reward: list[float], first: list[int], last: list[int]) -> list[tuple[int, float, int]]:
        flags = {"is_first": np.array(first, bool), "is_last": np.array(last, bool)}
        return episodes.add({"reward": np.array(reward, np.float32), **flags}, np.array(streams))

    assert add([0, 1, 2], [9, 9, 9], [1, 1, 1], [0, 0, 0]) == []  # what came before a first row does not count
    assert add([0, 1, 2], [1, -2, 0.5], [0, 0, 0], [0, 1, 0]) == [(1, -2.0, 1)]
    assert add([1], [7], [1], [0]) == []
    assert add([2, 0], [0.25, 1], [0, 0], [1, 1]) == [(2, 0.75, 2), (0, 2.0, 2)]
    assert add([1], [4], [0], [1]) == [(1, 4.0, 1)]


@pytest.mark.parametrize("kind", ["same step", "next step"])
@pytest.mark.parametrize(
    ("wanted", "scores"),
    [
        # Stream 0 finishes five episodes while stream 1 finishes one: it may still play no more than its share.
        (4, [2.0, 10.0, 2.0, 10.0]),
        (3, [2.0, 10.0, 2.0]),
        (1, [2.0]),
        (2, [2.0, 10.0]),
    ],
)
def test_streams_play_equal_shares(kind: str, wanted: int, scores: list[float]) -> None:
    played = Evaluator(Script([2, 10], kind), Plus(), wanted, seed=0).run()
    assert played["scores"] == scores
    assert played["lengths"] == scores
    assert played["info"]["twice"] == pytest.approx(2 * np.mean(scores))
    assert played["info"]["only_0"] == 1.0
    assert ("only_1" in played["info"]) == (wanted > 1)


class Lives(Script):
    """Three lives a game: the end of each is an episode's, and the third tells of the game."""

    def __init__(self, lengths: list[int], kind: str) -> None:
        super().__init__(lengths, kind)
        self.spec = replace(self.spec, lives=True)
        self.over = [0] * len(lengths)

    def _info(self, last: np.ndarray) -> dict[int, dict[str, float]]:
        told = {}
        for stream in np.flatnonzero(last).tolist():
            self.over[stream] += 1
            if self.over[stream] % 3 == 0:
                told[stream] = {"game_return": 3.0 * self.lengths[stream]}
        return told


@pytest.mark.parametrize("kind", ["next step", "same step"])
def test_where_a_life_is_an_episode_whole_games_are_played(kind: str) -> None:
    played = Evaluator(Lives([2, 4], kind), Plus(), 4, seed=0).run()
    assert (played["scores"], played["lengths"], played["cut"]) == ([6.0, 12.0, 6.0, 12.0], [6, 12, 6, 12], 0)
    alone = Script([2, 4], kind)  # a flag of that name, and nobody who tells of games: each end is one
    alone.spec = replace(alone.spec, flags={"life_loss": True})
    assert Evaluator(alone, Plus(), 2, seed=0).run()["scores"] == [2.0, 4.0]
    cut = Evaluator(Lives([2, 4], kind), Plus(), 2, seed=0, limit=7).run()
    assert (cut["scores"], cut["lengths"], cut["cut"]) == ([6.0, 7.0], [6, 7], 1)


def test_an_evaluator_takes_the_mode_and_shows_its_rows() -> None:
    env = Script([3], "same step")
    seen: list[float] = []
    Evaluator(env, Plus(), 2, seed=5).run(lambda rows: seen.append(float(rows["obs.vector"][0, 0])))
    assert [int(actions[0]) for actions in env.actions] == [1, 2, 3] * 2
    assert seen == [0, 1, 2] * 2
    assert env.seed == 5


def test_meters() -> None:
    meter = Meter()
    assert meter.flush() == {}
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4)})
    meter.add({"a": torch.tensor(2.5, requires_grad=True)})
    meter.add({"c": 3.0})
    copy = Meter()
    copy.load_state_dict(meter.state_dict())
    copy.add({"a": 0.0})
    assert meter.flush() == {"a": 1.75, "b": 4.0, "c": 3.0}
    assert meter.flush() == {}
    assert copy.flush() == {"a": pytest.approx(3.5 / 3), "b": 4.0, "c": 3.0}
    # Sums are double: a million small numbers beside a large one are not lost.
    meter.add({"a": torch.tensor(2.0**24)})
    meter.add({"a": torch.tensor(1.0)})
    assert meter.flush() == {"a": (2.0**24 + 1) / 2}


def test_a_saved_meter_does_not_move_with_the_live_one() -> None:
    meter = Meter()
    meter.add({"a": 1.0})
    saved = meter.state_dict()
    meter.add({"a": 5.0, "b": 1.0})
    copy = Meter()
    copy.load_state_dict(saved)
    assert copy.flush() == {"a": 1.0}


# Trained policies


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = begin(config("toy/catch", run__env_steps=60), tmp_path_factory.mktemp("trained") / "run")
    run.train(Never())
    return run.run.run_dir


def test_a_loaded_policy_acts_as_the_evaluator_does(trained: Path) -> None:
    loaded = load(trained)
    assert loaded.env_steps == 60
    env = build_env(config("toy/catch"), 2)
    taken: list[np.ndarray] = []

    def sink(rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
        if streams is None:
            taken.append(rows["action"])

    actor = Actor(env, loaded.policy, sink, 11)
    actor.start()
    policy = LoadedPolicy(loaded.policy, loaded.spec, loaded.env_steps, seed=11)
    state = policy.initial_state(2)
    for _ in range(20):
        rows = actor.rows
        action, state = policy.act(
            rows["obs.image"], state, reward=rows["reward"], is_first=rows["is_first"], play="greedy"
        )
        actor.step(Seat.alone(2, "greedy"))
        np.testing.assert_array_equal(action, taken[-1])
        for name, value in actor.state.items():
            assert torch.equal(state[name], value), name
        # The state carries the action on, zeroed by the policy itself where an episode begins.
        again = ~actor.rows["is_first"]
        np.testing.assert_array_equal(action[again], actor.rows["prev_action"][again])
    assert action.dtype == np.int64
    assert action.shape == (2,)


def test_loading_gives_the_evaluated_policy(trained: Path) -> None:
    first = evaluate(trained, episodes=5, seed=3)
    assert first == evaluate(trained, episodes=5, seed=3)
    assert first["episodes"] == len(first["scores"]) == len(first["lengths"]) == 5
    assert first["lengths"] == [7] * 5
    assert set(first["scores"]) <= {-1.0, 1.0}
    assert first["score"] == np.mean(first["scores"])
    env = build_env(config("toy/catch"), 2)
    played = Evaluator(env, reverie.load(trained).policy, 5, derive(3, "evaluation")).run()
    assert played["scores"] == first["scores"]


def test_one_observation_or_many(trained: Path) -> None:
    env = make_env("toy/catch", num_envs=1)
    rows = env.reset(0)
    image = rows["obs.image"][0]
    one, many, named = (load(trained) for _ in range(3))
    single, state = one.act(image, one.initial_state(1))
    batched, other = many.act(image[None], many.initial_state(1))
    keyed, _ = named.act({"image": image}, named.initial_state(1))
    assert type(single) is type(keyed) is int
    assert batched.shape == (1,)
    assert int(single) == int(batched[0]) == int(keyed)
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert not state["is_first"].any()
    wide, state = many.act(np.stack([image] * 3), many.initial_state(3))
    assert wide.shape == (3,)
    assert all(len(value) == 3 for value in state.values())


def test_a_new_episode_forgets(trained: Path) -> None:
    images = make_env("toy/catch", num_envs=4).reset(0)["obs.image"]

    def second(forget: bool) -> State:
        policy = load(trained)
        _, state = policy.act(images[0], policy.initial_state(1))
        state["prev_action"] = torch.ones_like(state["prev_action"])
        _, state = policy.act(images[1], state, is_first=forget)
        return state

    policy = load(trained)
    policy.act(images[0], policy.initial_state(1))  # the same place in the noise
    _, fresh = policy.act(images[1], policy.initial_state(1))
    assert torch.equal(second(True)["deter"], fresh["deter"])
    assert not torch.equal(second(False)["deter"], fresh["deter"])


def test_wrong_observations_are_one_line(trained: Path) -> None:
    policy = load(trained)
    with pytest.raises(UserError, match=r"'image' has shape \(3, 3\), expected \(1, 32, 32, 1\)"):
        policy.act(np.zeros((3, 3)), policy.initial_state(1))
    with pytest.raises(UserError, match=r"has shape \(32, 32, 1\), expected \(2, 32, 32, 1\)"):
        policy.act(np.zeros((32, 32, 1)), policy.initial_state(2))
    with pytest.raises(UserError, match="observation 'image' is missing; got picture"):
        policy.act({"picture": np.zeros((32, 32, 1))}, policy.initial_state(1))
    with pytest.raises(UserError, match="not a run directory"):
        load(trained / "nothing")


def test_seats_of_a_rollout_are_as_many_env_steps_apart_as_are_made() -> None:
    seats: list[int] = []
    actor: Any = SimpleNamespace(step=lambda seat, version: seats.append(seat.env_steps) or [], episode_info={})
    rollout(actor, Seat.alone(2, env_steps=10), 0, 2, lambda made: made < 3, lambda ended, info: None)
    assert seats == [10, 12, 14]


def test_random_play_ends_with_the_prefill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(config("toy/catch", env__num_envs=2, run__prefill=40, run__env_steps=60), tmp_path / "run")
    played: list[tuple[int, str]] = []
    decide = run.actor.decide

    def spy(seat: Seat, version: int = 0) -> Step:
        played.append((run.run.clock.env_steps, seat.play))
        return decide(seat, version)

    monkeypatch.setattr(run.actor, "decide", spy)
    run.train(Never())
    assert len(played) > 25
    assert [play for _, play in played] == ["random" if env_steps < 40 else "explore" for env_steps, _ in played]
    assert {play for _, play in played} == {"random", "explore"}
