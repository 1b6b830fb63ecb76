"""DreamerV2 learns a 4x4 Catch from pixels in about half a minute, and a crippled twin does not.

The twin is the same run with one wire cut: its model is never told the reward, so its dreams are worth nothing.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from reverie import overrides
from reverie.config import Config
from reverie.presets import make_config
from reverie.run.train import train

SMALL = {
    "env.options": {"cells": 4, "size": 8},
    "agent.rssm.deter": 48,
    "agent.rssm.hidden": 48,
    "agent.rssm.stoch": 4,
    "agent.rssm.classes": 4,
    "agent.encoder.depth": 4,
    "agent.decoder.depth": 4,
    "agent.horizon": 4,
    "agent.entropy": 0.05,
    "replay.window.learn": 8,
    "replay.batch": 16,
    "replay.store.budget": 20_000_000,
    "run.frames": 5000,
    "run.prefill": 400,
    "run.pretrain": 100,
    "run.checkpoint_every": 0,
    "run.threads": 1,
}


def config(cut: bool) -> Config:
    whole = overrides.apply(make_config("dreamerv2", "cpu", "toy/catch"), SMALL)
    if not cut:
        return whole
    return replace(whole, agent=replace(whole.agent, reward_scale=0.0))


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_dreamerv2_learns_catch_and_its_twin_does_not(cut: bool, tmp_path: Path) -> None:
    summary = train(config(cut), tmp_path / "run")
    assert summary["finished"]
    if cut:
        assert summary["eval_score"] < 0.3, summary
    else:
        assert summary["eval_score"] > 0.7, summary
