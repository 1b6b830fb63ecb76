"""TD-MPC and TD-MPC2 with networks in bfloat16: every weight has the gradient of float32, up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.agents import test_tdmpc as tdmpc
from tests.agents import test_tdmpc2 as tdmpc2

LEARNERS: dict[str, Any] = {
    f"{name} {kind}": (module.make, env)
    for name, module in (("tdmpc", tdmpc), ("tdmpc2", tdmpc2))
    for kind, env in (("vector", module.VECTOR), ("image", module.IMAGE))
}


@pytest.mark.parametrize("name", LEARNERS)
def test_bfloat16_is_float32_but_for_rounding(name: str) -> None:
    """Targets are made without gradients just before: what was cast for them must not be what the loss is made of."""
    make, env = LEARNERS[name]
    found = []
    for precision in (torch.float32, torch.bfloat16):
        learner = tdmpc2.disturb(make(env=env))
        learner.precision = precision
        loss = next(learner.losses(tdmpc2.batch(learner), {}))["model"]
        weights = {name: p for name, p in learner.policy.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        found.append((loss.item(), dict(zip(weights, gradients, strict=True))))
    (loss, exact), (other, rounded) = found
    assert other != loss
    assert other == pytest.approx(loss, rel=0.05)
    assert {name for name, g in exact.items() if g is None} == {name for name, g in rounded.items() if g is None}
    assert any("encoder" in name for name, g in exact.items() if g is not None)
    flat = [torch.cat([g.flatten() for g in gradients.values() if g is not None]) for gradients in (exact, rounded)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.99
    for name, gradient in exact.items():
        if gradient is not None and gradient.norm() > 1e-3 * flat[0].norm():
            assert torch.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0) > 0.9, name
