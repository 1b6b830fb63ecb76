"""Two tasks that look the same and pay for opposite things: one TD-MPC2 model learns both, by their embeddings alone.

The twin is the same run whose embeddings are all zero, so that nothing says which task it is.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from reverie import overrides
from reverie.nets.task_table import TaskTable
from reverie.presets import make_config
from reverie.run.train import train

TASKS = "odd_tasks:Up,odd_tasks:Down"
SETTINGS: dict[str, Any] = {
    "agent.size": {"kind": "tiny", "encoder_units": 16, "units": 32, "latent": 16},
    "agent.task_size": 8,
    "agent.episode_lengths": [5, 5],
    "agent.plan.candidates": 24,
    "agent.plan.elites": 6,
    "agent.plan.policy_candidates": 4,
    "agent.opt.lr": 4e-3,
    "agent.opt.lr_over": 0,
    "agent.actor_opt.lr": 4e-3,
    "agent.actor_opt.lr_over": 0,
    "agent.encoder_lr": 1.0,
    "env.num_envs": 8,
    "replay.batch": 32,
    "run.seed": 100,
    "run.device": "cpu",
    "run.threads": 1,
    "run.env_steps": 900,
    "run.prefill": 240,
    "run.train_ratio": 24.0,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 4,
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_one_model_learns_opposites_and_its_twin_does_not(
    cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best is 5 for each; what earns 5 in one earns -5 in the other."""
    if cut:
        monkeypatch.setattr(TaskTable, "embed", lambda self, task: torch.zeros(*task.shape, 8))
    summary = train(overrides.apply(make_config("tdmpc2", "cpu", TASKS), SETTINGS), tmp_path / "run")
    scores = list(summary["eval_tasks"].values())
    if cut:
        assert sum(scores) < 2.0, scores
    else:
        assert min(scores) > 3.0, scores
