"""The world model of the dreaming line: encoder, RSSM, and heads for observations, reward and discount."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.data.rows import State, observations
from reverie.nets.balance import BalanceKind, Balancer, make_balancer
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.rssm import RSSM, RSSMConfig
from reverie.ops.distributions import bernoulli_log_prob, bernoulli_mean, unit_normal_nll
from reverie.ops.losses import balanced_kl
from reverie.ops.transforms import reward_transform


@dataclass(frozen=True)
class WorldModelConfig:
    """Networks and loss of the model.

    kl_balance: share of the KL's gradient that moves the prior (None: unbalanced). kl_free: free nats, applied to the
    batch mean (DreamerV2) or to each row (PlaNet, V3). predict_discount: learn a head for gamma * (1 - is_terminal).
    *_scale: weights of the losses. grad_heads: the heads whose gradients reach the RSSM; others read detached features.
    balance: how observation, reward and dynamics (KL) losses are weighed (`reverie.nets.balance`); all but ``fixed``
    ignore those three scales. likelihood_constant: keep the Gaussians' log(2 pi) / 2 per dimension; None keeps it where
    weights are fixed (it changes no gradient there) and drops it where weights depend on the loss (it would rule them).
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: EncoderConfig = field(default_factory=EncoderConfig)
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    reward: HeadConfig = field(default_factory=HeadConfig)
    discount: HeadConfig = field(default_factory=HeadConfig)
    predict_discount: bool = True
    reward_transform: Literal["identity", "tanh", "sign", "symlog"] = "tanh"
    kl_balance: float | None = 0.8
    kl_free: float = 0.0
    kl_free_per: Literal["mean", "each"] = "mean"
    kl_scale: float = 0.1
    observation_scale: float = 1.0
    reward_scale: float = 1.0
    discount_scale: float = 5.0
    grad_heads: tuple[str, ...] = ("decoder", "reward", "discount")
    balance: BalanceKind = "fixed"
    likelihood_constant: bool | None = None


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for the module's parameters (they still flow through it) inside the block."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class WorldModel(nn.Module):
    """p(observations, rewards, discounts | actions) through a latent state."""

    scales: Tensor
    """fixed weights of GROUPS, float32 [3]"""

    def __init__(
        self, config: WorldModelConfig, observation: Mapping[str, spaces.Space], encoder: Encoder, rssm: RSSM
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.rssm = encoder, rssm
        self.decoder = Decoder(self.rssm.features, observation, config.decoder)
        self.reward = Head(self.rssm.features, None, config.reward)
        self.discount = Head(self.rssm.features, None, config.discount) if config.predict_discount else None
        self.reward_transform = reward_transform(config.reward_transform)
        self.balancer: Balancer | None = make_balancer(config.balance, len(GROUPS))
        scales = torch.tensor([config.observation_scale, config.reward_scale, config.kl_scale])
        self.register_buffer("scales", scales, persistent=False)
        kept = config.likelihood_constant
        self.likelihood_constant = config.balance == "fixed" if kept is None else kept

    @property
    def rates(self) -> dict[nn.Parameter, float]:
        """Parameters that learn at a rate of their own: what the optimiser of this model must be told."""
        return {} if self.balancer is None else self.balancer.rates

    def loss(
        self, state: State, action: Tensor, rows: Mapping[str, Tensor], u: Tensor, gamma: float
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Negative evidence lower bound of the rows, each part a mean over rows.

        With fixed weights L = observation_scale * observation + reward_scale * reward + discount_scale * discount
        + kl_scale * KL; image log-likelihoods are summed over pixels and channels and keep the Gaussian's constant, as
        in the official code. Other weights: see `balance`.
        state: before the first row [B, ...]; action: encoded previous actions [T, B, A]; u: noise [T, B, >= latent's].
        Returns (loss, posterior states name -> [T, B, ...], metrics). Source: DreamerV2 equations 2 and 3.
        """
        config = self.config
        targets = self.encoder.prepare(observations(rows))
        self.encoder.adapt(targets)
        embed = self.encoder.encode(targets)
        states, post, _ = self.rssm.observe(state, action, rows["is_first"], embed, u[..., : self.rssm.latent.noise])
        prior = self.rssm.prior(states["deter"])
        features = self.rssm.feature(states)
        losses = self.head_losses(features, targets, rows, gamma)
        losses["kl"], kl = balanced_kl(
            self.rssm.latent.kl, post, prior, config.kl_balance, config.kl_free, config.kl_free_per
        )
        metrics = {f"{name}_loss": value.detach() for name, value in losses.items()}
        metrics["kl"] = kl
        metrics["prior_entropy"] = self.rssm.latent.entropy(prior).mean().detach()
        metrics["posterior_entropy"] = self.rssm.latent.entropy(post).mean().detach()
        total, weighed = self.balance(losses)
        return total, states, metrics | weighed

    def head_losses(
        self, features: Tensor, targets: Mapping[str, Tensor], rows: Mapping[str, Tensor], gamma: float
    ) -> dict[str, Tensor]:
        """Mean negative log-likelihood of each (prepared) observation key, of the reward and of the discount."""
        reads = {name: features if name in self.config.grad_heads else features.detach() for name in HEADS}
        losses = {}
        for key, mean in self.decoder(reads["decoder"]).items():
            losses[key] = unit_normal_nll(targets[key], mean.float(), mean.dim() - 2, self.likelihood_constant).mean()
        target = self.reward_transform(rows["reward"])
        losses["reward"] = unit_normal_nll(target, self.reward(reads["reward"]), 0, self.likelihood_constant).mean()
        if self.discount is not None:
            target = gamma * (~rows["is_terminal"]).float()
            losses["discount"] = -bernoulli_log_prob(self.discount(reads["discount"]), target).mean()
        return losses

    def balance(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses: the one hook of the balancing line.

        Three groups are weighed: observation (the sum over all decoded keys), reward, dynamics (the KL, balanced and
        clipped). The discount keeps its own scale. Returns (total, metrics ``balance/<group>_{loss,weight,product}``).
        """
        config = self.config
        apart = {"reward", "discount", "kl"}
        observation = torch.stack([loss for name, loss in losses.items() if name not in apart]).sum()
        groups = torch.stack([observation, losses["reward"], losses["kl"]])
        if self.balancer is None:
            scales = {"reward": config.reward_scale, "discount": config.discount_scale, "kl": config.kl_scale}
            weighted = [scales.get(name, config.observation_scale) * loss for name, loss in losses.items()]
            total = torch.stack(weighted).sum()
            weights = self.scales
        else:
            shared = [*self.encoder.parameters(), *self.rssm.parameters()]
            total, weights = self.balancer(groups, shared)
            if self.discount is not None:
                total = total + config.discount_scale * losses["discount"]
        raw = groups.detach()
        kinds = {"loss": raw, "weight": weights, "product": raw * weights}
        metrics = {f"balance/{g}_{kind}": x for kind, xs in kinds.items() for g, x in zip(GROUPS, xs, strict=True)}
        return total, metrics

    def predicted_discount(self, features: Tensor, gamma: float) -> Tensor:
        """Mean of the discount head (its target contains gamma already), or gamma where there is no head."""
        if self.discount is None:
            return torch.full(features.shape[:-1], gamma, device=features.device)
        return bernoulli_mean(self.discount(features))


HEADS = ("decoder", "reward", "discount")
GROUPS = ("observation", "reward", "dynamics")
