"""The template of the dreaming line: what all Dreamers do, in one order. No paper of its own.

::

    learner        world_model_loss      see a batch, weigh what the model must say of it
    behaviour      imagine               from every state seen, `dream` on with the actor
                   actor_loss            make the actor's dreams worth more
                   critic_loss           make the critic say what they are worth
                   update_slow_critic    a target that follows

A sibling writes these five in this order with its paper's equations, so that `diff` between two siblings reads as the
later paper's list of changes. What its model is made of is said by its recipe (`objective`, `reward`, `discount`).
How a model is learned from batches is in `reverie.agents.model_learner`, which agents that plan share; what behaviours
have in common is in `reverie.agents.behaviour`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from reverie.agents.behaviour import Behaviour
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.model_learner import ModelAgent, ModelLearner, ModelLearnerConfig
from reverie.agents.predictors import Estimator
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import ModelLossConfig
from reverie.data.sequences import Batch
from reverie.nets.actions import Actions, BoundedKind, make_actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import glorot_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.rssm import RSSM
from reverie.nets.schedule import check, schedule
from reverie.nets.state_space import StateSpace
from reverie.values import Count, PositiveShare, Scale, Share


@dataclass(frozen=True)
class DreamingConfig(ModelLossConfig):
    """Settings of every Dreamer. gamma, lam: discount and lambda of the returns. horizon: imagined steps H.

    entropy_end, entropy_over: the scale of the actor's entropy goes linearly from `entropy` to entropy_end over that
        share of the run or that many learner_steps (0: it stays). Source: DreamerV2 code, ``actor_ent``, which takes
        schedules.
    """

    gamma: PositiveShare = 0.999
    lam: Share = 0.95
    horizon: Count = 15
    entropy_end: Scale = 0.0
    entropy_over: float = schedule("learner_steps")

    def __post_init__(self) -> None:
        check(self)


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
    continuous: BoundedKind = "trunc_normal"


class DreamerLearner(ModelLearner):
    """World model and the task's behaviour, with one optimiser for each of model, actor and critic."""

    policy: DreamerPolicy
    config: DreamingConfig
    behaviour: Behaviour
    critic: Estimator
    slow_critic: Estimator

    def build(self, agent: ModelAgent) -> None:
        """Make the behaviour."""
        assert isinstance(agent, Dreamer)
        self.actor = self.policy.actor
        self.behaviour = agent.Behaviour(agent, self, self.actor)
        for name, network in self.behaviour.networks().items():
            self.add_module(name, network)

    def behaviours(self) -> list[Behaviour]:
        """All behaviours that learn in the model, that of the task first."""
        return [self.behaviour]

    def draw(self, part: nn.Module) -> None:
        """Draw the first parameters of a part from torch's global generator: Glorot's, with biases of zero."""
        glorot_(part)

    def initialise(self) -> None:
        """First parameters of all networks: what is drawn of each, then what is not."""
        for part in (self.model, *(part for behaviour in self.behaviours() for part in behaviour.drawn())):
            self.draw(part)
        self.model.rssm.reset_parameters()
        for behaviour in self.behaviours():
            behaviour.begin()

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each group of losses."""
        return {"model": self.model.trained_parameters()} | self.behaviour.trained()

    def optimiser_of(self, group: str) -> OptimConfig:
        """Settings of the optimiser of a group."""
        settings: OptimConfig = getattr(self.config, f"{group}_opt")
        return settings

    def make_optimisers(self) -> dict[str, Optimiser]:
        """One for each group of losses that `losses` yields."""
        return {
            group: Optimiser(parameters, self.optimiser_of(group), self.model.rates if group == "model" else None)
            for group, parameters in self.trained().items()
        }

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Losses of the model, then of the behaviour, which dreams in the updated model from states seen before."""
        model_loss, seen, rows = self.world_model_loss(batch, metrics)
        yield {"model": model_loss}
        self.model.objective.after_update()
        yield self.behaviour_losses(seen, rows, metrics)
        self.update_slow_critics()

    def behaviour_losses(self, seen: Seen, rows: dict[str, Tensor], metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of all that learns in dreams: the one hook of those who want something else there."""
        return self.behaviour.losses(seen, rows, metrics)

    def update_slow_critics(self) -> None:
        """Move the slow critics after an update."""
        for behaviour in self.behaviours():
            behaviour.update_slow_critic()


class Dreamer(ModelAgent):
    """Recipe of a Dreamer. Hooks of construction: its networks, `policy_of`, and what the model is made of.

    The networks are those of a `DreamerConfig`; siblings with other settings make their own.
    """

    masks: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]]
    Behaviour: ClassVar[type[Behaviour]]

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
