"""Denoised MDP: Dreamer V1 whose memory is factored, and who dreams of what actions can reach alone.

::

    Dreamer V1     state s                  L = -log p(o | s) - log p(r | s) + max(KL, free)
    Denoised MDP   state (x, y, z)          L = -log p(o | x, y, z) - log p(r | x, y)
                                                + alpha (beta_x max(KL_x, free) + beta_y KL_y + beta_z KL_z)

    x   signal     actions reach it, rewards depend on it       actor, critic and dreams know nothing else
    y   noise      no action reaches it, rewards may depend     r = r_x(x) + r_y(y), of which dreams pay r_x
    z   noise      no reward depends on it

With beta_y and beta_z below beta_x whatever need not be signal is cheaper told by the noise
(`reverie.nets.factored_rssm`).

Source: Wang, Du, Torralba, Isola, Zhang, Tian, "Denoised MDPs: Learning World Models Better Than the World Itself",
ICML 2022 (arXiv 2206.15477), section 3, and its code. Parent: Dreamer V1, which it is without y and z, but for where
the KL is clipped and that it dreams in the updated model. Hook: `WorldModel.dynamics_losses`. Differs from the code in:
policies are learned in dreams, there by Soft Actor-Critic too; see docs/denoised.md for the whole list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import DreamerLearner
from reverie.agents.dreamerv1 import DreamerV1, DreamerV1Behaviour, DreamerV1Config, DreamerV1Learner
from reverie.agents.model_losses import Losses
from reverie.agents.predictors import Discount, Estimator, Reward
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import WorldModel
from reverie.data.rows import State
from reverie.data.sequences import SequenceSpec
from reverie.nets.factored_rssm import ChainConfig, FactoredRSSM
from reverie.nets.heads import FirstHead, Head, HeadConfig
from reverie.nets.outputs import Bernoulli, Output, UnitNormal
from reverie.nets.rssm import RSSMConfig
from reverie.ops.losses import balanced_kl
from reverie.values import Scale


@dataclass(frozen=True)
class DenoisedConfig(DreamerV1Config):
    """Dreamer V1's settings with noise beside the signal; defaults are the code's: x and y, as in figure 2b.

    rssm: of the signal x; its act, std, norm and cell are of all chains. y: chain of noise that no action reaches and
    rewards may depend on. z: chain of noise that no reward depends on. z_reads_y: whether z follows y, not only x.
    beta_x, beta_y, beta_z: weights of the chains' KLs among each other; kl_scale, alpha in the paper, weighs their sum.
    beta_free: share of beta_x whose KL is clipped (None: all of it). kl_free: nats that are free of the signal's KL
    alone.
    """

    rssm: RSSMConfig = field(
        default_factory=lambda: RSSMConfig(120, 120, "gaussian", 20, std="softplus", cell="reset_after")
    )
    y: ChainConfig = field(default_factory=ChainConfig)
    z: ChainConfig = field(default_factory=lambda: ChainConfig(0, 0))
    z_reads_y: bool = True
    beta_x: Scale = 1.0
    beta_y: Scale = 0.25
    beta_z: Scale = 0.25
    beta_free: Scale | None = None
    kl_free_per: Literal["mean", "each"] = "each"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta_x", "beta_y", "beta_z"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.beta_free is not None and not 0.0 <= self.beta_free <= self.beta_x:
            raise ValueError(f"beta_free must be from 0 to beta_x = {self.beta_x}, got {self.beta_free}")

    @property
    def signal(self) -> int:
        """Width of the signal's features."""
        return self.rssm.deter + self.rssm.stoch


class FactoredModel(WorldModel):
    """World model with a factored memory: each chain has a KL of its own."""

    rssm: FactoredRSSM
    config: DenoisedConfig

    def dynamics_losses(self, seen: Seen, metrics: dict[str, Tensor]) -> Losses:
        """Losses beta_x max(KL_x, free), beta_y KL_y and beta_z KL_z of the chains that are there, means over rows.

        With `beta_free`: beta_free max(KL_x, free) + (beta_x - beta_free) KL_x. Source: the paper's section 3.2 and
        appendix B.1.2; `KLLoss` in its code.
        """
        config, rssm = self.config, self.rssm
        posterior, prior = rssm.stats_of(seen.posterior), rssm.stats_of(seen.prior)
        losses: Losses = {}
        for name in rssm.names:
            kl_fn, both = rssm.chain(name).latent.kl, (posterior[name], prior[name])
            beta: float = getattr(config, f"beta_{name}")
            free = config.kl_free if name == "x" else 0.0
            clipped = beta if name != "x" or config.beta_free is None else config.beta_free
            loss, kl = balanced_kl(kl_fn, *both, config.kl_balance, free, config.kl_free_per)
            loss = clipped * loss
            if clipped < beta:
                whole, _ = balanced_kl(kl_fn, *both, config.kl_balance, 0.0)
                loss = loss + (beta - clipped) * whole
            losses["dynamics", f"kl_{name}"], metrics[f"kl_{name}"] = loss, kl
        metrics["kl"], _ = balanced_kl(rssm.latent.kl, seen.posterior, seen.prior, None, 0.0)
        self.measure_latents(seen, metrics)
        return losses


class DenoisedLearner(DreamerV1Learner):
    """Dreamer V1's learner, which updates the model first and then dreams in it."""

    losses = DreamerLearner.losses


class DenoisedBehaviour(DreamerV1Behaviour):
    """Dreamer V1's, in dreams of the signal alone, which pay its part of the reward."""

    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams from the signals of N states."""
        rssm = self.learner.model.rssm
        assert isinstance(rssm, FactoredRSSM)
        return super().imagine(rssm.signal_of(start), rows)

    def told(self, features: Tensor, actions: Tensor, first: Tensor) -> Tensor:
        """The signal's part of the rewards of every state."""
        reward = self.learner.model.reward
        assert isinstance(reward, FactoredReward)
        return reward.signal_mean(features)


class SignalEstimator(Estimator):
    """An estimator that reads the signal alone."""

    Head = FirstHead


class SignalDiscount(Discount):
    """A discount that follows from the signal alone."""

    Head = FirstHead


class FactoredReward(Reward):
    """Reward whose mean is the sum of a part for the signal's features and one for those of y behind them.

    signal, noise: widths of these features; noise 0: there is no y. Source: Wang et al. 2022, section 3.1.
    """

    Head = FirstHead

    def __init__(self, signal: int, noise: int, config: HeadConfig, output: Output, transform: str) -> None:
        super().__init__(signal, config, output, transform)
        self.signal, self.noise = signal, noise
        self.noise_head = Head(noise, None, config) if noise else None

    def numbers(self, features: Tensor) -> Tensor:
        """The sum of both parts [...], of features [..., signal + noise or more]."""
        signal = self.head(features)
        if self.noise_head is None:
            return signal
        return signal + self.noise_head(features[..., self.signal : self.signal + self.noise])

    def signal_mean(self, features: Tensor) -> Tensor:
        """The signal's part of the mean [...], of features [..., signal or more]."""
        return self.output.mean(self.head(features))


class DenoisedMDP(DreamerV1):
    """Recipe of Dreamer V1 with a factored memory."""

    config: DenoisedConfig
    Config: ClassVar[type] = DenoisedConfig
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = DenoisedLearner
    Behaviour: ClassVar[type[Behaviour]] = DenoisedBehaviour
    Model: ClassVar[type[WorldModel]] = FactoredModel
    masks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError for a mask of actions, which dreams of the signal alone cannot tell."""
        super().__post_init__()
        if self.env.action_mask:
            raise ValueError("its dreams cannot tell which actions a mask allows; say --env.options.action_mask ignore")

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """As asked. Raises ValueError where drift is to be measured, which is defined for memories of one chain."""
        if asked.drift:
            raise ValueError("the drift of a factored memory is not defined; set replay.window.drift to false")
        return super().windows(asked)

    def rssm(self, embed: int, action: int) -> FactoredRSSM:
        """A fresh memory of the chains that have a size."""
        config = self.config
        return FactoredRSSM(embed, action, config.rssm, config.y, config.z, config.z_reads_y)

    def actor(self, features: int, params: int) -> Head:
        """A fresh actor, which reads the signal."""
        return FirstHead(self.config.signal, params, self.config.actor)

    def critic(self, features: int) -> Estimator:
        """N(V(x), 1)."""
        return SignalEstimator(self.config.signal, self.config.critic, UnitNormal())

    def reward(self, features: int) -> Reward:
        """Gaussian N(f(r), 1) around the sum of r_x and r_y."""
        config = self.config
        output = UnitNormal(0, config.constant)
        return FactoredReward(config.signal, config.y.features, config.reward, output, config.reward_transform)

    def discount(self, features: int) -> Discount | None:
        """Bernoulli of gamma (1 - is_terminal) that follows from the signal, if it is predicted at all."""
        config = self.config
        if not config.predict_discount:
            return None
        return SignalDiscount(config.signal, config.discount, Bernoulli(), config.gamma)
