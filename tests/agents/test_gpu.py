"""Value-based updates on a GPU compute what they compute on a CPU."""

from typing import Any

import pytest
import torch

from tests.agents.value import IMAGE, VECTOR, batch, make, same_parameters

AGENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dqn", {"double": True, "dueling": True, "n_step": 3, "target_every": 2}, {"learn": 3}),
    ("drqn", {"units": 5, "stack": 2}, {"learn": 6}),
    ("drqn", {"units": 5, "core": "gru"}, {"learn": 6}),
    ("r2d2", {"units": 5, "n_step": 3}, {"context": 4, "learn": 8, "period": 4, "state": "stored", "drift": True}),
]
"""Those whose updates draw no random numbers, which differ between devices."""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with a CPU")
@pytest.mark.parametrize("env", [IMAGE, VECTOR])
@pytest.mark.parametrize(("agent", "settings", "spec"), AGENTS)
def test_an_update_is_that_of_the_cpu(
    agent: str, settings: dict[str, Any], spec: dict[str, Any], env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here = make(agent, env, spec, **settings)
    there = make(agent, env, spec, device=torch.device("cuda"), **settings)
    same_parameters(here, there)
    for seed in range(4):
        data = batch(here, seed=seed)
        one, other = here.update(data), there.update(data.to(there.device))
        assert one.metrics.keys() == other.metrics.keys()
        for name, value in one.metrics.items():
            torch.testing.assert_close(other.metrics[name].cpu(), value, rtol=1e-3, atol=1e-4)
        assert one.feedback is not None
        assert other.feedback is not None
        torch.testing.assert_close(other.feedback.priorities.cpu(), one.feedback.priorities, rtol=1e-3, atol=1e-4)
