"""Presets of A2C, A3C and IMPALA: the published numbers; each builds, updates once, saves and goes on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Never, Stop, again, begin

import reverie
from reverie import overrides
from reverie.data.selectors import FifoConfig
from reverie.errors import UserError
from reverie.presets import make_config, presets_of
from reverie.report.log import read_metrics
from reverie.run.local import Local

PONG = "ALE/Pong-v5"
PUBLISHED: dict[tuple[str, str], dict[str, Any]] = {
    # Espeholt et al. 2018, appendix D
    ("impala", "atari"): {
        "agent.gamma": 0.99,
        "agent.lam": 1.0,
        "agent.rho_bar": 1.0,
        "agent.c_bar": 1.0,
        "agent.correction": "vtrace",
        "agent.reward": "clip",
        "agent.entropy": 0.01,
        "agent.value": 0.5,
        "agent.average": "sum",
        "agent.stack": 4,
        "agent.core": "none",
        "agent.torso.cnn": "residual",
        "agent.torso.channels": (16, 32, 32),
        "agent.torso.dense": 256,
        "agent.feed": True,
        "agent.feed_reward": "clip",
        "agent.opt.kind": "rmsprop-tf",
        "agent.opt.lr": 6e-4,
        "agent.opt.lr_end": 0.0,
        "agent.opt.lr_over": 1.0,
        "agent.opt.eps": 0.01,
        "agent.opt.clip": 40.0,
        "replay.batch": 32,
        "replay.window.learn": 20,
        "replay.selector": FifoConfig(),
        "run.frames": 200_000_000,
        "run.prefill": 0,
        "env.protocol": "atari-dqn2015",
        "env.options": {"max_frames": 108_000},
    },
    ("impala", "atari-shallow"): {"agent.torso.cnn": "nature", "agent.torso.channels": (32, 64, 64)},
    ("impala", "atari-replay"): {"agent.torso.cnn": "residual", "replay.selector": FifoConfig(0.5)},
    ("impala", "atari-multitask"): {
        "agent.popart": True,
        "agent.popart_step": 3e-4,
        "agent.reward": "identity",
        "agent.feed_reward": "clip",
        "agent.torso.cnn": "residual",
        "env.options": {"max_frames": 108_000, "full_actions": True},
    },
    # OpenAI Baselines, a2c
    ("a2c", "atari"): {
        "agent.gamma": 0.99,
        "agent.lam": 1.0,
        "agent.reward": "sign",
        "agent.entropy": 0.01,
        "agent.value": 1.0,  # of half the squared error; 0.5 of the whole there
        "agent.average": "mean",
        "agent.torso.channels": (32, 64, 64),
        "agent.torso.dense": 512,
        "agent.feed": False,
        "agent.init": "orthogonal",
        "agent.opt.kind": "rmsprop-tf",
        "agent.opt.lr": 7e-4,
        "agent.opt.lr_over": 1.0,
        "agent.opt.eps": 1e-5,
        "agent.opt.clip": 0.5,
        "env.num_envs": 16,
        "replay.batch": 16,
        "replay.window.learn": 5,
        "run.frames": 40_000_000,
    },
    # Mnih et al. 2016; learning rate, epsilon and clip are of later codes, see the preset
    ("a3c", "atari"): {
        "agent.gamma": 0.99,
        "agent.lam": 1.0,
        "agent.reward": "sign",
        "agent.entropy": 0.01,
        "agent.average": "sum",
        "agent.workers": 16,
        "agent.core": "none",
        "agent.torso.channels": (16, 32),
        "agent.torso.dense": 256,
        "agent.opt.kind": "rmsprop-tf",
        "agent.opt.lr": 7e-4,
        "agent.opt.lr_end": 0.0,
        "agent.opt.lr_over": 1.0,
        "agent.opt.eps": 0.1,
        "agent.opt.clip": 40.0,
        "env.num_envs": 16,
        "replay.batch": 1,
        "replay.window.learn": 5,
        "run.frames": 320_000_000,
    },
    ("a3c", "atari-lstm"): {"agent.core": "lstm", "agent.units": 256, "agent.workers": 16, "replay.batch": 1},
}
EACH = [(agent, preset) for agent in ("a2c", "a3c", "impala") for preset in presets_of(agent) if preset != "cpu"]
"""`cpu` is one of the others, see test_kinds.py"""
ENVS = {"cpu-toy": "toy/catch", "cpu-vectors": "CartPole-v1"}


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("agent", "preset"), PUBLISHED)
def test_numbers_are_the_published_ones(agent: str, preset: str) -> None:
    config = make_config(agent, preset, PONG)
    assert {key: at(config, key) for key in PUBLISHED[agent, preset]} == PUBLISHED[agent, preset]


@pytest.mark.parametrize(("agent", "preset"), EACH)
def test_every_preset_uses_each_row_once_and_lets_its_rate_fall(agent: str, preset: str) -> None:
    config = make_config(agent, preset, ENVS.get(preset, PONG))
    window = config.replay.window
    assert (window.period, config.run.train_ratio, config.run.prefill) == (window.learn, None, 0)
    assert isinstance(config.replay.selector, FifoConfig)
    assert (config.agent.opt.lr_end, config.agent.opt.lr_over) == (0.0, 1.0)
    # As many windows as environments, so that no actor runs ahead (with a replayed half, a batch takes half as many).
    # IMPALA's small preset for pixels has half of these: windows that end together make four updates.
    share = 2 if (agent, preset) == ("impala", "cpu-pixels") else 1
    assert share * config.replay.batch * getattr(config.agent, "workers", 1) == config.env.num_envs


@pytest.mark.parametrize(("agent", "preset"), EACH)
def test_every_preset_builds_updates_saves_and_goes_on(agent: str, preset: str, tmp_path: Path) -> None:
    """Two environments, two windows of two rows per update; the run is stopped, resumed, loaded and evaluated."""
    id = ENVS.get(preset, PONG)
    small = {
        "env.num_envs": 2,
        "replay.batch": 2,
        "replay.window.learn": 2,
        "replay.window.period": 2,
        "replay.store.budget": 4_000_000,
        "run.env_steps": 12,
        "run.log_every": 2,
        "run.checkpoint_every": 0,
        "run.eval_every": 0,
        "run.eval_episodes": 0,
        "run.precision": "float32",
        "run.threads": 1,
    }
    small |= {"agent.workers": 2, "replay.batch": 1} if agent == "a3c" else {}
    config = overrides.apply(make_config(agent, preset, id), small)
    run_dir = tmp_path / "run"
    first = begin(config, run_dir)
    first.train(Stop(first, 6))
    again(config, run_dir).train(Never())
    last = [record for record in read_metrics(run_dir) if "train/entropy" in record][-1]
    assert last["learner_steps"] >= 2
    assert all(last[f"train/{name}"] == last[f"train/{name}"] for name in ("policy_loss", "value_loss", "entropy"))
    policy = reverie.load(run_dir)
    env = reverie.make_env(id, protocol=config.env.protocol, **config.env.options)
    obs = {name.removeprefix("obs."): value for name, value in env.reset(seed=0).items() if name.startswith("obs.")}
    action, _ = policy.act(obs, policy.initial_state(1))
    env.close()
    assert env.spec.action.contains(action[0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"replay.window.learn": 7}, r"set replay\.window\.period to 7"),
        ({"replay.window.drift": True}, r"set replay\.window\.drift to false"),
        ({"replay.window.state": "stored"}, r"no recurrent state to keep"),
    ],
)
def test_what_cannot_be_is_one_line(words: dict[str, Any], reason: str, tmp_path: Path) -> None:
    config = overrides.apply(make_config("a2c", "cpu", "CartPole-v1"), words)
    with pytest.raises(UserError, match=reason) as error:
        Local(config, tmp_path)
    assert "\n" not in str(error.value)


def test_a_run_in_bfloat16_goes_well(tmp_path: Path) -> None:
    """Networks in bfloat16, heads and losses in float32."""
    config = overrides.apply(
        make_config("impala", "cpu-toy", "toy/catch"),
        {"run.precision": "bfloat16", "run.env_steps": 700, "run.eval_episodes": 0, "run.log_every": 100},
    )
    local = Local(config, tmp_path)
    assert local.learner.precision == torch.bfloat16
    local.train(Never())
    last = [record for record in read_metrics(tmp_path) if "train/log_ratio" in record][-1]
    assert last["train/log_ratio"] < 0.2
