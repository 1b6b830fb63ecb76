"""Presets of TD-MPC2: published numbers; and each of them builds, updates once, saves and loads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.agents.agent import Noise, Seat
from reverie.agents.tdmpc2_sizes import Size
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.presets import make_config, presets_of
from reverie.presets.tdmpc2 import episode_length
from reverie.run.build import build_agent, build_learner
from reverie.run.length import run_length

BOX = spaces.Box(-1, 1, (2,), np.float32)
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}, BOX)
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, BOX)
SMALL = Size(encoder_units=8, units=8, latent=16, critics=2, channels=8)


def rows(env: EnvSpec, time: int, width: int = 2, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    no = torch.zeros(time, width, dtype=torch.bool)
    seen = (
        torch.randint(0, 256, (time, width, 64, 64, 3), generator=g, dtype=torch.uint8)
        if env is IMAGE
        else torch.randn(time, width, 4, generator=g)
    )
    fields = {f"obs.{next(iter(env.observation))}": seen, "reward": torch.randn(time, width, generator=g)}
    action = 2 * torch.rand(time, width, 2, generator=g) - 1
    fields |= {"action": action, "prev_action": action, "is_first": no, "is_last": no, "is_terminal": no}
    return Batch(fields, None, torch.arange(width), torch.ones(width), torch.zeros(width))


@pytest.mark.parametrize("preset", list(presets_of("tdmpc2")))
def test_every_preset_builds_updates_once_saves_and_loads(preset: str) -> None:
    env = IMAGE if preset == "dmc-vision" else VECTOR
    config = make_config("tdmpc2", preset)
    search = replace(config.agent.plan, candidates=8, elites=2, policy_candidates=2)
    config = replace(config, agent=replace(config.agent, size=SMALL, plan=search))
    learner, other = (
        build_learner(
            replace(config, run=replace(config.run, seed=seed)), build_agent(config, env), torch.device("cpu")
        )
        for seed in (0, 1)
    )
    assert learner.windows.learn == config.agent.plan.horizon == 3
    time = learner.windows.length
    assert time == (6 if env is IMAGE else 4)
    metrics = learner.update(rows(env, time)).metrics
    assert all(torch.isfinite(value) for value in metrics.values())
    other.restore(learner.save())
    now = {name: value[0] for name, value in rows(env, 1).rows.items()}
    one, two = (
        each.policy.step(each.policy.initial_state(2), now, Noise(3), Seat.alone(2, "explore"))
        for each in (learner, other)
    )
    assert torch.equal(one.action, two.action)
    again, twin = (each.update(rows(env, time, seed=1)).metrics for each in (learner, other))
    assert all(torch.equal(value, twin[name]) for name, value in again.items())


PUBLISHED: dict[str, Any] = {
    # github.com/nicklashansen/tdmpc2, config.yaml, common/__init__.py, trainer/online_trainer.py
    "agent.size.encoder_units": 256,
    "agent.size.units": 512,
    "agent.size.latent": 512,
    "agent.size.critics": 5,
    "agent.group": 8,
    "agent.dropout": 0.01,
    "agent.bins": 101,
    "agent.limit": 10.0,
    "agent.log_std_min": -10.0,
    "agent.log_std_max": 2.0,
    "agent.entropy": 1e-4,
    "agent.rho": 0.5,
    "agent.tau": 0.01,
    "agent.consistency_scale": 20.0,
    "agent.reward_scale": 0.1,
    "agent.value_scale": 0.1,
    "agent.end_scale": 1.0,
    "agent.episodic": False,
    "agent.gamma": 0.99,
    "agent.opt.lr": 3e-4,
    "agent.opt.clip": 20.0,
    "agent.encoder_lr": 0.3,
    "agent.plan.iterations": 6,
    "agent.plan.candidates": 512,
    "agent.plan.elites": 64,
    "agent.plan.policy_candidates": 24,
    "agent.plan.horizon": 3,
    "agent.plan.temperature": 0.5,
    "agent.plan.min_std": 0.05,
    "agent.plan.max_std": 2.0,
    "agent.plan.momentum": 0.0,
    "replay.batch": 256,
    "replay.window.learn": 3,
    "replay.selector.favour_ends": False,
    "replay.selector.ongoing": False,
    "env.num_envs": 1,
    "run.prefill": 2500,
    "run.pretrain": 2500,
}


@pytest.mark.parametrize("preset", ["dmc-proprio", "dmc-vision"])
def test_published_numbers(preset: str) -> None:
    config = make_config("tdmpc2", preset)
    for key, expected in PUBLISHED.items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        assert value == (pytest.approx(expected) if key == "agent.gamma" else expected), key
    assert config.env.protocol == preset
    # One update per env_step after as many as there were random ones.
    assert run_length(replace(config, run=replace(config.run, env_steps=10_000)), 2).learner_steps == 10_000


def test_the_length_of_an_episode_is_looked_up() -> None:
    found = {id: episode_length(id) for id in ("dmc/dog-run", "Pendulum-v1", "MountainCarContinuous-v0", "a.b:C")}
    assert found == {"dmc/dog-run": 500, "Pendulum-v1": 200, "MountainCarContinuous-v0": 999, "a.b:C": 500}
    config = make_config("tdmpc2", "cpu", "Pendulum-v1")
    assert (config.agent.episode_length, config.agent.gamma, config.run.prefill) == (200, pytest.approx(0.975), 1000)
