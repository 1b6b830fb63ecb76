"""The policy of TD-MPC and TD-MPC2: it encodes what it sees, and plans from there at every decision.

::

    o -> z,    z' = d(z, a),    r = R(z, a),    a ~ p(z),    V(z) from critics at an action of p

Its state is what the next plan begins with, the mean of the last one, beside the frames of a stack::

    plan                 float32 [B, H, A]      zeros before an episode
    frames.<key>         uint8                  see `reverie.agents.inputs`

Of several tasks (`LatentModel.tasks`) a plan is of one of them: its number stands beside the latent, and what the task
has no action for stays 0 in candidates, plans and decisions.
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
from reverie.data.rows import OBS, TASK, State
from reverie.nets.actions import ContinuousActions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.nets.task_table import TaskTable
from reverie.ops.continuous import normal_sample

LATENT = "z"
"""name of the latent in the state of an imagined sequence"""
PLAN = "plan"


class LatentModel(nn.Module, ABC):
    """Dynamics, reward, ends, policy prior and critics over latents [..., latent] and actions [..., actions].

    tasks: what it keeps of each where it is of several; then all methods get the task, int64 [...], otherwise None.
    """

    latent: int
    actions: int
    prior: nn.Module
    """the one part that its own optimiser trains"""
    critics: nn.Module
    value_noise: tuple[int, int]
    """uniform numbers of `worth`, see `reverie.agents.plan.DrawsValues.value_noise`"""

    def __init__(self, tasks: TaskTable | None = None) -> None:
        super().__init__()
        self.tasks = tasks

    def told(self, obs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Observations as an encoder reads them: embeddings in place of tasks."""
        return obs if self.tasks is None else {**obs, TASK: self.tasks.embed(obs[TASK])}

    def mask(self, task: Tensor | None) -> Tensor | None:
        """Mask [..., actions] of what tasks have; None: all."""
        return None if task is None or self.tasks is None else self.tasks.masks(task)

    @abstractmethod
    def next(self, z: Tensor, action: Tensor, task: Tensor | None) -> Tensor:
        """The latent that follows."""

    @abstractmethod
    def pays(self, z: Tensor, action: Tensor, task: Tensor | None) -> Tensor:
        """Reward [...] of an action."""

    @abstractmethod
    def propose(self, z: Tensor, u: Tensor, task: Tensor | None) -> Tensor:
        """An action of the prior, in [-1, 1]. u: uniform [..., actions]."""

    @abstractmethod
    def prefer(self, z: Tensor, task: Tensor | None) -> Tensor:
        """The prior's action without any noise, in [-1, 1]."""

    @abstractmethod
    def worth(self, z: Tensor, own: Tensor, shared: Tensor, task: Tensor | None) -> Tensor:
        """Value [N] of latents [N, latent] after a plan, see `reverie.agents.plan.DrawsValues.drawn_value`."""

    def ended(self, z: Tensor, task: Tensor | None) -> Tensor | None:
        """Mask [...] of latents at which an episode has ended; None: this model knows no ends."""
        return None


class Foresight:
    """What `reverie.agents.plan.plan` asks for, from a `LatentModel`.

    ::

        G = r_1 + gamma r_2 + ... + gamma^H V(z_H)

    Where the model knows ends a sequence stops paying after the first latent that is one, whatever comes later.
    A model of several tasks has a gamma for each.
    Source: Hansen et al. 2022 (TD-MPC), equation 3; Hansen et al. 2024 (TD-MPC2), equation 7.
    """

    noise = 0

    def __init__(self, model: LatentModel, gamma: float) -> None:
        self.model, self.gamma = model, gamma
        self.value_noise = model.value_noise

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """Next state, its reward and its discount, [N] each. action: [N, A]. noise: None."""
        task = state.get(TASK)
        reward = self.model.pays(state[LATENT], action, task)
        z = self.model.next(state[LATENT], action, task)
        tasks = self.model.tasks
        discount = torch.full_like(reward, self.gamma) if task is None or tasks is None else tasks.gammas(task)
        ended = self.model.ended(z, task)
        if ended is not None:  # A discount multiplies all that follows, so that an end stays one.
            discount = torch.where(ended, 0.0, discount)
        return {**state, LATENT: z}, reward, discount

    def drawn_value(self, state: State, own: Tensor, shared: Tensor) -> Tensor:
        """The model's worth of the last latents."""
        return self.model.worth(state[LATENT], own, shared, state.get(TASK))


class LatentPolicy(Policy):
    """Encoder and model; of the noise of a step the first numbers are the encoder's, then the plan's, then of the end.

    search: settings of the plan. gamma: discount of a decision in it. shifts: whether images are shifted in acting too.
    plans: whether it plans at all; otherwise it acts as the model's prior does.
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
        plans: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.model, self.stacks = encoder, model, stacks
        self.actions, self.search, self.plans = actions, search, plans
        self.foresight = Foresight(model, gamma)
        self.shifting = encoder.noise if shifts else 0
        """uniform numbers that the encoder takes of a step"""
        self.planning = plan_noise(search, actions, 0, self.foresight.value_noise) if plans else 0
        """uniform numbers of one plan"""
        self.noise = self.shifting + self.planning + actions.noise
        self.lookback = stacks.lookback
        self.by_task = model.tasks is not None

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
        one begins anew. A policy that does not plan draws an action of the prior, in evaluation its mean.
        """
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        u_encoder, u_plan, u_explore = u.split([self.shifting, self.planning, self.actions.noise], -1)
        obs, frames = self.stacks.step(state, rows)
        task = self.task(rows)
        mask = self.model.mask(task)
        if seat.play == "random":
            action = self.actions.uniform(u_explore)
            action = action if mask is None else action * mask
            return Decision(action, {PLAN: torch.zeros_like(state[PLAN]), **frames})
        z, last = self.encode(obs, u_encoder), state[PLAN]
        if not self.plans:
            explores = seat.play == "explore"
            action = self.model.propose(z, u_explore, task) if explores else self.model.prefer(z, task)
            return Decision(action, {PLAN: torch.zeros_like(last), **frames})
        before = Plan(last, torch.zeros_like(last), last[:, 0, 0])  # of which only the mean is read
        begin = {LATENT: z} | ({} if task is None else {TASK: task})
        parts = (self.foresight, begin, self.actions, self.search, u_plan, before, rows["is_first"])
        proposes = self._propose if self.search.policy_candidates else None
        action, planned = plan(*parts, proposes, self.limits(), mask)
        if seat.play == "explore":  # The std is 0 where a task has no action, and so is the noise.
            action = normal_sample(action, planned.std[:, 0], u_explore).clamp(-1.0, 1.0)
        return Decision(action, {PLAN: planned.mean, **frames})

    def encode(self, obs: Mapping[str, Tensor], u: Tensor) -> Tensor:
        """Latents of what is seen in acting. u: uniform [*lead, `shifting`]."""
        return self.encoder(self.model.told(obs), u if self.shifting else None)

    def task(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        """Tasks int64 [*lead] of rows; None where there is one."""
        return rows[OBS + TASK] if self.by_task else None

    def _propose(self, state: State, u: Tensor) -> Tensor:
        return self.model.propose(state[LATENT], u, state.get(TASK))

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, State]:
        """Latents [T, B, latent], and the last state but for its plan: that is of decisions, and begins anew.

        The encoder's noise is that of steps.
        """
        u = noise.uniform(*rows["is_first"].shape, self.unroll_noise)
        obs, frames = self.stacks.unroll(state, rows)
        return self.encode(obs, u), {PLAN: torch.zeros_like(state[PLAN]), **frames}

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks."""
        return {**state, **self.stacks.look(state, rows)}

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The same: there is no other memory."""
        return self.look(state, rows)
