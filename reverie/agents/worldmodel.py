"""The world model of the dreaming line: encoder, dynamics, an objective for observations, heads for all else.

::

    rows  --observe-->  Seen  --losses-->  {(group, name): scalar}  --balance-->  one loss
                          |
                        state  --imagine(action)-->  state  --predict-->  as the networks have it
                                                            --tell----->  as the environment would have it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from reverie.agents.model_losses import Losses, of, total
from reverie.agents.objective import Objective
from reverie.agents.predictors import Discount, Reward
from reverie.agents.seen import Seen
from reverie.data.rows import ACTION_MASK, OBS, State, observations
from reverie.errors import UserError
from reverie.nets.actions import Actions
from reverie.nets.balance import BalanceKind, Balancer, make_balancer
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.nets.state_space import StateSpace
from reverie.ops.losses import balanced_kl
from reverie.values import Scale, Share

WEIGHED = ("observation", "reward", "dynamics")
"""groups that a balancer weighs; the fourth, ``continuation``, keeps a scale of its own"""


GradHeads = tuple[Literal["decoder", "reward", "discount"], ...]
"""heads whose gradients reach the memory"""


@dataclass(frozen=True)
class ModelLossConfig:
    """Loss of the model.

    kl_balance: share of the KL's gradient that moves the prior (None: unbalanced). kl_free: free nats.
    kl_free_per: they are free of the batch mean (DreamerV2), or of each row (PlaNet, V3). *_scale: weights of the
    losses. grad_heads: the heads whose gradients reach the RSSM; others read detached features. balance: how
    observation, reward and dynamics (KL) losses are weighed (`reverie.nets.balance`); all but ``fixed`` ignore those
    three scales.
    """

    kl_balance: Share | None = 0.8
    kl_free: Scale = 0.0
    kl_free_per: Literal["mean", "each"] = "mean"
    kl_scale: Scale = 0.1
    observation_scale: Scale = 1.0
    reward_scale: Scale = 1.0
    discount_scale: Scale = 5.0
    grad_heads: GradHeads = ("decoder", "reward", "discount")
    balance: BalanceKind = "fixed"


@dataclass(frozen=True)
class WorldModelConfig(ModelLossConfig):
    """Networks of the model too, and what its Gaussians say.

    reward_transform: of the rewards that the model learns.
    predict_discount: learn a head for gamma * (1 - is_terminal).
    likelihood_constant: keep the Gaussians' log(2 pi) / 2 per dimension; None keeps it where weights are fixed (it
    changes no gradient there) and drops it where weights depend on the loss (it would rule them).
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: EncoderConfig = field(default_factory=EncoderConfig)
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    reward: HeadConfig = field(default_factory=HeadConfig)
    discount: HeadConfig = field(default_factory=HeadConfig)
    predict_discount: bool = True
    reward_transform: Literal["identity", "tanh", "sign", "symlog"] = "tanh"
    likelihood_constant: bool | None = None

    @property
    def constant(self) -> bool:
        """Whether likelihoods keep their constant."""
        return self.balance == "fixed" if self.likelihood_constant is None else self.likelihood_constant


@dataclass(frozen=True)
class Predicted:
    """Predictions of states [...], as the model's networks have them. Means, float32.

    observations: as the networks read them, key -> [...]; none if the objective cannot tell any. reward: [...], f(r)
    for the model's reward transform f. continuation: probability that the episode goes on [...], None without a head.
    """

    observations: dict[str, Tensor]
    reward: Tensor
    continuation: Tensor | None


class WorldModel(nn.Module):
    """Model p(observations, rewards, discounts | actions) with a latent state.

    encoder, rssm: shared with the policy. actions: how the environment's are encoded. objective, reward, discount: see
    there; without a discount head every discount is gamma.
    """

    scales: Tensor
    """fixed weights of the groups that are weighed, float32"""

    def __init__(
        self,
        config: ModelLossConfig,
        encoder: Encoder,
        rssm: StateSpace,
        actions: Actions,
        objective: Objective,
        reward: Reward,
        discount: Discount | None,
        gamma: float,
    ) -> None:
        super().__init__()
        self.config, self.actions, self.gamma = config, actions, gamma
        self.encoder, self.rssm = encoder, rssm
        self.objective, self.reward, self.discount = objective, reward, discount
        self.groups = tuple(g for g in WEIGHED if not (g == "observation" and objective.silent))
        self.balancer: Balancer | None = make_balancer(config.balance, len(self.groups))
        self.fixed = {
            "observation": config.observation_scale,
            "reward": config.reward_scale,
            "continuation": config.discount_scale,
            "dynamics": config.kl_scale,
        }
        self.register_buffer("scales", torch.tensor([self.fixed[g] for g in self.groups]), persistent=False)

    @property
    def rates(self) -> dict[nn.Parameter, float]:
        """Parameters that learn at a rate of their own: what the optimiser of this model must be told."""
        return {} if self.balancer is None else self.balancer.rates

    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters that the optimiser of this model learns: not the objective's slow copies."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""
        return self.scales.device

    @property
    def latent_noise(self) -> int:
        """Uniform numbers that one imagined step of one row takes."""
        return self.rssm.latent.noise

    @property
    def observe_noise(self) -> int:
        """Uniform numbers that `observe` takes of one row, but for the objective's."""
        return self.rssm.latent.noise + self.encoder.noise

    def initial_state(self, batch: int) -> State:
        """The state before an episode, name -> [B, ...]."""
        return self.rssm.initial_state(batch, self.device)

    def observe(
        self, state: State, action: Tensor, rows: Mapping[str, Tensor], u: Tensor, training: bool = False
    ) -> Seen:
        """Posterior states of rows [T, B, ...] and all that was made on the way to them.

        state: before the first row [B, ...]. action: encoded previous actions [T, B, A]. u: uniform [T, B, n], whose
        first numbers are the latents', then the encoder's, and whose last the objective's. training: the rows are a
        batch of an update: the encoder's running statistics take it in, and the objective augments it.
        """
        own = u[..., self.rssm.latent.noise : self.observe_noise]
        prepared = self.encoder.dequantise(self.encoder.prepare(observations(rows)), own)
        if training:
            self.encoder.adapt(prepared)
            prepared = self.objective.augment(prepared, u[..., u.shape[-1] - self.objective.noise :])
        embed = self.encoder.encode(prepared)
        latent = u[..., : self.rssm.latent.noise]
        states, posterior, last = self.rssm.observe(state, action, rows["is_first"], embed, latent)
        prior = self.rssm.prior(states["deter"])
        return Seen(states, posterior, prior, self.rssm.feature(states), embed, prepared, action, last)

    def imagine(self, state: State, action: Tensor, u: Tensor | None) -> State:
        """One step without an observation. action: encoded [B, A]; u: uniform [B, `latent_noise`].

        None: no noise, but the most likely latent of each step.
        """
        return self.rssm.likely_step(state, action) if u is None else self.rssm.imagine_step(state, action, u)

    def losses(self, seen: Seen, rows: Mapping[str, Tensor], metrics: dict[str, Tensor]) -> Losses:
        """All losses of the rows that were seen, each a mean over rows. Fills `metrics` with what is not a loss."""
        return self.head_losses(seen, rows) | self.dynamics_losses(seen, metrics)

    def head_losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> Losses:
        """Losses of the observations, the reward and the discount."""
        apart = seen.apart()
        reads = {name: seen if name in self.config.grad_heads else apart for name in HEADS}
        losses: Losses = {("observation", key): x for key, x in self.objective.losses(reads["decoder"], rows).items()}
        losses["reward", "reward"] = self.reward.loss(reads["reward"].features, rows)
        if self.discount is not None:
            losses["continuation", "discount"] = self.discount.loss(reads["discount"].features, rows)
        return losses

    def dynamics_losses(self, seen: Seen, metrics: dict[str, Tensor]) -> Losses:
        """Loss KL(posterior || prior), balanced and clipped. Source: DreamerV2 section 2.1, equation 3, algorithm 2."""
        config, latent = self.config, self.rssm.latent
        loss, metrics["kl"] = balanced_kl(
            latent.kl, seen.posterior, seen.prior, config.kl_balance, config.kl_free, config.kl_free_per
        )
        self.measure_latents(seen, metrics)
        return {("dynamics", "kl"): loss}

    def measure_latents(self, seen: Seen, metrics: dict[str, Tensor]) -> None:
        """Fill `metrics` with the entropies of prior and posterior, means over rows."""
        for name, stats in (("prior", seen.prior), ("posterior", seen.posterior)):
            metrics[f"{name}_entropy"] = self.rssm.latent.entropy(stats).mean().detach()

    def balance(self, losses: Losses) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses: the one hook of the balancing line.

        Three groups are weighed: observation (the sum over all of the objective's losses), reward, dynamics (the KL,
        balanced and clipped). The discount keeps its own scale.
        Returns (total, metrics ``balance/<group>_{loss,weight,product}``). Raises UserError for losses of other groups,
        which would have no weight.
        """
        for group, name in losses:
            if group not in self.fixed:
                raise UserError(f"the loss {name!r} is of an unknown group {group!r}: expected {', '.join(self.fixed)}")
        groups = torch.stack([total(of(losses, group)) for group in self.groups])
        if self.balancer is None:
            whole = torch.stack([self.fixed[group] * loss for (group, _), loss in losses.items()]).sum()
            weights = self.scales
        else:
            shared = [*self.encoder.parameters(), *self.rssm.parameters()]
            whole, weights = self.balancer(groups, shared)
            for loss in of(losses, "continuation").values():
                whole = whole + self.fixed["continuation"] * loss
        raw = groups.detach()
        kinds = {"loss": raw, "weight": weights, "product": raw * weights}
        metrics = {f"balance/{g}_{kind}": x for kind, xs in kinds.items() for g, x in zip(self.groups, xs, strict=True)}
        return whole, metrics

    def discounts(self, features: Tensor) -> Tensor:
        """Predicted discounts [...] of features [..., F]: what returns in dreams are made with."""
        if self.discount is None:
            return torch.full(features.shape[:-1], self.gamma, device=features.device)
        return self.discount.discounts(features)

    @torch.no_grad()
    def action_mask(self, features: Tensor) -> Tensor | None:
        """Predicted mask of the actions [..., n] of features [..., F]; None if the objective cannot tell any."""
        return self.objective.means(features, (ACTION_MASK,)).get(ACTION_MASK)

    def predict(self, state: State) -> Predicted:
        """Predictions of all that can be told of states [...]."""
        features = self.rssm.feature(state)
        reward = self.reward.mean(features).float()
        continuation = None if self.discount is None else self.discount.continuation(self.discount.mean(features))
        return Predicted(self.objective.means(features), reward, continuation)

    def truth(self, rows: Mapping[str, Tensor]) -> Predicted:
        """Truth about rows [...], in the units of `predict`."""
        going_on = (~rows["is_terminal"]).float()
        return Predicted(self.encoder.prepare(observations(rows)), self.reward.target(rows), going_on)

    def tell(self, state: State) -> dict[str, Tensor]:
        """Rows for people: what the environment would show and pay at states [...].

        ``obs.<key>``: as the environment gives them (images uint8 [..., H, W, C]), if the objective can tell them.
        ``reward``: in the environment's unit; where that cannot be had back (tanh, sign) the field is called what it
        is, such as ``tanh(reward)``. ``continuation``: probability that the episode goes on, 1 without such a head.
        """
        predicted = self.predict(state)
        fields = {OBS + key: x for key, x in self.encoder.restore(predicted.observations).items()}
        fields[self.reward.unit] = self.reward.earned(predicted.reward)
        continuation = predicted.continuation
        fields["continuation"] = torch.ones_like(predicted.reward) if continuation is None else continuation
        return fields


@runtime_checkable
class HasWorldModel(Protocol):
    """An agent's recipe whose policies have a world model that can be built around them, without a learner."""

    def model(self, policy: nn.Module) -> WorldModel:
        """The model around a policy's networks; its own part is fresh."""


HEADS = ("decoder", "reward", "discount")
