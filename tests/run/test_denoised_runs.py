"""Runs of Denoised MDP with all three chains: they go on exactly, and their dreams can be played."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_runs import SMALL, Crash, Never, Stop, again, assert_same_run, begin

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.play.page.subject import Subject
from reverie.presets import make_config
from reverie.report.log import read_metrics


def settings() -> Config:
    config = make_config("denoised", "cpu", "toy/catch", options={"size": 16, "cells": 4})
    keys = overrides.flatten(config)
    given = {key: value for key, value in SMALL.items() if key in keys}
    chains = {f"agent.{name}.{key}": size for name in "yz" for key, size in (("deter", 4), ("stoch", 2))}
    return overrides.apply(config, given | chains | {"run.env_steps": 100, "replay.window.state": "stored"})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    begin(settings(), folder).train(Never())
    return folder


def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: Path) -> None:
    """States of all chains are stored in the replay too."""
    run = begin(settings(), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 73, crash=True))
    run = again(settings(), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone, tmp_path / "run")
    logged = {name for record in read_metrics(alone) for name in record}
    assert {f"train/kl_{name}{loss}" for name in "xyz" for loss in ("", "_loss")} <= logged


def test_dreams_of_all_chains_can_be_seen_and_played(alone: Path) -> None:
    subject = Subject(alone)
    assert subject.dreams
    assert reverie.evaluate(alone, episodes=2, in_dream=True)["episodes"] == 2


def test_drift_is_refused_in_one_line(tmp_path: Path) -> None:
    given = ["train", "denoised", "--env", "toy/catch", "--replay.window.drift", "true", "--logdir", str(tmp_path)]
    refused = CliRunner().invoke(cli, given)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.output
    assert "drift of a factored memory is not defined" in refused.stderr
