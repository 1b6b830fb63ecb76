"""Tiny value learners, random windows for them, and action values computed row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents import find
from reverie.agents.dqn import DQN
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.torsos import TorsoConfig

SIDE = 8
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)}, spaces.Discrete(3))
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, spaces.Discrete(3))
SMALL: dict[str, Any] = {"torso": TorsoConfig(channels=(3, 4, 4), layers=1, units=8), "hidden": 8}


def make(
    agent: str = "dqn",
    env: EnvSpec = IMAGE,
    spec: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    **changes: Any,
) -> Any:
    """A learner of that agent; spec: what `replay.*` asks for."""
    learner, config = find(agent).load()
    settings = config(**{**SMALL, **changes})
    torch.manual_seed(seed)
    return learner(settings, env, learner.sequence(settings, SequenceSpec(**(spec or {})), env), 3, device)


def same_parameters(one: DQN, other: DQN) -> None:
    """Give two learners one set of parameters each for the online and for the target network."""
    for mine, theirs in ((one.policy, other.policy), (one.target, other.target)):
        theirs.load_state_dict(mine.state_dict())


def disturb(learner: DQN, seed: int = 1) -> None:
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
    spec: SequenceSpec = learner.spec
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


def slow_values(
    policy: Any, rows: dict[str, Tensor], state: Any, b: int, from_row: int, spoil: int | None = 0
) -> Tensor:
    """Action values [T, A] of window b by single steps of the policy, nan before `from_row` (where only frames count).

    spoil: the row to be treated as is_first, as zero start states want it; None: no row.
    """
    values = []
    state = {name: value[b : b + 1] for name, value in state.items()}
    blank = policy.initial_state(1)
    for t in range(len(rows["reward"])):
        row = {name: value[t, b][None] for name, value in rows.items()}
        if t == spoil:
            row["is_first"] = torch.tensor([True])
        obs, frames = policy.stacks.step(state, row)
        if t < from_row:
            state = {**state, **frames}
            values.append(torch.full((policy.network.actions,), float("nan")))
            continue
        core = {n.removeprefix("core."): v for n, v in state.items() if n.startswith("core.")}
        if bool(row["is_first"]):
            core = {n: blank[f"core.{n}"] for n in core}
        x, core = policy.network.core.advance(core, policy.network.features(obs, row))
        values.append(policy.network.head.q(policy.network.head(x, x[..., :0]))[0])
        state = {**frames, **{f"core.{n}": v for n, v in core.items()}}
    return torch.stack(values)
