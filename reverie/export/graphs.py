"""Graphs: what is exported, each a pure function from named tensors to named tensors.

::

    policy    obs.*, reward, is_first, state.*, noise  -->  action, next.*, and what the policy tells beside it
    observe   obs.*, action, is_first, state.*, noise  -->  next.*              the model's memory takes a row in
    imagine   state.*, action, noise                   -->  next.*              one step of a dream
    tell      state.*                                  -->  obs.*, reward, continuation

``next.<name>`` of one step is ``state.<name>`` of the following one. Observations are as the environment gives them,
actions as it takes them; what `tell` says is as rows have it. ``noise`` [B, n] are uniform numbers in [0, 1): the same
numbers, the same outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.agent import Noise, Policy, Seat
from reverie.agents.q_policy import QPolicy
from reverie.agents.worldmodel import HasWorldModel, WorldModel
from reverie.config import Config
from reverie.data.rows import Field, State, row_spec
from reverie.envs.adapter import Adapter
from reverie.envs.env import EnvSpec, shut
from reverie.export.adapters import Observations, RowActions
from reverie.export.port import DTYPES, Port
from reverie.play.load import adapter_of, load_parts
from reverie.run.build import build_agent, build_env
from reverie.run.saved_config import load_config

STATE, NEXT = "state.", "next."
MIDDLE = 0.5
"""of uniform noise: no noise at all where it is a Gaussian's, no random action where it decides about one"""


class Graph(nn.Module):
    """A function from tensors by name to tensors by name. what: it is, in a few words. steady: noise [n] of `noise`.

    inputs: in their order.
    """

    what = ""

    def __init__(self, inputs: list[Port]) -> None:
        super().__init__()
        self.inputs = inputs
        self.steady: Tensor | None = None

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, in their order. given: all inputs, [B, ...] each."""
        raise NotImplementedError


class Handed(Noise):
    """Numbers that are given out whatever shape is asked for: a graph has them as an input of any size."""

    def __init__(self, u: Tensor) -> None:
        self.u, self.device = u, u.device

    def uniform(self, *shape: int) -> Tensor:
        """The numbers."""
        return self.u


class PolicyGraph(Graph):
    """Greedy play of a policy: one decision for each stream."""

    what = "One decision for each stream, as in evaluation"

    def __init__(self, policy: Policy, spec: EnvSpec, adapter: Adapter, env_steps: int) -> None:
        states = _state_ports(policy.initial_state(1))
        observe, act = Observations(adapter), RowActions(adapter.action)
        field = row_spec(spec.observation, spec.action)["prev_action"]
        previous = Port(f"{STATE}prev_action", DTYPES[str(field.dtype)], field.shape, spec.action)
        told = [Port("reward", torch.float32, ()), Port("is_first", torch.bool, ())]
        super().__init__([*observe.ports, *told, *_noise_port(policy.noise), previous, *states])
        if isinstance(policy, QPolicy):  # it tells the action values then, which cost nothing more
            policy.extras = {"q": Field((policy.network.actions,), np.dtype(np.float32))}
        self.policy, self.observe, self.act, self.env_steps = policy, observe, act, env_steps
        self.steady = steady(policy)

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Action, what the policy tells of it, and the state after it."""
        state = _part(given, STATE)
        rows = self.observe(given) | {name: given[name] for name in ("reward", "is_first")}
        rows["prev_action"] = state.pop("prev_action")
        noise = Handed(given["noise"] if "noise" in given else given["reward"].new_zeros(1, 0))
        decision = self.policy.step(state, rows, noise, Seat.alone(1, "greedy", self.env_steps))
        after = {**decision.state, "prev_action": decision.action}
        return {"action": self.act(decision.action), **decision.extras, **_named(after)}


class ObserveGraph(Graph):
    """A world model that takes rows in."""

    what = "The world model's memory takes an observation in, and the action that led to it"

    def __init__(self, model: WorldModel, adapter: Adapter) -> None:
        observe, act = Observations(adapter), RowActions(adapter.action)
        first = Port("is_first", torch.bool, ())
        states = _state_ports(model.initial_state(1))
        super().__init__([*observe.ports, act.port, first, *_noise_port(model.observe_noise), *states])
        self.model, self.adapt, self.act = model, observe, act
        self.steady = torch.full((model.observe_noise,), MIDDLE)

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """The posterior state."""
        rows = self.adapt(given) | {"is_first": given["is_first"]}
        rows = {name: value.unsqueeze(0) for name, value in rows.items()}
        action = self.model.actions.encode(self.act.back(given["action"])).unsqueeze(0)
        return _named(self.model.observe(_part(given, STATE), action, rows, given["noise"].unsqueeze(0)).last)


class ImagineGraph(Graph):
    """A world model that dreams one step."""

    what = "One step of a dream: the state after an action that is not carried out"

    def __init__(self, model: WorldModel, adapter: Adapter) -> None:
        act = RowActions(adapter.action)
        super().__init__([*_state_ports(model.initial_state(1)), act.port, *_noise_port(model.latent_noise)])
        self.model, self.act = model, act
        self.steady = torch.full((model.latent_noise,), MIDDLE)

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state after the step."""
        action = self.model.actions.encode(self.act.back(given["action"]))
        return _named(self.model.imagine(_part(given, STATE), action, given["noise"]))


class TellGraph(Graph):
    """A world model that tells what a state looks like."""

    what = "What the environment would show and pay at a state, as rows have it"

    def __init__(self, model: WorldModel) -> None:
        super().__init__(_state_ports(model.initial_state(1)))
        self.model = model

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Observations if the model can tell them, the reward under the name that its unit has, the continuation."""
        return self.model.tell(_part(given, STATE))


@dataclass(frozen=True)
class Parts:
    """Networks of a run's checkpoint, ready to be traced on the CPU. model: None of agents without one."""

    config: Config
    spec: EnvSpec
    adapter: Adapter
    policy: Policy
    model: WorldModel | None
    env_steps: int

    def graphs(self) -> dict[str, Graph]:
        """All graphs by name: ``policy``, and with a world model ``observe``, ``imagine`` and ``tell``."""
        graphs: dict[str, Graph] = {"policy": PolicyGraph(self.policy, self.spec, self.adapter, self.env_steps)}
        return graphs | (self.dreams() if self.model is not None else {})

    def dreams(self) -> dict[str, Graph]:
        """The graphs of the world model."""
        assert self.model is not None
        return {
            "observe": ObserveGraph(self.model, self.adapter),
            "imagine": ImagineGraph(self.model, self.adapter),
            "tell": TellGraph(self.model),
        }


def fresh(config: Config) -> Parts:
    """Networks of a configuration as they are before any training; the environment is made once, for its spaces."""
    env = build_env(config, 1)
    shut(env)
    agent = build_agent(config, env.spec)
    policy = agent.policy()
    model = agent.model(policy) if isinstance(agent, HasWorldModel) else None
    for part in (policy, model):
        if part is not None:
            part.eval().requires_grad_(False)
    return Parts(config, env.spec, adapter_of(env, policy), policy, model, 0)


def load_for_export(run_dir: Path, checkpoint: str = "latest") -> Parts:
    """Networks of a run's checkpoint (``latest``, ``best`` or env_steps). Raises UserError if there is none."""
    parts = fresh(load_config(run_dir))
    networks: dict[str, nn.Module] = {"policy": parts.policy} | ({} if parts.model is None else {"model": parts.model})
    return replace(parts, env_steps=load_parts(run_dir, checkpoint, **networks))


def steady(policy: Policy) -> Tensor:
    """Noise [n] with which a policy decides the same whenever it is shown the same: 1/2 in nearly every place.

    Levels of sampled quantiles are spread evenly, so that their mean is an expectation.
    """
    numbers = torch.full((policy.noise,), MIDDLE)
    if isinstance(policy, QPolicy):
        head = policy.network.head
        numbers[2:] = head.steady((1,), numbers)[0]
    return numbers


def _noise_port(count: int) -> list[Port]:
    return [Port("noise", torch.float32, (count,))] if count else []


def _state_ports(state: State) -> list[Port]:
    return [Port.of(STATE + name, value) for name, value in state.items()]


def _part(given: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}


def _named(state: State) -> dict[str, Tensor]:
    return {NEXT + name: value for name, value in state.items()}
