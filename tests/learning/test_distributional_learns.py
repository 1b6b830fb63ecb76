"""Rainbow and IQN learn a small Catch, each in a quarter of a minute; twins that bootstrap from nothing do not.

Without a bootstrap (gamma 0) only the last move of an episode is ever learned.
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
    "agent.target_every": 25,
    "agent.explore.over": 2000,
    "agent.opt.lr": 2e-3,
    "agent.opt.lr_over": 800,
    "replay.batch": 128,
    "run.env_steps": 3000,
    "run.prefill": 500,
    "run.train_ratio": 40.0,
    "run.checkpoint_every": 0,
}
SUPPORT = {"agent.v_min": -1.2, "agent.v_max": 1.2, "agent.atoms": 21, "agent.beta_over": 800}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("agent", "own"), [("rainbow", SUPPORT), ("iqn", {})])
def test_it_learns_catch_and_its_twin_does_not(agent: str, own: dict[str, Any], cut: bool, tmp_path: Path) -> None:
    changes = CATCH | own | ({"agent.gamma": 0.0} if cut else {})
    score = train(overrides.apply(make_config(agent, "cpu", "toy/catch"), changes), tmp_path / "run")["eval_score"]
    assert score < 0.5 if cut else score > 0.9, score
