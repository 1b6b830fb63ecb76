"""DQN learns a small Catch, DRQN and R2D2 a T-maze, each in well under a minute; twins with one wire cut do not.

DQN's twin bootstraps from nothing (gamma 0), so that only the last move is ever learned. The others' have no memory.
"""

from pathlib import Path
from typing import Any

import pytest

from reverie import overrides
from reverie.presets import make_config
from reverie.run.train import train

CATCH: dict[str, Any] = {
    "env.options": {"cells": 5, "size": 10},
    "agent.n_step": 1,
    "agent.torso.channels": [8, 16, 16],
    "agent.target_every": 50,
    "agent.explore.over": 2000,
    "agent.opt.lr_over": 2200,
    "run.env_steps": 3500,
    "run.prefill": 500,
    "run.train_ratio": 32.0,
    "run.checkpoint_every": 0,
}
TMAZE: dict[str, Any] = {
    "env.options": {"length": 5},
    "agent.torso.layers": 1,
    "agent.torso.units": 16,
    "agent.units": 16,
    "agent.target_every": 50,
    "replay.window.context": 0,
    "replay.window.learn": 14,
    "replay.window.period": 7,
    "run.env_steps": 8000,
    "run.prefill": 500,
    "run.train_ratio": 16.0,
    "run.checkpoint_every": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_dqn_learns_catch_and_its_twin_does_not(cut: bool, tmp_path: Path) -> None:
    config = overrides.apply(make_config("dqn", "cpu", "toy/catch"), CATCH | ({"agent.gamma": 0.0} if cut else {}))
    score = train(config, tmp_path / "run")["eval_score"]
    assert score < 0.5 if cut else score > 0.9, score


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("agent", "changes"),
    [("drqn", {"agent.explore.over": 4000}), ("r2d2", {"agent.torso.dense": 0, "agent.hidden": 32})],
    ids=["drqn", "r2d2"],
)
def test_memory_learns_the_tmaze_and_its_twin_does_not(
    agent: str, changes: dict[str, Any], cut: bool, tmp_path: Path
) -> None:
    without = {"agent.core": "none", "replay.window.state": "zero"} if cut else {}
    config = overrides.apply(make_config(agent, "cpu-toy", "toy/tmaze"), TMAZE | changes | without)
    score = train(config, tmp_path / "run")["eval_score"]
    assert abs(score) < 0.5 if cut else score > 0.9, score
