"""Runs of TD-MPC2 on several tasks that differ in vectors and actions: online, from a dataset, resumed, and played."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.data.dataset import open_dataset
from reverie.errors import UserError
from reverie.export.graphs import load_for_export
from reverie.export.trace import examples
from reverie.play.page.session import Session
from reverie.play.page.subject import Subject
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.offline import Offline, for_dataset
from reverie.run.saved_config import save_config

TURNS, NAMED, FAR = "odd_tasks:Turns", "odd_tasks:Named", "odd_tasks:Far"
TASKS = f"{TURNS},{NAMED}"
"""Of two actions and three numbers, and of one action and two vectors, with five numbers in all"""
RUN: dict[str, Any] = {
    "agent.size": {"kind": "tiny", "encoder_units": 8, "units": 8, "latent": 8},
    "agent.task_size": 3,
    "agent.plan.iterations": 2,
    "agent.plan.candidates": 8,
    "agent.plan.elites": 3,
    "agent.plan.policy_candidates": 2,
    "env.num_envs": 4,
    "replay.batch": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.device": "cpu",
    "run.frames": 90,
    "run.prefill": 40,
    "run.pretrain": 2,
    "run.train_ratio": 6.0,
    "run.log_every": 20,
    "run.checkpoint_every": 20,
    "run.eval_every": 44,
    "run.eval_episodes": 2,
    "run.eval_envs": 2,
}


def config(**changes: Any) -> Config:
    return overrides.apply(make_config("tdmpc2", "mt", TASKS), RUN | changes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupts."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    begin(config(), run_dir).train(Never())
    return run_dir


def test_rows_are_padded_and_actions_that_a_task_lacks_are_zero(alone: Path) -> None:
    data = open_dataset(alone / "replay")
    for stream in range(4):
        rows = data.rows(stream)
        assert set(rows["obs.task"].tolist()) == {stream % 2}
        assert rows["obs.vector"].shape[1] == 5
        assert rows["obs.vector"][:, 3:].any() == bool(stream % 2)
        for name in ("action", "prev_action"):
            assert rows[name][:, 1].any() == (stream % 2 == 0), name
            assert rows[name][:, 0].any()
            assert len(rows[name]) > 20


def test_scores_are_told_by_task(alone: Path) -> None:
    records = read_metrics(alone)
    for task in ("odd_tasks_Turns", "odd_tasks_Named"):
        assert len([line for line in records if f"task/{task}/score" in line]) >= 4
        scores = [line[f"task/{task}/eval_score"] for line in records if f"task/{task}/eval_score" in line]
        assert len(scores) == 3
        assert max(map(abs, scores)) <= 10.0


def test_it_goes_on_exactly(tmp_path: Path, alone: Path) -> None:
    run = begin(config(), tmp_path / "run")
    for env_steps in (47, 71):
        with pytest.raises(Crash):
            run.train(Stop(run, env_steps, crash=True))
        run = again(config(), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone, tmp_path / "run")


def offline(rows: Path, env: str = TASKS, **changes: Any) -> Config:
    settings = make_config("tdmpc2", "mt", env)
    return for_dataset(overrides.apply(settings, RUN | {"env.num_envs": 6, "dataset.path": str(rows)} | changes))


def begun(settings: Config, run_dir: Path) -> Offline:
    run_dir.mkdir(parents=True)
    save_config(settings, run_dir)
    return Offline(settings, run_dir)


def test_it_learns_from_the_rows_of_a_run_and_goes_on_exactly(tmp_path: Path, alone: Path) -> None:
    shutil.copytree(alone / "replay", tmp_path / "rows")
    settings = offline(tmp_path / "rows", **{"run.frames": 80, "run.eval_every": 0})
    assert settings.env.num_envs == 4
    begun(settings, tmp_path / "one").train(Never())
    for stream in range(4):
        theirs, ours = (open_dataset(run_dir / "replay").rows(stream) for run_dir in (alone, tmp_path / "one"))
        assert all(np.array_equal(theirs[name], value) for name, value in ours.items())
        assert set(ours["obs.task"].tolist()) == {stream % 2}
    run = begun(settings, tmp_path / "two")
    with pytest.raises(Crash):
        run.train(Stop(run, 65, crash=True))
    shutil.rmtree(tmp_path / "rows")
    run = Offline(settings, tmp_path / "two")
    run.restore()
    run.train(Never())
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert set(reverie.evaluate(tmp_path / "two", episodes=1)["tasks"]) == set(TASKS.split(","))


@pytest.mark.parametrize(
    ("env", "named", "reason"),
    [
        (f"{NAMED},{TURNS}", True, f"has rows of {TASKS}, not of {NAMED},{TURNS}: name its environments, in their"),
        (f"{NAMED},{FAR}", True, f"has rows of {TASKS}, not of {NAMED},{FAR}"),
        (NAMED, False, "has rows of several environments, odd_tasks:Named is one"),
    ],
)
def test_rows_of_other_tasks_are_refused_in_one_line(
    tmp_path: Path, alone: Path, env: str, named: bool, reason: str
) -> None:
    """By the run beside them; without one only what rows themselves say."""
    shutil.copytree(alone / "replay", tmp_path / "their" / "replay")
    if named:
        shutil.copy(alone / "config.json", tmp_path / "their")
    run = begun(offline(tmp_path / "their" / "replay", env), tmp_path / "run")
    with pytest.raises(UserError, match=reason) as error:
        run.start()
    assert "\n" not in str(error.value)


def test_rows_of_more_tasks_are_refused(tmp_path: Path, alone: Path) -> None:
    run = begun(offline(alone / "replay"), tmp_path / "run")
    rows = open_dataset(alone / "replay").rows(1)
    with pytest.raises(UserError, match="has rows of 3 environments or more, odd_tasks:Turns,odd_tasks:Named names 2"):
        run._fields({**rows, "obs.task": rows["obs.task"] + 1})


def test_it_is_evaluated_and_loaded(alone: Path) -> None:
    result = reverie.evaluate(alone, episodes=2)
    assert [len(result["tasks"][task]["scores"]) for task in TASKS.split(",")] == [2, 2]
    policy, env = reverie.load(alone), reverie.make_env(alone, num_envs=4)
    rows, state = env.reset(0), policy.initial_state(4)
    for _ in range(3):
        action, state = policy.act(rows, state)
        assert not action[[1, 3], 1].any()
        rows = env.step(action).rows
    seen = {"vector": np.ones(5, np.float32), "task": np.int64(1)}
    action, _ = policy.act(seen, policy.initial_state(1))
    assert action.shape == (2,)
    assert action[1] == 0
    with pytest.raises(UserError, match="task"):
        policy.act({"vector": np.ones(5, np.float32)}, policy.initial_state(1))


@pytest.mark.parametrize("env", [TURNS, f"{NAMED},{TURNS}"])
def test_other_tasks_than_it_learned_are_refused_in_one_line(alone: Path, env: str) -> None:
    """The number of a task is what the policy knows it by."""
    with pytest.raises(UserError, match=f"acts by the number of its task: name {TASKS}, in that order"):
        reverie.evaluate(alone, episodes=1, env=env)


def test_its_graph_has_the_task_among_what_is_seen(alone: Path) -> None:
    """What an export writes: it decides as the policy does."""
    parts = load_for_export(alone)
    graph = parts.graphs()["policy"]
    assert [port.name for port in graph.inputs][:2] == ["obs.vector", "obs.task"]
    given = examples(graph, 4)
    given["obs.task"] = torch.tensor([0, 1, 0, 1])
    with torch.inference_mode():
        action = graph(given)["action"]
    assert not action[[1, 3], 1].any()
    assert action[[0, 2], 1].all()


def test_the_page_plays_the_first_of_them(alone: Path) -> None:
    session = Session(Subject(alone))
    for _ in range(8):
        assert session.step(), session.said
    assert session._world.rows["obs.task"].tolist() == [0]
    session.replay(0)
    assert session.step(), session.said
    session.close()


def test_the_command_line(tmp_path: Path) -> None:
    words = ["train", "tdmpc2", "--preset", "mt", "--env", TASKS, "--logdir", str(tmp_path / "run")]
    words += [f"--agent.size.{key}=8" for key in ("encoder_units", "units", "latent")]
    words += [f"--{key}={value}" for key, value in RUN.items() if key not in ("agent.size", "env.num_envs")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert f"eval_tasks.{NAMED}" in result.output
    words[words.index(str(tmp_path / "run"))] = str(tmp_path / "offline")
    result = CliRunner().invoke(cli, [*words, "--dataset", str(tmp_path / "run" / "replay")])
    assert result.exit_code == 0, result.output
    assert f"eval_tasks.{NAMED}" in result.output


@pytest.mark.parametrize(
    ("agent", "env", "reason"),
    [
        ("impala", TASKS, r"impala cannot play odd_tasks:Turns,odd_tasks:Named, whose actions differ in width (2, 1)"),
        ("tdmpc", TASKS, "tdmpc learns one environment at a time"),
        ("tdmpc2", f"{TURNS},odd_tasks:Sees", "must look alike: vector is float32 (3,) in odd_tasks:Turns, nothing"),
        ("tdmpc2", f"{TURNS},CartPole-v1", "must look alike: vector is"),
        ("tdmpc2", "toy/catch,odd_tasks:Hundred", "plans continuous actions"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, agent: str, env: str, reason: str) -> None:
    words = ["train", agent, "--env", env, "--logdir", str(tmp_path / "run"), "--run.env_steps=20000"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert reason in result.output.strip().splitlines()[-1]
    assert "Traceback" not in result.output
