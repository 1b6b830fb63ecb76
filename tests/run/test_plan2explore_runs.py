"""Runs of Plan2Explore: they go on exactly, all that looks at a Dreamer works, and others begin from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_runs import SMALL, Crash, Never, Stop, again, assert_same_run, begin

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.play.page.subject import Subject
from reverie.presets import make_config
from reverie.report.log import read_metrics
from tests.agents.v3 import LEAST

MAZE = {"env.options.cells": 3, "env.options.size": 9, "env.options.length": 12}
OWN: dict[str, Any] = {"agent.ensemble.units": 8, "agent.members": 2}
SIZES = {f"agent.size.{name}": value for name, value in vars(LEAST).items()}
BASES: dict[str, dict[str, Any]] = {"dreamerv2": {}, "dreamerv3": SIZES}
EACH = pytest.mark.parametrize("base", BASES)


def changes(base: str) -> dict[str, Any]:
    keys = overrides.flatten(make_config("plan2explore", "cpu", "toy/maze", base=base))
    return {k: v for k, v in {**SMALL, **BASES[base], **OWN}.items() if k in keys} | {"run.env_steps": 100}


def settings(base: str) -> Config:
    options = {key.rpartition(".")[2]: value for key, value in MAZE.items()}
    return overrides.apply(make_config("plan2explore", "cpu", "toy/maze", options=options, base=base), changes(base))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for base in BASES:
        begin(settings(base), folder / base).train(Never())
    return {base: folder / base for base in BASES}


@EACH
def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: dict[str, Path], base: str) -> None:
    run = begin(settings(base), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 73, crash=True))
    run = again(settings(base), tmp_path / "run")
    run.train(Stop(run, 91))
    run = again(settings(base), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone[base], tmp_path / "run")


def test_what_is_lost_of_the_explorer_would_be_seen(tmp_path: Path, alone: dict[str, Path]) -> None:
    """The negative control: the running mean of its rewards alone is another."""
    run = begin(settings("dreamerv2"), tmp_path / "run")
    run.train(Stop(run, 81))
    run = again(settings("dreamerv2"), tmp_path / "run")
    run.learner.norm.magnitude.mul_(1.1)  # type: ignore[union-attr, operator]
    run.train(Never())
    with pytest.raises(AssertionError):
        assert_same_run(alone["dreamerv2"], tmp_path / "run")


@EACH
def test_a_run_logs_what_is_new(alone: dict[str, Path], base: str) -> None:
    last = [record for record in read_metrics(alone[base]) if "train/intrinsic_reward" in record][-1]
    wanted = {
        "ensemble_loss",
        "explorer_actor_loss",
        "explorer_critic_loss",
        "explorer_value",
        "explorer_actor_entropy",
    }
    wanted |= (
        {"explorer_replay_critic_loss", "explorer_return_range"} if base == "dreamerv3" else {"ensemble_grad_norm"}
    )
    assert {f"train/{name}" for name in wanted} <= set(last)
    assert last["train/intrinsic_reward"] > 0.0


def command(*given: str) -> Result:
    return CliRunner().invoke(cli, list(given))


def test_all_that_looks_at_a_dreamer_works(tmp_path: Path, alone: dict[str, Path]) -> None:
    def run(*given: str) -> None:
        result = command(*given)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"

    path, small = str(alone["dreamerv2"]), ("--context", "2", "--horizon", "3")
    run("dream", path, *small, "--episodes", "2", "--out", str(tmp_path / "dream"))
    assert (tmp_path / "dream" / "dream.gif").stat().st_size > 100
    run("report", path, *small, "--sequences", "4", "--out", str(tmp_path / "report"))
    run("eval", path, "--in-dream", "--episodes", "2")
    run("eval", path, "--play", "explore", "--episodes", "2")
    policy = reverie.load(path)
    action, _ = policy.act(np.zeros((2, 9, 9, 1), np.uint8), policy.initial_state(2))
    assert len(action) == 2
    subject = Subject(Path(path))
    assert subject.mind.lacks == ()


def test_other_runs_begin_from_one(tmp_path: Path, alone: dict[str, Path]) -> None:
    """Few-shot: its networks act on. Later: its rows, and its memory, teach a task whose model is fresh elsewhere."""
    keys = overrides.flatten(make_config("dreamerv2", "cpu", "toy/maze"))
    small = [f"--{k}={v}" for k, v in {**SMALL, **MAZE, "run.env_steps": 60}.items() if k in keys or k in MAZE]
    path = alone["dreamerv2"]
    base = ["train", "dreamerv2", "--env", "toy/maze", *small, "--init", str(path)]
    done = command(*base, "--init.parts", "policy,model,critic,slow_critic", "--logdir", str(tmp_path / "few"))
    assert done.exit_code == 0, done.output
    done = command(
        *base, "--init.parts", "rssm,encoder", "--dataset", str(path / "replay"), "--logdir", str(tmp_path / "on")
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "on" / "config.json").read_text())["config"]["dataset"]["path"]
    refused = command(*base, "--logdir", str(tmp_path / "all"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "do not fit this run" in refused.stderr
