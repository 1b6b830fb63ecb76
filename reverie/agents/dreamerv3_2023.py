"""DreamerV3 as of 2023: DreamerV2 with one set of settings for all tasks. The base of HarmonyDream's Atari 100k.

Source: Hafner, Pasukonis, Ba, Lillicrap, "Mastering Diverse Domains through World Models", arXiv 2301.04104v1, 2023,
and the code of that year.

::

    rows      o_0   o_1   ...  o_{T-1}          each posterior state z_t ...
               |     |           |
    states    s_0   s_1   ...  s_{T-1}
                     \\
    dream             s^_0 -a_1-> s^_1 -a_2-> ... -a_H-> s^_H      ... starts a dream of H steps
                      c_0         r_1, c_1        r_H, c_H         R_i = r_{i+1} + g c_{i+1} ((1-l) v_{i+1} + l R_{i+1})

Against DreamerV2: the value of a state begins with the reward after it; rewards and values are distributions over bins
in symlog space; a free nat for each row and each half of the KL; returns are divided by their range; the critic itself
bootstraps, and is held near a slow copy; 1 % of uniform in latents and actor; a first state that is learned.

Differs from the paper in: nothing that is not named in a preset. See docs/dreamerv3.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import BehaviourOptConfig, Dreamer, DreamerLearner, DreamingConfig
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.dreamer_sizes import SIZES_2023, XL, Size2023
from reverie.agents.model_learner import ModelOptConfig
from reverie.agents.objective import Objective, Reconstruction
from reverie.agents.predictors import Continuation, Discount, Estimator, Reward
from reverie.agents.sampling_policy import SamplingPolicy
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.actions import Actions, make_actions
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import frozen, truncated_
from reverie.nets.learned_start import LearnedStartRSSM
from reverie.nets.optim import OptimConfig
from reverie.nets.outputs import Bernoulli, SquaredError, SymlogMSE, TwoHot
from reverie.nets.rssm import RSSMConfig
from reverie.nets.state_space import StateSpace
from reverie.ops.returns import future_returns
from reverie.ops.stats import PercentileScale
from reverie.overrides import Choice
from reverie.values import PositiveShare, Scale, Share


@dataclass(frozen=True)
class DreamerV3Of2023Config(BehaviourOptConfig, ModelOptConfig, DreamingConfig):
    """Defaults are the paper's. size: of all networks, by name (`reverie.agents.dreamer_sizes`).

    unimix: share of uniform in latents and discrete actors. entropy: scale of the actor's entropy. momentum: of the
    return's range. slow_fraction: by which the slow critic follows per learner_step; slow_scale: of the critic's loss
    towards it. The KL's halves weigh kl_scale kl_balance = 0.5 (dynamics) and 0.1 (representation).
    """

    size: Annotated[Size2023, Choice(SIZES_2023)] = field(default_factory=XL)
    unimix: Share = 0.01
    gamma: PositiveShare = 1 - 1 / 333
    kl_balance: Share | None = 5 / 6
    kl_free: Scale = 1.0
    kl_free_per: Literal["mean", "each"] = "each"
    kl_scale: Scale = 0.6
    discount_scale: Scale = 1.0
    entropy: Scale = 3e-4
    momentum: Share = 0.99
    slow_fraction: Share = 0.02
    slow_scale: Scale = 1.0
    model_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-8, clip=1000.0, shrink=0.0))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-5, eps=1e-5, clip=100.0, shrink=0.0))
    critic_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-5, eps=1e-5, clip=100.0, shrink=0.0))


class DreamerV3Of2023Learner(DreamerLearner):
    """Learner of the paper's equations."""

    config: DreamerV3Of2023Config

    def draw(self, part: nn.Module) -> None:
        """Draw the first parameters of a part: truncated normals."""
        truncated_(part, "avg")

    def initialise(self) -> None:
        """First parameters; rewards begin at exactly 0."""
        super().initialise()
        self.model.reward.head.scale_output(0.0)

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss of the model, and the rows that it saw.

        Equation 4: L = observation + reward + continuation + 0.5 dynamics + 0.1 representation, each a mean over rows.
        """
        seen, rows = self.see(batch, metrics)
        with self.autocast():
            losses = self.model.losses(seen, rows, metrics)
            return self.weigh(losses, metrics), seen, rows


class DreamerV3Of2023Behaviour(Behaviour):
    """Actor and critics of the paper's equations. Continuous actors learn through the dream, others by REINFORCE."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pathwise = not self.actions.discrete
        self.range = PercentileScale(self.config.momentum)

    def networks(self) -> dict[str, nn.Module]:
        """The critics and the range of returns."""
        return super().networks() | {"range": self.range}

    def drawn(self) -> list[nn.Module]:
        """Actor and critic."""
        return [self.actor, self.critic]

    def begin(self) -> None:
        """Values begin at exactly 0."""
        self.critic.head.scale_output(0.0)
        super().begin()

    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams with rewards, discounts and values of all states, that of the start included."""
        with self.dreaming(), frozen(self.critic):
            features, actions, policy = self.dream(start)
            reward = self.rewards(features, actions, rows["reward"])
            # The first state is real: whether the episode ended there is known.
            first = self.config.gamma * (~rows["is_terminal"]).float()
            discount = torch.cat([first.unsqueeze(0), self.learner.model.discounts(features)[1:]])
            value = self.critic.mean(features)
        return Dream(features, actions, policy, reward, discount, value)

    def returns(self, dream: Dream) -> Tensor:
        """Returns R_i of equation 7 for i = 0..H-1, [H, N]."""
        return future_returns(dream.reward, dream.discount, dream.value, self.config.lam)

    def weights(self, dream: Dream) -> Tensor:
        """Probability of still being in the episode, times gamma^i, [H+1, N]; 0 everywhere after a terminal start."""
        return (dream.discount.cumprod(0) / self.config.gamma).detach()

    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 11: advantages in units of the returns' range, plus entropy, weighted by `weights`.

        The action a_{i+1}, taken at s_i, is credited with R_i - v_i.
        """
        self.range.update(returns)
        out = dream.policy
        entropy = self.actions.entropy(out)
        advantage = self.range(returns - dream.value[:-1])
        objective = advantage
        if not self.pathwise:
            objective = self.actions.log_prob(out, dream.actions.detach()) * advantage.detach()
        metrics["actor_entropy"] = entropy.mean().detach()
        metrics["return_range"] = self.range.scale()
        return -(self.weights(dream)[:-1] * (objective + self.entropy_scale * entropy)).mean()

    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 8 and its regulariser: cross-entropy to R_i, and to what the slow critic says."""
        features, output = dream.features[:-1].detach(), self.critic.output
        with self.learner.autocast():
            x, slow = self.critic.head(features), self.slow_critic.mean(features)
        metrics["imagined_reward"] = dream.reward[1:].mean().detach()
        metrics["imagined_return"] = returns.mean().detach()
        metrics["value"] = output.mean(x).mean().detach()
        return (
            self.weights(dream)[:-1] * (output.loss(x, returns) + self.config.slow_scale * output.loss(x, slow))
        ).mean()

    def update_slow_critic(self) -> None:
        """Follow the critic by a fraction after each update, wholly after the first."""
        fraction = torch.where(self.learner.policy.version == 0, 1.0, self.config.slow_fraction)
        with torch.no_grad():
            for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, fraction)


class DreamerV3Of2023(Dreamer):
    """Recipe of DreamerV3 in 2023: LayerNorm and SiLU everywhere, bins in symlog space, continuations without gamma."""

    config: DreamerV3Of2023Config
    Config: ClassVar[type] = DreamerV3Of2023Config
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = DreamerV3Of2023Learner
    Behaviour: ClassVar[type[Behaviour]] = DreamerV3Of2023Behaviour

    def actions(self) -> Actions:
        """Actions with some uniform in discrete actors, and normal continuous ones."""
        return make_actions(self.env.action, self.config.unimix, "normal")

    def encoder(self) -> Encoder:
        """Four padded convolutions, and an MLP for the symlog of vectors."""
        return Encoder(self.env.observation, self._code())

    def rssm(self, embed: int, action: int) -> StateSpace:
        """DreamerV2's memory with a learned first state."""
        size = self.config.size
        config = RSSMConfig(
            size.deter, size.units, "categorical", size.stoch, size.classes, self.config.unimix, "silu", "layer"
        )
        return LearnedStartRSSM(embed, action, config)

    def actor(self, features: int, params: int) -> Head:
        """MLP."""
        return Head(features, params, self._head())

    def policy_of(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions) -> DreamerPolicy:
        """A policy that samples in evaluation too."""
        return SamplingPolicy(encoder, rssm, actor, actions, self.env.action_mask)

    def objective(self, features: int) -> Objective:
        """Squared errors of images and of the symlog of vectors."""
        decoder = Decoder(features, self.env.observation, self._code())
        images = {key: SquaredError(3) for key in decoder.images}
        return Reconstruction(decoder, images | {key: SymlogMSE(1) for key in decoder.vectors})

    def reward(self, features: int) -> Reward:
        """Distribution over bins in symlog space."""
        return Reward(features, self._head(), TwoHot.uniform())

    def discount(self, features: int) -> Discount | None:
        """Bernoulli of 1 - is_terminal."""
        return Continuation(features, self._head(), Bernoulli(), self.config.gamma)

    def critic(self, features: int) -> Estimator:
        """Distribution over bins in symlog space."""
        return Estimator(features, self._head(), TwoHot.uniform())

    def _code(self) -> EncoderConfig:
        size = self.config.size
        return EncoderConfig(
            size.depth, size.vector_layers, size.vector_units, "silu", "layer", convolutions="same", symlog=True
        )

    def _head(self) -> HeadConfig:
        return HeadConfig(self.config.size.layers, self.config.size.units, "silu", "layer")
