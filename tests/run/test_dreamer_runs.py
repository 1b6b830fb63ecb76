"""Runs of PlaNet and Dreamer V1: they go on exactly, and all that looks at a run works with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from kills import kill_and_finish
from tiny_runs import SMALL, Crash, Never, Stop, again, assert_same_run, begin

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.presets import make_config
from reverie.report.log import read_metrics

POINT = "toy_control:Point"
SEARCH = {"agent.plan.horizon": 2, "agent.plan.iterations": 2, "agent.plan.candidates": 8, "agent.plan.elites": 2}
LACKING = {"planet": ("agent.actor", "agent.critic", "agent.discount", "agent.horizon", "agent.target_every")}
LACKING["dreamerv1"] = ("agent.target_every",)
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "v1-catch": ("dreamerv1", "toy/catch", {}),
    "v1-point": ("dreamerv1", POINT, {"agent.samples": 3, "agent.explore.half": 50}),
    "planet-point": ("planet", POINT, SEARCH | {"agent.overshooting": 2}),
}
EACH = pytest.mark.parametrize("name", RUNS)


def settings(name: str) -> Config:
    agent, env, changes = RUNS[name]
    small = {key: value for key, value in SMALL.items() if not key.startswith(LACKING[agent])}
    return overrides.apply(make_config(agent, "cpu", env), small | changes)


def words(name: str, logdir: Path) -> list[str]:
    agent, env, changes = RUNS[name]
    small = {key: value for key, value in SMALL.items() if not key.startswith(LACKING[agent])} | changes
    return ["train", agent, "--env", env, "--logdir", str(logdir), *(f"--{k}={v}" for k, v in small.items())]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for name in RUNS:
        begin(settings(name), folder / name).train(Never())
    return {name: folder / name for name in RUNS}


@EACH
def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    """Stopped, and crashed between checkpoints, before, at and after the first update."""
    run = begin(settings(name), tmp_path / "run")
    for env_steps in (33, 61, 99):
        with pytest.raises(Crash):
            run.train(Stop(run, env_steps, crash=True))
        run = again(settings(name), tmp_path / "run")
        run.train(Stop(run, env_steps + 7))
        run = again(settings(name), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone[name], tmp_path / "run")


@EACH
def test_what_is_lost_would_be_seen(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    """The negative control: with other numbers drawn by the actor alone, runs are not the same."""
    run = begin(settings(name), tmp_path / "run")
    run.train(Stop(run, 100))
    run = again(settings(name), tmp_path / "run")
    run.actor.noise.generator.manual_seed(1)
    run.train(Never())
    with pytest.raises(AssertionError):
        assert_same_run(alone[name], tmp_path / "run")


@pytest.mark.parametrize("name", ["v1-catch", "planet-point"])
def test_killed_runs_go_on_exactly(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    kinds = ["later", "in a checkpoint"]
    kill_and_finish(words(name, tmp_path / "run"), tmp_path / "run", kinds, np.random.default_rng(1), alone[name])


@EACH
def test_a_run_logs_its_losses_and_how_it_explores(alone: dict[str, Path], name: str) -> None:
    last = [record for record in read_metrics(alone[name]) if "train/model_loss" in record][-1]
    wanted = {"train/image_loss", "train/reward_loss", "train/kl", "actor/action_noise", "train/balance/reward_weight"}
    wanted |= {"train/overshooting_loss"} if name == "planet-point" else {"train/actor_loss", "train/critic_loss"}
    assert wanted <= set(last)
    assert ("train/actor_loss" in last) == (name != "planet-point")
    expected = {"v1-catch": 0.4, "v1-point": 0.3 * 0.5 ** (158 / 50), "planet-point": 0.3}
    if name != "v1-catch":
        assert last["actor/action_noise"] == pytest.approx(expected[name], rel=1e-3)


@EACH
def test_a_run_can_be_loaded_and_played(alone: dict[str, Path], name: str) -> None:
    policy = reverie.load(alone[name])
    state = policy.initial_state(2)
    shape = policy.spec.observation[next(iter(policy.spec.observation))].shape
    for _ in range(3):
        action, state = policy.act(np.zeros((2, *shape), np.uint8), state)
    assert len(action) == 2
    assert np.isfinite(action).all()
    assert reverie.evaluate(alone[name], episodes=2)["episodes"] == 2


@EACH
def test_all_that_looks_at_a_model_works(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    def run(*command: str) -> None:
        result = CliRunner().invoke(cli, list(command))
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"

    path, out = str(alone[name]), tmp_path
    small = ("--context", "2", "--horizon", "3")
    run("dream", path, *small, "--episodes", "2", "--out", str(out / "dream"))
    assert len(json.loads((out / "dream" / "dream.json").read_text())["dream_error"]) == 3
    assert (out / "dream" / "dream.gif").stat().st_size > 100
    run("report", path, *small, "--sequences", "4", "--out", str(out / "report"))
    assert np.isfinite(json.loads((out / "report" / "prediction.json").read_text())["reward"]["mean_error"])
    run("plot", "--weights", path, "--out", str(out / "weights.png"))
    assert (out / "weights.csv").read_text().startswith("frames,dynamics_loss,observation_loss,reward_loss")
    run("eval", path, "--in-dream", "--episodes", "2")
    assert np.isfinite(json.loads((alone[name] / "evaluation.json").read_text())["in_dream"]["dream"]["score"])


def test_what_planet_cannot_do_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["train", "planet", "--env", "toy/catch", "--logdir", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    refusal = "planet cannot be built for toy/catch: PlaNet plans continuous actions (a Box), got Discrete(3)"
    assert refusal in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
