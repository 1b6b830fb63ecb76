"""Updates of actor-critics have static shapes and never wait for the device; on a GPU they are captured."""

from typing import Any

import pytest
import torch

from reverie.agents.capture import EAGER, CapturedUpdate
from tests.agents.actor_critics import CONTINUOUS, IMAGE, RATE, SEVERAL, VECTOR, batch, make
from tests.agents.test_capture import on_gpu, outcome, same
from tests.agents.test_static import WAITING, Watch

KINDS: list[tuple[str, Any, dict[str, Any]]] = [
    ("a2c", VECTOR, {}),
    ("a2c", IMAGE, {"core": "gru", "average": "sum"}),
    ("impala", IMAGE, {"state": "stored", "core": "lstm", "popart": True}),
    ("impala", SEVERAL, {"correction": "one-step"}),
    ("impala", CONTINUOUS, {"correction": "epsilon"}),
]
EACH = pytest.mark.parametrize(("agent", "env", "changes"), KINDS)


@EACH
def test_update_is_static_and_never_waits(agent: str, env: Any, changes: dict[str, Any]) -> None:
    learner = make(agent, env, **changes)
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


@on_gpu
@EACH
def test_a_recorded_update_is_the_update(agent: str, env: Any, changes: dict[str, Any]) -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(agent, env, device=torch.device("cuda"), opt=RATE, **changes)
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [batch(learner, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


@on_gpu
@EACH
def test_an_update_is_that_of_the_cpu(
    agent: str, env: Any, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here = make(agent, env, opt=RATE, **changes)
    there = make(agent, env, device=torch.device("cuda"), opt=RATE, **changes)
    there.policy.load_state_dict(here.policy.state_dict())
    for seed in range(4):
        data = batch(here, seed=seed)
        one, other = here.update(data), there.update(data.to(there.device))
        for name, value in one.metrics.items():
            torch.testing.assert_close(other.metrics[name].cpu(), value, rtol=1e-3, atol=1e-4)
