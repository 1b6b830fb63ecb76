"""What TD-MPC and TD-MPC2 share: planning in a latent model that is rolled out from one encoding, with values after it.

::

    rows      o_0        o_1        o_2        o_3             H = 3 decisions a_0 a_1 a_2, rewards r_1 r_2 r_3
               |          |          |          |
    encoder   z_0        h_1        h_2        h_3             h without a gradient
               \\
    rollout     -a_0-> z_1 -a_1-> z_2 -a_2-> z_3               one encoding, then dynamics alone

An update goes `targets`, `model_loss`, `actor_loss`, `follow`: the methods in which `reverie.agents.tdmpc` and
`reverie.agents.tdmpc2` differ.

Source: Hansen, Wang, Su, "Temporal Difference Learning for Model Predictive Control", ICML 2022 (arXiv 2203.04955), and
TD-MPC2 (arXiv 2310.16828).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Agent, Learner
from reverie.agents.inputs import Stacks
from reverie.agents.latent_policy import LatentModel, LatentPolicy
from reverie.agents.noise import Tape
from reverie.agents.plan import PlanConfig
from reverie.agents.recurrent import start_state
from reverie.data.rows import State
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.nets.actions import ContinuousActions, make_actions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.nets.optim import OptimConfig
from reverie.ops import world
from reverie.values import Count, Number, PositiveShare, Scale


@dataclass(frozen=True)
class LatentPlannerConfig:
    """Settings that both have.

    stack: frames that the encoder sees at a time; images only. shift: pixels by which images are shifted at random, at
        most.
    plan: the search. mpc: whether actions are planned; otherwise they are the prior's, in evaluation its mean.
    rho: weight of each further step of the rollout, relative to the one before.
    consistency_scale, reward_scale, value_scale: weights of the model's losses.
    tau: by which the slow networks follow.
    opt, actor_opt: of model and critics, and of the prior.
    """

    stack: Count = 3
    shift: Number = 3
    plan: PlanConfig = field(default_factory=PlanConfig)
    mpc: bool = True
    rho: PositiveShare = 0.5
    consistency_scale: Scale = 1.0
    reward_scale: Scale = 1.0
    value_scale: Scale = 1.0
    tau: PositiveShare = 0.01
    opt: OptimConfig = field(default_factory=OptimConfig)
    actor_opt: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if self.stack < 1 or self.shift < 0:
            raise ValueError(f"expected stack >= 1 and shift >= 0, got {self.stack} and {self.shift}")
        if not 0.0 < self.rho <= 1.0 or not 0.0 < self.tau <= 1.0:
            raise ValueError(f"rho and tau must be in (0, 1], got {self.rho} and {self.tau}")

    @property
    def scales(self) -> dict[str, float]:
        """Weights of the model's losses by name."""
        return {"consistency": self.consistency_scale, "reward": self.reward_scale, "value": self.value_scale}


class LatentLearner(Learner):
    """Learner of two groups, one after the other: ``model`` (encoder, model and critics) and ``actor`` (the prior)."""

    policy: LatentPolicy
    config: Any

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Generator[dict[str, Tensor], None, Feedback | None]:
        """Loss of the model, then that of the prior at the latents that the first was made of; targets follow."""
        rows, obs, u = self.see(batch)
        over = rows["is_last"].cumsum(0) > 0
        with self.autocast():
            ahead, target = self.targets(rows, obs, u)
        with self.autocast():  # of its own: a weight that was cast without gradients must not be read again with them
            loss, states, errors = self.model_loss(
                rows, obs, u, ahead, target, ~over[:-1], batch.probabilities, metrics
            )
        yield {"model": loss}
        reached = torch.cat([torch.ones_like(over[:1]), ~over[:-1]])
        with self.autocast():
            loss = self.actor_loss(states, reached, self.policy.task(rows), metrics)
        yield {"actor": loss}
        self.follow()
        return None if errors is None else Feedback(batch.keys, priorities=errors)

    def see(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Rows [H+1, B, ...] without the context, what the encoder sees of them, numbers for the encoder."""
        nothing = Tape(self.policy.version.new_empty(0))
        state, rows = start_state(self.policy, batch, self.windows, nothing)
        obs, _ = self.policy.stacks.unroll(state, rows)
        return rows, dict(self.policy.model.told(obs)), self.draw(*rows["is_last"].shape, self.policy.encoder.noise)

    def roll_out(self, rows: dict[str, Tensor], obs: State, u: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z_0 ... z_H [H+1, B, L] that follow from o_0 and the actions, and these, encoded [H, B, A]."""
        action, task = self.policy.actions.encode(rows["action"][:-1]), self.policy.task(rows)
        latents = [self.policy.encoder({name: value[0] for name, value in obs.items()}, u[0])]
        for t, each in enumerate(action.unbind(0)):
            latents.append(self.policy.model.next(latents[-1], each, None if task is None else task[t]))
        return torch.stack(latents), action

    def draw(self, *shape: int) -> Tensor:
        """Random numbers of that shape, whose second axis is that of the windows, or of rows of them."""
        return world.draw(self.noise.uniform, *shape, axis=1)

    def weights(self, time: int) -> Tensor:
        """rho^t, float32 [time]."""
        return self.config.rho ** torch.arange(time, device=self.device)

    def discounted(self, loss: Tensor, valid: Tensor) -> Tensor:
        """sum_t rho^t of the mean over valid rows of loss [T, B]; a step without any counts as 0."""
        each = world.ratio(torch.where(valid, loss, 0.0).sum(1), valid, 1)
        return (self.weights(len(loss)) * each).sum()

    @abstractmethod
    def targets(self, rows: dict[str, Tensor], obs: State, u: Tensor) -> tuple[Tensor, Tensor]:
        """Latents h_1 ... h_H [H, B, L] of what was seen, and targets [H, B] of the values before them."""

    @abstractmethod
    def model_loss(
        self,
        rows: dict[str, Tensor],
        obs: State,
        u: Tensor,
        ahead: Tensor,
        target: Tensor,
        valid: Tensor,
        probabilities: Tensor,
        metrics: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss of encoder, model and critics, the latents z_0 ... z_H [H+1, B, L] that it rolled out, detached, and
        priorities of the windows [B], if these have any.

        ahead, target: see `targets`. valid: bool [H, B], steps that lie within the first episode of their window.
        probabilities: float32 [B], with which the windows were drawn.
        """

    @abstractmethod
    def actor_loss(self, states: Tensor, reached: Tensor, task: Tensor | None, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of the prior at latents [H+1, B, L] without a gradient to these; the critics are held.

        reached: bool [H+1, B], latents within the first episode of their window. task: int64 [H+1, B], of several.
        """

    @abstractmethod
    def follow(self) -> None:
        """Move the slow networks towards the learned ones."""


class LatentPlanner(Agent):
    """Recipe of an agent that plans continuous actions in a latent model."""

    config: Any
    title: ClassVar[str]
    """its name in sentences"""

    def __post_init__(self) -> None:
        if not isinstance(self.env.action, spaces.Box):
            raise ValueError(
                f"{self.title} plans continuous actions (a Box), got {self.env.action!r}; "
                "dreamerv2 and dreamerv3 take both"
            )

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows of H decisions (``replay.window.learn``) and the row after them; k - 1 rows before for a stack.

        Raises ValueError for burn-in and stored states: there is no memory.
        """
        if asked.context or asked.keeps_states:
            raise ValueError(
                f"{self.title} has no memory: set replay.window.context = 0, state = zero and drift = false"
            )
        stacks = Stacks(self.env.observation, self.config.stack)
        return replace(asked, context=stacks.lookback, lookahead=1)

    def policy(self) -> LatentPolicy:
        """Policy with fresh networks."""
        actions = make_actions(self.env.action)
        assert isinstance(actions, ContinuousActions)
        encoder = self.make_encoder()
        model = self.make_model(encoder.outputs, actions.size)
        stacks = Stacks(self.env.observation, self.config.stack)
        # Images are channels last in memory, as convolutions are fastest.
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.make_policy(encoder, model, actions, stacks)

    @abstractmethod
    def make_encoder(self) -> LatentEncoder:
        """A fresh encoder."""

    @abstractmethod
    def make_model(self, latent: int, actions: int) -> LatentModel:
        """A fresh model of so many numbers in a latent and in an action."""

    @abstractmethod
    def make_policy(
        self, encoder: LatentEncoder, model: LatentModel, actions: ContinuousActions, stacks: Stacks
    ) -> LatentPolicy:
        """The policy of these parts."""
