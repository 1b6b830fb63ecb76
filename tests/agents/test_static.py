"""The update has static shapes and never waits for the device: what a CUDA graph needs."""

import sys
from dataclasses import replace
from typing import Any, Self

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reverie.ops.host import at_hand
from tests.agents.test_dreamerv2 import CONFIG, CONTINUOUS, DISCRETE, batch, learner
from tests.agents.test_dreamerv3 import stored
from tests.agents.v3 import versions

# Operations that copy a value to the host or make the size of a result depend on data.
WAITING = {"_local_scalar_dense", "item", "nonzero", "masked_select", "unique_dim", "_unique2", "is_nonzero", "equal"}


class Watch(TorchDispatchMode):
    """Records operations by name and the shapes of their results, of an update as a device does it."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[tuple[str, tuple[int, ...]]] = []
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        for module in [module for module in sys.modules.values() if vars(module).get("at_hand") is at_hand]:
            self.patch.setattr(module, "at_hand", lambda _: False)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.patch.undo()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        shape = tuple(result.shape) if isinstance(result, torch.Tensor) else ()
        self.trace.append((func.overloadpacket.__name__, shape))
        return result


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("how", ["auto", "both"])
def test_update_is_static_and_never_waits(env: Any, how: str) -> None:
    agent = learner(replace(CONFIG, actor_grad=how, target_every=2), env)
    agent.update(batch(env))  # Adam makes its moments in the first update
    traces = []
    for seed in range(1, 4):
        data = batch(env, seed=seed)
        with Watch() as watch:
            agent.update(data)
        traces.append(watch.trace)
    assert len(traces[0]) > 100
    assert traces[0] == traces[1] == traces[2]
    # The fused CPU kernel of Adam reads its step counter on the host; the capturable one on a GPU does not.
    waits = [name for name, _ in traces[0] if name in WAITING]
    assert waits == []


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("version", ["dreamerv3-2023", "dreamerv3"])
def test_dreamerv3s_update_is_static_and_never_waits(env: Any, version: str) -> None:
    agent = versions()[version](env, **({"state": "stored"} if version == "dreamerv3" else {}))
    traces = []
    for seed in range(3):
        data = stored(batch(env, seed=seed), agent) if version == "dreamerv3" else batch(env, seed=seed)
        with Watch() as watch:
            agent.update(data)
        traces.append(watch.trace)
    assert len(traces[1]) > 100
    assert traces[1] == traces[2]  # moments are made in the first update
    assert [name for name, _ in traces[1] if name in WAITING] == []


def test_the_watch_sees_a_wait() -> None:
    with Watch() as watch:
        torch.ones(2).sum().item()
    assert any(name in WAITING for name, _ in watch.trace)


def test_what_the_host_leaves_out_changes_nothing() -> None:
    ours, watched = learner(replace(CONFIG, target_every=2)), learner(replace(CONFIG, target_every=2))
    for seed in range(4):
        ours.update(batch(DISCRETE, seed=seed))
        with Watch():
            watched.update(batch(DISCRETE, seed=seed))
    assert all(torch.equal(value, watched.state_dict()[name]) for name, value in ours.state_dict().items())
