"""Runs of RePo: they go on exactly, its probe shows dreams, and balancers are refused in one line."""

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
    config = make_config("repo", "cpu", "toy/catch", options={"size": 16, "cells": 4})
    keys = overrides.flatten(config)
    given = {key: value for key, value in SMALL.items() if key in keys}
    return overrides.apply(config, given | {"run.env_steps": 100, "agent.target_kl": 0.01})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    begin(settings(), folder).train(Never())
    return folder


def test_interrupted_runs_go_on_exactly(tmp_path: Path, alone: Path) -> None:
    run = begin(settings(), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 73, crash=True))
    run = again(settings(), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone, tmp_path / "run")
    last = [record for record in read_metrics(alone) if "train/kl_weight" in record][-1]
    assert last["train/kl_weight"] > 0.01  # it is above its target, and beta on its way up
    assert {"train/beta_loss", "train/beta_lr", "train/image_loss", "train/reward_loss", "train/kl"} <= set(last)


def test_its_probe_shows_dreams(alone: Path) -> None:
    assert Subject(alone).dreams
    assert reverie.evaluate(alone, episodes=2, in_dream=True)["episodes"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("repo", "--agent.balance", "harmony"), "RePo's constraint is what weighs the KL"),
        (("harmonydream", "--agent.base", "repo"), "agent.base = 'repo' cannot be harmonised"),
    ],
)
def test_balancers_are_refused_in_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    given = ["train", *words, "--env", "toy/catch", "--logdir", str(tmp_path / "run")]
    refused = CliRunner().invoke(cli, given)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.output
    assert message in refused.stderr
