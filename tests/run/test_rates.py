"""Rates in the log are those of the next update and decision, and their schedules span the run however long it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_runs

from reverie import overrides
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.train import train

SETTINGS: dict[str, Any] = {
    "agent.torso.units": 4,
    "agent.hidden": 4,
    "agent.n_step": 8,
    "agent.n_step_end": 2,
    "agent.n_step_over": 0.5,
    "agent.beta": 0.4,
    "agent.beta_end": 1.0,
    "agent.beta_over": 1.0,
    "agent.opt.lr": 0.01,
    "agent.opt.lr_end": 0.002,
    "agent.opt.lr_over": 0.8,
    "agent.explore.start": 1.0,
    "agent.explore.end": 0.2,
    "agent.explore.over": 0.25,
    "replay.selector": "prioritised",
    "replay.batch": 4,
    "env.num_envs": 1,
    "run.prefill": 40,
    "run.train_ratio": 2.0,
    "run.log_every": 20,
    "run.eval_episodes": 0,
}


@pytest.mark.parametrize(("every", "at"), [(1000, [130]), (60, [60, 120, 130]), (65, [65, 130]), (0, [])])
def test_the_end_of_a_run_is_logged_once(tmp_path: Path, every: int, at: list[int]) -> None:
    settings = SETTINGS | {"run.env_steps": 130, "run.log_every": every}
    train(overrides.apply(make_config("dqn", "cpu-vectors", "CartPole-v1"), settings), tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run") if "replay/ratio" in line]
    assert [line["env_steps"] for line in lines] == at
    assert all("train/q_loss" in line for line in lines)


@pytest.mark.parametrize("env_steps", [120, 280])
def test_every_line_has_the_rates_of_its_moment(tmp_path: Path, env_steps: int) -> None:
    config = overrides.apply(make_config("dqn", "cpu-vectors", "CartPole-v1"), SETTINGS | {"run.env_steps": env_steps})
    train(config, tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run") if "replay/ratio" in line]
    assert len(lines) == env_steps // 20
    updates = (env_steps - 40) * 2 // 4
    assert abs(lines[-1]["learner_steps"] - updates) <= 1
    for line in lines:
        done = line["learner_steps"] / updates
        assert line["train/q_lr"] == pytest.approx(0.01 - 0.008 * min(done / 0.8, 1))
        assert line["train/n_step"] == round(8 * (2 / 8) ** min(done / 0.5, 1))
        assert line["train/beta"] == pytest.approx(0.4 + 0.6 * min(done, 1))
        # The last decision was made before its own env_step counted.
        assert line["actor/epsilon"] == pytest.approx(1 - 0.8 * min((line["env_steps"] - 1) / env_steps / 0.25, 1))
    # They got there, and not before their time.
    assert [lines[-1][f"train/{name}"] for name in ("q_lr", "n_step")] == [pytest.approx(0.002), 2]
    assert lines[-1]["train/beta"] == pytest.approx(1.0, abs=0.02)
    assert lines[len(lines) // 2]["train/q_lr"] > 0.004


def test_constant_rates_are_logged_too(tmp_path: Path) -> None:
    still = {key: 0 for key in SETTINGS if key.endswith("_over")}
    config = overrides.apply(
        make_config("dqn", "cpu-vectors", "CartPole-v1"), SETTINGS | still | {"run.env_steps": 60, "agent.n_step": 3}
    )
    train(config, tmp_path / "run")
    for line in read_metrics(tmp_path / "run"):
        if "replay/ratio" in line:
            assert [line[f"train/{name}"] for name in ("q_lr", "n_step", "beta")] == [0.01, 3, 0.4]


def test_every_optimiser_tells_its_rate(tmp_path: Path) -> None:
    local = tiny_runs.begin(tiny_runs.config("toy/catch", agent__model_opt__lr=0.004), tmp_path / "run")
    told = local.trainer.metrics()
    assert {name for name in told if name.endswith("_lr")} == {f"{name}_lr" for name in local.learner.optimisers}
    assert len(local.learner.optimisers) > 1
    assert told["model_lr"] == 0.004
