"""PlaNet learns to push a point to the middle from 16x16 pixels in seconds, and a crippled twin does not.

The twin is the same run with one wire cut: its search has a single candidate, so that nothing is compared.
"""

from pathlib import Path

import pytest

from reverie import overrides
from reverie.presets import make_config
from reverie.run.train import train

SMALL = {
    "agent.rssm.deter": 32,
    "agent.rssm.hidden": 32,
    "agent.rssm.stoch": 4,
    "agent.encoder.depth": 4,
    "agent.decoder.depth": 4,
    "agent.reward.layers": 1,
    "agent.reward.units": 32,
    "agent.observation_scale": 3.0,
    "agent.kl_free": 0.0,
    "agent.kl_scale": 0.1,
    "agent.plan.horizon": 4,
    "agent.plan.iterations": 3,
    "agent.plan.candidates": 50,
    "agent.plan.elites": 8,
    "env.num_envs": 4,
    "replay.window.learn": 8,
    "replay.batch": 16,
    "replay.store.budget": 20_000_000,
    "run.env_steps": 1500,
    "run.prefill": 300,
    "run.pretrain": 100,
    "run.train_ratio": 48,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 20,
    "run.eval_envs": 10,
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_planet_learns_to_stay_in_the_middle_and_its_twin_does_not(cut: bool, tmp_path: Path) -> None:
    """Scores of 12 env_steps: random play has 5.8, the shortest way to the middle 11.7."""
    blind = {"agent.plan.candidates": 1, "agent.plan.elites": 1, "agent.plan.iterations": 1}
    changes = SMALL | (blind if cut else {})
    summary = train(overrides.apply(make_config("planet", "cpu", "toy_control:Point"), changes), tmp_path / "run")
    assert summary["finished"]
    if cut:
        assert summary["eval_score"] < 7.0, summary
    else:
        assert summary["eval_score"] > 8.0, summary
