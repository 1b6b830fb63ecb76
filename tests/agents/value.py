"""Tiny value learners, random windows for them, and action values computed row by row."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents import find
from reverie.agents.agent import Agent, Learner, Noise, Play, Seat, Tape
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.torsos import TorsoConfig

SIDE = 8
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)}, spaces.Discrete(3))
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, spaces.Discrete(3))
SMALL: dict[str, Any] = {"torso": TorsoConfig(channels=(3, 4, 4), layers=1, units=8), "hidden": 8}


def recipe(agent: str = "dqn", env: EnvSpec = IMAGE, **changes: Any) -> Agent:
    """That agent with tiny networks."""
    kind = find(agent).load()
    return kind(kind.Config(**{**SMALL, **changes}), env)


def make(
    agent: str = "dqn",
    env: EnvSpec = IMAGE,
    spec: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    **changes: Any,
) -> Any:
    """A learner of that agent; spec: what `replay.*` asks for."""
    made = recipe(agent, env, **changes)
    torch.manual_seed(seed)
    return made.learner(made.policy(), made.windows(SequenceSpec(**(spec or {}))), 3, device)


def losses(learner: Learner, data: Batch, metrics: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The loss of a value learner and the priorities that it sends back, without a step."""
    steps = learner.losses(data, {} if metrics is None else metrics)
    loss = next(steps)["q"]
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert torch.equal(stop.value.value.keys, data.keys)
    return loss, stop.value.value.priorities


def count(learner: Learner, learner_steps: int) -> None:
    """Set the count of updates, on the host and where the device reads it."""
    learner.learner_steps = learner_steps
    learner.policy.version.fill_(learner_steps)


def decide(
    policy: Any, rows: dict[str, Tensor], u: Tensor, play: Play = "greedy", state: dict[str, Tensor] | None = None
) -> Any:
    """The decision with these random numbers, by streams that are all there are."""
    streams = len(rows["is_first"])
    state = policy.initial_state(streams) if state is None else state
    return policy.step(state, rows, Tape(u), Seat.alone(streams, play))


def go_on(agent: str, learner: Learner, **made: Any) -> None:
    """Save after three updates, restore into a learner from another seed: three more updates are the same, bit for bit.

    made: how the learner was made, see `make`.
    """
    for seed in range(3):
        learner.update(batch(learner, seed=seed))
    saved = copy.deepcopy(learner.save())
    other = make(agent, seed=9, **made)
    other.noise = Noise(77)
    other.restore(saved)
    assert other.learner_steps == int(other.policy.version) == 3
    for seed in range(3, 6):
        data = batch(learner, seed=seed)
        first, second = learner.update(data).metrics, other.update(data).metrics
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))
    assert torch.equal(learner.noise.uniform(3), other.noise.uniform(3))


def same_parameters(one: Any, other: Any) -> None:
    """Give two learners one set of parameters each for the online and for the target network."""
    for mine, theirs in ((one.policy, other.policy), (one.target, other.target)):
        theirs.load_state_dict(mine.state_dict())


def disturb(learner: Any, seed: int = 1) -> None:
    """Make the target network differ from the online one."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=g)


def slow_n_step(rows: dict[str, Tensor], t: int, b: int, config: Any) -> tuple[float, float, int]:
    """Rewards (or their signs) earned from row t on, the bootstrap's discount, and its row; one row after another."""
    earned, discount, i = 0.0, 1.0, t
    while i < t + config.n_step and not rows["is_last"][i, b]:
        i += 1
        reward = rows["reward"][i, b]
        earned += discount * config.reward_scale * float(reward.sign() if config.reward == "sign" else reward)
        discount *= config.gamma
    return earned, discount * float(not rows["is_terminal"][i, b]), i


def batch(learner: Any, width: int = 5, seed: int = 0, ends: float = 0.2) -> Batch:
    """Random windows: ends of both kinds, states as an actor might have stored them, uneven probabilities."""
    g = torch.Generator().manual_seed(seed)
    spec: SequenceSpec = learner.windows
    time = spec.length
    rows: dict[str, Tensor] = {}
    images = learner.policy.network.torso.images
    if images:
        rows["obs.image"] = torch.randint(0, 256, (time, width, SIDE, SIDE, 1), generator=g, dtype=torch.uint8)
    else:
        rows["obs.vector"] = torch.randn(time, width, 4, generator=g)
    last = torch.rand(time, width, generator=g) < ends
    first = torch.cat([torch.rand(1, width, generator=g) < ends, last[:-1]])
    rows["action"] = torch.where(last, 0, torch.randint(0, 3, (time, width), generator=g))
    before = torch.cat([torch.randint(0, 3, (1, width), generator=g), rows["action"][:-1]])
    rows["prev_action"] = torch.where(first, 0, before)
    rows["reward"] = torch.where(first, 0.0, 2 * torch.randn(time, width, generator=g))
    rows["is_first"], rows["is_last"] = first, last
    rows["is_terminal"] = last & (torch.rand(time, width, generator=g) < 0.5)
    for name, field in learner.policy.extras.items():
        rows[f"extra.{name}"] = torch.randn(time, width, *field.shape, generator=g)
    start = None
    if spec.state == "stored":
        start = states(learner, (width,), g)
    probes = states(learner, (len(spec.probes), width), g) if spec.probes else None
    keys = torch.arange(width) * 1000
    probabilities = torch.rand(width, generator=g) * 0.1 + 0.01
    return Batch(rows, start, keys, probabilities, torch.zeros(width, dtype=torch.int64), probes)


def states(learner: Any, lead: tuple[int, ...], g: torch.Generator) -> dict[str, Tensor]:
    """Random states [*lead, ...]."""
    made = {}
    for name, value in learner.policy.initial_state(1).items():
        shape = (*lead, *value.shape[1:])
        pixels = value.dtype == torch.uint8
        made[name] = (
            torch.randint(0, 256, shape, generator=g, dtype=torch.uint8) if pixels else torch.randn(shape, generator=g)
        )
    return made


def slow_features(
    policy: Any, rows: dict[str, Tensor], state: Any, b: int, from_row: int, spoil: int | None = 0
) -> Tensor:
    """What the head reads at window b, [T, F], step by step of the core; nan before `from_row` (only frames count).

    spoil: the row to be treated as is_first, as zero start states want it; None: no row.
    """
    features = []
    state = {name: value[b : b + 1] for name, value in state.items()}
    blank = policy.initial_state(1)
    for t in range(len(rows["reward"])):
        row = {name: value[t, b][None] for name, value in rows.items()}
        if t == spoil:
            row["is_first"] = torch.tensor([True])
        obs, frames = policy.stacks.step(state, row)
        if t < from_row:
            state = {**state, **frames}
            features.append(torch.full((policy.network.core.outputs,), float("nan")))
            continue
        core = {n.removeprefix("core."): v for n, v in state.items() if n.startswith("core.")}
        if bool(row["is_first"]):
            core = {n: blank[f"core.{n}"] for n in core}
        x, core = policy.network.core.advance(core, policy.network.features(obs, row))
        features.append(x[0])
        state = {**frames, **{f"core.{n}": v for n, v in core.items()}}
    return torch.stack(features)


def slow_values(
    policy: Any, rows: dict[str, Tensor], state: Any, b: int, from_row: int, spoil: int | None = 0
) -> Tensor:
    """Action values [T, A] of a head without noise, see `slow_features`."""
    head = policy.network.head
    return torch.stack([head.q(head(x, x[:0])) for x in slow_features(policy, rows, state, b, from_row, spoil)])
