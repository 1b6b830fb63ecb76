"""Value-based agents with networks in bfloat16: float32 losses and gradients, up to what 8 bits of mantissa round."""

from typing import Any

import pytest
import torch

from tests.agents.value import IMAGE, batch, disturb, make, same_parameters

AGENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dqn", {"double": True, "dueling": True, "stack": 2}, {"learn": 3}),
    ("rainbow", {}, {"learn": 3}),
    ("iqn", {}, {"learn": 3}),
    ("drqn", {"units": 16, "core": "gru"}, {"learn": 6}),
    ("r2d2", {"units": 16, "n_step": 3}, {"context": 4, "learn": 8, "period": 4, "state": "stored"}),
]


@pytest.mark.parametrize(("agent", "settings", "spec"), AGENTS, ids=[name for name, _, _ in AGENTS])
def test_bfloat16_is_float32_but_for_rounding(agent: str, settings: dict[str, Any], spec: dict[str, Any]) -> None:
    exact, rounded = make(agent, IMAGE, spec, **settings), make(agent, IMAGE, spec, **settings)
    disturb(exact)
    same_parameters(exact, rounded)
    rounded.precision = torch.bfloat16
    data, found = batch(exact, seed=1), []  # of seed 0 two actions are so close that rounding chooses the other one
    for learner in (exact, rounded):
        loss = next(learner.losses(data, {}))["q"]
        gradients = torch.autograd.grad(loss, [p for p in learner.policy.parameters() if p.requires_grad])
        assert loss.dtype == torch.float32
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        found.append((loss.item(), torch.cat([gradient.flatten() for gradient in gradients])))
    (loss, gradient), (other_loss, other) = found
    assert other_loss != loss
    assert other_loss == pytest.approx(loss, rel=0.02)
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.995
    assert other.norm() / gradient.norm() == pytest.approx(1.0, abs=0.03)
