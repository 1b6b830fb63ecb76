"""TD-MPC: plan a few steps in a model that was only asked for rewards and values, and let a value stand for the rest.

Source: Hansen, Wang, Su, "Temporal Difference Learning for Model Predictive Control", ICML 2022 (arXiv 2203.04955), and
the official code (github.com/nicklashansen/tdmpc).

::

    rows      o_0        o_1        ...   o_5                  H = 5 decisions a_0 ... a_4, rewards r_1 ... r_5
               |          |                |
    encoder   z_0        h_1        ...   h_5                  each image with a random shift of its own
               \\          g_1        ...   g_5                  the slow encoder, of the same shifted images
    rollout     -a_0-> z_1 -a_1->   ...   z_5                  one encoding, then dynamics alone

    target_t   = r_{t+1} + gamma (1 - terminal_{t+1}) min of both Q' (h_{t+1}, a ~ p(h_{t+1}))
    c, v, p    = sum_t rho^t mean (z_{t+1} - g_{t+1})^2,   sum_t rho^t sum_k (Q_k(z_t, a_t) - target_t)^2,
                 sum_t rho^t (R(z_t, a_t) - r_{t+1})^2                               of a window, at most 1e4 each
    model      = 1/H mean over windows of w [ 2 c + 0.5 p + 0.1 v ],    w = (N P)^-0.4 / the largest of the batch
    actor      = -sum_t rho^t min of both Q (z_t, a),    a ~ p(z_t), z fixed, t = 0 ... H
    priority   = sum_t rho^t sum_k |Q_k(z_t, a_t) - target_t|,    at most 1e4
    acting     : MPPI over 1 ... 5 steps with the lesser Q at its end (`reverie.agents.plan`, `TDMPCPolicy`)

After every second update the slow encoder and critics move by 1 % towards the learned ones.

Differs from the paper in: what docs/tdmpc.md lists.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from reverie.agents.inputs import Stacks
from reverie.agents.latent_planner import LatentLearner, LatentPlanner, LatentPlannerConfig
from reverie.agents.latent_policy import LatentModel, LatentPolicy
from reverie.agents.plan import TDMPC as SEARCH
from reverie.agents.plan import PlanConfig
from reverie.agents.replayed import copy_if_due, importance
from reverie.agents.tdmpc_model import TaskModel
from reverie.agents.tdmpc_policy import Annealing, TDMPCPolicy
from reverie.data.rows import State
from reverie.data.sequences import SequenceSpec
from reverie.nets.actions import ContinuousActions
from reverie.nets.latent_encoder import LatentEncoder, PlainEncoder
from reverie.nets.layers import frozen
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.ops.losses import masked_mean
from reverie.values import Count, Number, Positive, Scale, Share


@dataclass(frozen=True)
class TDMPCConfig(LatentPlannerConfig):
    """Settings; defaults are the official code's.

    shift: pixels by which images are shifted at random, at most, in training only (of 84 pixels a side: 4).
    encoder_units: of the hidden layer for vectors. channels: of each convolution. latent: numbers in a latent.
    units: of the hidden layers of dynamics, reward, prior and critics.
    prior_std, prior_clip: noise of the prior's actions, Gaussian, and where it is cut off, wherever they are drawn.
    gamma: discount of a decision. limit: what a loss, or the priority, of a window counts at most.
    beta: exponent of the importance weights. target_every: learner_steps between two steps of the slow networks.
    """

    shift: Number = 4
    encoder_units: Count = 256
    channels: Count = 32
    latent: Count = 50
    units: Count = 512
    plan: PlanConfig = field(default_factory=lambda: SEARCH)
    anneal: Annealing = field(default_factory=Annealing)
    prior_std: Scale = 0.05
    prior_clip: Scale = 0.3
    gamma: Share = 0.99
    consistency_scale: Scale = 2.0
    reward_scale: Scale = 0.5
    value_scale: Scale = 0.1
    limit: Positive = 1e4
    beta: Share = 0.4
    target_every: Count = 2
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, eps=1e-8, clip=10.0, shrink=0.0))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, eps=1e-8, clip=10.0, shrink=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("encoder_units", "channels", "latent", "units", "target_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.gamma <= 1.0 or not 0.0 <= self.beta <= 1.0:
            raise ValueError(f"gamma and beta must be in [0, 1], got {self.gamma} and {self.beta}")
        if self.prior_std < 0.0 or self.prior_clip < 0.0 or self.limit <= 0.0:
            raise ValueError(
                "expected prior_std and prior_clip >= 0 and a positive limit, "
                f"got {self.prior_std}, {self.prior_clip} and {self.limit}"
            )
        self.anneal.fits(self.plan)


class TDMPCLearner(LatentLearner):
    """Learner of TD-MPC."""

    config: TDMPCConfig

    def __init__(
        self,
        agent: TDMPC,
        policy: LatentPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config, model = agent.config, self.model
        self.slow_encoder = copy.deepcopy(policy.encoder).requires_grad_(False)
        self.slow_critics = copy.deepcopy(model.critics).requires_grad_(False)
        slow = (*self.slow_encoder.parameters(), *self.slow_critics.parameters())
        self.pairs = list(zip(slow, (*policy.encoder.parameters(), *model.critics.parameters()), strict=True))
        prior = set(model.prior.parameters())
        self.optimisers = {
            "model": Optimiser((p for p in policy.parameters() if p not in prior), self.config.opt),
            "actor": Optimiser(model.prior.parameters(), self.config.actor_opt),
        }

    @property
    def model(self) -> TaskModel:
        """The policy's."""
        model = self.policy.model
        assert isinstance(model, TaskModel)
        return model

    @torch.no_grad()
    def targets(self, rows: dict[str, Tensor], obs: State, u: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of the slow encoder, and targets at those of the learned one, by the learned prior and slow critics.

        Source: Hansen et al. 2022 (TD-MPC), equations 7 and 9; algorithm/tdmpc.py, ``_td_target``.
        """
        later, model = {name: value[1:] for name, value in obs.items()}, self.model
        here = self.policy.encoder(later, u[1:])
        action = model.propose(here, self.draw(*here.shape[:2], model.actions))
        worth = self.slow_critics(torch.cat([here, action], -1)).amin(0)
        goes_on = (~rows["is_terminal"][1:]).float()
        return self.slow_encoder(later, u[1:]), rows["reward"][1:] + self.config.gamma * goes_on * worth

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors of each window, weighted for how likely it was to be drawn; and its absolute errors.

        Source: Hansen et al. 2022 (TD-MPC), equations 5 to 9; algorithm/tdmpc.py, ``update``.
        """
        config, model = self.config, self.model
        states, action = self.roll_out(rows, obs, u)
        before, after = states[:-1], states[1:]
        values = model.critics(torch.cat([before, action], -1))
        error = values - target
        rho = self.weights(len(valid)).unsqueeze(-1)

        def of_windows(loss: Tensor) -> Tensor:
            return (rho * torch.where(valid, loss, 0.0)).sum(0)

        losses = {
            "consistency": of_windows((after - ahead).square().mean(-1)),
            "reward": of_windows((model.pays(before, action) - rows["reward"][1:]).square()),
            "value": of_windows(error.square().sum(0)),
        }
        scales = config.scales
        terms = [scales[name] * loss.clamp(max=config.limit) for name, loss in losses.items()]
        weights = importance(probabilities, config.beta)
        with torch.no_grad():
            metrics |= {f"{name}_loss": loss.mean() for name, loss in losses.items()}
            metrics["q"] = masked_mean(values.mean(0), valid)
            metrics["td_error"] = masked_mean(error.abs().mean(0), valid)
            metrics["importance"] = weights.mean()
            priorities = of_windows(error.abs().sum(0)).clamp(max=config.limit)
        loss = (weights * torch.stack(terms).sum(0)).mean() / len(valid)
        return loss, states.detach(), priorities

    def actor_loss(self, states: Tensor, reached: Tensor, task: Tensor | None, metrics: dict[str, Tensor]) -> Tensor:
        """Minus the lesser value of a drawn action.

        Source: Hansen et al. 2022 (TD-MPC), equation 10; algorithm/tdmpc.py, ``update_pi``.
        """
        model = self.model
        action = model.propose(states, self.draw(*states.shape[:2], model.actions))
        with frozen(model.critics):
            q = model.critics(torch.cat([states, action], -1)).amin(0)
        return self.discounted(-q, reached)

    def follow(self) -> None:
        """The slow encoder and critics follow after every `target_every`-th update."""
        copy_if_due(self.pairs, self.policy.version, self.config.target_every, self.config.tau)


class TDMPC(LatentPlanner):
    """Recipe of TD-MPC, for continuous actions."""

    config: TDMPCConfig
    Config: ClassVar[type] = TDMPCConfig
    learners: ClassVar[bool] = True
    priorities: ClassVar[bool] = True
    Learner: ClassVar[type[TDMPCLearner]] = TDMPCLearner
    title = "TD-MPC"

    def make_encoder(self) -> LatentEncoder:
        """Encoder without norms."""
        config = self.config
        widths = (config.encoder_units, config.latent, config.channels)
        return PlainEncoder(self.env.observation, config.stack, *widths, config.shift)

    def make_model(self, latent: int, actions: int) -> LatentModel:
        """Model of the configured widths."""
        config = self.config
        return TaskModel(latent, actions, config.units, config.prior_std, config.prior_clip)

    def make_policy(
        self, encoder: LatentEncoder, model: LatentModel, actions: ContinuousActions, stacks: Stacks
    ) -> LatentPolicy:
        """Policy whose search is annealed."""
        config = self.config
        return TDMPCPolicy(encoder, model, actions, stacks, config.plan, config.gamma, config.anneal, config.mpc)
