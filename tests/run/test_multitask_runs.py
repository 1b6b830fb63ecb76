"""Runs on several environments: shares, scores by task, interruptions, actors elsewhere, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from engine import Engine
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, lines

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.data.dataset import open_dataset
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.presets.task import Task
from reverie.report.log import read_metrics
from reverie.run.distributed import Distributed
from reverie.run.saved_config import save_config
from reverie.run.train import elsewhere

TWO = "odd_tasks:Small,odd_tasks:Loud"
SMALL, LOUD = "task/odd_tasks_Small", "task/odd_tasks_Loud"
RUN: dict[str, Any] = {
    "agent.torso.units": 8,
    "agent.torso.dense": 8,
    "agent.units": 6,
    "agent.popart": True,
    "agent.popart_step": 0.01,
    "env.num_envs": 4,
    "replay.batch": 3,
    "replay.window.learn": 4,
    "replay.window.period": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 160,
    "run.log_every": 20,
    "run.checkpoint_every": 20,
    "run.eval_every": 60,
    "run.eval_episodes": 3,
    "run.eval_envs": 2,
}


def config(**changes: Any) -> Config:
    return overrides.apply(make_config("impala", "cpu", TWO), RUN | changes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupts."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    begin(config(), run_dir).train(Never())
    return run_dir


def test_scores_are_told_by_task(alone: Path) -> None:
    """Episodes of Small earn 15 in 5 env_steps, those of Loud 1500 to 2800 in 5 to 7."""
    records = read_metrics(alone)
    scores = {name: [line[name] for line in records if name in line] for name in (f"{SMALL}/score", f"{LOUD}/score")}
    assert set(scores[f"{SMALL}/score"]) == {15.0}
    assert set(scores[f"{LOUD}/score"]) <= {1500.0, 2100.0, 2800.0}
    assert len(scores[f"{SMALL}/score"]) >= len(scores[f"{LOUD}/score"]) > 8
    evaluations = [line for line in records if "eval/score" in line]
    assert len(evaluations) == 3
    for line in evaluations:
        assert line["eval/episodes"] == 6  # three of each
        means = [line[f"{task}/eval_score"] for task in (SMALL, LOUD)]
        assert means[0] == 15.0
        assert line["eval/score"] == pytest.approx(np.mean(means))
    learned = [line for line in records if "train/popart_mean_0" in line]
    assert learned[-1]["train/popart_mean_1"] > 20 * learned[-1]["train/popart_mean_0"] > 0
    told = CliRunner().invoke(cli, ["status", str(alone)])
    assert f"{LOUD}/eval_score" in told.output, told.output


def test_rows_know_their_task(alone: Path) -> None:
    data = open_dataset(alone / "replay")
    for stream in range(4):
        rows = data.rows(stream)
        assert set(rows["obs.task"].tolist()) == {stream % 2}
        assert rows["obs.action_mask"][:, 2].max() == stream % 2
        assert rows["action"].max() <= 1 + stream % 2


def test_it_is_evaluated_and_loaded(alone: Path) -> None:
    result = reverie.evaluate(alone, episodes=2)
    assert result["tasks"]["odd_tasks:Small"] == {"score": 15.0, "scores": [15.0, 15.0]}
    assert len(result["tasks"]["odd_tasks:Loud"]["scores"]) == 2
    assert result["score"] == pytest.approx(np.mean([result["tasks"][task]["score"] for task in TWO.split(",")]))
    policy, env = reverie.load(alone), reverie.make_env(alone, num_envs=4)
    rows = env.reset(0)
    action, _ = policy.act(rows, policy.initial_state(4))
    assert env.step(action).rows["obs.task"].tolist() == [0, 1, 0, 1]
    seen = {"vector": np.zeros(1, np.float32), "action_mask": np.array([1, 1, 0], np.float32)}
    assert policy.act(seen, policy.initial_state(1))[0] in (0, 1)  # who plays one of them need not say which
    other = reverie.evaluate(alone, episodes=1, env="odd_tasks:Loud,odd_tasks:Small")
    assert other["tasks"]["odd_tasks:Small"]["score"] == 15.0


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "stopped"])
def test_it_goes_on_exactly(tmp_path: Path, alone: Path, crash: bool) -> None:
    run = begin(config(), tmp_path / "run")
    for env_steps in (47, 90, 131):
        if crash:
            with pytest.raises(Crash):
                run.train(Stop(run, env_steps, crash=True))
        else:
            run.train(Stop(run, env_steps))
        run = again(config(), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone, tmp_path / "run")


def test_the_rescaling_matters_to_where_it_goes(tmp_path: Path, alone: Path) -> None:
    """The negative control of the resumed run."""
    run = begin(config(), tmp_path / "run")
    run.train(Stop(run, 90))
    run = again(config(), tmp_path / "run")
    run.learner.policy.critic.mean[1] += 1.0  # type: ignore[union-attr, operator, index]
    run.train(Never())
    assert lines(tmp_path / "run") != lines(alone)


@pytest.mark.parametrize("inference", ["actor", "central"])
def test_actors_elsewhere_have_all_tasks_each(tmp_path: Path, inference: str) -> None:
    """On the engine of the tests: rows of each stream are of its task, and scores come by task."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    settings = config(**{"ray.actors": 2, "ray.inference": inference, "run.checkpoint_every": 60})
    save_config(settings, run_dir)
    for until in (80, None):
        runner = elsewhere(settings)(settings, run_dir, Engine())  # type: ignore[arg-type]
        if until is None:
            runner.restore()
        runner.train(Stop(runner, 10**9 if until is None else until))  # type: ignore[arg-type]
    assert runner.run.complete
    assert runner.store.record is not None
    runner.store.record.flush()
    for stream in range(4):
        assert set(open_dataset(run_dir / "replay").rows(stream)["obs.task"].tolist()) == {stream % 2}
    records = read_metrics(run_dir)
    assert {line[f"{SMALL}/score"] for line in records if f"{SMALL}/score" in line} == {15.0}
    assert min(line[f"{LOUD}/score"] for line in records if f"{LOUD}/score" in line) >= 1500.0
    assert set(runner.run.summary["eval_tasks"]) == set(TWO.split(","))


@pytest.mark.parametrize(
    ("agent", "env", "changes", "reason"),
    [
        ("impala", TWO, {"env.num_envs": 3}, "cannot be shared out equally over 2 environments"),
        ("impala", TWO, {"env.num_envs": 6, "ray.actors": 2}, "in each of 2 actors"),
        ("dqn", "toy/catch,odd_tasks:Hundred", {}, "dqn learns one environment at a time"),
        ("impala", "toy/catch,CartPole-v1", {}, "must look alike"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, agent: str, env: str, changes: dict[str, Any], reason: str
) -> None:
    words = ["train", agent, "--env", env, "--logdir", str(tmp_path / "run")]
    words += [f"--{key}={value}" for key, value in ({"run.env_steps": 500} | changes).items() if key != "ray.actors"]
    if "ray.actors" in changes:
        with pytest.raises(UserError, match=reason):
            Distributed(config(**changes), tmp_path, Engine())  # type: ignore[arg-type]
        return
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert reason in result.output.strip().splitlines()[-1]
    assert "Traceback" not in result.output


def test_presets_give_each_task_as_many_streams() -> None:
    three = make_config("impala", "cpu", "toy/catch,odd_tasks:Hundred,odd_tasks:Thousand")
    assert three.env.num_envs == 18
    task = Task("toy/catch", "auto", {})
    assert task.env(16).num_envs == 16
    atari = make_config("impala", "atari-multitask", "ALE/Pong-v5,ALE/Breakout-v5,ALE/Freeway-v5")
    assert atari.env.num_envs == 33
    assert atari.run.frames == 600_000_000
    assert atari.env.options["full_actions"]
    assert atari.agent.popart
    assert make_config("impala", "atari-multitask").env.id == "ALE/Pong-v5,ALE/Breakout-v5"


def test_games_of_atari_have_one_set_of_actions() -> None:
    pytest.importorskip("ale_py")
    atari = make_config("impala", "atari-multitask")
    from reverie.run.build import build_agent, build_env

    env = build_env(replace(atari, env=replace(atari.env, num_envs=2)))
    assert env.spec.action.n == 18  # type: ignore[attr-defined]
    assert not env.spec.action_mask
    assert env.action_names[:3] == ("NOOP", "FIRE", "UP")
    torch.manual_seed(0)
    policy = build_agent(atari, env.spec).policy()
    assert policy.critic.out.out_features == 2  # type: ignore[union-attr, attr-defined]
