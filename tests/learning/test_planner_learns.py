"""A planner from outside the package learns a 4x4 Catch from pixels without ever drawing them; its twin does not.

The twin is the same run with one wire cut: its model is never told the reward, so that all plans are worth the same.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planner import Planner, PlannerConfig, PlannerPolicy

from reverie import overrides
from reverie.agents.agent import Seat, Tape
from reverie.config import Config
from reverie.envs.make import make_env
from reverie.errors import UserError
from reverie.play.dream import dream
from reverie.play.evaluate import evaluate
from reverie.play.foresight import report
from reverie.play.load import load
from reverie.run.train import train

SETTINGS = {
    "env.id": "toy/catch",
    "env.num_envs": 8,
    "env.options": {"cells": 4, "size": 8},
    "replay.store.budget": 20_000_000,
    "replay.batch": 16,
    "replay.window.learn": 8,
    "run.seed": 100,
    "run.device": "cpu",
    "run.frames": 5000,
    "run.prefill": 500,
    "run.pretrain": 50,
    "run.train_ratio": 32.0,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 64,
    "run.eval_envs": 16,
    "run.threads": 1,
}


def config(cut: bool = False, **changes: object) -> Config:
    whole = overrides.apply(Config("planner:Planner", "", PlannerConfig()), {**SETTINGS, **changes})
    return replace(whole, agent=replace(whole.agent, reward_scale=0.0)) if cut else whole


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_a_planner_learns_catch_and_its_twin_does_not(cut: bool, tmp_path: Path) -> None:
    summary = train(config(cut), tmp_path / "run")
    assert summary["finished"]
    if cut:
        assert summary["eval_score"] < 0.3, summary
    else:
        assert summary["eval_score"] > 0.8, summary


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "planner"
    short = {"run.frames": 160, "run.prefill": 80, "run.pretrain": 1, "run.train_ratio": 4.0, "run.eval_episodes": 2}
    train(config(**short), path)
    return path


@pytest.mark.filterwarnings("error::UserWarning:reverie")
def test_its_run_is_played_loaded_and_reported_on(run_dir: Path, tmp_path: Path) -> None:
    assert len(evaluate(run_dir, episodes=4)["scores"]) == 4
    policy = load(run_dir)
    action, _ = policy.act(np.zeros((8, 8, 1), np.uint8), policy.initial_state(1))
    assert int(action) in (0, 1, 2)
    numbers = report(run_dir, context=1, horizon=3, sequences=6, out=tmp_path)
    assert numbers["observations"] == {}
    assert len(numbers["reward"]["error"]) == 3
    assert json.loads((tmp_path / "prediction.json").read_text())["reward"] == numbers["reward"]
    with pytest.raises(UserError, match="says nothing about observations, so there is no dream to look at"):
        dream(run_dir, context=1, horizon=3, out=tmp_path)
    with pytest.raises(UserError, match="nobody can play in its dreams"):
        evaluate(run_dir, episodes=1, in_dream=True)


def test_step_is_unroll(run_dir: Path) -> None:
    torch.manual_seed(0)
    env = make_env("toy/catch", num_envs=3, cells=4, size=8)
    policy = Planner(PlannerConfig(), env.spec).policy()
    assert isinstance(policy, PlannerPolicy)
    seen = [env.reset(0)] + [env.step(np.array([0, 1, 2])).rows for _ in range(5)]
    rows = {name: torch.from_numpy(np.stack([row[name] for row in seen])) for name in seen[0]}
    rows["prev_action"] = torch.tensor([0, 1, 2]).expand(6, 3) * ~rows["is_first"]
    tape = Tape(torch.rand(6, 3, policy.noise))
    with torch.no_grad():
        states, last = policy.unroll(policy.initial_state(3), rows, tape)
        state = policy.initial_state(3)
        for t in range(6):
            now = {name: value[t] for name, value in rows.items()}
            state = policy.step(state, now, tape[t], Seat.alone(3, "explore")).state
            for name, value in state.items():
                torch.testing.assert_close(value, states[name][t])
    torch.testing.assert_close(last, state)
