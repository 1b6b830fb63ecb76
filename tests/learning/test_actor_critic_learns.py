"""An on-policy agent from outside the package learns from a first-in first-out queue, by what it says it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actor_critic import ActorCriticConfig

import reverie
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import FifoConfig
from reverie.report.log import read_metrics


def config(seed: int, **agent: Any) -> Config:
    """Unrolls of 8 rows of 16 streams, each learned once."""
    return Config(
        name="actor_critic:ActorCritic",
        preset="test",
        agent=ActorCriticConfig(**agent),
        env=EnvConfig("CartPole-v1", 16),
        replay=ReplayConfig(16, WindowConfig(learn=8, period=8), FifoConfig(), StoreConfig(4_000_000)),
        run=RunConfig(
            seed=seed,
            env_steps=60_000,
            prefill=0,
            train_ratio=None,
            log_every=2000,
            checkpoint_every=0,
            eval_episodes=20,
            eval_envs=10,
            threads=1,
        ),
    )


@pytest.mark.slow
def test_an_actor_critic_learns_cartpole(tmp_path: Path) -> None:
    summary = reverie.train(config(100), tmp_path / "run")
    assert summary["eval_score"] > 400
    records = [record for record in read_metrics(tmp_path / "run") if "train/ratio_error" in record]
    # Each row is learned once, soon after it was acted: parameters are at most one update older.
    assert 0.8 < records[-1]["replay/ratio"] < 1.03  # closing rows, which are no env_steps, are in windows too
    assert all(record["replay/dropped_windows"] == 0 for record in records)
    assert np.mean([record["train/ratio_error"] for record in records]) < 0.2
    assert reverie.evaluate(tmp_path / "run", episodes=10)["score"] > 300


@pytest.mark.slow
def test_without_its_advantages_it_does_not(tmp_path: Path) -> None:
    """The twin earns nothing that lies ahead, so that all actions are worth the same."""
    assert reverie.train(config(100, gamma=0.0), tmp_path / "run")["eval_score"] < 100
