"""Behaviour: an actor and its critics, which learn in the dreams of a world model. No paper of its own.

::

    losses         imagine               from every state seen, `dream` on with the actor
                   actor_loss            make the actor's dreams worth more
                   critic_loss           make the critic say what they are worth
                   update_slow_critic    a target that follows

What dreams are paid with is given to it, so that one model can teach several behaviours: one wants what the task pays,
another what is new (`reverie.agents.plan2explore`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.agents.predictors import Estimator
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.nets.heads import Head
from reverie.nets.layers import frozen
from reverie.nets.schedule import counted, share
from reverie.ops import world

if TYPE_CHECKING:
    from reverie.agents.dreamer import Dreamer, DreamerLearner

Rewards = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rewards [H+1, N] of dreams, from their features [H+1, N, F], their actions [H, N, A] and the rewards [N] of the rows
that they begin from."""


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


class Behaviour(ABC):
    """An actor, a critic and, if `slow`, a slow critic, and how they learn from dreams.

    It is no module: the learner keeps its `networks`, and its `actor` is the policy's. learner: has the model.
    rewards: of dreams; None: what the model says that the task pays.
    """

    pathwise: bool
    """whether gradients of dreamed returns flow through the dream into its actions"""
    slow: ClassVar[bool] = True
    """whether there is a slow critic, which begins as a copy of the critic"""
    slow_critic: Estimator

    def __init__(self, agent: Dreamer, learner: DreamerLearner, actor: Head, rewards: Rewards | None = None) -> None:
        self.learner, self.actor, self.actions = learner, actor, learner.actions
        features = learner.model.rssm.features
        self.critic = agent.critic(features)
        if self.slow:
            self.slow_critic = agent.critic(features).requires_grad_(False)
        self.rewards = rewards or self.told
        counted(learner.config)

    @property
    def config(self) -> Any:
        """Settings of the learner."""
        return self.learner.config

    @property
    def entropy_scale(self) -> Tensor | float:
        """Scale of the actor's entropy in this update."""
        config = self.config
        if not config.entropy_over:
            return float(config.entropy)
        return config.entropy + (config.entropy_end - config.entropy) * share(
            self.learner.policy.version, config.entropy_over
        )

    def networks(self) -> dict[str, nn.Module]:
        """All that must be saved but the actor, which the policy has: name -> module."""
        return {"critic": self.critic, **({"slow_critic": self.slow_critic} if self.slow else {})}

    def drawn(self) -> list[nn.Module]:
        """Networks whose first parameters are drawn, in this order."""
        return [self.actor, self.critic, *([self.slow_critic] if self.slow else [])]

    def begin(self) -> None:
        """Set what is not drawn, once all first parameters are."""
        if self.slow:
            self.slow_critic.load_state_dict(self.critic.state_dict())

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each group of losses that `losses` gives."""
        return {"actor": list(self.actor.parameters()), "critic": list(self.critic.parameters())}

    def losses(self, seen: Seen, rows: Mapping[str, Tensor], metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of actor and critic, in dreams from all states that were seen."""
        dream = self.imagine(seen.starts(), {name: rows[name].flatten() for name in ("reward", "is_terminal")})
        returns = self.returns(dream)
        return {
            "actor": self.actor_loss(dream, returns, metrics),
            "critic": self.critic_loss(dream, returns, metrics),
        }

    @abstractmethod
    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams from N states; rows: reward and is_terminal of those they came from, [N].

        Made of `dreaming` and `dream`.
        """

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

    def told(self, features: Tensor, actions: Tensor, first: Tensor) -> Tensor:
        """Rewards as the model tells them of every state, that of the start included."""
        return self.learner.model.reward.mean(features)

    @contextmanager
    def dreaming(self) -> Iterator[None]:
        """Context for dreams, in which the model's parameters get no gradient, and nothing does unless `pathwise`."""
        with torch.set_grad_enabled(self.pathwise), frozen(self.learner.model), self.learner.autocast():
            yield

    def dream(self, start: State) -> tuple[Tensor, Tensor, Tensor]:
        """Roll the model forward for H steps with the actor, inside `dreaming`.

        start: N states. Returns features [H+1, N, F] with those of the start, actions [H, N, A], and the outputs of the
        actor's head that drew them [H, N, P], with gradients to the actor, which reads detached features. Where dreams
        are not pathwise nobody asks for that gradient on the way: the actor then reads all states once more, at once.
        Where the environment masks actions, so does the dream, as the model tells the mask of each state: what nobody
        ever did there, the model cannot know.
        """
        model, decider, horizon = self.learner.model, self.learner.policy, self.config.horizon
        state, count = start, len(next(iter(start.values())))
        numbers = model.latent_noise + self.actions.noise
        u = world.draw(self.learner.noise.uniform, horizon, count, numbers, axis=1)
        features, actions, policy = [model.rssm.feature(state)], [], []
        masks: list[Tensor] = []
        # Frozen, for autocast keeps copies of weights that learn, and one made without gradients would be read again.
        with nullcontext() if self.pathwise else frozen(self.actor):
            for i in range(horizon):
                u_latent, u_action = u[i].split([model.latent_noise, self.actions.noise], -1)
                if decider.masked and (mask := model.action_mask(features[-1])) is not None:
                    masks.append(mask)
                policy.append(decider.decide(features[-1].detach(), masks[-1] if masks else None, self.actor))
                actions.append(self.actions.sample(policy[-1], u_action))
                state = model.imagine(state, actions[-1], u_latent)
                features.append(model.rssm.feature(state))
        dreamt, acted = torch.stack(features), torch.stack(actions)
        if self.pathwise:
            return dreamt, acted, torch.stack(policy)
        with torch.enable_grad():
            return dreamt, acted, decider.decide(dreamt[:-1], torch.stack(masks) if masks else None, self.actor)
