"""Every agent in bfloat16, GPUs' default: updates of random rows go well; on a GPU, recorded ones are the updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny_runs import SMALL

from reverie import overrides
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.learner import Learner
from reverie.data.rows import Field, row_spec
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.presets import make_config
from reverie.run.build import build_agent, build_learner, env_spec
from tests.agents.test_capture import GPU, on_gpu, outcome, same
from tests.agents.test_meta_device import cases

WINDOWS = 3
ENDS = 0.15


def rows(spec: dict[str, Field], env: EnvSpec, time: int, g: np.random.Generator) -> dict[str, torch.Tensor]:
    """Rows [time, WINDOWS] with ends of both kinds, each followed by the first row of an episode."""
    last = g.random((time, WINDOWS)) < ENDS
    first = np.concatenate([g.random((1, WINDOWS)) < ENDS, last[:-1]])
    flags = {"is_last": last, "is_first": first, "is_terminal": last & (g.random(last.shape) < 0.5)}
    made: dict[str, torch.Tensor] = {}
    for name, field in spec.items():
        shape = (time, WINDOWS, *field.shape)
        if name in flags:
            value = flags[name]
        elif field.dtype == np.uint8:
            value = g.integers(0, 256, shape)
        elif np.issubdtype(field.dtype, np.integer):  # actions
            assert isinstance(env.action, spaces.Discrete)
            value = g.integers(0, int(env.action.n), shape)
        else:
            value = g.uniform(-1, 1, shape)
        made[name] = torch.from_numpy(np.ascontiguousarray(value, field.dtype))
    return made


def made(agent: str, id: str, precision: str, device: torch.device, batches: int = 1) -> tuple[Learner, list[Batch]]:
    """A learner with small networks, and random batches."""
    config = make_config(agent, "cpu", id)
    keys = overrides.flatten(config)
    small = {key: value for key, value in SMALL.items() if key in keys}
    if config.replay.selector.uses_up:
        small["replay.window.period"] = small["replay.window.learn"]
    config = overrides.apply(config, {**small, "run.precision": precision})
    env = env_spec(config)
    torch.manual_seed(0)
    learner = build_learner(config, build_agent(config, env), device)
    spec = row_spec(env.observation, env.action, learner.policy.extras)
    start = learner.policy.initial_state(WINDOWS) if learner.windows.state == "stored" else None
    g, data = np.random.default_rng(0), []
    for _ in range(batches):
        told = rows(spec, env, learner.windows.length, g)
        numbers = torch.arange(WINDOWS)
        data.append(Batch(told, start, numbers, torch.full((WINDOWS,), 0.5), torch.zeros_like(numbers)).to(device))
    return learner, data


EACH = pytest.mark.parametrize(("agent", "id"), cases())


@EACH
def test_updates_in_bfloat16_go_well(agent: str, id: str) -> None:
    """Numbers stay finite, weights and moments float32, and all that is told is near what float32 tells."""
    learner, data = made(agent, id, "bfloat16", torch.device("cpu"), 2)
    assert learner.precision == torch.bfloat16
    before = {name: value.clone() for name, value in learner.named_parameters()}
    rounded, after = (learner.update(batch).metrics for batch in data)
    assert all(value.isfinite().all() for metrics in (rounded, after) for value in metrics.values())
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in learner.parameters())
    assert any(not torch.equal(before[name], value) for name, value in learner.named_parameters())
    exact, (first, *_) = made(agent, id, "float32", torch.device("cpu"))
    told = exact.update(first).metrics
    losses = [name for name in told if name.endswith("loss")]
    assert losses
    for name in losses:
        assert torch.allclose(rounded[name], told[name], rtol=0.1, atol=0.05), name


@on_gpu
@EACH
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recorded_update_is_the_update(agent: str, id: str, precision: str) -> None:
    outcomes = []
    for captured in (False, True):
        learner, data = made(agent, id, precision, GPU, EAGER + 2)
        outcomes.append(outcome(learner, CapturedUpdate(learner) if captured else learner.update, data))
    if precision == "float32":
        return same(*outcomes)
    one, other = outcomes
    for name in [name for name in one if name.startswith("0.") and name.endswith("loss")]:
        torch.testing.assert_close(other[name], one[name], rtol=1e-2, atol=1e-2)
    assert all(value.isfinite().all() for value in other.values())
