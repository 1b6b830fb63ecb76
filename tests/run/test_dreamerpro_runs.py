"""Runs of DreamerPro: they go on exactly, and what has no dream says so in one line."""

from __future__ import annotations

import json
from pathlib import Path

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

OWN = {"agent.prototypes.count": 6, "agent.prototypes.size": 4, "agent.prototypes.frozen": 20, "run.env_steps": 120}


def settings() -> Config:
    return overrides.apply(make_config("dreamerpro", "cpu", "toy/catch"), SMALL | OWN)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    begin(settings(), folder).train(Never())
    return folder


def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: Path) -> None:
    """Slow encoder and count of updates included: it is stopped before and after the prototypes begin to move."""
    run = begin(settings(), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 73, crash=True))
    run = again(settings(), tmp_path / "run")
    run.train(Stop(run, 99))
    run = again(settings(), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone, tmp_path / "run")
    last = [record for record in read_metrics(alone) if "train/swav_loss" in record][-1]
    assert {"train/temporal_loss", "train/norm_loss", "train/reward_loss", "train/kl"} <= set(last)


def command(*given: str) -> Result:
    return CliRunner().invoke(cli, list(given))


def test_what_needs_no_decoder_works_and_what_does_is_one_line(tmp_path: Path, alone: Path) -> None:
    path = str(alone)
    policy = reverie.load(path)
    action, _ = policy.act(np.zeros((2, 32, 32, 1), np.uint8), policy.initial_state(2))
    assert len(action) == 2
    assert reverie.evaluate(path, episodes=2)["episodes"] == 2
    done = command("report", path, "--context", "2", "--horizon", "3", "--sequences", "4", "--out", str(tmp_path / "r"))
    assert done.exit_code == 0, done.output
    assert np.isfinite(json.loads((tmp_path / "r" / "prediction.json").read_text())["reward"]["mean_error"])
    for words in (("dream", path), ("eval", path, "--in-dream")):
        refused = command(*words)
        assert refused.exit_code == 2, refused.output
        assert refused.stderr.count("\n") == 1
        assert "says nothing about observations" in refused.stderr
    subject = Subject(alone)
    assert not subject.dreams
    assert subject.mind.lacks == ("Its model says nothing about observations, so there is no dream to look at.",)


def test_without_pictures_it_is_one_line(tmp_path: Path) -> None:
    refused = command("train", "dreamerpro", "--env", "CartPole-v1", "--logdir", str(tmp_path / "run"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "dreamerpro cannot be built for CartPole-v1" in refused.stderr
    assert "no image among the observations" in refused.stderr
