"""The length of a run in learner_steps, and what the schedules of presets come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces

from reverie import overrides
from reverie.config import Config
from reverie.envs.env import EnvSpec
from reverie.nets.schedule import Length, resolve
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.build import build_agent, build_env, build_learner
from reverie.run.length import run_length, schedule_line
from reverie.run.train import train

SMALL: dict[str, Any] = {
    "agent.explore.over": 0.2,
    "agent.torso.units": 4,
    "agent.hidden": 4,
    "replay.batch": 4,
    "run.env_steps": 200,
    "run.prefill": 40,
    "run.pretrain": 3,
    "run.train_ratio": 2.0,
    "run.log_every": 200,
    "run.eval_episodes": 0,
}


def env(action_repeat: int = 1) -> EnvSpec:
    return EnvSpec("test", {}, spaces.Discrete(2), action_repeat=action_repeat)


def small(**changes: Any) -> Config:
    return overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), SMALL | changes)


def test_learner_steps_are_those_of_the_run(tmp_path: Path) -> None:
    config = small()
    assert run_length(config, 1) == Length(200, 3 + (200 - 40) * 2 // 4)
    train(config, tmp_path / "run")
    # One more is made at once when the prefill is there.
    assert read_metrics(tmp_path / "run")[-1]["learner_steps"] == 3 + 80 + 1


@pytest.mark.parametrize(("repeat", "env_steps"), [(1, 1000), (2, 500), (4, 250), (3, 334)])
def test_frames_are_counted_with_the_environments_own_repeat(repeat: int, env_steps: int) -> None:
    config = small(**{"run.frames": 1000, "run.env_steps": None})
    assert run_length(config, repeat).env_steps == env_steps


def test_without_pacing_every_window_counts_once() -> None:
    config = small(**{"run.train_ratio": None, "replay.selector": "fifo", "replay.window.period": 5})
    assert run_length(config, 1) == Length(200, 200 // (4 * 5))


def test_windows_that_are_learned_again_make_more_updates() -> None:
    changes = {"run.train_ratio": None, "replay.selector": "fifo", "replay.window.period": 5}
    config = small(**changes, **{"replay.batch": 4, "replay.selector.share": 0.5})
    assert run_length(config, 1) == Length(200, 200 // (2 * 5))


def test_a_run_shorter_than_its_prefill_has_no_updates() -> None:
    assert run_length(small(**{"run.env_steps": 30}), 1).learner_steps == 3


@pytest.mark.parametrize(
    ("agent", "preset", "repeat", "counts"),
    [
        ("dqn", "cpu-vectors", 1, {"opt.lr_over": 10_875, "explore.over": 8000}),
        ("dqn", "cpu-toy", 1, {"opt.lr_over": 9600, "explore.over": 8000}),
        ("dqn", "cpu-pixels", 4, {"explore.over": 50_000}),
        ("drqn", "cpu-toy", 1, {"explore.over": 8000}),
        ("drqn", "cpu-vectors", 1, {"opt.lr_over": 7950, "n_step_over": 7950}),
        ("r2d2", "cpu-vectors", 1, {"opt.lr_over": 7950, "n_step_over": 7950}),
        ("r2d2", "gpu", 4, {"opt.lr_over": 37_250, "n_step_over": 37_250}),
        ("rainbow", "cpu-vectors", 1, {"opt.lr_over": 10_875, "beta_over": 10_875, "explore.over": 8000}),
        ("rainbow", "cpu-pixels", 4, {"beta_over": 248_750}),
        ("rainbow", "atari", 4, {"beta_over": 12_495_000}),
        ("iqn", "cpu-vectors", 1, {"opt.lr_over": 10_875, "beta_over": 10_875, "explore.over": 8000}),
        ("iqn", "atari", 4, {"explore.over": 1_000_000, "explore.after": 50_000}),
    ],
)
def test_shares_come_to_what_was_measured(agent: str, preset: str, repeat: int, counts: dict[str, int]) -> None:
    config = make_config(agent, preset)
    flat = overrides.flatten(resolve(config.agent, run_length(config, repeat)))
    assert {key: flat[key] for key in counts} == counts


def test_a_longer_run_keeps_the_shape_of_its_schedules_and_counts_keep_theirs() -> None:
    config = make_config("dqn", "cpu-vectors", "CartPole-v1")
    config = overrides.apply(config, {"run.env_steps": 80_000, "agent.n_step_over": 700})
    agent = resolve(config.agent, run_length(config, 1))
    assert (agent.explore.over, agent.opt.lr_over, agent.n_step_over) == (21_333, 29_625, 700)


def test_the_line_at_the_start_says_when_each_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small()
    line = "agent.explore.over ends after 40 of 200 env_steps; agent.opt.lr_over ends after 83 of 83 learner_steps"
    line += "; agent.beta_over ends after 83 of 83 learner_steps"
    assert schedule_line(config, 1) == line
    train(config, tmp_path / "run")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == line
    assert told[1].endswith(" trained parameters on cpu; 200 env_steps: random actions for 40 env_steps, then learning")
    still = replace(config, agent=replace(config.agent, explore=replace(config.agent.explore, over=0)))
    still = overrides.apply(still, {"agent.opt.lr_over": "0", "agent.beta_over": "0"})
    assert schedule_line(still, 1) == ""


def test_schedules_of_an_agent_without_a_ratio_end_after_at_least_so_many_updates() -> None:
    config = make_config("a2c", "cpu", "toy/catch")
    assert schedule_line(config, 1) == "agent.opt.lr_over ends after 625 of at least 625 learner_steps"


def test_schedules_that_an_agent_does_not_use_are_not_told() -> None:
    for changes, told in (({}, False), ({"agent.explore_too": True}, True), ({"agent.noisy": False}, True)):
        config = overrides.apply(make_config("rainbow", "cpu", "toy/catch"), changes)
        assert ("agent.explore.over ends" in schedule_line(config, 1)) == told


def test_learners_are_built_with_counts() -> None:
    config = small()
    made = build_env(config, 1)
    learner = build_learner(config, build_agent(config, made.spec), torch.device("cpu"))
    made.close()
    assert (learner.config.opt.lr_over, learner.config.explore.over) == (83, 40)
    assert learner.optimisers["q"].config.lr_over == 83
