"""Dreamer: learn a world model with Gaussian latents, then an actor by the gradient of dreamed returns.

Source: Hafner, Lillicrap, Ba, Norouzi, "Dream to Control: Learning Behaviors by Latent Imagination", ICLR 2020 (arXiv
1912.01603).

::

    rows      o_0   o_1   ...  o_{T-1}          each posterior state z_t ...
               |     |           |
    states    s_0   s_1   ...  s_{T-1}
                     \\
    dream             s^_0 -a_1-> s^_1 -a_2-> ... -a_H-> s^_H      ... starts a dream of H steps
                                  r_1, d_1         r_H, d_H        R_i = r_i + d_i ((1-l) v_{i+1} + l R_{i+1})

What is learned from begins after the first dreamed action: the start itself has no return and no value.

Differs from the paper in: nothing that is not named in a preset; from the official code in: noise is drawn per update
from one generator, windows may cross episode ends (the state is reset at is_first, and with a discount head rows that
ended begin no dream), Adam's eps is added after bias correction. See docs/dreamerv1.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import Dreamer, DreamerConfig, DreamerLearner
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.exploration import ActionNoise
from reverie.agents.objective import Objective, Reconstruction
from reverie.agents.policy import Seat
from reverie.agents.predictors import Discount, Estimator, Reward
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.actions import Actions, BoundedKind, ContinuousActions, make_actions
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import frozen
from reverie.nets.optim import OptimConfig
from reverie.nets.outputs import Bernoulli, UnitNormal
from reverie.nets.rssm import RSSMConfig
from reverie.nets.state_space import StateSpace
from reverie.ops.returns import imagined_returns, trajectory_weights
from reverie.values import Count, PositiveShare, Scale, Several, Share


def adam(lr: float) -> OptimConfig:
    """Adam as the code has it: Keras' eps, gradients clipped, no decay."""
    return OptimConfig(lr=lr, eps=1e-7, clip=100.0, shrink=0.0)


@dataclass(frozen=True)
class DreamerV1Config(DreamerConfig):
    """Defaults are the paper's agent for control from pixels as its code released it.

    init_std, min_std: of a ``tanh_normal`` actor, see `reverie.nets.actions.ContinuousActions`. explore: noise on top
    of the sampled actions. samples: of a continuous actor in evaluation, of which the likeliest is played.
    entropy: scale of the actor's entropy, 0 as released.
    """

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(depth=32, act="relu"))
    decoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(depth=32, act="relu"))
    rssm: RSSMConfig = field(
        default_factory=lambda: RSSMConfig(200, 200, "gaussian", 30, std="softplus", cell="reset_after")
    )
    reward: HeadConfig = field(default_factory=lambda: HeadConfig(layers=2))
    discount: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3))
    critic: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3))
    horizon: Several = 15
    predict_discount: bool = False
    reward_transform: Literal["identity", "tanh", "sign", "symlog"] = "identity"
    kl_balance: Share | None = None
    kl_free: Scale = 3.0
    kl_scale: Scale = 1.0
    discount_scale: Scale = 10.0
    gamma: PositiveShare = 0.99
    continuous: BoundedKind = "tanh_normal"
    init_std: Scale = 5.0
    min_std: Scale = 1e-4
    explore: ActionNoise = field(default_factory=ActionNoise)
    entropy: Scale = 0.0
    samples: Count = 100
    model_opt: OptimConfig = field(default_factory=lambda: adam(6e-4))
    actor_opt: OptimConfig = field(default_factory=lambda: adam(8e-5))
    critic_opt: OptimConfig = field(default_factory=lambda: adam(8e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 2:
            raise ValueError(f"horizon must be >= 2 (the last dream state has no return), got {self.horizon}")
        if self.samples < 1:
            raise ValueError(f"samples must be >= 1, got {self.samples}")


class DreamerV1Policy(DreamerPolicy):
    """Actor with noise in training; in evaluation the likeliest of `samples` draws, or the likeliest class."""

    def __init__(
        self,
        encoder: Encoder,
        rssm: StateSpace,
        actor: Head,
        actions: Actions,
        config: DreamerV1Config,
        masked: bool = False,
    ) -> None:
        super().__init__(encoder, rssm, actor, actions, masked)
        self.explore = config.explore
        self.samples = 0 if actions.discrete else config.samples
        self.noise += self.explore.numbers(actions) + self.samples * actions.noise

    @property
    def unroll_noise(self) -> int:
        """Numbers of encoder and memory."""
        return self.seeing

    def act(self, state: State, u: Tensor, seat: Seat, mask: Tensor | None = None) -> Tensor:
        """The encoded action [B, A] at a state, of those that the mask allows."""
        sizes = [self.actions.noise, self.explore.numbers(self.actions), self.samples * self.actions.noise]
        u_action, u_explore, u_mode = u.split(sizes, -1)
        if seat.play == "greedy" and isinstance(self.actions, ContinuousActions):
            out = self.actor_of(seat)(self.rssm.feature(state))
            return likeliest(self.actions, out, u_mode.unflatten(-1, (self.samples, -1)))
        action = super().act(state, u_action, seat, mask)
        return self.explore.add(action, u_explore, seat, self.actions, mask) if seat.play == "explore" else action

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Amount of the noise."""
        return {"action_noise": self.explore.now(seat)}


def likeliest(actions: ContinuousActions, out: Tensor, u: Tensor) -> Tensor:
    """The likeliest [B, A] of n draws, for a distribution whose mode has no closed form.

    out: of the actor's head [B, P]. u: uniform [B, n, A]. Source: Dreamer V1 code, SampleDist.
    """
    draws = actions.sample(out.unsqueeze(-2), u)
    best = actions.log_prob(out.unsqueeze(-2), draws).argmax(-1)
    return draws.gather(-2, best[:, None, None].expand(-1, 1, actions.size)).squeeze(-2)


class DreamerV1Learner(DreamerLearner):
    """Learner of the paper's equations."""

    config: DreamerV1Config

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """All losses at once: the behaviour dreams in the model as it was before this update."""
        model_loss, seen, rows = self.world_model_loss(batch, metrics)
        yield {"model": model_loss} | self.behaviour_losses(seen, rows, metrics)
        self.model.objective.after_update()

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss of the model, and the rows that it saw.

        Equation 10: L = observation + reward + discount_scale discount + kl_scale max(KL, free), each a mean over rows.
        """
        seen, rows = self.see(batch, metrics)
        with self.autocast():
            losses = self.model.losses(seen, rows, metrics)
            return self.weigh(losses, metrics), seen, rows


class DreamerV1Behaviour(Behaviour):
    """Actor and critic of the paper's equations."""

    pathwise = True
    slow = False

    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams of algorithm 1, with rewards, discounts and values of all states, that of the start included."""
        model, is_terminal = self.learner.model, rows["is_terminal"]
        with self.dreaming(), frozen(self.critic):
            features, actions, policy = self.dream(start)
            reward = self.rewards(features, actions, rows["reward"])
            discount = model.discounts(features)
            # The start is no state that is learned from: what its place holds is the weight of all that follow.
            ended = is_terminal if model.discount is not None else torch.zeros_like(is_terminal)
            discount = torch.cat([(~ended).float().unsqueeze(0), discount[1:]])
            value = self.critic.mean(features)
        return Dream(features, actions, policy, reward, discount, value)

    def returns(self, dream: Dream) -> Tensor:
        """Returns R_i of equation 6 for i = 1..H-1, [H-1, N]."""
        return imagined_returns(dream.reward[1:], dream.discount[1:], dream.value[1:], self.config.lam)

    def weights(self, dream: Dream) -> Tensor:
        """Probability of still being in the episode at s_i, times gamma^(i-1), [H+1, N]; w_1 = 1 but after an end."""
        return trajectory_weights(dream.discount)

    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 7, dynamics backpropagation alone: -mean w_i (R_i + entropy H(pi(s_{i-1}))), i = 1..H-1."""
        entropy = self.actions.entropy(dream.policy[:-1])
        metrics["actor_entropy"] = entropy.mean().detach()
        weights = self.weights(dream)[1:-1].detach()
        return -(weights * (returns + self.entropy_scale * entropy)).mean()

    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 8, the negative log-likelihood of N(V(s_i), 1), i = 1..H-1."""
        with self.learner.autocast():
            x = self.critic.head(dream.features[1:-1].detach())
        metrics["imagined_reward"] = dream.reward[1:].mean().detach()
        metrics["imagined_return"] = returns.mean().detach()
        metrics["value"] = self.critic.output.mean(x).mean().detach()
        return (self.weights(dream)[1:-1].detach() * self.critic.output.loss(x, returns)).mean()


class DreamerV1(Dreamer):
    """Recipe of Dreamer: Gaussians for observations and rewards, a Bernoulli for discounts where they are predicted."""

    config: DreamerV1Config
    Config: ClassVar[type] = DreamerV1Config
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = DreamerV1Learner
    Behaviour: ClassVar[type[Behaviour]] = DreamerV1Behaviour

    def actions(self) -> Actions:
        """A tanh normal that begins wide, or one-hot categoricals with straight-through gradients."""
        config = self.config
        return make_actions(self.env.action, 0.0, config.continuous, config.min_std, config.init_std)

    def policy_of(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions) -> DreamerPolicy:
        """The policy around these networks, which adds noise to its actions."""
        return DreamerV1Policy(encoder, rssm, actor, actions, self.config, self.env.action_mask)

    def objective(self, features: int) -> Objective:
        """Reconstruction of every observation."""
        return Reconstruction.gaussian(
            Decoder(features, self.env.observation, self.config.decoder), self.config.constant
        )

    def reward(self, features: int) -> Reward:
        """Gaussian N(f(r), 1)."""
        config = self.config
        return Reward(features, config.reward, UnitNormal(0, config.constant), config.reward_transform)

    def discount(self, features: int) -> Discount | None:
        """Bernoulli of gamma (1 - is_terminal), if it is predicted at all."""
        config = self.config
        return Discount(features, config.discount, Bernoulli(), config.gamma) if config.predict_discount else None

    def critic(self, features: int) -> Estimator:
        """N(V(s), 1)."""
        return Estimator(features, self.config.critic, UnitNormal())
