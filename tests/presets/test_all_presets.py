"""Every preset of every agent, over each of its bases: it builds, updates, saves and loads; its settings do too.

Widths, and windows of many rows, are reduced; every other number is the preset's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie import overrides
from reverie.agents import AGENTS
from reverie.agents.agent import Noise, Seat
from reverie.agents.learner import Learner
from reverie.config import Config
from reverie.data.rows import row_spec
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.envs.tasks import TASK
from reverie.presets import bases_of, make_config, presets_of
from reverie.run.build import build_agent, build_learner
from reverie.run.tree import load_tree, save_tree
from tests.narrow import narrow

BATCH = 2
CONTINUOUS = ("dmc", "metaworld", "Pendulum")
VECTORS = ("CartPole", "Pendulum", "metaworld-tdmpc2")


def each() -> list[Any]:
    """Agent, base, preset; an agent that is built on several others has the presets of each."""
    return [
        pytest.param(agent, base, preset, id="-".join(filter(None, (agent, base, preset))))
        for agent in AGENTS
        for base in bases_of(agent) or [None]
        for preset in presets_of(agent, base)
    ]


EACH = pytest.mark.parametrize(("agent", "base", "preset"), each())


def seen(config: Config) -> EnvSpec:
    """What an environment of the preset's kind shows and takes, without the environment."""
    id, kind = config.env.id, config.env.protocol
    tasks = tuple(id.split(",")) if "," in id else ()
    vector = "proprio" in kind or any(name in f"{id} {kind}" for name in VECTORS)
    gray = id.startswith("ALE") and config.env.options.get("grayscale", True)
    observation: dict[str, spaces.Space] = (
        {"vector": spaces.Box(-np.inf, np.inf, (4,), np.float32)}
        if vector
        else {"image": spaces.Box(0, 255, (*(2 * (config.env.options.get("size", 64),)), 1 if gray else 3), np.uint8)}
    )
    if tasks:
        observation[TASK] = spaces.Discrete(len(tasks))
    box = id.startswith(CONTINUOUS)
    action = spaces.Box(-1, 1, (2,), np.float32) if box else spaces.Discrete(3)
    return EnvSpec(id, observation, action, tasks=tasks)


def values(space: spaces.Space | None, shape: tuple[int, ...], dtype: Any, g: torch.Generator) -> Tensor:
    """Numbers of a row's field that may stand there."""
    if isinstance(space, spaces.Discrete):
        return torch.randint(int(space.n), shape, generator=g)
    if dtype == np.uint8:
        return torch.randint(256, shape, generator=g, dtype=torch.uint8)
    if dtype == np.bool_:
        return torch.zeros(shape, dtype=torch.bool)
    return 2 * torch.rand(shape, generator=g) - 1


def batch(learner: Learner, env: EnvSpec, seed: int) -> Batch:
    """Windows of an episode that goes on."""
    g = torch.Generator().manual_seed(seed)
    windows, policy = learner.windows, learner.policy
    of = {f"obs.{name}": space for name, space in env.observation.items()}
    of |= {"action": env.action, "prev_action": env.action}
    rows = {
        name: values(of.get(name), (windows.length, BATCH, *field.shape), field.dtype, g)
        for name, field in row_spec(env.observation, env.action, policy.extras).items()
    }
    state = policy.initial_state(BATCH)
    start = state if windows.state == "stored" else None
    times = len(windows.probes)
    probes = {name: torch.stack([value] * times) for name, value in state.items()} if times else None
    return Batch(rows, start, torch.arange(BATCH), torch.full((BATCH,), 0.5), torch.zeros(BATCH), probes)


@EACH
def test_every_preset_is_read_as_it_was_saved(agent: str, base: str | None, preset: str) -> None:
    config = make_config(agent, preset, None, base=base)
    assert overrides.from_dict(config, overrides.to_dict(config)) == config


@EACH
def test_every_preset_builds_updates_saves_and_loads(agent: str, base: str | None, preset: str, tmp_path: Path) -> None:
    whole = make_config(agent, preset, None, base=base)
    config = dataclasses.replace(whole, agent=narrow(whole.agent))
    config = overrides.apply(config, {"run.precision": "float32", "run.compile": False})
    window = narrow(whole.replay.window)
    config = dataclasses.replace(config, replay=dataclasses.replace(config.replay, window=window))
    env = seen(config)
    learner, other = (
        build_learner(overrides.apply(config, {"run.seed": seed}), build_agent(config, env), torch.device("cpu"))
        for seed in (0, 1)
    )
    metrics = learner.update(batch(learner, env, 0)).metrics
    assert [name for name, value in metrics.items() if not torch.isfinite(value)] == []
    save_tree(tmp_path / "learner", learner.save())
    other.restore(load_tree(tmp_path / "learner"))
    assert other.learner_steps == 1
    rows = {name: value[0] for name, value in batch(learner, env, 2).rows.items()}
    one, two = (
        each.policy.step(each.policy.initial_state(BATCH), rows, Noise(3), Seat.alone(BATCH, "explore"))
        for each in (learner, other)
    )
    assert torch.equal(one.action, two.action)
    again, twin = (each.update(batch(learner, env, 3)).metrics for each in (learner, other))
    assert {name: value.item() for name, value in again.items()} == {name: value.item() for name, value in twin.items()}
