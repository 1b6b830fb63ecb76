"""PlaNet: learn a world model with Gaussian latents, and act by planning in it at every decision.

Source: Hafner, Lillicrap, Fischer, Villegas, Ha, Lee, Davidson, "Learning Latent Dynamics for Planning from Pixels",
ICML 2019 (arXiv 1811.04551).

::

    rows      o_0   o_1   ...   o_t
               |     |           |
    states    s_0   s_1   ...   s_t             filtered, one sample of each latent
                                 \\
    candidates                    -a-> s^_{t+1} -a-> ... -a-> s^_{t+H}      1000 sequences, 10 times refitted to the
                                         r       +        +     r           best 100 (`reverie.agents.plan`, `PLANET`)

There is no actor, no critic and no discount: the mean of the last refit is the action, with noise in training.

Differs from the paper in: nothing that is not named in a preset; from the official code in: windows may cross episode
ends (the state is reset at is_first), one layer gives mean and std of a latent, Adam's eps is added after bias
correction. See docs/planet.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.exploration import ActionNoise
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.model_learner import ModelAgent, ModelLearner, ModelLearnerConfig
from reverie.agents.objective import Objective, Reconstruction
from reverie.agents.overshooting import overshooting_kl
from reverie.agents.plan import PLANET, PlanConfig, plan, plan_noise
from reverie.agents.policy import Seat
from reverie.agents.predictors import Discount, Reward
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.actions import Actions
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.outputs import UnitNormal
from reverie.nets.rssm import RSSM, RSSMConfig
from reverie.nets.state_space import OneChain, StateSpace
from reverie.ops import world
from reverie.values import Number, Scale, Share


@dataclass(frozen=True)
class PlaNetConfig(ModelLearnerConfig):
    """Defaults are the paper's agent as its code released it.

    plan: the search, see `reverie.agents.plan`; it uses no policy. explore: noise on top of planned actions.
    overshooting: further steps over which open-loop predictions are compared with what was seen (0: none, as released;
    the paper's figure has 49), see `reverie.agents.overshooting`. overshooting_scale: its weight beside the KL's own.
    """

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(depth=32, act="relu", bits=5))
    decoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(depth=32, act="relu"))
    rssm: RSSMConfig = field(
        default_factory=lambda: RSSMConfig(200, 200, "gaussian", 30, act="relu", std="softplus", cell="reset_before")
    )
    reward: HeadConfig = field(default_factory=lambda: HeadConfig(layers=2, units=100, act="relu"))
    predict_discount: bool = False
    reward_transform: Literal["identity", "tanh", "sign", "symlog"] = "identity"
    reward_scale: Scale = 10.0
    kl_balance: Share | None = None
    kl_free: Scale = 3.0
    kl_free_per: Literal["mean", "each"] = "each"
    kl_scale: Scale = 1.0
    overshooting: Number = 0
    overshooting_scale: Scale = 1.0
    plan: PlanConfig = PLANET
    explore: ActionNoise = field(default_factory=ActionNoise)
    model_opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=0.0, eps=1e-4, clip=1000.0, shrink=0.0, lr_end=1e-3, lr_over=200)
    )

    def __post_init__(self) -> None:
        if self.overshooting < 0:
            raise ValueError(f"overshooting must be at least 0 steps, got {self.overshooting}")
        if self.plan.policy_candidates:
            raise ValueError(f"plan.policy_candidates must be 0 without an actor, got {self.plan.policy_candidates}")
        if self.predict_discount:
            raise ValueError("PlaNet has no head for ends of episodes: set predict_discount to false")


class Rewards:
    """Model to plan in: dynamics and rewards, no discount, nothing after the last state (`reverie.agents.plan`)."""

    def __init__(self, rssm: StateSpace, reward: Reward) -> None:
        self.rssm, self.reward = rssm, reward
        self.noise = rssm.latent.noise

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """Next state, its reward and a discount of 1, [N] each. action: [N, A]; noise: uniform [N, `noise`]."""
        assert noise is not None
        state = self.rssm.imagine_step(state, action, noise)
        reward = self.reward.mean(self.rssm.feature(state))
        return state, reward, torch.ones_like(reward)

    def value(self, state: State) -> Tensor:
        """Zeros [N]."""
        return state["deter"].new_zeros(state["deter"].shape[0])


class PlaNetPolicy(FilterPolicy):
    """Encoder, RSSM and reward head: all that a plan needs."""

    def __init__(self, encoder: Encoder, rssm: RSSM, reward: Reward, actions: Actions, config: PlaNetConfig) -> None:
        planning = plan_noise(config.plan, actions, rssm.latent.noise)
        super().__init__(encoder, rssm, actions, planning + config.explore.numbers(actions))
        self.reward, self.search, self.explore = reward, config.plan, config.explore
        self.planning = planning
        """uniform numbers of one plan"""

    @property
    def unroll_noise(self) -> int:
        """Numbers of encoder and memory."""
        return self.seeing

    def act(self, state: State, u: Tensor, seat: Seat, mask: Tensor | None = None) -> Tensor:
        """The first action [B, A] of a plan that begins anew at each decision; plans know no masks."""
        u_plan, u_explore = u[..., : self.planning], u[..., self.planning :]
        if seat.play == "random":
            return self.actions.uniform(u_explore)
        action, _ = plan(Rewards(self.rssm, self.reward), state, self.actions, self.search, u_plan)
        return self.explore.add(action, u_explore, seat, self.actions) if seat.play == "explore" else action

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Amount of the noise."""
        return {"action_noise": self.explore.now(seat)}


class PlaNetLearner(ModelLearner):
    """Learner of the paper's equations."""

    config: PlaNetConfig

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss of the model, and the rows that it saw.

        Equations 3 and, with overshooting, 7: L = observation + reward_scale reward + kl_scale (max(KL, free) + scale
        overshooting), each a mean over rows.
        """
        seen, rows = self.see(batch, metrics)
        with self.autocast():
            losses = self.model.losses(seen, rows, metrics)
            if self.config.overshooting:
                config, rssm = self.config, self.model.rssm
                assert isinstance(rssm, OneChain)
                time, width = rows["is_first"].shape
                shape = config.overshooting + 1, time, width, rssm.latent.noise
                u = world.draw(self.noise.uniform, *shape, axis=2)
                is_first = batch.rows["is_first"][self.windows.context :]  # as it is, not as an empty state has it
                kl = overshooting_kl(rssm, seen, is_first, u, config.kl_free)
                losses["dynamics", "overshooting"] = config.overshooting_scale * kl
            return self.weigh(losses, metrics), seen, rows


class PlaNet(ModelAgent):
    """Recipe of PlaNet: Gaussians for observations and rewards, and nothing else."""

    config: PlaNetConfig
    Config: ClassVar[type] = PlaNetConfig
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[ModelLearner]] = PlaNetLearner

    @property
    def least_learned(self) -> int:
        """A row to predict from another, where predictions over several are learned."""
        return 2 if self.config.overshooting else 1

    def actions(self) -> Actions:
        """Continuous actions. Raises ValueError for others, which the paper cannot plan."""
        actions = super().actions()
        if actions.discrete:
            raise ValueError(
                f"PlaNet plans continuous actions (a Box), got {self.env.action!r}; dreamerv1 and dreamerv2 take both"
            )
        return actions

    def policy(self) -> PlaNetPolicy:
        """Policy with a fresh encoder, RSSM and reward head."""
        config, actions = self.config, self.actions()
        encoder = Encoder(self.env.observation, config.encoder)
        rssm = RSSM(encoder.outputs, actions.size, config.rssm)
        return PlaNetPolicy(encoder, rssm, self.reward(rssm.features), actions, config)

    def objective(self, features: int) -> Objective:
        """Reconstruction of every observation."""
        return Reconstruction.gaussian(
            Decoder(features, self.env.observation, self.config.decoder), self.config.constant
        )

    def reward(self, features: int) -> Reward:
        """Gaussian N(f(r), 1)."""
        config = self.config
        return Reward(features, config.reward, UnitNormal(0, config.constant), config.reward_transform)

    def reward_of(self, policy: FilterPolicy) -> Reward:
        """The policy's own, which plans are judged by."""
        assert isinstance(policy, PlaNetPolicy)
        return policy.reward

    def discount(self, features: int) -> Discount | None:
        """None: ends of episodes are not predicted."""
        return None
