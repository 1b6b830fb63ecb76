"""Runs of the dreaming line over each base: they go on exactly, and all that looks at a dream works with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from kills import kill_and_finish
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin

from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.presets import make_config
from tests.narrow import narrow

RUN = {
    "env.num_envs": 2,
    "replay.batch": 2,
    "replay.store.chunk": 16,
    "replay.store.budget": 1_000_000,
    "run.threads": 1,
    "run.env_steps": 90,
    "run.prefill": 30,
    "run.train_ratio": 2.0,
    "run.log_every": 10,
    "run.checkpoint_every": 20,
    "run.eval_every": 0,
    "run.eval_episodes": 2,
    "run.eval_envs": 2,
}
DECODES = {
    "dreamerv3-2023": True,
    "dreamerv3": True,
    "r2dreamer": False,
    "harmonydream over dreamerv3": True,
    "harmonydream over dreamerpro": False,
    "harmonydream over denoised": True,
    "plan2explore over dreamerv3-2023": True,
}
"""agents -> whether their models tell pictures"""
EACH = pytest.mark.parametrize("name", DECODES)


def settings(name: str) -> Config:
    agent, _, base = name.partition(" over ")
    config = make_config(agent, "cpu", "toy/catch", base=base or None)
    window = replace(config.replay.window, learn=4)
    config = replace(config, agent=narrow(config.agent), replay=replace(config.replay, window=window))
    return overrides.apply(config, {**RUN, "agent.horizon": 3})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for name in DECODES:
        begin(settings(name), folder / name.replace(" ", "-")).train(Never())
    return {name: folder / name.replace(" ", "-") for name in DECODES}


@EACH
def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    run = begin(settings(name), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 55, crash=True))
    run = again(settings(name), tmp_path / "run")
    run.train(Stop(run, 71))
    again(settings(name), tmp_path / "run").train(Never())
    assert_same_run(alone[name], tmp_path / "run")


@EACH
def test_what_is_lost_would_be_seen(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    """The negative control: with other numbers drawn by the learner alone, runs are not the same."""
    run = begin(settings(name), tmp_path / "run")
    run.train(Stop(run, 61))
    run = again(settings(name), tmp_path / "run")
    run.learner.noise.generator.manual_seed(1)
    run.train(Never())
    with pytest.raises(AssertionError):
        assert_same_run(alone[name], tmp_path / "run")


@pytest.mark.parametrize("name", ["dreamerv3-2023", "dreamerv3"])
def test_killed_runs_go_on_exactly(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    config = overrides.flatten(settings(name))
    usual = overrides.flatten(make_config(name, "cpu", "toy/catch"))
    words = [f"--{key}={overrides.text(value)}" for key, value in config.items() if value != usual[key]]
    command = ["train", name, "--env", "toy/catch", "--logdir", str(tmp_path / "run"), *words]
    kinds = ["later", "in a checkpoint"]
    kill_and_finish(command, tmp_path / "run", kinds, np.random.default_rng(1), alone[name])


def command(*given: str) -> Result:
    return CliRunner().invoke(cli, list(given))


@EACH
def test_all_that_looks_at_a_dream_works_or_is_one_line(tmp_path: Path, alone: dict[str, Path], name: str) -> None:
    path, small = str(alone[name]), ("--context", "2", "--horizon", "3")
    for words in (
        ["report", path, *small, "--sequences", "4", "--out", str(tmp_path / "report")],
        ["plot", "--weights", path, "--out", str(tmp_path / "weights.png")],
    ):
        done = command(*words)
        assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    assert np.isfinite(json.loads((tmp_path / "report" / "prediction.json").read_text())["reward"]["mean_error"])
    first = (tmp_path / "weights.csv").read_text().partition("\n")[0]
    assert first.startswith("frames,dynamics_loss,observation_loss,reward_loss")
    for words in (
        ["dream", path, *small, "--episodes", "2", "--out", str(tmp_path / "dream")],
        ["eval", path, "--in-dream", "--episodes", "2"],
    ):
        done = command(*words)
        if DECODES[name]:
            assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
        else:
            assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
            assert "says nothing about observations" in done.stderr
    if DECODES[name]:
        assert len(json.loads((tmp_path / "dream" / "dream.json").read_text())["dream_error"]) == 3
        assert np.isfinite(json.loads((alone[name] / "evaluation.json").read_text())["in_dream"]["dream"]["score"])
