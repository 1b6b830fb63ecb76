"""Dreams as environments: the open loop is one; how episodes begin, end and are resumed; the score in the dream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from reverie import overrides
from reverie.agents.objective import Nothing
from reverie.cli import cli
from reverie.envs.env import ResumeError, Step
from reverie.envs.make import make_env
from reverie.errors import UserError
from reverie.play.dream_env import DreamEnv, Ends
from reverie.play.dream_score import TransformedRewards, score_in_dream
from reverie.play.evaluate import evaluate
from reverie.play.model import first_states, held_out, load_model
from reverie.play.open_loop import frames, open_loop
from reverie.presets import make_config
from reverie.run.train import train
from tests.play.dreams import CONFIG, SPEC, dream, model, starts
from tests.run.tiny_runs import config

CONTEXT = 3


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "catch"
    train(config("toy/catch", run__env_steps=60, run__eval_episodes=0), path)
    return path


def test_a_dream_stepped_with_recorded_actions_is_the_open_loop(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the state after the rows that were seen, with the same noise: frame by frame and reward by reward."""
    loaded = load_model(run_dir, "cpu", 0)
    monkeypatch.setattr(loaded.noise, "uniform", lambda *shape: torch.full(shape, 0.5))
    sequences = held_out(loaded, 3, CONTEXT, 20, seed=1, random=True)
    loop = open_loop(loaded, sequences, CONTEXT)
    rows = {name: torch.from_numpy(np.stack([s[name] for s in sequences], 1)) for name in sequences[0]}
    made = loaded.model
    with torch.inference_mode():
        seen = {name: value[:CONTEXT] for name, value in rows.items()}
        u = torch.full((CONTEXT, 3, made.latent_noise), 0.5)
        action = made.actions.encode(seen["prev_action"])
        starts = made.observe(made.initial_state(3), action, seen, u).last
    env = DreamEnv(made, loaded.env.spec, starts, 3, Ends(threshold=0.0))
    monkeypatch.setattr(env, "uniform", lambda streams, count: np.full((len(streams), count), 0.5))
    monkeypatch.setattr(env, "_draw_starts", lambda streams: np.arange(len(streams)))
    told = [env.reset(0)]
    told += [env.step(rows["prev_action"][t].numpy()).rows for t in range(CONTEXT, 8)]
    pictures = frames(loop.predicted["image"])
    for t, row in enumerate(told):
        shown = pictures[CONTEXT - 1 + t].astype(int)
        assert abs(row["obs.image"].astype(int) - shown).max() <= 1  # rounding to shades
        if t:
            assert row["reward"] == pytest.approx(loop.predicted_reward[CONTEXT - 1 + t], abs=1e-5)
    assert len(told) == 6
    assert told[0]["is_first"].all()
    assert told[0]["reward"].tolist() == [0.0] * 3
    # The same actions in another order make another dream.
    env.reset(0)
    moved = [env.step((rows["prev_action"][t].numpy() + 1) % 3).rows for t in range(CONTEXT, 8)]
    assert any((a["obs.image"] != b["obs.image"]).any() for a, b in zip(moved, told[1:], strict=True))


def play(env: DreamEnv, seed: int, env_steps: int) -> list[list[tuple[bool, bool, float]]]:
    """(is_last, is_terminal, reward) of each stream's rows, closing rows in their places; action 1 all along."""
    first = env.reset(seed)
    out = [[(False, False, float(first["reward"][i]))] for i in range(env.num_envs)]
    for _ in range(env_steps):
        step = env.step(np.ones(env.num_envs, np.int64))
        for at, i in enumerate([] if step.streams is None or step.ends is None else step.streams):
            out[i].append((True, bool(step.ends["is_terminal"][at]), float(step.ends["reward"][at])))
        for i in range(env.num_envs):
            out[i].append((False, False, float(step.rows["reward"][i])))
    return out


def lengths(stream: list[tuple[bool, bool, float]]) -> list[int]:
    ends = [i for i, row in enumerate(stream) if row[0]]
    return [b - a - 1 for a, b in zip([-1, *ends[:-1]], ends, strict=True)]


def test_dreams_end_below_a_threshold_by_chance_or_at_a_length() -> None:
    cut = play(dream(2, Ends(threshold=0.0, length=4)), 0, 20)
    assert all(lengths(stream) == [4] * 5 for stream in cut)
    assert not any(terminal for stream in cut for _, terminal, _ in stream)
    over = play(dream(2, Ends(threshold=1.0, length=4)), 0, 20)
    assert all(lengths(stream) == [1] * 20 for stream in over)
    assert all(terminal for stream in over for last, terminal, _ in stream if last)
    # The model of random networks gives going on about one half: drawn ends are about geometric.
    drawn = [n for stream in play(dream(4, Ends(threshold=None, length=1000)), 0, 400) for n in lengths(stream)]
    chance = model().tell(starts(model()))["continuation"].mean().item()
    assert np.mean(drawn) == pytest.approx(1 / (1 - chance), rel=0.15)
    assert len(set(drawn)) > 4


def test_a_stream_does_not_depend_on_how_many_there_are_beside_it() -> None:
    few, many = play(dream(2), 5, 30), play(dream(6), 5, 30)
    for ours, theirs in zip(few, many[:2], strict=True):
        assert [row[:2] for row in ours] == [row[:2] for row in theirs]
        assert [row[2] for row in ours] == pytest.approx([row[2] for row in theirs], abs=1e-5)
    assert [row[:2] for row in many[0]] != [row[:2] for row in many[2]]


def test_states_are_saved_whole_and_damage_is_refused() -> None:
    env = dream(3)
    with pytest.raises(RuntimeError, match="was not reset"):
        env.state_dict()
    play(env, 0, 7)
    saved = env.state_dict()
    with pytest.raises(ResumeError, match="3 streams were saved, 2 are here"):
        dream(2).load_state_dict(saved)
    saved["state"]["deter"][1, 0] += 1.0
    with pytest.raises(ResumeError, match="not those that were saved"):
        dream(3).load_state_dict(saved)


def test_a_dream_that_shows_nothing_is_refused() -> None:
    made = model()
    made.objective = Nothing()
    with pytest.raises(UserError, match="says nothing about observations of everything"):
        DreamEnv(made, SPEC, starts(made), 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Ends(length=0)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 2"):
        Ends(threshold=2.0)


def test_rewards_are_called_what_they_are() -> None:
    assert dream(2).spec.flags["reward"] == "reward"
    env = dream(2, config=replace(CONFIG, reward_transform="tanh"))
    assert env.spec.flags["reward"] == "tanh(reward)"
    assert set(env.reset(0)) == set(dream(2).reset(0))


def test_dreams_begin_at_first_rows(run_dir: Path) -> None:
    """The state after one row: its noise is the first of the dream's, and no action led there."""
    loaded = load_model(run_dir, "cpu", 0)
    states = first_states(loaded, 6, seed=2)
    assert states["deter"].shape[0] == 6
    assert torch.equal(states["deter"][0], states["deter"][5])  # nothing but the observation tells them apart
    again = first_states(load_model(run_dir, "cpu", 0), 6, seed=2)
    assert all(torch.equal(value, again[name]) for name, value in states.items())


def test_the_score_in_the_dream_stands_beside_the_real_one(run_dir: Path) -> None:
    result = evaluate(run_dir, episodes=6, in_dream=True)
    inside = json.loads((run_dir / "evaluation.json").read_text())["in_dream"]
    assert inside == json.loads(json.dumps(result["in_dream"]))
    assert inside["real"]["scores"] == pytest.approx(result["scores"])  # identity: the unit is the environment's
    assert (inside["unit"], inside["longest"]) == ("reward", 7)
    assert len(inside["dream"]["scores"]) == 6
    assert max(inside["dream"]["lengths"]) <= 7
    assert inside["gap"] == pytest.approx(inside["dream"]["score"] - inside["real"]["score"])
    assert "in_dream" not in evaluate(run_dir, episodes=6)
    assert score_in_dream(run_dir, episodes=6, seed=0) == inside


def test_the_command_line_asks_for_it(run_dir: Path) -> None:
    shown = CliRunner().invoke(cli, ["eval", str(run_dir), "--episodes", "2", "--in-dream"], catch_exceptions=False)
    assert shown.exit_code == 0
    names = [line.split()[0] for line in shown.stdout.splitlines()]
    assert {"score", "in_dream.unit", "in_dream.gap", "in_dream.dream.score", "in_dream.real.score"} <= set(names)


def test_rewards_of_the_world_can_be_paid_as_a_model_learns_them() -> None:
    plain, paid = make_env("toy/catch", num_envs=2), TransformedRewards(make_env("toy/catch", num_envs=2), "tanh")
    lives = make_env("toy/catch")
    lives.spec = replace(lives.spec, lives=True)
    assert not TransformedRewards(lives, "tanh").spec.lives  # an end of the dream is that of a life
    one, other = plain.reset(0), paid.reset(0)
    total = 0.0
    for _ in range(20):
        one, other = plain.step(np.ones(2, np.int64)), paid.step(np.ones(2, np.int64))
        assert (np.tanh(one.rows["reward"]) == other.rows["reward"]).all()
        if one.ends is not None and other.ends is not None:
            assert other.ends["reward"] == pytest.approx(np.tanh(one.ends["reward"]))
            total += float(abs(other.ends["reward"]).sum())
    assert total > 0.0


def test_wrappers_below_have_no_say_in_what_a_model_learns_of_rewards() -> None:
    """What the environment itself paid, and which actions were lost, comes from below: the first is no reward here."""
    env = make_env("toy/catch", num_envs=2)
    whole = env.step

    def step(action: np.ndarray) -> Step:
        return replace(whole(action), earned=np.full(2, 5.0), lost=np.array([1]))

    env.step = step  # type: ignore[method-assign]
    paid = TransformedRewards(env, "identity")
    paid.reset(0)
    made = paid.step(np.ones(2, np.int64))
    assert made.earned is None
    assert made.lost is not None
    assert made.lost.tolist() == [1]


def test_agents_without_a_world_model_are_refused(tmp_path: Path) -> None:
    small = {"run.env_steps": 80, "run.prefill": 20, "run.threads": 1, "run.eval_episodes": 0, "agent.torso.units": 8}
    train(overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), small), tmp_path / "run")
    with pytest.raises(UserError, match="dqn has no world model"):
        evaluate(tmp_path / "run", episodes=1, in_dream=True)
