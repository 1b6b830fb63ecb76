"""TD-MPC2: plan in a latent model that was never asked for a picture, with values for what follows the plan.

Source: Hansen, Su, Wang, "TD-MPC2: Scalable, Robust World Models for Continuous Control", ICLR 2024 (arXiv 2310.16828),
and the official code.

::

    rows      o_0        o_1        o_2        o_3             H = 3 decisions a_0 a_1 a_2, rewards r_1 r_2 r_3
               |          |          |          |
    encoder   z_0        h_1        h_2        h_3             h without a gradient
               \\
    rollout     -a_0-> z_1 -a_1-> z_2 -a_2-> z_3               one encoding, then dynamics alone

    target_t   = r_{t+1} + gamma (1 - terminal_{t+1}) min of two of Q'_1..5 (h_{t+1}, a ~ p(h_{t+1}))
    model      = 1/H sum_t rho^t [ 20 |z_{t+1} - h_{t+1}|^2 / L + 0.1 CE(R(z_t, a_t), r_{t+1})
                                  + 0.1 mean_k CE(Q_k(z_t, a_t), target_t) ]     (+ BCE(T(z_{t+1}), terminal_{t+1}))
    actor      = -1/(H+1) sum_t rho^t [ mean of two of Q_1..5 (z_t, a) / S + 1e-4 entropy ],    a ~ p(z_t), z fixed
    acting     : MPPI over H steps with the mean of two Q at its end (`reverie.agents.plan`, `TDMPC2Policy`)

CE is the cross-entropy to the two bins around symlog of the target. S follows the range of Q (`RunningScale`). The
entropy is A times that of the Gaussian *before* it is squashed: in the official code the correction for the squashing
cancels. Every update moves Q' by 1 % towards Q. Random pairs of critics are drawn once for all rows of an update.

Differs from the paper in: nothing that is not named in docs/tdmpc2.md. Multi-task learning is not here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from reverie.agents.agent import Agent, Learner
from reverie.agents.inputs import Stacks
from reverie.agents.noise import Tape
from reverie.agents.plan import PlanConfig
from reverie.agents.recurrent import start_state
from reverie.agents.tdmpc2_model import LatentModel, ModelConfig, pair
from reverie.agents.tdmpc2_policy import TDMPC2Policy
from reverie.agents.tdmpc2_sizes import M5, SIZES, Size
from reverie.data.rows import State
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import ContinuousActions, make_actions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.nets.layers import frozen
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.ops.losses import masked_mean
from reverie.ops.stats import RunningScale
from reverie.overrides import Choice

WIDE = 20
"""action dimensions from which on `TDMPC2Config.wide_iterations` are added"""


@dataclass(frozen=True)
class TDMPC2Config(ModelConfig):
    """Settings; defaults are the official code's. size: of all networks, by name (`reverie.agents.tdmpc2_sizes`).

    plan: the search. wide_iterations: iterations that it has beyond these with 20 action dimensions or more.
    episode_length: env_steps of an episode, from which the discount follows, see `gamma`.
    gamma_share, gamma_min, gamma_max: of the rule that makes the discount of it.
    rho: weight of each further step of the rollout, relative to the one before.
    consistency_scale, reward_scale, value_scale, end_scale: weights of the model's losses.
    entropy: scale of the prior's entropy. tau: by which the slow critics, and the range of Q, follow per learner_step.
    opt, actor_opt: of model and critics, and of the prior. encoder_lr: of the encoder, as a share of opt.lr.
    """

    size: Annotated[Size, Choice(SIZES)] = field(default_factory=M5)
    plan: PlanConfig = field(default_factory=PlanConfig)
    wide_iterations: int = 2
    episode_length: int = 500
    gamma_share: float = 5.0
    gamma_min: float = 0.95
    gamma_max: float = 0.995
    rho: float = 0.5
    consistency_scale: float = 20.0
    reward_scale: float = 0.1
    value_scale: float = 0.1
    end_scale: float = 1.0
    entropy: float = 1e-4
    tau: float = 0.01
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-4, eps=1e-8, clip=20.0, shrink=0.0))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-4, eps=1e-5, clip=20.0, shrink=0.0))
    encoder_lr: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size.latent % self.group:
            raise ValueError(f"size.latent {self.size.latent} cannot be divided into groups of {self.group}")
        if self.size.channels % self.group:
            raise ValueError(f"size.channels {self.size.channels} cannot be divided into groups of {self.group}")
        if self.episode_length < 1 or self.gamma_share <= 0.0:
            raise ValueError(
                "expected episode_length >= 1 and a positive gamma_share, "
                f"got {self.episode_length} and {self.gamma_share}"
            )
        if not 0.0 <= self.gamma_min <= self.gamma_max <= 1.0:
            raise ValueError(f"expected 0 <= gamma_min <= gamma_max <= 1, got {self.gamma_min} and {self.gamma_max}")
        if not 0.0 < self.rho <= 1.0 or not 0.0 < self.tau <= 1.0:
            raise ValueError(f"rho and tau must be in (0, 1], got {self.rho} and {self.tau}")
        if self.wide_iterations < 0 or self.encoder_lr < 0.0:
            raise ValueError(
                f"wide_iterations and encoder_lr must be at least 0, got {self.wide_iterations} and {self.encoder_lr}"
            )

    @property
    def gamma(self) -> float:
        """Discount of a decision: (n - 1) / n within gamma_min and gamma_max, n = episode_length / gamma_share.

        With the defaults 0.99 for 500 decisions, 0.95 for 100 and fewer, 0.995 for 1000 and more.
        Source: Hansen et al. 2024 (TD-MPC2), appendix on hyper-parameters; its code, ``_get_discount``.
        """
        n = self.episode_length / self.gamma_share
        return min(max((n - 1.0) / n, self.gamma_min), self.gamma_max)

    def search(self, actions: int) -> PlanConfig:
        """The search for so many action dimensions."""
        more = self.wide_iterations if actions >= WIDE else 0
        return replace(self.plan, iterations=self.plan.iterations + more)


class TDMPC2Learner(Learner):
    """Learner of two groups, one after the other: ``model`` (encoder, model and critics) and ``actor`` (the prior)."""

    policy: TDMPC2Policy

    def __init__(
        self,
        agent: TDMPC2,
        policy: TDMPC2Policy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config, self.gamma = agent.config, agent.config.gamma
        model = policy.model
        self.slow_critics = copy.deepcopy(model.critics).requires_grad_(False)
        self.range = RunningScale(self.config.tau).to(self.device)
        prior = set(model.prior.parameters())
        encoder = list(policy.encoder.parameters())
        opt = self.config.opt
        self.optimisers = {
            "model": Optimiser(
                [*encoder, *(p for p in model.parameters() if p not in prior)],
                opt,
                dict.fromkeys(encoder, self.config.encoder_lr * opt.lr),
            ),
            "actor": Optimiser(model.prior.parameters(), self.config.actor_opt),
        }

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Loss of the model, then that of the prior at the latents that the first was made of; targets follow."""
        rows, obs, u = self.see(batch)
        over = rows["is_last"].cumsum(0) > 0
        with self.autocast():
            ahead, target = self.targets(rows, obs, u)
            loss, states = self.model_loss(rows, obs, u, ahead, target, ~over[:-1], metrics)
        yield {"model": loss}
        reached = torch.cat([torch.ones_like(over[:1]), ~over[:-1]])
        with self.autocast():
            loss = self.actor_loss(states, reached, metrics)
        yield {"actor": loss}
        with torch.no_grad():
            pairs = zip(self.slow_critics.parameters(), self.policy.model.critics.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, self.config.tau)

    def see(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Rows [H+1, B, ...] without the context, their observations with stacked images, numbers for the encoder."""
        nothing = Tape(self.policy.version.new_empty(0))
        state, rows = start_state(self.policy, batch, self.windows, nothing)
        obs, _ = self.policy.stacks.unroll(state, rows)
        return rows, obs, self.noise.uniform(*rows["is_last"].shape, self.policy.encoder.noise)

    @torch.no_grad()
    def targets(self, rows: dict[str, Tensor], obs: State, u: Tensor) -> tuple[Tensor, Tensor]:
        """Latents h_1 ... h_H [H, B, L] of what was seen, and targets [H, B] of the values before them."""
        model = self.policy.model
        ahead = self.policy.encoder({name: value[1:] for name, value in obs.items()}, u[1:])
        action, _ = model.act(ahead, self.noise.uniform(*ahead.shape[:2], model.actions))
        values = model.values(ahead, action, self.slow_critics, chosen=self._pair())
        goes_on = (~rows["is_terminal"][1:]).float()
        return ahead, rows["reward"][1:] + self.gamma * goes_on * values.amin(0)

    def model_loss(
        self,
        rows: dict[str, Tensor],
        obs: State,
        u: Tensor,
        ahead: Tensor,
        target: Tensor,
        valid: Tensor,
        metrics: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Loss of encoder, model and critics, and the latents z_0 ... z_H [H+1, B, L] that it rolled out, detached.

        ahead, target: see `targets`. valid: bool [H, B], steps that lie within the first episode of their window.
        Source: Hansen et al. 2024 (TD-MPC2), equations 3 and 5.
        """
        config, model = self.config, self.policy.model
        action = self.policy.actions.encode(rows["action"][: len(valid)])
        latents = [self.policy.encoder({name: value[0] for name, value in obs.items()}, u[0])]
        for each in action.unbind(0):
            latents.append(model.next(latents[-1], each))
        states = torch.stack(latents)
        before, after = states[:-1], states[1:]
        pairs = torch.cat([before, action], -1)
        values = model.critics(pairs, self._dropout(model.critics.members, before))
        losses = {
            "consistency": (after - ahead).square().mean(-1),
            "reward": model.numbers.loss(model.reward(pairs), rows["reward"][1:]),
            "value": model.numbers.loss(values, target.expand(*values.shape[:-1])).mean(0),
        }
        terms = {name: self.discounted(loss, valid) for name, loss in losses.items()}
        scales = {"consistency": config.consistency_scale, "reward": config.reward_scale, "value": config.value_scale}
        if model.end is not None:
            logits, ends = model.end(after).squeeze(-1).float(), rows["is_terminal"][1:].float()
            terms["end"] = masked_mean(F.binary_cross_entropy_with_logits(logits, ends, reduction="none"), valid)
            scales["end"] = config.end_scale
        metrics |= {f"{name}_loss": loss.detach() for name, loss in terms.items()}
        metrics["q"] = masked_mean(model.numbers.mean(values.detach()).mean(0), valid)
        return torch.stack([scales[name] * loss for name, loss in terms.items()]).sum(), states.detach()

    def actor_loss(self, states: Tensor, reached: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of the prior at latents [H+1, B, L] without a gradient to these; critics are held, their dropout is not.

        reached: bool [H+1, B], latents within the first episode of their window.
        Source: Hansen et al. 2024 (TD-MPC2), equation 6; tdmpc2.py, ``update_pi``.
        """
        model = self.policy.model
        action, log_prob = model.act(states, self.noise.uniform(*states.shape[:2], model.actions))
        with frozen(model.critics):
            u = self._dropout(2, states)
            q = model.values(states, action, model.critics, u, self._pair()).mean(0)
        self.range.update(q[0])
        entropy = -model.actions * log_prob
        metrics["actor_entropy"] = masked_mean(-log_prob.detach(), reached)
        metrics["q_range"] = self.range.value.clone()
        return self.discounted(-(self.range(q) + self.config.entropy * entropy), reached)

    def discounted(self, loss: Tensor, valid: Tensor) -> Tensor:
        """1/T sum_t rho^t of the mean over valid rows of loss [T, B]; a step without any counts as 0."""
        time = loss.shape[0]
        each = torch.where(valid, loss, 0.0).sum(1) / valid.sum(1).clamp(min=1)
        return (self.config.rho ** torch.arange(time, device=loss.device) * each).sum() / time

    def _pair(self) -> Tensor:
        return pair(self.noise.uniform(self.policy.model.critics.members))

    def _dropout(self, members: int, states: Tensor) -> Tensor | None:
        """Numbers for the critics' dropout at states [T, B, L], None without one."""
        critics = self.policy.model.critics
        rows = states.shape[0] * states.shape[1]
        return self.noise.uniform(members, rows, critics.units) if critics.dropout else None


class TDMPC2(Agent):
    """Recipe of TD-MPC2, for continuous actions."""

    config: TDMPC2Config
    Config: ClassVar[type] = TDMPC2Config
    Learner: ClassVar[type[TDMPC2Learner]] = TDMPC2Learner

    def __post_init__(self) -> None:
        if not isinstance(self.env.action, spaces.Box):
            raise ValueError(
                f"TD-MPC2 plans continuous actions (a Box), got {self.env.action!r}; dreamerv2 and dreamerv3 take both"
            )

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows of H decisions (``replay.window.learn``) and the row after them; k - 1 rows before for a stack.

        Raises ValueError for burn-in and stored states: there is no memory.
        """
        if asked.context or asked.keeps_states:
            raise ValueError("TD-MPC2 has no memory: set replay.window.context = 0, state = zero and drift = false")
        stacks = Stacks(self.env.observation, self.config.stack)
        return replace(asked, context=stacks.lookback, lookahead=1)

    def policy(self) -> TDMPC2Policy:
        """Policy with fresh networks."""
        config, size, observation = self.config, self.config.size, self.env.observation
        actions = make_actions(self.env.action)
        assert isinstance(actions, ContinuousActions)
        encoder = LatentEncoder(
            observation,
            config.stack,
            size.encoder_units,
            size.encoder_layers,
            size.latent,
            size.channels,
            config.shift,
            config.group,
        )
        model = LatentModel(encoder.outputs, actions.size, size, config)
        stacks, search = Stacks(observation, config.stack), config.search(actions.size)
        # Images are channels last in memory, as convolutions are fastest.
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TDMPC2Policy(encoder, model, actions, stacks, search, config.gamma)
