"""A play without a server: what is seen, dreamed, gone back to and recorded."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from page_runs import VALUES, dreamer, made

import reverie
from reverie import overrides
from reverie.agents.agent import Seat
from reverie.agents.noise import Tape
from reverie.data.rows import OBS, row_spec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.play.page import moments
from reverie.play.page.controls import controls
from reverie.play.page.dreams import error, spread
from reverie.play.page.messages import COMMANDS, pack, parse, unpack, view
from reverie.play.page.minds import Dreaming, delta_q
from reverie.play.page.recording import Recorder, Recording
from reverie.play.page.session import Session
from reverie.play.page.subject import Subject

CELL = 2
"""pixels"""


@pytest.fixture(scope="module")
def catch(catch_run: Path) -> Subject:
    return Subject(catch_run)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """Agents without a model, without a memory, without pictures, with continuous actions."""
    base = tmp_path_factory.mktemp("others")
    r2d2 = {**VALUES, "agent.units": 8, "agent.hidden": 8, "env.options.noise": 2, "run.env_steps": 120}
    return {
        "r2d2": Subject(made("r2d2", "toy/tmaze", base / "r2d2", r2d2)),
        "dqn": Subject(made("dqn", "CartPole-v1", base / "dqn", {**VALUES, "agent.hidden": 8})),
        "a2c": Subject(made("a2c", "toy/catch", base / "a2c", {**VALUES, "run.env_steps": 40})),
        "vectors": Subject(dreamer("Pendulum-v1", base / "vectors")),
        "apex-dpg": Subject(made("apex-dpg", "Pendulum-v1", base / "dpg", {**VALUES, "run.env_steps": 40})),
    }


def shown(session: Session) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The moment as the page gets it, but for how far one can go on from it."""
    document, parts = unpack(view(session, 0))
    for name in ("newest", "settings", "said"):
        del document[name]
    return document, {name: part.tobytes() for name, part in parts.items()}


def column(picture: np.ndarray) -> int:
    """The paddle's column, from the last line of a picture."""
    return int(picture[-1, :, 0].astype(float).reshape(-1, CELL).mean(1).argmax())


def steps(session: Session, *actions: int) -> None:
    for action in actions:
        session.hold(action)
        assert session.step(), session.said
        session.hold(None)


# World and dream


@pytest.mark.parametrize("seed", range(3))
def test_world_and_dream_agree_on_the_first_frame(catch: Subject, seed: int) -> None:
    session = Session(catch, seed)
    now = session.path.now
    assert now.dreamed is not None
    assert now.dreamed.step == 0
    assert not now.apart
    seen, told = now.rows["obs.image"][0], now.dreamed.rows["obs.image"][0]
    assert np.abs(seen.astype(float) - told).mean() < 10
    assert column(seen) == column(told) == 2
    document, _ = unpack(view(session, 0))
    assert document["dream"]["error"] == pytest.approx(((seen / 255.0 - told / 255.0) ** 2).mean())
    # It begins from the agent's own state at that row.
    for name, value in now.thought.memory.items():
        torch.testing.assert_close(now.dreams.state[name], value, rtol=0, atol=0)  # type: ignore[union-attr]


@pytest.mark.parametrize(("action", "column_after"), [(0, 1), (1, 2), (2, 3)])
def test_actions_move_the_paddle_in_world_and_dream(catch: Subject, action: int, column_after: int) -> None:
    session = Session(catch)
    steps(session, action)
    now = session.path.now
    assert now.dreamed is not None
    assert column(now.rows["obs.image"][0]) == column_after
    assert column(now.dreamed.rows["obs.image"][0]) == column_after
    session.back()
    session.change(along=False)
    steps(session, action)
    now = session.path.now
    assert now.dreamed is not None
    assert now.apart
    assert column(now.dreamed.rows["obs.image"][0]) == column_after
    assert column(now.rows["obs.image"][0]) == 2, "the world waits"
    assert unpack(view(session, 0))[0]["dream"]["error"] is None


def test_a_thought_is_what_the_policy_does(catch: Subject) -> None:
    mind = catch.mind
    assert isinstance(mind, Dreaming)
    session = Session(catch)
    steps(session, 0, 2)
    rows = session.path.now.rows
    memory = {name: torch.randn(v.shape) for name, v in mind.initial().items()}
    u = np.random.default_rng(0).random((1, mind.noise))
    thought = mind.see(memory, rows, u)
    tensors = {name: torch.from_numpy(value) for name, value in rows.items()}
    with torch.inference_mode():
        tape = Tape(torch.from_numpy(u.astype(np.float32)))
        decision = mind.policy.step(memory, tensors, tape, Seat.alone(1, "greedy"))
    assert thought.action.tolist() == decision.action.tolist()
    for name, value in decision.state.items():
        torch.testing.assert_close(thought.memory[name], value, rtol=1e-5, atol=1e-6)


def test_the_horizon_and_an_episode_begin_dreams_anew(catch: Subject) -> None:
    session = Session(catch)
    session.change(horizon=2)
    steps(session, 1, 1)
    assert session.path.now.dreamed.step == 2  # type: ignore[union-attr]
    steps(session, 1)
    assert session.path.now.rows["is_last"][0]
    assert session.path.now.dreamed.step == 0  # type: ignore[union-attr]
    steps(session, 1)
    assert session.path.now.rows["is_first"][0]
    assert session.path.now.action is None
    session.change(along=False)
    steps(session, 1, 1)
    assert not session.step()
    assert session.said == "The dream has reached its horizon of 2."
    session.change(along=True)
    steps(session, 1)
    assert session.path.now.dreamed.step == 0, "it wakes where the world goes on"  # type: ignore[union-attr]
    assert not session.path.now.apart


def test_a_dream_that_is_over_stays_as_it_is(catch: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(catch)
    session.change(dreams=3, along=False)
    real = catch.mind.model.discount.mean  # type: ignore[attr-defined]

    def mean(features: torch.Tensor) -> torch.Tensor:
        out = real(features).clone()
        if out.shape == (3,):
            out[1] = 0.0
        return out

    monkeypatch.setattr(catch.mind.model.discount, "mean", mean)  # type: ignore[attr-defined]
    steps(session, 0)
    first = session.path.now.dreamed
    assert first is not None
    assert first.over.tolist() == [False, True, False]
    steps(session, 2)
    second = session.path.now.dreamed
    assert second is not None
    np.testing.assert_array_equal(first.rows["obs.image"][1], second.rows["obs.image"][1])
    np.testing.assert_array_equal(first.saved["state"]["deter"][1], second.saved["state"]["deter"][1])
    assert (first.saved["state"]["deter"][0] != second.saved["state"]["deter"][0]).any()
    assert second.returns[1] == first.returns[1]
    assert (first.done.tolist(), second.done.tolist()) == ([False] * 3, [False, True, False])


def test_dreams_of_one_state_differ_and_the_likeliest_do_not(catch: Subject) -> None:
    session = Session(catch)
    session.change(dreams=8, along=False, horizon=20)
    states = session.path.now.dreams.state["stoch"]  # type: ignore[union-attr]
    assert (states == states[:1]).all(), "they begin from one state"
    steps(session, 0, 2)
    states = session.path.now.dreams.state["stoch"]  # type: ignore[union-attr]
    assert len({tuple(state) for state in states.tolist()}) > 1
    session.fresh()
    session.change(likely=True)
    steps(session, 0, 2)
    states = session.path.now.dreams.state["stoch"]  # type: ignore[union-attr]
    assert (states == states[:1]).all()
    assert unpack(view(session, 0))[0]["dream"]["spread"] == pytest.approx(0.0, abs=1e-6)


def test_spread_and_error_by_hand() -> None:
    spec = EnvSpec("two", {"image": spaces.Box(0, 255, (1, 2, 1), np.uint8)}, spaces.Discrete(2))
    rows = {"obs.image": np.array([[[[0], [255]]], [[[255], [255]]]], np.uint8), "reward": np.zeros(2)}
    mean, picture = spread(rows, spec)
    assert mean == pytest.approx(0.25)  # 0 and 1 deviate by 1/2, 1 and 1 by 0
    assert picture is not None
    assert picture.tolist() == [[255, 0]]
    assert spread({name: value[:1] for name, value in rows.items()}, spec) == (None, None)
    world = {"obs.image": np.array([[[[51], [255]]]], np.uint8)}
    assert error(rows, world, spec) == pytest.approx(0.2**2 / 2)


# Numbers by hand


def test_surprise_by_hand(catch: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """p = (1/2, 1/4, 1/8, 1/8, 0, 0) against a uniform q: log 6 - H(p), H(p) = 7/4 log 2, for each latent."""
    rssm = catch.mind.model.rssm  # type: ignore[attr-defined]
    p = torch.tensor([0.5, 0.25, 0.125, 0.125, 1e-30, 1e-30]).log()
    monkeypatch.setattr(rssm, "posterior", lambda deter, embedded: (p.expand(*deter.shape[:-1], 6, 6),))
    monkeypatch.setattr(rssm, "prior", lambda deter: (torch.zeros(*deter.shape[:-1], 6, 6),))
    said = Session(catch).path.now.thought.said
    assert said.numbers["kl"] == pytest.approx(6 * (math.log(6) - 1.75 * math.log(2)), rel=1e-5)
    assert said.pictures["posterior"][0].tolist() == [128, 64, 32, 32, 0, 0]
    assert (said.pictures["prior"] == round(255 / 6)).all()


@pytest.mark.parametrize(("predicted", "marked"), [(0.9, True), (0.4, False), (-0.9, True)])
def test_rewards_that_were_not_paid_are_marked(
    catch: Subject, monkeypatch: pytest.MonkeyPatch, predicted: float, marked: bool
) -> None:
    """The smallest reward of Catch is 1, so that half of it counts as one. The ball falls for three rows."""
    assert catch.threshold == 0.5
    monkeypatch.setattr(
        catch.mind.model.reward,  # type: ignore[attr-defined]
        "mean",
        lambda features: torch.full(features.shape[:-1], predicted if len(features) == 2 else 0.0),
    )
    session = Session(catch)
    session.change(dreams=2)
    assert session.path.now.false.tolist() == []
    steps(session, 1)
    assert session.path.now.rows["reward"][0] == 0.0
    assert session.path.now.false.tolist() == [marked] * 2
    monkeypatch.setattr(catch.mind.model.discount, "mean", lambda features: torch.zeros(features.shape[:-1]))  # type: ignore[attr-defined]
    steps(session, 1)
    assert session.path.now.dreamed.over.all()  # type: ignore[union-attr]
    assert session.path.now.false.tolist() == [marked] * 2, "the last reward of a dream counts"
    monkeypatch.undo()
    session.fresh()
    session.change(along=False)
    steps(session, 1)
    assert session.path.now.false.tolist() == [], "nobody knows what the world would have paid"


def test_how_far_values_are_apart_by_hand() -> None:
    assert delta_q(torch.tensor([1.0, -2.0]), torch.tensor([0.7, -1.6])) == pytest.approx(0.5 / 2)


# Going back


def test_going_back_and_on_again_is_the_same_bit_for_bit(catch: Subject) -> None:
    session = Session(catch, 5)
    session.change(dreams=4)
    actions = [0, 2, 2, 1, 1, 0, 2, 0, 0]
    seen = [shown(session)]
    for action in actions:
        steps(session, action)
        seen.append(shown(session))
    assert [document["world"]["first"] for document, _ in seen].count(True) == 3
    for back in (1, 4, 9):
        session.back(back)
        at = len(actions) - back
        assert shown(session) == seen[at]
        for position in range(at, len(actions)):
            steps(session, actions[position])
            assert shown(session) == seen[position + 1]
    session.back(1)
    steps(session, 2)
    assert shown(session) != seen[-1], "another action leads elsewhere"
    assert session.path.range == (0, 9)


def test_recorded_actions_lead_the_same_way(catch: Subject) -> None:
    session = Session(catch, 5)
    steps(session, 0, 0, 2, 1, 2)
    worlds = [moment.rows["obs.image"].copy() for moment in session.path.back()][::-1]
    session.to(1)
    session.here()
    session.change(wheel="recorded")
    for position in range(2, 6):
        assert session.step(), session.said
        np.testing.assert_array_equal(session.path.now.rows["obs.image"], worlds[position])
        by = session.path.now.by
        assert by == ("" if session.path.now.rows["is_first"][0] else "recorded")
    assert not session.step()
    assert session.said == "There are no recorded actions from here on."


def test_a_path_keeps_the_newest_moments(catch: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MOMENTS", 5)
    session = Session(catch)
    session.change(wheel="agent")
    for _ in range(12):
        assert session.step()
    assert session.path.range == (8, 12)
    session.back(100)
    assert session.path.position == 8
    assert session.step(), "the world comes back from its own books"
    size = sum(moment.nbytes for moment in session.path.back())
    monkeypatch.setattr(moments, "BYTES", 1)
    assert session.step()
    assert session.path.range == (10, 10)
    assert size > 1000


# From the replay


def test_a_row_of_the_replay_is_followed_as_it_was_recorded(catch: Subject, catch_run: Path) -> None:
    session = Session(catch)
    data = reverie.open_dataset(catch_run / "replay")
    stream = data.rows(data.streams[0])
    at = int(np.flatnonzero(stream["is_first"])[3]) + 1
    session.replay(at)
    assert session.settings.wheel == "recorded"
    now = session.path.now
    np.testing.assert_array_equal(now.rows["obs.image"][0], stream["obs.image"][at])
    assert now.dreamed is not None
    assert column(now.dreamed.rows["obs.image"][0]) == column(stream["obs.image"][at])
    assert session.step()
    assert session.path.now.action.tolist() == [stream["action"][at]]  # type: ignore[union-attr]
    np.testing.assert_array_equal(session.path.now.rows["obs.image"][0], stream["obs.image"][at + 1])
    session.back()
    other = (int(stream["action"][at]) + 1) % 3
    session.change(wheel="person")
    steps(session, other)
    assert session.path.now.left
    assert session.path.now.apart
    np.testing.assert_array_equal(session.path.now.rows["obs.image"][0], stream["obs.image"][at])
    session.back()
    session.change(wheel="recorded")
    while session.step():
        pass
    assert session.path.now.rows["is_last"][0]
    assert session.said == "The recording ends here, with its episode."


def test_every_row_of_the_replay_can_be_begun_from(catch: Subject, catch_run: Path) -> None:
    data = reverie.open_dataset(catch_run / "replay")
    session = Session(catch)
    for number in range(0, len(data), 7):
        stream, index = data.place(number)
        chunk = data.chunk(stream, index)
        session.replay(number)
        np.testing.assert_array_equal(
            session.path.now.rows["obs.image"][0], chunk.rows["obs.image"][index - chunk.start]
        )


# At the wheel


def test_time_waits_where_no_action_means_nothing(catch: Subject, others: dict[str, Subject]) -> None:
    session = Session(others["dqn"])
    assert session.settings.patient
    assert not session.step()
    assert session.waiting
    session.hold(1)
    session.hold(None)
    assert session.step(), "a tap is one action"
    assert not session.step()
    session = Session(catch)
    assert session.step()
    assert session.path.now.action.tolist() == [1], "stay"  # type: ignore[union-attr]
    session.change(patient=True)
    assert not session.step()


def test_the_agent_acts_in_its_dream(catch: Subject) -> None:
    session = Session(catch)
    session.change(along=False, wheel="agent")
    assert session.step()
    assert session.path.now.by == "agent"
    assert session.path.now.apart


@pytest.mark.parametrize("given", [3, -1, True, 1.0, "1", [1], None.__class__, {}])
def test_actions_of_another_space_are_refused(catch: Subject, given: Any) -> None:
    with pytest.raises(UserError, match="an action here is a whole number from 0 to 2"):
        Session(catch).hold(given)


def test_keys_follow_from_names() -> None:
    def choice(id: str, count: int, *said: str) -> dict[str, tuple[str, ...]]:
        made = controls(EnvSpec(id, {}, spaces.Discrete(count)), said)
        return dict(zip(made.names, made.chords, strict=True))

    assert choice("toy/catch", 3, "left", "stay", "right") == {
        "left": ("ArrowLeft",),
        "stay": (),
        "right": ("ArrowRight",),
    }
    atari = choice("ALE/Pong-v5", 4, "NOOP", "FIRE", "UPRIGHT", "DOWNLEFTFIRE")
    assert atari == {
        "noop": (),
        "fire": ("Space",),
        "upright": ("ArrowRight", "ArrowUp"),
        "downleftfire": ("ArrowDown", "ArrowLeft", "Space"),
    }
    crafter = choice("crafter/reward", 4, "noop", "move_left", "do", "place_stone")
    assert crafter == {"noop": (), "move left": ("ArrowLeft",), "do": ("Space",), "place stone": ("Digit1",)}
    assert choice("CartPole-v1", 2) == {"left": ("ArrowLeft",), "right": ("ArrowRight",)}
    assert choice("my/thing", 2) == {"action 0": ("Digit1",), "action 1": ("Digit2",)}
    many = controls(EnvSpec("x", {}, spaces.Discrete(60)))
    given = [chord for chord in many.chords if chord]
    assert len(given) == len(set(given)) == 27
    box = controls(EnvSpec("x", {}, spaces.Box(-1, 1, (2,), np.float32)))
    assert box.action([0.5, -1]).tolist() == [[0.5, -1.0]]
    for wrong in ([0.5], [0.5, 2.0], [0.5, math.nan], [True, 0.0], 0.5):
        with pytest.raises(UserError, match="a list of 2 numbers"):
            box.action(wrong)
    factors = controls(EnvSpec("x", {}, spaces.MultiDiscrete([2, 3])))
    assert factors.action([1, 2]).tolist() == [[1, 2]]
    with pytest.raises(UserError, match="below"):
        factors.action([1, 3])


# Agents that lack something


def test_an_agent_without_a_model_shows_its_values_and_its_memory(others: dict[str, Subject]) -> None:
    subject = others["r2d2"]
    session = Session(subject)
    session.change(wheel="agent")
    document, parts = unpack(view(session, 0))
    assert document["dream"] is None
    assert document["world"]["said"]["delta_q"] is None
    for _ in range(4):
        assert session.step()
    document, parts = unpack(view(session, 0))
    said = document["world"]["said"]
    assert len(said["q"]) == 2
    assert int(np.argmax(said["q"])) == session.path.now.thought.action[0]
    assert said["burn_in"] == 4
    # The whole episode is burnt in, so that nothing is missing.
    assert said["delta_q"] == pytest.approx(0.0, abs=1e-5)
    assert set(parts) == {"memory.hidden", "memory.cell"}
    assert "It has no world model, so there is no dream." in subject.describe()["lacks"]
    with pytest.raises(UserError, match="no world model"):
        session.here()
    session.change(along=False)
    assert not session.step()
    session.change(along=True)
    subject.mind.context = 1  # type: ignore[attr-defined]
    assert session.step()
    assert unpack(view(session, 0))[0]["world"]["said"]["delta_q"] > 0, "one row does not bring all back"
    session.replay(5)
    stored = session.path.now.thought
    assert session.step(), "as it was recorded"
    session.back()
    recorded = int(session.path.now.rows["prev_action"][0])
    assert stored is session.path.now.thought
    session.change(wheel="person")
    went = [session.hold(action) or session.step() for action in (0, 1)]
    assert sorted(went) == [False, True]
    assert recorded in (0, 1)


def test_an_agent_without_pictures_or_memory(others: dict[str, Subject]) -> None:
    session = Session(others["dqn"])
    document, parts = unpack(view(session, 0))
    assert len(document["world"]["numbers"]["vector"]) == 4
    assert "delta_q" not in document["world"]["said"]
    assert list(parts) == ["world.picture"], "the environment draws itself"
    assert parts["world.picture"].shape[-1] == 3


def test_an_actor_critic_tells_probabilities_and_value(others: dict[str, Subject]) -> None:
    session = Session(others["a2c"])
    assert session.step()
    said = unpack(view(session, 0))[0]["world"]["said"]
    assert sum(said["probabilities"][0]) == pytest.approx(1.0, abs=1e-5)
    assert len(said["value"]) == 1


def test_a_deterministic_actor_tells_its_action_and_what_it_is_worth(others: dict[str, Subject]) -> None:
    subject = others["apex-dpg"]
    session = Session(subject)
    session.change(wheel="agent")
    assert session.step()
    said = unpack(view(session, 0))[0]["world"]["said"]
    assert len(said["value"]) == len(said["mean"]) == 1
    assert -1 < said["mean"][0] < 1


def test_continuous_actions_and_numbers_are_dreamed(others: dict[str, Subject]) -> None:
    session = Session(others["vectors"])
    session.hold([0.5])
    assert session.step()
    document, _ = unpack(view(session, 0))
    assert document["action"] == [0.5]
    assert len(document["dream"]["numbers"]["vector"]) == 3
    assert document["dream"]["error"] > 0
    assert len(document["world"]["said"]["mean"]) == 1
    session.fresh()
    session.change(wheel="agent", along=False)
    assert session.step()
    assert session.path.now.by == "agent"


# Recording


def play_one(session: Session, *actions: int) -> None:
    """An episode of three actions, and the first row of the next."""
    steps(session, *actions, 1)


def test_what_was_played_is_a_dataset(catch: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "played"
    recording = Recording(folder, catch.spec, {"env": catch.spec.id, "run": "catch"})
    session = Session(catch, 1, Recorder(recording))
    session.record(True)
    play_one(session, 0, 0, 2)
    steps(session, 2)
    session.back(1)  # in the open episode: costs nothing
    play_one(session, 0, 1, 2)
    steps(session, 0)
    session.close()
    data = reverie.open_dataset(folder)
    spec = row_spec(catch.spec.observation, catch.spec.action)
    episodes = list(data.episodes())
    assert [episode["action"].tolist() for episode in episodes] == [[0, 0, 2, 0], [0, 1, 2, 0], [0, 0]]
    assert [episode["is_terminal"][-1] for episode in episodes] == [True, True, False], "the last was cut"
    for episode in episodes:
        assert {name: (value.dtype, value.shape[1:]) for name, value in episode.items()} == {
            name: (field.dtype, field.shape) for name, field in spec.items()
        }
        assert episode["prev_action"].tolist() == [0, *episode["action"][:-1].tolist()]
        assert episode["is_first"].tolist() == [True] + [False] * (len(episode["reward"]) - 1)
    said = json.loads((folder / "recording.json").read_text())
    assert said["wrote"].startswith("reverie play")
    assert said["run"] == "catch"
    assert said["streams"]["0"]["by"] == {"person": 7}
    assert said["streams"]["0"]["scores"] == [float(e["reward"].sum()) for e in episodes[:2]]


def test_an_agent_learns_from_what_was_played(catch: Subject, tmp_path: Path) -> None:
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    for k in range(4):
        play_one(session, k % 3, 1, 2)
    session.close()
    keys = {"dataset.path": str(tmp_path / "played"), "run.env_steps": 30, "run.prefill": 0, "run.pretrain": 1}
    keys |= {"run.train_ratio": 4.0, "replay.batch": 4}
    config = overrides.apply(catch.config, {**keys, "run.eval_episodes": 2})
    assert reverie.train(config, tmp_path / "run")["finished"]
    (ours,) = (reverie.open_dataset(tmp_path / "run" / "replay").rows(0),)
    np.testing.assert_array_equal(ours["action"], reverie.open_dataset(tmp_path / "played").rows(0)["action"])


def test_going_back_behind_what_is_written(catch: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.play.page.recording.PART", 1)
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    steps(session, 0, 0)
    session.back(2)
    play_one(session, 2, 1, 1)
    session.close()
    data = reverie.open_dataset(tmp_path / "played")
    assert len(data.streams) == 2
    whole = [episode["action"].tolist() for episode in data.episodes()]
    assert whole == [[2, 1, 1, 0]], "what was left unfinished is no episode"
    assert data.rows(0)["action"].tolist()[:1] == [0]
    assert sum(len(c) for c in data.chunks()) == len(data) == sum(Counter({"a": len(data)}).values())


def test_a_folder_of_other_rows_is_left_alone(catch: Subject, catch_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has rows that were not recorded here; name another folder with --record"):
        Recording(catch_run / "replay", catch.spec, {})
    Recording(tmp_path, catch.spec, {"env": "toy/catch"}).write(
        0, 0, Session(catch).path.now.rows | {"action": np.zeros(1, np.int64)}, Counter()
    )
    other = EnvSpec("CartPole-v1", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, spaces.Discrete(2))
    with pytest.raises(UserError, match="has rows of toy/catch, not of CartPole-v1"):
        Recording(tmp_path, other, {})
    again = Recording(tmp_path, catch.spec, {"env": "toy/catch"})
    assert again.stream() == 1
    assert OBS + "image" in again.fields
    again.close()
    for damaged in ("", "[1]", "{"):
        (tmp_path / "recording.json").write_text(damaged)
        with pytest.raises(UserError, match=r"recording\.json is damaged .*; restore it, or name another --record"):
            Recording(tmp_path, catch.spec, {})


def test_two_do_not_record_into_one_folder(catch: Subject, tmp_path: Path) -> None:
    first = Recording(tmp_path, catch.spec, {})
    with pytest.raises(UserError, match=r"another process records into .*; name another folder with --record"):
        Recording(tmp_path, catch.spec, {})
    first.close()
    Recording(tmp_path, catch.spec, {}).close()


def test_no_row_is_recorded_twice(catch: Subject, tmp_path: Path) -> None:
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    steps(session, 0, 0)
    session.record(False)
    session.record(True)
    play_one(session, 2)
    play_one(session, 1, 1, 1)
    session.close()
    episodes = [episode["action"].tolist() for episode in reverie.open_dataset(tmp_path / "played").episodes()]
    assert episodes == [[0, 0, 0], [1, 1, 1, 0]]


def recorded(folder: Path) -> list[list[int]]:
    return [episode["action"].tolist() for episode in reverie.open_dataset(folder).episodes()]


@pytest.mark.parametrize("end", ["off", "fresh", "close"])
def test_what_was_taken_back_is_not_recorded(catch: Subject, tmp_path: Path, end: str) -> None:
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    steps(session, 0, 1)
    session.back(1)
    if end == "off":
        session.record(False)
    elif end == "fresh":
        session.fresh()
    session.close()
    assert recorded(tmp_path / "played") == [[0, 0]]


def test_an_episode_that_was_played_to_its_end_is_recorded_once(catch: Subject, tmp_path: Path) -> None:
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    while not session.path.now.rows["is_last"][0]:
        steps(session, 1)
    session.record(False)
    session.close()
    assert recorded(tmp_path / "played") == [[1, 1, 1, 0]]


def test_a_cut_where_all_but_one_row_is_written(
    catch: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverie.play.page.recording.PART", 2)
    session = Session(catch, 1, Recorder(Recording(tmp_path / "played", catch.spec, {})))
    session.record(True)
    steps(session, 0, 1)
    session.record(False)
    session.record(True)
    steps(session, 1)
    session.close()
    assert recorded(tmp_path / "played") == [[0, 1, 0]]
    assert reverie.open_dataset(tmp_path / "played").rows(0)["is_last"].tolist() == [False, False, True]


def test_a_folder_has_rows_of_one_game(catch: Subject, tmp_path: Path) -> None:
    about = {"env": catch.spec.id, "protocol": "default", "options": {}}
    recording = Recording(tmp_path, catch.spec, about)
    recording.write(0, 0, Session(catch).path.now.rows | {"action": np.zeros(1, np.int64)}, Counter())
    recording.close()
    Recording(tmp_path, catch.spec, about).close()
    for spec, other in (
        (catch.spec, about | {"env": "toy/other"}),
        (catch.spec, about | {"options": {"cells": 4}}),
        (replace(catch.spec, action=spaces.Discrete(4)), about),
    ):
        with pytest.raises(UserError, match=r"has rows of toy/catch, not of .*; name another --record"):
            Recording(tmp_path, spec, other)


# Messages


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 4000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ("[]", "a message is"),
        ('"play"', "a message is"),
        ('{"do": "rm"}', "a message is"),
        ('{"do": ["play"]}', "a message is"),
        ('{"do": "play", "path": "/etc/passwd"}', "play takes nothing else"),
        ('{"do": "back", "by": 0}', "by is a whole number from 1 to 10000"),
        ('{"do": "back", "by": 1.5}', "by is a whole number"),
        ('{"do": "to", "position": true}', "position is a whole number"),
        ('{"do": "set", "speed": NaN}', "speed is a number"),
        ('{"do": "set", "speed": 1e999}', "speed is a number"),
        ('{"do": "set", "wheel": {"a": 1}}', "wheel is one of"),
        ('{"do": "set", "along": 1}', "along is true or false"),
        ('{"do": "set", "dreams": 17}', "dreams is a whole number from 1 to 16"),
    ],
)
def test_garbage_is_said_to_be_garbage(text: str | bytes, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse(text)
    assert len(str(caught.value)) < 200


def test_messages_come_back_as_they_were() -> None:
    parts = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros((0, 2), np.uint8)}
    document, back = unpack(pack({"kind": "x", "n": 1.5}, parts))
    assert document == {"kind": "x", "n": 1.5}
    assert {name: value.tolist() for name, value in back.items()} == {n: v.tolist() for n, v in parts.items()}
    for name in COMMANDS:
        assert parse(json.dumps({"do": name})) == {"do": name}
