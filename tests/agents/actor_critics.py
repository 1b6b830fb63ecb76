"""Tiny actor-critics, random windows for them, and their losses computed row by row in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents import find
from reverie.agents.agent import Agent, Learner, Play, Seat, Tape
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig

SIDE = 8
PICTURE = {"image": spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)}
ENTRIES = {"vector": spaces.Box(-1, 1, (4,), np.float32)}
IMAGE = EnvSpec("test", PICTURE, spaces.Discrete(3))
VECTOR = EnvSpec("test", ENTRIES, spaces.Discrete(3))
SEVERAL = EnvSpec("test", ENTRIES, spaces.MultiDiscrete([3, 2]))
CONTINUOUS = EnvSpec("test", ENTRIES, spaces.Box(-1, 1, (2,), np.float32))
SMALL: dict[str, Any] = {
    "torso": TorsoConfig(channels=(3, 4, 4), layers=1, units=8),
    "units": 5,
    "stack": 2,
    "init": "torch",
    "reward": "identity",
}


def recipe(agent: str = "a2c", env: EnvSpec = VECTOR, **changes: Any) -> Agent:
    """That agent with tiny networks."""
    kind = find(agent).load()
    return kind(kind.Config(**{**SMALL, **changes}), env)


def make(
    agent: str = "a2c",
    env: EnvSpec = VECTOR,
    learn: int = 6,
    state: str = "zero",
    seed: int = 0,
    device: torch.device | None = None,
    **changes: Any,
) -> Any:
    """A learner of that agent on windows of so many rows."""
    made = recipe(agent, env, **changes)
    torch.manual_seed(seed)
    windows = made.windows(SequenceSpec(learn=learn, period=learn, state=state))  # type: ignore[arg-type]
    return made.learner(made.policy(), windows, 3, device)


def loss_of(learner: Learner, data: Batch, metrics: dict[str, Tensor] | None = None) -> Tensor:
    """The loss, without a step."""
    return next(learner.losses(data, {} if metrics is None else metrics))["actor_critic"]


def count(learner: Learner, learner_steps: int) -> None:
    """Set the count of updates."""
    learner.learner_steps = learner_steps
    learner.policy.version.fill_(learner_steps)


def rows_of(env: EnvSpec, time: int, width: int, seed: int = 0, ends: float = 0.2) -> dict[str, Tensor]:
    """Random rows with ends of both kinds."""
    g = torch.Generator().manual_seed(seed)
    rows: dict[str, Tensor] = {}
    if "image" in env.observation:
        rows["obs.image"] = torch.randint(0, 256, (time, width, SIDE, SIDE, 1), generator=g, dtype=torch.uint8)
    else:
        rows["obs.vector"] = torch.randn(time, width, 4, generator=g)
    last = torch.rand(time, width, generator=g) < ends
    first = torch.cat([torch.rand(1, width, generator=g) < ends, last[:-1]])
    space = env.action
    if isinstance(space, spaces.Box):
        drawn, before = (1.8 * torch.rand(2, time, width, *space.shape, generator=g) - 0.9).unbind(0)
    elif isinstance(space, spaces.MultiDiscrete):
        high = torch.from_numpy(space.nvec)
        drawn, before = (torch.rand(2, time, width, len(high), generator=g) * high).long().unbind(0)
    else:
        drawn, before = torch.randint(0, int(space.n), (2, time, width), generator=g).unbind(0)  # type: ignore[attr-defined]
    axes = [1] * (drawn.dim() - 2)
    rows["action"] = torch.where(last.view(*last.shape, *axes), 0, drawn)
    before = torch.cat([before[:1], rows["action"][:-1]])
    rows["prev_action"] = torch.where(first.view(*first.shape, *axes), 0, before)
    rows["reward"] = torch.where(first, 0.0, 2 * torch.randn(time, width, generator=g))
    rows["is_first"], rows["is_last"] = first, last
    rows["is_terminal"] = last & (torch.rand(time, width, generator=g) < 0.5)
    rows["extra.log_prob"] = torch.randn(time, width, generator=g) - 1.0
    return rows


def batch(learner: Any, width: int = 5, seed: int = 0, ends: float = 0.2) -> Batch:
    """Random windows, with states as an actor might have stored them."""
    spec: SequenceSpec = learner.windows
    env = ENVS[tuple(learner.policy.body.torso.images), learner.policy.actions.size]
    rows = rows_of(env, spec.length, width, seed, ends)
    g = torch.Generator().manual_seed(seed + 1)
    start = None
    if spec.state == "stored":
        start = {}
        for name, value in learner.policy.initial_state(width).items():
            pixels = value.dtype == torch.uint8
            start[name] = (
                torch.randint(0, 256, value.shape, generator=g, dtype=torch.uint8)
                if pixels
                else torch.randn(value.shape, generator=g)
            )
    keys = torch.arange(width) * 1000
    return Batch(rows, start, keys, torch.ones(width), torch.zeros(width, dtype=torch.int64), None)


ENVS = {(("image",), 3): IMAGE, ((), 3): VECTOR, ((), 5): SEVERAL, ((), 2): CONTINUOUS}
"""image keys and width of encoded actions -> environment"""


def own(learner: Any, data: Batch, off: float = 0.0, seed: int = 0) -> Batch:
    """The same windows, acted with the learner's policy; off: deviation of the log-probabilities from that."""
    tape = Tape(data.rows["extra.log_prob"].new_empty(0))
    from reverie.agents.recurrent import start_state

    state, rows = start_state(learner.policy, data, learner.windows, tape)
    with torch.no_grad():
        (params, _), _ = learner.policy.unroll(state, rows, tape)
    actions = learner.policy.actions
    log_prob = actions.log_prob(params, actions.encode(rows["action"]))
    noise = torch.randn(log_prob.shape, generator=torch.Generator().manual_seed(seed))
    behaviour = data.rows["extra.log_prob"].clone()
    behaviour[len(behaviour) - len(log_prob) :] = log_prob + off * noise
    return replace(data, rows={**data.rows, "extra.log_prob": behaviour})


def decide(policy: Any, rows: dict[str, Tensor], u: Tensor, play: Play = "explore", state: Any = None) -> Any:
    """The decision with these random numbers, by streams that are all there are."""
    streams = len(rows["is_first"])
    state = policy.initial_state(streams) if state is None else state
    return policy.step(state, rows, Tape(u), Seat.alone(streams, play))


def slow_outputs(learner: Any, data: Batch) -> tuple[Tensor, Tensor]:
    """Parameters of the distributions [T+1, B, ...] and values [T+1, B] of the learned rows, one row at a time.

    `ActorCriticPolicy.step` is not asked, so that it can be compared with this as well.
    """
    policy, windows = learner.policy, learner.windows
    params, values = [], []
    for b in range(len(data.keys)):
        state = policy.initial_state(1)
        if data.start is not None:
            state = {name: value[b : b + 1] for name, value in data.start.items()}
        for t in range(windows.length):
            row = {name: value[t, b][None] for name, value in data.rows.items()}
            if t == 0 and data.start is None:
                row["is_first"] = torch.tensor([True])
            obs, frames = policy.stacks.step(state, row)
            state = {**state, **frames}
            if t < windows.context:
                continue  # only frames look back
            core = {n.removeprefix("core."): v for n, v in state.items() if n.startswith("core.")}
            if bool(row["is_first"]):
                core = policy.body.core.initial_state(1)
            x = policy.body.torso(obs)
            if policy.body.feed is not None:
                first = bool(row["is_first"])
                action = policy.actions.encode(row["prev_action"])
                reward = row["reward"].clamp(-1, 1)
                x = torch.cat([x, action * (not first), reward.unsqueeze(-1) * (not first)], -1)
            x, core = policy.body.core.advance(core, x)
            state |= {f"core.{n}": v for n, v in core.items()}
            params.append(policy.actor(x)[0])
            values.append(policy.critic(x)[0])
    shape = (len(data.keys), windows.learn + 1)
    return torch.stack(params).unflatten(0, shape).transpose(0, 1), torch.stack(values).view(shape).T


def slow_vtrace(
    rows: dict[str, Tensor], b: int, ratio: list[float], value: list[float], config: Any
) -> list[tuple[float, float]]:
    """Targets and advantages of one window, by the sum of equation 1 of the paper; (0, 0) where is_last."""
    last, terminal = rows["is_last"][:, b].tolist(), rows["is_terminal"][:, b].tolist()
    reward = [config.reward_scale * r for r in rows["reward"][:, b].tolist()]
    time = len(value) - 1

    def after(t: int) -> float:
        return 0.0 if terminal[t] else value[t]

    def target(s: int) -> float:
        if s == time or last[s]:
            return after(s)
        total, product, t = value[s], 1.0, s
        while t < time and not last[t]:
            delta = reward[t + 1] + config.gamma * after(t + 1) - value[t]
            total += config.gamma ** (t - s) * product * min(config.rho_bar, ratio[t]) * delta
            product *= config.lam * min(config.c_bar, ratio[t])
            t += 1
        return total

    pairs = []
    for t in range(time):
        ahead = reward[t + 1] + config.gamma * target(t + 1) - value[t]
        pairs.append((0.0, 0.0) if last[t] else (target(t), min(config.rho_bar, ratio[t]) * ahead))
    return pairs


def slow_loss(learner: Any, data: Batch, vtrace: bool) -> float:
    """The whole loss of a categorical policy of three actions, row by row; of A2C or (vtrace) IMPALA."""
    config = learner.config
    params, values = (x.detach() for x in slow_outputs(learner, data))
    rows = {name: value[learner.windows.context :].double() for name, value in data.rows.items() if "obs" not in name}
    logs = params.double().log_softmax(-1)
    acted, total, number = rows["extra.log_prob"].T.tolist(), 0.0, 0
    one = replace_all(config, rho_bar=1.0, c_bar=1.0) if not vtrace else config
    for b in range(values.shape[1]):
        taken = [float(logs[t, b, int(rows["action"][t, b])]) for t in range(len(values))]
        ratio = [math.exp(p - mu) if vtrace else 1.0 for p, mu in zip(taken, acted[b], strict=True)]
        value = values[:, b].double().tolist()
        for t, (target, advantage) in enumerate(slow_vtrace(rows, b, ratio, value, one)):
            if rows["is_last"][t, b]:
                continue
            if not vtrace:  # with lam below 1, V-trace's looks one whole target ahead, A2C's is the target's own
                advantage = target - value[t]
            entropy = -float((logs[t, b].exp() * logs[t, b]).sum())
            total += -taken[t] * advantage + config.value * 0.5 * (target - value[t]) ** 2 - config.entropy * entropy
            number += 1
    return total / number if config.average == "mean" else total


def replace_all(config: Any, **fields: float) -> Any:
    """An object with the fields of a configuration, and these."""
    return type("Config", (), {**vars(config), **fields})


RATE = OptimConfig(lr=1e-2, eps=1e-5, clip=1.0, shrink=0.0)
