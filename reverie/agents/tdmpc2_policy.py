"""The policy of TD-MPC2: it encodes what it sees, and plans from there at every decision.

Its state is what the next plan begins with, the mean of the last one, beside the frames of a stack::

    plan                 float32 [B, H, A]      zeros before an episode
    frames.<key>         uint8                  see `reverie.agents.inputs`
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reverie.agents.inputs import Stacks
from reverie.agents.noise import Noise
from reverie.agents.plan import Plan, PlanConfig, plan, plan_noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.agents.tdmpc2_model import LATENT, Foresight, LatentModel
from reverie.data.rows import State
from reverie.nets.actions import ContinuousActions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.ops.continuous import normal_sample

PLAN = "plan"


class TDMPC2Policy(Policy):
    """Encoder and model; of the noise of a step the first numbers are the encoder's, then the plan's, then of the end.

    search: settings of the plan. gamma: discount of a decision in it.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        model: LatentModel,
        actions: ContinuousActions,
        stacks: Stacks,
        search: PlanConfig,
        gamma: float,
    ) -> None:
        super().__init__()
        self.encoder, self.model, self.stacks = encoder, model, stacks
        self.actions, self.search = actions, search
        self.foresight = Foresight(model, gamma)
        self.planning = plan_noise(search, actions, 0, self.foresight.value_noise)
        """uniform numbers of one plan"""
        self.noise = encoder.noise + self.planning + actions.noise
        self.lookback = stacks.lookback

    @property
    def unroll_noise(self) -> int:
        """Numbers of the encoder."""
        return self.encoder.noise

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
        u_encoder, u_plan, u_explore = u.split([self.encoder.noise, self.planning, self.actions.noise], -1)
        obs, frames = self.stacks.step(state, rows)
        if seat.play == "random":
            return Decision(self.actions.uniform(u_explore), {PLAN: torch.zeros_like(state[PLAN]), **frames})
        last = state[PLAN]
        before = Plan(last, torch.zeros_like(last), last[:, 0, 0])  # of which only the mean is read
        begin = {LATENT: self.encoder(obs, u_encoder)}
        action, planned = plan(
            self.foresight, begin, self.actions, self.search, u_plan, before, rows["is_first"], self._propose
        )
        if seat.play == "explore":
            action = normal_sample(action, planned.std[:, 0], u_explore).clamp(-1.0, 1.0)
        return Decision(action, {PLAN: planned.mean, **frames})

    def _propose(self, state: State, u: Tensor) -> Tensor:
        return self.model.act(state[LATENT], u)[0]

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, State]:
        """Latents [T, B, latent], and the last state but for its plan: that is of decisions, and begins anew.

        The encoder's noise is that of steps.
        """
        u = noise.uniform(*rows["is_first"].shape, self.unroll_noise)
        obs, frames = self.stacks.unroll(state, rows)
        return self.encoder(obs, u), {PLAN: torch.zeros_like(state[PLAN]), **frames}

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks."""
        return {**state, **self.stacks.unroll(state, rows)[1]}

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The same: there is no other memory."""
        return self.look(state, rows)
