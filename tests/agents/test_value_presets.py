"""Presets of the value-based agents for Atari: the published numbers, and a short run at R2D2's published size."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie import overrides
from reverie.data.selectors import PrioritisedConfig, UniformConfig
from reverie.presets import make_config
from reverie.run.build import build_agent, build_env, build_learner
from reverie.run.train import train

PUBLISHED: dict[tuple[str, str], dict[str, Any]] = {
    # Mnih et al. 2015, Extended Data Table 1 and the released code
    ("dqn", "atari"): {
        "agent.n_step": 1,
        "agent.gamma": 0.99,
        "agent.reward": "sign",
        "agent.stack": 4,
        "agent.hidden": 512,
        "agent.target_every": 10_000 // 4,
        "agent.double": False,
        "agent.opt.lr": 2.5e-4,
        "agent.opt.kind": "rmsprop",
        "agent.opt.clip": math.inf,
        "agent.explore.end": 0.1,
        "agent.explore.over": 1_000_000,
        "agent.explore.evaluation": 0.05,
        "env.protocol": "atari-dqn2015",
        "replay.batch": 32,
        "replay.window.learn": 1,
        "replay.selector": UniformConfig(),
        "run.frames": 200_000_000,
        "run.prefill": 50_000,
        "run.train_ratio": 32 / 4,
    },
    # Castro et al. 2018 (Dopamine); Machado et al. 2018 for the protocol
    ("dqn", "atari-modern"): {
        "agent.target_every": 8000 // 4,
        "agent.opt.kind": "adam",
        "agent.opt.lr": 6.25e-5,
        "agent.opt.eps": 1.5e-4 / 2,  # of the loss's half
        "agent.explore.end": 0.01,
        "agent.explore.over": 250_000,
        "agent.explore.evaluation": 0.001,
        "env.protocol": "atari-84",
        "run.prefill": 20_000,
    },
    # Horgan et al. 2018, appendix C
    ("apex", "atari"): {
        "agent.n_step": 3,
        "agent.gamma": 0.99,
        "agent.double": True,
        "agent.dueling": True,
        "agent.actor_priorities": True,
        "agent.target_every": 2500,
        "agent.beta": 0.4,
        "agent.opt.kind": "rmsprop",
        "agent.opt.lr": 0.00025 / 4,
        "agent.opt.eps": 1.5e-7,
        "agent.opt.clip": 40.0,
        "agent.explore.kind": "ladder",
        "agent.explore.base": 0.4,
        "agent.explore.alpha": 7.0,
        "env.num_envs": 360,
        "replay.batch": 512,
        "replay.selector": PrioritisedConfig(alpha=0.6),
        "run.prefill": 50_000,
        "run.train_ratio": 0.78,
    },
    # Hausknecht & Stone 2015, but for the optimiser
    ("drqn", "atari"): {
        "agent.stack": 1,
        "agent.units": 512,
        "agent.hidden": 0,
        "agent.target_every": 10_000,
        "agent.opt.clip": 10.0,
        "replay.window.learn": 10,
        "replay.window.context": 0,
        "replay.window.state": "zero",
        "replay.store.budget": 400_000 * 7110,
        "run.frames": 4 * 10_000_000,
        "env.protocol": "atari-dqn2015",
    },
    # Kapturowski et al. 2019, table 2 and sections 2.3, 3
    ("r2d2", "atari"): {
        "agent.n_step": 5,
        "agent.gamma": 0.997,
        "agent.reward": "identity",
        "agent.rescaling": 1e-3,
        "agent.eta": 0.9,
        "agent.beta": 0.6,
        "agent.double": True,
        "agent.dueling": True,
        "agent.feed": True,
        "agent.actor_priorities": True,
        "agent.units": 512,
        "agent.stack": 4,
        "agent.target_every": 2500,
        "agent.opt.lr": 1e-4,
        "agent.opt.eps": 1e-3,
        "agent.opt.clip": 40.0,
        "agent.explore.kind": "ladder",
        "agent.explore.base": 0.4,
        "agent.explore.alpha": 7.0,
        "env.num_envs": 256,
        "env.protocol": "atari-84",
        "env.options": {"sticky": 0.0, "noop_max": 30},
        "replay.batch": 64,
        "replay.window.context": 40,
        "replay.window.learn": 80,
        "replay.window.period": 40,
        "replay.window.state": "stored",
        "replay.selector": PrioritisedConfig(alpha=0.9),
        "run.train_ratio": 80 / 40 * 0.8,  # trained rows per row, each window about 0.8 times
    },
}


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("agent", "preset"), PUBLISHED)
def test_numbers_are_the_published_ones(agent: str, preset: str) -> None:
    config = make_config(agent, preset, "ALE/Pong-v5")
    assert {key: at(config, key) for key in PUBLISHED[agent, preset]} == PUBLISHED[agent, preset]


def test_r2d2_keeps_four_million_rows_and_reads_whole_windows() -> None:
    """Its budget holds about what the paper's replay held, 4 million rows; a window has 40 + 80 + 5."""
    config = make_config("r2d2", "atari", "ALE/MsPacman-v5")
    small = overrides.apply(config, {"env.num_envs": 1})
    env = build_env(small)
    try:
        learner = build_learner(small, build_agent(small, env.spec), torch.device("cpu"))
    finally:
        env.close()
    assert (learner.windows.context, learner.windows.learn, learner.windows.lookahead) == (40, 80, 5)
    assert learner.policy.network.actions == 18
    states = (2 * 512 * 4 + 3 * 84 * 84) / 40
    assert config.replay.store.budget / (84 * 84 + states) == pytest.approx(4e6, rel=0.05)


@pytest.mark.slow
def test_r2d2_trains_at_the_published_size(tmp_path: Path) -> None:
    """A run of 2 streams that makes 4 updates of 2 windows."""
    config = overrides.apply(
        make_config("r2d2", "atari", "ALE/MsPacman-v5"),
        {
            "env.num_envs": 2,
            "replay.store.budget": 60_000_000,
            "replay.batch": 2,
            "run.prefill": 300,
            "run.env_steps": 620,
            "run.log_every": 20,
            "run.eval_episodes": 0,
            "run.checkpoint_every": 0,
        },
    )
    train(config, tmp_path / "run")
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["env_steps"], last["learner_steps"]) == (620, 4)
