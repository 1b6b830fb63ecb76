"""A2C and IMPALA with an LSTM learn a T-maze, each in well under a minute; twins without a memory do not.

Windows of 7 rows are as long as an episode, and begin from the states that the actor had.
"""

from pathlib import Path
from typing import Any

import pytest

from reverie import overrides
from reverie.presets import make_config
from reverie.run.train import train

TMAZE: dict[str, Any] = {
    "env.options": {"length": 5},
    "agent.core": "lstm",
    "agent.torso.layers": 1,
    "agent.torso.units": 16,
    "agent.torso.dense": 0,
    "agent.units": 32,
    "replay.window.learn": 7,
    "replay.window.period": 7,
    "replay.window.state": "stored",
    "run.env_steps": 30_000,
    "run.checkpoint_every": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("agent", ["a2c", "impala"])
def test_memory_learns_the_tmaze_and_its_twin_does_not(agent: str, cut: bool, tmp_path: Path) -> None:
    without = {"agent.core": "none", "replay.window.state": "zero"} if cut else {}
    config = overrides.apply(make_config(agent, "cpu-toy", "toy/tmaze"), TMAZE | without)
    score = train(config, tmp_path / "run")["eval_score"]
    assert abs(score) < 0.5 if cut else score > 0.9, score
