"""World models outside of the library: five rows are seen and 45 dreamed, the same states, rewards and ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reverie.export.adapters import RowActions
from reverie.export.graphs import Parts
from reverie.export.trace import Session, trace
from tests.export.test_policies import CLOSE
from tests.export.tiny import Streams, tiny

SEEN, DREAMED, STREAMS = 5, 45, 3
EACH = {
    "dreamerv1": ("Pendulum-v1", 0.2),
    "dreamerv2": ("toy/catch", 0.5),
    "dreamerv3-2023": ("Pendulum-v1", 0.2),
    "dreamerv3": ("toy/catch", 0.5),
}


@pytest.mark.parametrize("agent", list(EACH))
def test_a_dream_is_the_same_outside(agent: str, tmp_path: Path) -> None:
    """Given the same start, actions and noise. What is seen before it, once: that graph is the policy's too."""
    env, spread = EACH[agent]
    parts = tiny(agent, env, spread=spread)
    model, adapter = parts.model, parts.adapter
    assert model is not None
    graphs = parts.dreams()
    wanted = ["imagine", "tell", *(["observe"] if agent == "dreamerv2" else [])]
    for name in wanted:
        trace(name, graphs[name]).save_onnx(tmp_path / f"{name}.onnx")
    run = {name: Session(tmp_path / f"{name}.onnx") for name in wanted}
    generator = np.random.default_rng(3)
    ours = model.initial_state(STREAMS)
    theirs = {f"state.{name}": value.numpy() for name, value in ours.items()}
    world = Streams(parts, STREAMS)
    action = adapter.action.batch(_actions(parts, generator))
    for _ in range(SEEN):
        given, u = world.given(), generator.random((STREAMS, model.observe_noise), np.float32)
        seen = {part.key: part.convert(given[f"obs.{part.key}"]) for part in adapter.observation.parts}
        rows = {f"obs.{key}": torch.from_numpy(value)[None] for key, value in seen.items()}
        rows["is_first"] = torch.from_numpy(given["is_first"])[None]
        encoded = model.actions.encode(torch.from_numpy(_row_actions(parts, action)))
        ours = model.observe(ours, encoded[None], rows, torch.from_numpy(u)[None]).last
        if "observe" in run:
            found = run["observe"]({**given, **theirs, "action": action, "noise": u})
            theirs = {f"state.{name[5:]}": value for name, value in found.items()}
            for name, value in ours.items():
                np.testing.assert_allclose(theirs[f"state.{name}"], value.numpy(), atol=CLOSE)
        world.step(action)
        action = adapter.action.batch(_actions(parts, generator))
    if "observe" not in run:
        theirs = {f"state.{name}": value.numpy() for name, value in ours.items()}
    rewards = []
    for _ in range(DREAMED):
        row = _actions(parts, generator)
        u = generator.random((STREAMS, model.latent_noise), np.float32)
        ours = model.imagine(ours, model.actions.encode(torch.from_numpy(row)), torch.from_numpy(u))
        found = run["imagine"]({**theirs, "action": adapter.action.batch(row), "noise": u})
        theirs = {f"state.{name[5:]}": value for name, value in found.items()}
        for name, value in ours.items():
            np.testing.assert_allclose(theirs[f"state.{name}"], value.numpy(), atol=CLOSE)
        told, expected = run["tell"](theirs), model.tell(ours)
        assert list(told) == list(expected)
        for name, value in expected.items():
            # A picture is rounded to whole shades.
            np.testing.assert_allclose(
                told[name].astype(float),
                value.double().numpy(),
                atol=1.0 if value.dtype == torch.uint8 else CLOSE,
                rtol=CLOSE,
            )
            assert told[name].dtype == value.numpy().dtype
            if value.dtype == torch.uint8:
                assert np.mean(told[name] != value.numpy()) < 0.01
        rewards.append(told[model.reward.unit])
    assert np.std(rewards) > 1e-3


def _actions(parts: Parts, generator: np.random.Generator) -> np.ndarray:
    space = parts.spec.action
    space.seed(int(generator.integers(2**31)))
    return np.stack([np.asarray(space.sample()) for _ in range(STREAMS)])


def _row_actions(parts: Parts, native: np.ndarray) -> np.ndarray:

    return RowActions(parts.adapter.action).back(torch.from_numpy(native)).numpy()
