"""The policy of TD-MPC and TD-MPC2: it encodes what it sees, and plans from there at every decision.

::

    o -> z,    z' = d(z, a),    r = R(z, a),    a ~ p(z),    V(z) from critics at an action of p

Its state is what the next plan begins with, the mean of the last one, beside the frames of a stack::

    plan                 float32 [B, H, A]      zeros before an episode
    frames.<key>         uint8                  see `reverie.agents.inputs`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reverie.agents.inputs import Stacks
from reverie.agents.noise import Noise
from reverie.agents.plan import Limits, Plan, PlanConfig, plan, plan_noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import State
from reverie.nets.actions import ContinuousActions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.ops.continuous import normal_sample

LATENT = "z"
"""name of the latent in the state of an imagined sequence"""
PLAN = "plan"


class LatentModel(nn.Module, ABC):
    """Dynamics, reward, ends, policy prior and critics over latents [..., latent] and actions [..., actions]."""

    latent: int
    actions: int
    prior: nn.Module
    """the one part that its own optimiser trains"""
    critics: nn.Module
    value_noise: tuple[int, int]
    """uniform numbers of `worth`, see `reverie.agents.plan.DrawsValues.value_noise`"""

    @abstractmethod
    def next(self, z: Tensor, action: Tensor) -> Tensor:
        """The latent that follows."""

    @abstractmethod
    def pays(self, z: Tensor, action: Tensor) -> Tensor:
        """Reward [...] of an action."""

    @abstractmethod
    def propose(self, z: Tensor, u: Tensor) -> Tensor:
        """An action of the prior, in [-1, 1]. u: uniform [..., actions]."""

    @abstractmethod
    def worth(self, z: Tensor, own: Tensor, shared: Tensor) -> Tensor:
        """Value [N] of latents [N, latent] after a plan, see `reverie.agents.plan.DrawsValues.drawn_value`."""

    def ended(self, z: Tensor) -> Tensor | None:
        """Mask [...] of latents at which an episode has ended; None: this model knows no ends."""
        return None


class Foresight:
    """What `reverie.agents.plan.plan` asks for, from a `LatentModel`.

    ::

        G = r_1 + gamma r_2 + ... + gamma^H V(z_H)

    Where the model knows ends a sequence stops paying after the first latent that is one, whatever comes later.
    Source: Hansen et al. 2022 (TD-MPC), equation 3; Hansen et al. 2024 (TD-MPC2), equation 7.
    """

    noise = 0

    def __init__(self, model: LatentModel, gamma: float) -> None:
        self.model, self.gamma = model, gamma
        self.value_noise = model.value_noise

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """Next state, its reward and its discount, [N] each. action: [N, A]. noise: None."""
        reward = self.model.pays(state[LATENT], action)
        z = self.model.next(state[LATENT], action)
        discount = torch.full_like(reward, self.gamma)
        ended = self.model.ended(z)
        if ended is not None:  # A discount multiplies all that follows, so that an end stays one.
            discount = torch.where(ended, 0.0, discount)
        return {LATENT: z}, reward, discount

    def drawn_value(self, state: State, own: Tensor, shared: Tensor) -> Tensor:
        """The model's worth of the last latents."""
        return self.model.worth(state[LATENT], own, shared)


class LatentPolicy(Policy):
    """Encoder and model; of the noise of a step the first numbers are the encoder's, then the plan's, then of the end.

    search: settings of the plan. gamma: discount of a decision in it. shifts: whether images are shifted in acting too.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        model: LatentModel,
        actions: ContinuousActions,
        stacks: Stacks,
        search: PlanConfig,
        gamma: float,
        shifts: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.model, self.stacks = encoder, model, stacks
        self.actions, self.search = actions, search
        self.foresight = Foresight(model, gamma)
        self.shifting = encoder.noise if shifts else 0
        """uniform numbers that the encoder takes of a step"""
        self.planning = plan_noise(search, actions, 0, self.foresight.value_noise)
        """uniform numbers of one plan"""
        self.noise = self.shifting + self.planning + actions.noise
        self.lookback = stacks.lookback

    @property
    def unroll_noise(self) -> int:
        """Numbers of the encoder."""
        return self.shifting

    def limits(self) -> Limits | None:
        """Limits of the search after so many learner_steps; None: those of its settings."""
        return None

    def initial_state(self, batch: int) -> State:
        """No plan yet: zeros. Black frames, where images are stacked."""
        blank = torch.zeros(batch, self.search.horizon, self.actions.size, device=self.device)
        return {PLAN: blank, **self.stacks.initial_state(batch, self.device)}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream: an elite of the last iteration, drawn by its weight.

        In training with noise of the last iteration's std at its first step; at random without a plan, and the next
        one begins anew.
        """
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        u_encoder, u_plan, u_explore = u.split([self.shifting, self.planning, self.actions.noise], -1)
        obs, frames = self.stacks.step(state, rows)
        if seat.play == "random":
            return Decision(self.actions.uniform(u_explore), {PLAN: torch.zeros_like(state[PLAN]), **frames})
        last = state[PLAN]
        before = Plan(last, torch.zeros_like(last), last[:, 0, 0])  # of which only the mean is read
        begin = {LATENT: self.encode(obs, u_encoder)}
        parts = (self.foresight, begin, self.actions, self.search, u_plan, before, rows["is_first"])
        action, planned = plan(*parts, self._propose, self.limits())
        if seat.play == "explore":
            action = normal_sample(action, planned.std[:, 0], u_explore).clamp(-1.0, 1.0)
        return Decision(action, {PLAN: planned.mean, **frames})

    def encode(self, obs: Mapping[str, Tensor], u: Tensor) -> Tensor:
        """Latents of what is seen in acting. u: uniform [*lead, `shifting`]."""
        return self.encoder(obs, u if self.shifting else None)

    def _propose(self, state: State, u: Tensor) -> Tensor:
        return self.model.propose(state[LATENT], u)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, State]:
        """Latents [T, B, latent], and the last state but for its plan: that is of decisions, and begins anew.

        The encoder's noise is that of steps.
        """
        u = noise.uniform(*rows["is_first"].shape, self.unroll_noise)
        obs, frames = self.stacks.unroll(state, rows)
        return self.encode(obs, u), {PLAN: torch.zeros_like(state[PLAN]), **frames}

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks."""
        return {**state, **self.stacks.unroll(state, rows)[1]}

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The same: there is no other memory."""
        return self.look(state, rows)
