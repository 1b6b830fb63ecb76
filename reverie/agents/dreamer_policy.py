"""The policy of the Dreamers: an actor reads the state that the model's memory has filtered."""

from __future__ import annotations

from torch import Tensor

from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.policy import Seat
from reverie.data.rows import State
from reverie.nets.actions import Actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head
from reverie.nets.state_space import StateSpace


class DreamerPolicy(FilterPolicy):
    """Encoder, RSSM and actor. ``explore`` draws from the actor, ``greedy`` takes its likeliest action."""

    def __init__(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions, masked: bool = False) -> None:
        super().__init__(encoder, rssm, actions, actions.noise, masked)
        self.actor = actor

    def act(self, state: State, u: Tensor, seat: Seat, mask: Tensor | None = None) -> Tensor:
        """The encoded action [B, A] at a state, of those that the mask allows."""
        if seat.play == "random":
            return self.actions.uniform(u, mask)
        out = self.decide(self.rssm.feature(state), mask, self.actor_of(seat))
        return self.actions.sample(out, u) if seat.play == "explore" else self.actions.mode(out)

    def actor_of(self, seat: Seat) -> Head:
        """The actor that decides from a seat."""
        return self.actor

    def decide(self, features: Tensor, mask: Tensor | None, actor: Head) -> Tensor:
        """Outputs of an actor [..., P] for features [..., F], without what the mask forbids."""
        out: Tensor = actor(features)
        return out if mask is None else self.actions.masked(out, mask)
