"""The policy of DreamerV3: it samples its actions in evaluation too."""

from __future__ import annotations

from torch import Tensor

from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.policy import Seat
from reverie.data.rows import State


class SamplingPolicy(DreamerPolicy):
    """Policy whose ``greedy`` play is a sample of the actor, as all published evaluations of DreamerV3 are."""

    def act(self, state: State, u: Tensor, seat: Seat, mask: Tensor | None = None) -> Tensor:
        """The encoded action [B, A] at a state, of those that the mask allows."""
        if seat.play == "random":
            return self.actions.uniform(u, mask)
        return self.actions.sample(self.decide(self.rssm.feature(state), mask, self.actor_of(seat)), u)
