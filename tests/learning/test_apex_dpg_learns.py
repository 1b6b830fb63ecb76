"""Ape-X DPG learns to push a point to the middle in seconds, and a crippled twin does not.

The twin is the same run with one wire cut: what its critic says of actions hardly reaches its actor.
"""

from pathlib import Path

import pytest

from reverie import overrides
from reverie.presets import make_config
from reverie.run.train import train

SMALL = {
    "agent.actor_units": [32],
    "agent.critic_units": [32],
    "agent.gamma": 0.9,
    "env.num_envs": 4,
    "replay.batch": 32,
    "replay.store.budget": 20_000_000,
    "run.env_steps": 3000,
    "run.prefill": 300,
    "run.train_ratio": 16.0,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 20,
    "run.eval_envs": 10,
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_apex_dpg_learns_to_stay_in_the_middle_and_its_twin_does_not(cut: bool, tmp_path: Path) -> None:
    """Scores of 12 env_steps: random play has 5.8, the shortest way to the middle 11.7."""
    changes = SMALL | ({"agent.slope_clip": 1e-30} if cut else {})
    summary = train(overrides.apply(make_config("apex-dpg", "cpu", "toy_control:Place"), changes), tmp_path / "run")
    assert summary["finished"]
    if cut:
        assert summary["eval_score"] < 7.0, summary
    else:
        assert summary["eval_score"] > 10.0, summary
