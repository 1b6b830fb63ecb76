"""Rewards are transformed, then scaled: a scale within the transform would be lost in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reverie.agents.a2c import A2CConfig, A2CLearner
from reverie.agents.bellman import Bellman, BellmanConfig
from reverie.ops.transforms import reward_transform


@pytest.mark.parametrize(("kind", "scale", "wanted"), [("sign", 0.3, 0.3), ("clip", 0.1, 0.1), ("identity", 0.2, 1.0)])
def test_scales_come_after_transforms(kind: Any, scale: float, wanted: float) -> None:
    config = BellmanConfig(reward=kind, reward_scale=scale, n_step=1, gamma=0.9)
    rows = {"reward": torch.tensor([[0.0], [5.0]]), "is_last": torch.zeros(2, 1, dtype=torch.bool)}
    rows["is_terminal"] = rows["is_last"]
    parts = Bellman(config).target_parts(rows, 1, torch.tensor(0))
    assert parts.earned.tolist() == [[pytest.approx(wanted)]]
    settings = A2CConfig(reward=kind, reward_scale=scale)
    actor_critic: Any = SimpleNamespace(config=settings, transform=reward_transform(kind))
    assert A2CLearner.reward(actor_critic, rows)[1].item() == pytest.approx(wanted)
