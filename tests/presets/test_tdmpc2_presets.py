"""Presets of TD-MPC and TD-MPC2: published numbers, and the windows of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.agents.tdmpc2_sizes import Size
from reverie.envs.env import EnvSpec
from reverie.presets import make_config, presets_of
from reverie.presets.task import Task
from reverie.presets.tdmpc2 import episode_length, lengths
from reverie.run.build import build_agent, build_learner
from reverie.run.length import run_length

BOX = spaces.Box(-1, 1, (2,), np.float32)
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}, BOX)
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, BOX)
SMALL: dict[str, dict[str, Any]] = {
    "tdmpc": {"encoder_units": 8, "units": 8, "latent": 6, "channels": 4},
    "tdmpc2": {"size": Size(encoder_units=8, units=8, latent=16, critics=2, channels=8)},
}
HORIZON = {"tdmpc": 5, "tdmpc2": 3}
EACH = [(agent, preset) for agent in SMALL for preset in presets_of(agent)]


@pytest.mark.parametrize(("agent", "preset"), EACH)
def test_windows_are_the_horizon_and_what_is_read_beyond_it(agent: str, preset: str) -> None:
    """The row after the last, and the two before the first that stacks of three pictures need."""
    env = IMAGE if preset in ("dmc-vision", "cpu-control") else VECTOR
    config = make_config(agent, preset)
    alone = {"episode_lengths": ()} if preset == "mt" else {}  # the environment here is one
    config = replace(config, agent=replace(config.agent, **SMALL[agent], **alone))
    learner = build_learner(config, build_agent(config, env), torch.device("cpu"))
    horizon = HORIZON[agent]
    assert learner.windows.learn == config.agent.plan.horizon == horizon
    assert learner.windows.length == horizon + (3 if env is IMAGE else 1)


TDMPC2: dict[str, Any] = {
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


TDMPC: dict[str, Any] = {
    # github.com/nicklashansen/tdmpc, cfgs/default.yaml
    "agent.encoder_units": 256,
    "agent.units": 512,
    "agent.latent": 50,
    "agent.channels": 32,
    "agent.stack": 3,
    "agent.shift": 4,
    "agent.gamma": 0.99,
    "agent.rho": 0.5,
    "agent.tau": 0.01,
    "agent.target_every": 2,
    "agent.consistency_scale": 2.0,
    "agent.reward_scale": 0.5,
    "agent.value_scale": 0.1,
    "agent.prior_std": 0.05,
    "agent.prior_clip": 0.3,
    "agent.beta": 0.4,
    "agent.opt.clip": 10.0,
    "agent.anneal.over": 25_000,
    "agent.anneal.first_horizon": 1,
    "agent.anneal.first_std": 0.5,
    "agent.plan.iterations": 6,
    "agent.plan.candidates": 512 + 25,
    "agent.plan.elites": 64,
    "agent.plan.policy_candidates": 25,
    "agent.plan.horizon": 5,
    "agent.plan.temperature": 0.5,
    "agent.plan.min_std": 0.05,
    "agent.plan.max_std": 2.0,
    "agent.plan.momentum": 0.1,
    "replay.window.learn": 5,
    "replay.selector.alpha": 0.6,
    "replay.selector.whole": True,
    "env.num_envs": 1,
    "run.prefill": 5000,
    "run.pretrain": 5000,
}


@pytest.mark.parametrize("preset", ["dmc-proprio", "dmc-vision"])
@pytest.mark.parametrize("agent", ["tdmpc", "tdmpc2"])
def test_published_numbers(agent: str, preset: str) -> None:
    config = make_config(agent, preset)
    for key, expected in {"tdmpc": TDMPC, "tdmpc2": TDMPC2}[agent].items():
        assert at(config, key) == (pytest.approx(expected) if key == "agent.gamma" else expected), key
    assert config.env.protocol == preset
    # One update per env_step after as many as there were random ones.
    assert run_length(replace(config, run=replace(config.run, env_steps=10_000)), 2).learner_steps == 10_000


def at(config: Any, key: str) -> Any:
    """Value of a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("preset", "id", "expected"),
    [
        ("dmc-proprio", "dmc/walker-walk", {"repeat": 2, "frames": 500_000, "batch": 512, "lr": 1e-3, "latent": 50}),
        ("dmc-proprio", "dmc/cartpole-swingup", {"repeat": 8, "eval": 2500, "iterations": 6}),
        ("dmc-proprio", "dmc/cheetah-run", {"repeat": 4, "eval": 5000}),
        ("dmc-proprio", "dmc/humanoid-run", {"repeat": 2, "frames": 3_000_000, "iterations": 12, "latent": 100}),
        ("dmc-proprio", "dmc/dog-run", {"repeat": 2, "frames": 5_000_000, "batch": 2048, "lr": 3e-4, "iterations": 8}),
        ("dmc-vision", "dmc/cheetah-run", {"repeat": 4, "frames": 3_000_000, "batch": 256, "lr": 3e-4, "size": 84}),
    ],
)
def test_published_numbers_of_tdmpc_by_task(preset: str, id: str, expected: dict[str, Any]) -> None:
    config = make_config("tdmpc", preset, id)
    keys = {
        "frames": "run.frames",
        "batch": "replay.batch",
        "lr": "agent.opt.lr",
        "iterations": "agent.plan.iterations",
    }
    keys |= {"latent": "agent.latent", "eval": "run.eval_every"}
    found = {name: at(config, key) for name, key in keys.items()} | {"repeat": config.env.options["action_repeat"]}
    found |= {"size": config.env.options.get("size")}
    assert {name: found[name] for name in expected} == expected
    assert config.agent.opt == config.agent.actor_opt


def test_the_length_of_an_episode_is_looked_up() -> None:
    found = {id: episode_length(id) for id in ("dmc/dog-run", "Pendulum-v1", "MountainCarContinuous-v0", "a.b:C")}
    assert found == {"dmc/dog-run": 500, "Pendulum-v1": 200, "MountainCarContinuous-v0": 999, "a.b:C": 500}
    assert episode_length("dmc/dog-run", options={"action_repeat": 1}) == 1000
    assert episode_length("metaworld/lever-pull") == 500
    assert episode_length("metaworld/lever-pull", "metaworld-tdmpc2") == 100
    assert episode_length("fetch/reach", options={"length": 80, "action_repeat": 2}) == 40
    for wrong in (0, -1, "x", None, 0.5):
        assert episode_length("dmc/dog-run", options={"action_repeat": wrong}) == 500  # the environment refuses it
    assert episode_length("dmc/dog-run", options={"action_repeat": 2000}) == 1
    assert episode_length("dmc-background/walker-walk", options={"action_repeat": 4}) == 250
    assert episode_length("Pendulum-v1", options={"max_episode_steps": 50}) == 50
    config = make_config("tdmpc2", "cpu", "Pendulum-v1")
    assert (config.agent.episode_length, config.agent.gamma, config.run.prefill) == (200, pytest.approx(0.975), 1000)


def test_the_discount_follows_from_the_protocol_that_is_asked_for() -> None:
    for protocol, length in (("auto", 100), ("metaworld-state", 500)):
        settings = lengths(Task("metaworld/lever-pull", protocol), "metaworld-tdmpc2")
        assert settings["episode_length"] == length


@pytest.mark.parametrize("preset", ["cpu", "dmc-proprio", "dmc-vision"])
def test_the_discount_follows_from_the_action_repeat_that_is_asked_for(preset: str) -> None:
    pytest.importorskip("dm_control")
    protocol = "dmc-vision" if preset == "dmc-vision" else "dmc-proprio"
    made = make_config("tdmpc2", preset, "dmc/walker-walk", protocol=protocol, options={"action_repeat": 1})
    assert (made.agent.episode_length, made.agent.gamma) == (1000, pytest.approx(0.995))


def test_random_episodes_leave_half_of_a_small_run_to_learn_in() -> None:
    """Those of MountainCarContinuous have 999 env_steps, which five would fill more than half of it with."""
    run = make_config("tdmpc2", "cpu", "MountainCarContinuous-v0").run
    assert (run.prefill, run.env_steps) == (4000, 8000)


def test_the_small_sizes_of_tdmpc_go_by_what_is_seen() -> None:
    assert make_config("tdmpc", "cpu").agent == make_config("tdmpc", "cpu-continuous", "Pendulum-v1").agent
    assert make_config("tdmpc").env.id == "Pendulum-v1"
    pictures = make_config("tdmpc", "cpu-control")
    assert (pictures.env.id, pictures.agent.shift, pictures.agent.channels) == ("dmc/cartpole-swingup", 3, 16)
