"""The template of the dreaming line: what all Dreamers do, in one order. No paper of its own.

::

    losses         world_model_loss      see a batch, weigh what the model must say of it
                   imagine               from every state seen, `dream` on with the actor
                   actor_loss            make the actor's dreams worth more
                   critic_loss           make the critic say what they are worth
                   update_slow_critic    a target that follows

A sibling writes these five in this order with its paper's equations, so that `diff` between two siblings reads as the
later paper's list of changes. What its model is made of is said by its recipe (`objective`, `reward`, `discount`).
How a model is learned from batches is in `reverie.agents.model_learner`, which agents that plan share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.model_learner import ModelAgent, ModelLearner, ModelLearnerConfig
from reverie.agents.predictors import Estimator
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import ModelLossConfig
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.actions import Actions, ContinuousKind, make_actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import frozen, glorot_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.rssm import RSSM
from reverie.nets.state_space import StateSpace


@dataclass(frozen=True)
class DreamingConfig(ModelLossConfig):
    """Settings of every Dreamer. gamma, lam: discount and lambda of the returns. horizon: imagined steps H."""

    gamma: float = 0.999
    lam: float = 0.95
    horizon: int = 15


@dataclass(frozen=True)
class BehaviourOptConfig:
    """Optimisers of actor and critic."""

    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-5))
    critic_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4))


@dataclass(frozen=True)
class DreamerConfig(BehaviourOptConfig, ModelLearnerConfig, DreamingConfig):
    """Settings of the Dreamers whose networks are configured one by one.

    continuous: distribution of continuous actions.
    """

    actor: HeadConfig = field(default_factory=HeadConfig)
    critic: HeadConfig = field(default_factory=HeadConfig)
    continuous: ContinuousKind = "trunc_normal"


@dataclass(frozen=True)
class Dream:
    """N imagined trajectories. features, reward, discount, value: [H+1, N(, F)]; actions a_1..a_H: [H, N, A].

    policy: outputs of the actor's head that drew those actions, [H, N, P], with gradients to the actor.
    """

    features: Tensor
    actions: Tensor
    policy: Tensor
    reward: Tensor
    discount: Tensor
    value: Tensor


class DreamerLearner(ModelLearner):
    """World model, actor, critic and, if `slow`, a slow critic, with one optimiser for each of the first three."""

    policy: DreamerPolicy
    config: DreamingConfig
    pathwise: bool
    """whether gradients of dreamed returns flow through the dream into its actions"""
    slow: ClassVar[bool] = True
    """whether there is a slow critic, which begins as a copy of the critic"""
    slow_critic: Estimator

    def build(self, agent: ModelAgent) -> None:
        """Make the critics."""
        assert isinstance(agent, Dreamer)
        features = self.model.rssm.features
        self.actor = self.policy.actor
        self.critic = agent.critic(features)
        if self.slow:
            self.slow_critic = agent.critic(features).requires_grad_(False)

    def initialise(self) -> None:
        """First parameters of all networks, from torch's global generator: Glorot's, with biases of zero."""
        for part in (self.model, self.actor, self.critic, *([self.slow_critic] if self.slow else [])):
            glorot_(part)
        self.model.rssm.reset_parameters()
        if self.slow:
            self.slow_critic.load_state_dict(self.critic.state_dict())

    def make_optimisers(self) -> dict[str, Optimiser]:
        """One for each group of losses that `losses` yields."""
        config = self.config
        assert isinstance(config, BehaviourOptConfig)
        return super().make_optimisers() | {
            "actor": Optimiser(self.actor.parameters(), config.actor_opt),
            "critic": Optimiser(self.critic.parameters(), config.critic_opt),
        }

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Losses of the model, then of the behaviour, which dreams in the updated model from states seen before."""
        model_loss, seen, rows = self.world_model_loss(batch, metrics)
        yield {"model": model_loss}
        self.model.objective.after_update()
        yield self.behaviour_losses(seen, rows, metrics)
        self.update_slow_critic()

    def behaviour_losses(self, seen: Seen, rows: dict[str, Tensor], metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of actor and critic, in dreams from all states that were seen."""
        dream = self.imagine(seen.starts(), rows["is_terminal"].flatten())
        returns = self.returns(dream)
        return {
            "actor": self.actor_loss(dream, returns, metrics),
            "critic": self.critic_loss(dream, returns, metrics),
        }

    @abstractmethod
    def imagine(self, start: State, is_terminal: Tensor) -> Dream:
        """Dreams from N states; is_terminal: bool [N], of the rows they came from. Made of `dreaming` and `dream`."""

    @abstractmethod
    def returns(self, dream: Dream) -> Tensor:
        """Returns of a dream, what its states are worth."""

    @abstractmethod
    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss that makes dreams worth more."""

    @abstractmethod
    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss that makes the critic say what dreams are worth."""

    def update_slow_critic(self) -> None:
        """Move the slow critic after an update; here it stays as it is."""

    @contextmanager
    def dreaming(self) -> Iterator[None]:
        """Context for dreams, in which the model's parameters get no gradient, and nothing does unless `pathwise`."""
        with torch.set_grad_enabled(self.pathwise), frozen(self.model), self.autocast():
            yield

    def dream(self, start: State) -> tuple[Tensor, Tensor, Tensor]:
        """Roll the model forward for H steps with the actor, inside `dreaming`.

        start: N states. Returns features [H+1, N, F] with those of the start, actions [H, N, A], and the outputs of the
        actor's head that drew them [H, N, P]. The actor reads detached features; only its outputs need a gradient where
        dreams are not pathwise. Where the environment masks actions, so does the dream, as the model tells the mask of
        each state: what nobody ever did there, the model cannot know.
        """
        model, horizon = self.model, self.config.horizon
        state, count = start, len(next(iter(start.values())))
        u = self.noise.uniform(horizon, count, model.latent_noise + self.actions.noise)
        features, actions, policy = [model.rssm.feature(state)], [], []
        for i in range(horizon):
            u_latent, u_action = u[i].split([model.latent_noise, self.actions.noise], -1)
            mask = model.action_mask(features[-1]) if self.policy.masked else None
            with torch.enable_grad():
                policy.append(self.policy.decide(features[-1].detach(), mask))
            actions.append(self.actions.sample(policy[-1] if self.pathwise else policy[-1].detach(), u_action))
            state = model.imagine(state, actions[-1], u_latent)
            features.append(model.rssm.feature(state))
        with torch.enable_grad():
            outputs = torch.stack(policy)
        return torch.stack(features), torch.stack(actions), outputs


class Dreamer(ModelAgent):
    """Recipe of a Dreamer. Hooks of construction: its networks, `policy_of`, and what the model is made of.

    The networks are those of a `DreamerConfig`; siblings with other settings make their own.
    """

    masks: ClassVar[bool] = True

    def actions(self) -> Actions:
        """Actions as the model and the actor see them. Raises ValueError for a space that they cannot be made of."""
        return make_actions(self.env.action, continuous=self.config.continuous)

    @property
    def gamma(self) -> float:
        """Discount of the returns."""
        return float(self.config.gamma)

    def encoder(self) -> Encoder:
        """A fresh encoder."""
        return Encoder(self.env.observation, self.config.encoder)

    def rssm(self, embed: int, action: int) -> StateSpace:
        """A fresh memory of embeddings and encoded actions of these sizes."""
        return RSSM(embed, action, self.config.rssm)

    def actor(self, features: int, params: int) -> Head:
        """A fresh actor, from features to parameters of actions."""
        return Head(features, params, self.config.actor)

    def policy(self) -> DreamerPolicy:
        """Policy with a fresh encoder, RSSM and actor."""
        actions, encoder = self.actions(), self.encoder()
        rssm = self.rssm(encoder.outputs, actions.size)
        return self.policy_of(encoder, rssm, self.actor(rssm.features, actions.params), actions)

    def policy_of(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions) -> DreamerPolicy:
        """The policy around these networks."""
        return DreamerPolicy(encoder, rssm, actor, actions, self.env.action_mask)

    @abstractmethod
    def critic(self, features: int) -> Estimator:
        """What says what a state is worth; asked for twice where there is a slow one."""
