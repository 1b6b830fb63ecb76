"""An update on a device that is not the processor, without one: what a GPU would stumble over is seen on "meta".

Tensors there have shapes and no numbers. Nothing may be read back to the host, nothing may be made on it or sent from
it, and no operation may meet tensors of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reverie import overrides
from reverie.agents import AGENTS
from reverie.agents.learner import Learner
from reverie.agents.noise import Noise
from reverie.data.rows import row_spec
from reverie.data.sequences import Batch
from reverie.presets import make_config
from reverie.run.build import build_agent, build_learner, env_spec
from reverie.run.meter import Meter
from reverie.run.tree import load_tree, save_tree

META = torch.device("meta")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "_unique2", "is_nonzero", "bincount")
CONTINUOUS = ("apex-dpg", "planet", "tdmpc", "tdmpc2")
"""agents for continuous actions only"""


class Crossings(TorchDispatchMode):
    """Records operations that would wait for a device, or meet what is not on it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("index", "index_put_") and any(each.dtype == torch.bool for each in tree_leaves(args[1])):
            self.found.append(f"{name} by a mask: the size of its result is in the numbers")
        result = func(*args, **(kwargs or {}))
        self.count += 1
        tensors = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor)]
        if name in WAITS or any(each.device != META for each in tensors):
            self.found.append(f"{name} {[(each.device.type, tuple(each.shape)) for each in tensors]}")
        return result


@pytest.fixture(autouse=True)
def what_meta_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no generators, no mixed precision, and no fused Adam, which is one kernel and crosses nothing."""

    def init(self: Noise, seed: int, device: torch.device | None = None, host: bool = False) -> None:
        self.device, self.generator = device or torch.device("cpu"), torch.Generator().manual_seed(seed)

    monkeypatch.setattr(Noise, "__init__", init)
    monkeypatch.setattr(Noise, "uniform", lambda self, *shape: torch.rand(shape, device=self.device))
    enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and enabled(kind))
    monkeypatch.setattr(torch, "_fused_adam_", lambda *_, **__: None)


def zeros(shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
    """A tensor on that device, of numpy's dtype."""
    return torch.zeros(shape, dtype=torch.from_numpy(np.zeros((), dtype)).dtype, device=META)


def made(agent: str, id: str) -> tuple[Learner, Batch]:
    """A learner on that device, and a batch of three windows."""
    config = overrides.apply(make_config(agent, "cpu", id), {"run.precision": "float32"})
    env = env_spec(config)
    learner = build_learner(config, build_agent(config, env), META)
    windows, policy = learner.windows, learner.policy
    spec = row_spec(env.observation, env.action, policy.extras)
    rows = {name: zeros((windows.length, 3, *field.shape), field.dtype) for name, field in spec.items()}
    start = policy.initial_state(3) if windows.state == "stored" else None
    probes = None
    if windows.probes:
        probes = {name: torch.stack([value] * len(windows.probes)) for name, value in policy.initial_state(3).items()}
    keys = torch.zeros(3, dtype=torch.int64, device=META)
    return learner, Batch(rows, start, keys, torch.ones(3, device=META), keys.clone(), probes)


def cases() -> Iterator[Any]:
    for agent in AGENTS:
        yield pytest.param(agent, "Pendulum-v1" if agent in CONTINUOUS else "toy/catch", id=agent)
    for agent in ("dreamerv1", "dreamerv2", "dreamerv3"):
        yield pytest.param(agent, "Pendulum-v1", id=f"{agent}-continuous")


@pytest.mark.parametrize(("agent", "id"), cases())
def test_an_update_stays_on_its_device(agent: str, id: str) -> None:
    learner, batch = made(agent, id)
    assert {tensor.device for tensor in [*learner.parameters(), *learner.buffers()]} == {META}
    learner.update(batch)  # what is made in the first update is made where the parameters are
    learner.schedule()
    with Crossings() as crossings:
        result = learner.apply_update(batch)
    assert crossings.count > 50
    assert crossings.found == []
    assert {name for name, value in result.metrics.items() if value.device != META or value.dim()} == set()
    if result.feedback is not None:
        states = result.feedback.states or {}
        told = [result.feedback.keys, *states.values()]
        told += [] if result.feedback.priorities is None else [result.feedback.priorities]
        assert {tensor.device for tensor in told} == {META}


def test_what_crosses_is_seen() -> None:
    with Crossings() as crossings:
        torch.ones(2, device=META) * torch.tensor(3.0)
        torch.ones(2).to(META)
        with pytest.raises(NotImplementedError):
            torch.ones(2, device=META)[torch.ones(2, dtype=torch.bool, device=META)]
    names = " ".join(crossings.found)
    assert all(name in names for name in ("lift_fresh", "mul", "_to_copy", "by a mask"))


def test_means_that_were_open_go_on_where_the_new_ones_are(tmp_path: Any) -> None:
    """A checkpoint's sums lie on the processor, those of the updates that follow do not."""
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0), "norm": torch.tensor(2.0)})
    save_tree(tmp_path / "c", meter.state_dict())
    other = Meter()
    other.load_state_dict(load_tree(tmp_path / "c"))
    other.add({"loss": torch.ones((), device=META), "norm": torch.ones((), device=META)})
    assert {total.device for total in other.sums.values()} == {META}
