"""Rewards of another task: episodes that are played again pay what they would have, and others are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_runs import Never, Stop, again, begin, config

import reverie
from reverie.cli import cli
from reverie.config import Config
from reverie.data.dataset import open_dataset
from reverie.envs.maze import Maze
from reverie.errors import UserError
from reverie.run.offline import for_dataset
from reverie.run.relabel import played_rewards

MAZE: dict[str, Any] = {"env__options__cells": 3, "env__options__size": 9, "env__options__length": 12}
SHORT: dict[str, Any] = {"run__env_steps": 90, "run__eval_every": 0, "env__num_envs": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that acted, one of them in two parts."""
    folder = tmp_path_factory.mktemp("made")
    maze = config("toy/maze", **MAZE, **SHORT, env__options__goal=1)
    run = begin(maze, folder / "maze")
    run.train(Stop(run, 61))
    again(maze, folder / "maze").train(Never())
    begin(config("toy/catch", **SHORT), folder / "catch").train(Never())
    return {"maze": folder / "maze", "catch": folder / "catch"}


def later(made: Path, **changes: Any) -> Config:
    settings = {**MAZE, "dataset__path": str(made / "replay"), "dataset__rewards": "played", **changes}
    return for_dataset(config("toy/maze", **settings))


@pytest.mark.parametrize("name", ["maze", "catch"])
def test_the_same_task_pays_the_same(made: dict[str, Path], name: str) -> None:
    """With ends that are terminal too, whose closing rows come by themselves."""
    dataset = open_dataset(made[name] / "replay")
    settings = {"dataset__path": str(made[name] / "replay"), "env__num_envs": 3}
    options = {**MAZE, "env__options__goal": 1} if name == "maze" else {}
    found = played_rewards(dataset, config(f"toy/{name}", **settings, **options))
    stored = [dataset.rows(stream)["reward"] for stream in dataset.streams]
    assert sum(float(np.abs(rewards).sum()) for rewards in stored) > 0
    for ours, theirs in zip(found, stored, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_another_task_pays_what_acting_the_same_would_have_earned(made: dict[str, Path], tmp_path: Path) -> None:
    """End to end: rows of the run that learns have the other goal's rewards, and are the same in all else."""
    reverie.train(later(made["maze"], env__options__goal=2, run__env_steps=60), tmp_path / "run")
    before, after = (open_dataset(run / "replay") for run in (made["maze"], tmp_path / "run"))
    maze, total = Maze(size=9, cells=3), 0.0
    for stream in before.streams:
        old, new = before.rows(stream), after.rows(stream)
        there = (maze.places(old["obs.image"]) == 2) & ~old["is_first"]
        np.testing.assert_array_equal(new["reward"], there.astype(np.float32))
        total += float(new["reward"].sum())
        assert all(np.array_equal(value, old[name]) for name, value in new.items() if name != "reward")
        assert not np.array_equal(old["reward"], new["reward"])
    assert total > 0


def test_what_cannot_be_played_again_is_one_line(made: dict[str, Path], tmp_path: Path) -> None:
    def refusal(settings: Config) -> str:
        with pytest.raises(UserError) as caught:
            played_rewards(open_dataset(settings.dataset.path), settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    longer = later(made["maze"], env__options__length=13)
    assert "of stream 0 has another is_last when it is played again in toy/maze" in refusal(longer)
    wider = later(made["maze"], env__options__cells=5)
    assert "row 0 of stream 0 has another obs.image" in refusal(wider)
    shutil.copytree(made["maze"] / "replay", tmp_path / "alone" / "replay")
    assert "has no run beside it" in refusal(later(tmp_path / "alone"))
    shutil.copytree(made["maze"], tmp_path / "late")
    sorted((tmp_path / "late" / "replay").glob("*.chunk"))[0].unlink()
    assert "lacks the first rows" in refusal(later(tmp_path / "late"))
    words = ["--dataset", str(made["catch"] / "replay"), "--dataset.rewards=played", "--replay.window.state=stored"]
    words = ["train", "r2d2", "--env", "toy/catch", *words, "--logdir", str(tmp_path / "stored")]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, "say --replay.window.state zero" in done.stderr) == (2, True)
