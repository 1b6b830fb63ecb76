"""Updates of value-based agents have static shapes and never wait for the device."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.agents.test_static import WAITING, Watch
from tests.agents.value import IMAGE, SMALL, VECTOR, batch, make

AGENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dqn", {"double": True, "dueling": True, "n_step": 3, "target_every": 2, "beta_over": 9}, {}),
    ("dqn", {"n_step": 5, "n_step_end": 2, "n_step_over": 3}, {}),
    ("drqn", {"units": 5, "stack": 2}, {"learn": 6}),
    ("drqn", {"units": 5, "stack": 2, "torso": replace(SMALL["torso"], standardise=True)}, {"learn": 6}),
    ("drqn", {"units": 5, "core": "gru", "whole_episodes": True}, {"learn": 6}),
    ("rainbow", {"target_every": 2, "beta_over": 9}, {}),
    ("rainbow", {"noisy": False, "dueling": False}, {"learn": 3}),
    ("iqn", {"target_every": 2}, {}),
    ("iqn", {"double": True, "dueling": True, "n_step": 3}, {"learn": 3}),
    ("r2d2", {"units": 5, "n_step": 3}, {"context": 4, "learn": 8, "period": 4, "state": "stored", "drift": True}),
]


@pytest.mark.parametrize("env", [IMAGE, VECTOR])
@pytest.mark.parametrize(("agent", "settings", "spec"), AGENTS)
def test_update_is_static_and_never_waits(agent: str, settings: dict[str, Any], spec: dict[str, Any], env: Any) -> None:
    learner = make(agent, env, spec, **settings)
    learner.update(batch(learner))
    traces = []
    for seed in range(1, 4):
        data = batch(learner, seed=seed)
        with Watch() as watch:
            learner.update(data)
        traces.append(watch.trace)
    assert len(traces[0]) > 50
    assert traces[0] == traces[1] == traces[2]
    assert [name for name, _ in traces[0] if name in WAITING] == []


@pytest.mark.parametrize(("agent", "settings", "spec"), AGENTS)
def test_what_the_host_leaves_out_changes_nothing(agent: str, settings: dict[str, Any], spec: dict[str, Any]) -> None:
    ours, watched = (make(agent, IMAGE, spec, **settings) for _ in range(2))
    for seed in range(4):
        ours.update(batch(ours, seed=seed))
        with Watch():
            watched.update(batch(watched, seed=seed))
    # The last bits of products hang on where their factors lie in memory, on some processors.
    torch.testing.assert_close(dict(ours.state_dict()), dict(watched.state_dict()), rtol=1e-5, atol=1e-8)
