"""Minds: what an agent makes of a row, in numbers and pictures, and what it would do there.

| mind | agents | says |
|---|---|---|
| `Dreaming` | with a world model | action, value, predicted reward and continuation, latents, surprise |
| `Valuing` | value-based ones | action values, memory, what the memory changes |
| `Critical` | actor-critics | probabilities of actions, value, memory |
| `Steering` | deterministic actors | action, its value |
| `Mind` | all others | the action |

Minds belong to the networks and keep nothing: memories are passed in and returned. Noise is passed in too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.agents.actor_policy import ActorCriticPolicy
from reverie.agents.agent import Policy, Seat
from reverie.agents.dpg_policy import DPGPolicy
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.inputs import core_state
from reverie.agents.noise import Tape
from reverie.agents.q_policy import QPolicy
from reverie.agents.worldmodel import WorldModel
from reverie.data.rows import ACTION_MASK, OBS, Rows, State
from reverie.nets.actions import Actions, DiscreteActions
from reverie.nets.latents import Stats
from reverie.nets.values import Scalar

SEAT = Seat.alone(1, "greedy")
Picture = np.ndarray
"""uint8 [H, W] or [H, W, 3]"""


@dataclass(frozen=True)
class Said:
    """What a mind says of B states: numbers, as JSON has them, and pictures of the first of them."""

    numbers: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class Thought:
    """What became of a mind at a row. memory: after the row. action: [1, ...], what it would do."""

    memory: State
    action: np.ndarray
    said: Said


class Mind:
    """Mind of any policy: it acts, and nothing is known of why."""

    lacks: tuple[str, ...] = ("This agent says nothing of values or probabilities of its actions.",)
    """lines for people about what there is not"""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @property
    def noise(self) -> int:
        """Uniform numbers that one `see` takes."""
        return self.policy.noise

    def initial(self) -> State:
        """The memory before an episode."""
        return self.policy.initial_state(1)

    def see(self, memory: State, rows: Rows, u: np.ndarray, before: Sequence[Rows] = ()) -> Thought:
        """Thought at a row [1, ...]. u: uniform [1, `noise`]. before: earlier rows, as far as anybody knows them."""
        tensors, tape = self._tensors(rows), self._tape(u)
        with torch.inference_mode():
            decision = self.policy.step(memory, tensors, tape, SEAT)
            said = self.say(memory, tensors, tape, before)
        return Thought(decision.state, decision.action.cpu().numpy(), said)

    def say(self, memory: State, rows: Mapping[str, Tensor], tape: Tape, before: Sequence[Rows]) -> Said:
        """What it says at a row, with the memory that it had before."""
        return Said()

    def _tensors(self, rows: Rows) -> dict[str, Tensor]:
        return {name: torch.from_numpy(value).to(self.policy.device) for name, value in rows.items()}

    def _tape(self, u: np.ndarray) -> Tape:
        return Tape(torch.from_numpy(u.astype(np.float32)).to(self.policy.device))


class Dreaming(Mind):
    """Mind of a policy that filters by a world model. critic: features [..., F] -> values [...], or None."""

    policy: FilterPolicy

    def __init__(
        self, policy: FilterPolicy, model: WorldModel, critic: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(policy)
        self.model, self.critic = model, critic
        lacks = []
        if not model.objective.tells:
            lacks.append("Its model says nothing about observations, so there is no dream to look at.")
        if model.discount is None:
            lacks.append("Its model does not predict ends of episodes.")
        if critic is None:
            lacks.append("It has no critic: nothing says what a state is worth.")
        if not isinstance(policy, DreamerPolicy):
            lacks.append("It plans at every decision: there are no probabilities of actions.")
        self.lacks = tuple(lacks)

    def see(self, memory: State, rows: Rows, u: np.ndarray, before: Sequence[Rows] = ()) -> Thought:
        """Thought at a row: as the policy's `step`, with posterior and prior on the way."""
        tensors, numbers = self._tensors(rows), self._tape(u).u
        policy, model, latent = self.policy, self.model, self.model.rssm.latent
        with torch.inference_mode():
            previous = model.actions.encode(tensors["prev_action"])
            in_time = {name: value.unsqueeze(0) for name, value in tensors.items()}
            seeing = numbers[:, : policy.seeing].unsqueeze(0)
            seen = model.observe(memory, previous.unsqueeze(0), in_time, seeing)
            mask = tensors[OBS + ACTION_MASK] if policy.masked else None
            encoded = policy.act(seen.last, numbers[:, policy.seeing :], SEAT, mask)
            said = self.tell(seen.last, mask)
            kl = float(latent.kl(*seen.posterior, *seen.prior)[0, 0])
            pictures = {
                "posterior": latent_picture(tuple(x[0, 0] for x in seen.posterior)),
                "prior": latent_picture(tuple(x[0, 0] for x in seen.prior)),
                **said.pictures,
            }
            action = policy.actions.decode(encoded).cpu().numpy()
        return Thought(seen.last, action, Said({"kl": kl, **said.numbers}, pictures))

    def decide(self, state: State, u: np.ndarray) -> np.ndarray:
        """The action [1, ...] in the first of B states, dreamed ones too. u: uniform [1, `noise`]."""
        numbers, policy = self._tape(u).u, self.policy
        first = {name: value[:1] for name, value in state.items()}
        with torch.inference_mode():
            mask = self.model.action_mask(self.model.rssm.feature(first)) if policy.masked else None
            action: np.ndarray = (
                policy.actions.decode(policy.act(first, numbers[:, policy.seeing :], SEAT, mask)).cpu().numpy()
            )
        return action

    def tell(self, state: State, mask: Tensor | None = None) -> Said:
        """What model, critic and actor say of B states: lists of B numbers, probabilities of the first."""
        model, policy = self.model, self.policy
        with torch.inference_mode():
            features = model.rssm.feature(state)
            learned = model.reward.mean(features).float()
            said: dict[str, Any] = {
                "reward": model.reward.earned(learned).tolist(),
                "learned_reward": learned.tolist(),
            }
            if model.discount is not None:
                said["continuation"] = model.discount.continuation(model.discount.mean(features)).float().tolist()
            if self.critic is not None:
                said["value"] = self.critic(features).float().tolist()
            if isinstance(policy, DreamerPolicy):
                if mask is None and policy.masked:
                    mask = model.action_mask(features[:1])
                said |= distribution(policy.actions, policy.decide(features[:1], mask, policy.actor_of(SEAT)))
        return Said(said)

    def prior(self, state: State) -> Picture:
        """Picture of what the prior expected of the first of B dreamed states."""
        with torch.inference_mode():
            return latent_picture(tuple(x[0] for x in self.model.rssm.prior(state["deter"])))


class Valuing(Mind):
    """Mind of a value-based agent. context: rows of a burn-in, as it is trained with."""

    policy: QPolicy

    def __init__(self, policy: QPolicy, context: int) -> None:
        super().__init__(policy)
        self.context = context
        self.remembers = bool(core_state(policy.initial_state(1)))
        lacks = ["It has no world model, so there is no dream."]
        if not self.remembers:
            lacks.append("It has no memory beyond the frames that it stacks.")
        self.lacks = tuple(lacks)

    def say(self, memory: State, rows: Mapping[str, Tensor], tape: Tape, before: Sequence[Rows]) -> Said:
        """Action values; with a memory, its picture, and how far the values are from those after a burn-in.

        ``delta_q`` = ||q(h^) - q(h)|| / max_a |q(h^)|, with h the memory carried until here, as it would be stored, and
        h^ the one that a burn-in of the last rows leads to from zero. None before there are rows to burn in.
        Source: Kapturowski et al. 2019 (R2D2), section 3.
        """
        policy, head = self.policy, self.policy.network.head
        x, after = policy.remember(memory, {name: value.unsqueeze(0) for name, value in rows.items()})
        u = policy.head_noise(tape.u[..., 2:], SEAT)
        q = self._unscaled(head.q(head(x[0], u)))[0]
        numbers: dict[str, Any] = {"q": q.tolist()}
        pictures = memory_pictures(after)
        if self.remembers:
            numbers["burn_in"] = min(len(before), self.context)
            numbers["delta_q"] = None
        if self.remembers and before:
            past = [self._tensors(each) for each in before[-self.context :]] + [dict(rows)]
            unrolled = {name: torch.stack([each[name] for each in past]) for name in rows}
            unrolled["is_first"][0] = True
            x, _ = policy.remember(policy.initial_state(1), unrolled)
            burnt = self._unscaled(head.q(head(x[-1], u)))[0]
            numbers["delta_q"] = delta_q(burnt, q)
        return Said(numbers, pictures)

    def _unscaled(self, q: Tensor) -> Tensor:
        values = self.policy.network.head.values
        return values.unscaled(q) if isinstance(values, Scalar) else q


class Critical(Mind):
    """Mind of an actor-critic."""

    policy: ActorCriticPolicy
    lacks = ("It has no world model, so there is no dream.",)

    def say(self, memory: State, rows: Mapping[str, Tensor], tape: Tape, before: Sequence[Rows]) -> Said:
        """Probabilities of actions, value, and the memory if there is one."""
        policy = self.policy
        (params, value), after = policy.unroll(memory, {name: x.unsqueeze(0) for name, x in rows.items()}, tape)
        numbers = {"value": [float(value[0, 0])], **distribution(policy.actions, params[0])}
        return Said(numbers, memory_pictures(after))


class Steering(Mind):
    """Mind of a deterministic actor with a critic of its actions."""

    policy: DPGPolicy
    lacks = ("It has no world model, so there is no dream.", "Its actions have no probabilities: it takes one.")

    def say(self, memory: State, rows: Mapping[str, Tensor], tape: Tape, before: Sequence[Rows]) -> Said:
        """Mean of the exploring policy, which is the action, and its value."""
        obs, _ = self.policy.stacks.step(memory, rows)
        action = self.policy.actor(obs)
        return Said({"value": [float(self.policy.critic(obs, action)[0])], "mean": action[0].tolist()})


def delta_q(burnt: Tensor, carried: Tensor) -> float:
    """Distance ||q(h^) - q(h)|| / max_a |q(h^)| of action values [A] after a burn-in from those that were carried."""
    return float((burnt - carried).norm() / burnt.abs().max().clamp(min=1e-8))


def distribution(actions: Actions, params: Tensor) -> dict[str, Any]:
    """What is known of an actor's actions, from parameters [1, P]: ``probabilities``, or ``mean`` and ``entropy``."""
    if isinstance(actions, DiscreteActions):
        one = torch.eye(actions.params, device=params.device)
        # Of one factor alone, so that what the others forbid (-inf) does not count.
        parts = [
            actions.log_prob(params.expand(actions.params, -1), _filled(one, actions, params, factor)).exp()
            for factor in range(len(actions.nvec))
        ]
        ends = np.cumsum(actions.nvec).tolist()
        begins = [0, *ends[:-1]]
        joint = [part[begin:end] for part, begin, end in zip(parts, begins, ends, strict=True)]
        return {"probabilities": [(p / p.sum()).tolist() for p in joint]}
    return {"mean": actions.mode(params)[0].tolist(), "entropy": float(actions.entropy(params)[0])}


def _filled(one: Tensor, actions: DiscreteActions, params: Tensor, factor: int) -> Tensor:
    """Encoded actions [P, P]: row i has choice i of its own factor, and the likeliest choice of all others."""
    likely = actions.mode(params)[0]
    rows = likely.expand_as(one).clone()
    begin = sum(actions.nvec[:factor])
    end = begin + actions.nvec[factor]
    rows[begin:end, begin:end] = one[begin:end, begin:end]
    return rows


def latent_picture(stats: Stats) -> Picture:
    """Picture of a latent's parameters, without leading axes.

    Categoricals: probabilities, uint8 [stoch, classes]. Gaussians: mean and std, uint8 [2, stoch], the mean from -3 to
    3, the std from 0 to 2.
    """
    if len(stats) == 1:
        return _bytes(stats[0].softmax(-1))
    mean, std = stats
    return _bytes(torch.stack([(mean + 3) / 6, std / 2]))


def memory_pictures(state: State) -> dict[str, Picture]:
    """Pictures of a core's memory [1, N], as square as they get: uint8, 128 for 0, 255 or 1 for the largest."""
    pictures = {}
    for name, value in core_state(state).items():
        flat = value[0].float().flatten()
        side = int(np.ceil(np.sqrt(len(flat))))
        padded = torch.nn.functional.pad(flat, (0, -(-len(flat) // side) * side - len(flat)))
        scale = flat.abs().max().clamp(min=1e-8)
        pictures[f"memory.{name}"] = _bytes(padded.view(-1, side) / scale * (127 / 255) + 128 / 255)
    return pictures


def _bytes(x: Tensor) -> Picture:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
