"""The four ways to start a memory are settings of every recurrent agent, and its drift is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SMALL, Never, begin

from reverie import overrides
from reverie.presets import make_config
from reverie.report.log import read_metrics

RUN: dict[str, Any] = {
    "env.num_envs": 2,
    "env.options": '{"length": 40}',
    "replay.batch": 4,
    "replay.window.learn": 8,
    "replay.window.period": 4,
    "replay.window.drift": True,
    "run.env_steps": 300,
    "run.prefill": 150,
    "run.pretrain": 0,
    "run.train_ratio": 2.0,
    "run.log_every": 50,
    "run.eval_episodes": 0,
    "run.threads": 1,
}
VALUE: dict[str, Any] = {"agent.units": 6, "agent.torso.units": 8, "agent.hidden": 8}
DREAMER = {key: value for key, value in SMALL.items() if key.startswith("agent.")}
AGENTS: dict[str, dict[str, Any]] = {"drqn": VALUE, "r2d2": VALUE, "dreamerv2": DREAMER}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("state", ["zero", "stored"])
def test_four_start_states(tmp_path: Path, agent: str, state: str, context: int) -> None:
    chosen = {"replay.window.state": state, "replay.window.context": context}
    settings = overrides.apply(make_config(agent, "cpu-toy", "toy/tmaze"), RUN | AGENTS[agent] | chosen)
    run = begin(settings, tmp_path / "run")
    run.train(Never())
    records = [r for r in read_metrics(tmp_path / "run") if "train/drift_first" in r]
    assert len(records) == 4
    for record in records:
        first, last = record["train/drift_first"], record["train/drift_last"]
        assert math.isfinite(first + last)
        # What starts from the very state that the actor had cannot have drifted; after 10 updates others hardly have.
        if state == "zero":
            assert min(first, last) > 1e-9
        if state == "stored" and context == 0:
            assert first < 1e-6
