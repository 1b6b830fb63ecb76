"""A world model, with a critic or none, as something to plan in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reverie.agents.worldmodel import WorldModel
from reverie.data.rows import State


class Imagination:
    """What `reverie.agents.plan.plan` asks for (`reverie.agents.plan.Imagines`), from a world model.

    ::

        s' ~ p(s' | s, a),     r = E[reward | s'],     d = E[discount | s'],     V(s) = critic(features of s), or 0

    critic: features of the model [N, F] -> values float32 [N], in units of returns, of what follows on a state, as both
    V3 and TD-MPC have them (those of Dreamer V1 and V2 hold the state's own reward too, which would count twice);
    None: nothing follows the last state, as in PlaNet (Hafner et al. 2019, algorithm 2).
    """

    def __init__(self, model: WorldModel, critic: Callable[[Tensor], Tensor] | None = None) -> None:
        self.model, self.critic = model, critic

    @property
    def noise(self) -> int:
        """Uniform numbers that one imagined step of one row takes."""
        return self.model.latent_noise

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """Next state, its reward and its discount, float32 [N] each.

        action: encoded [N, A]. noise: uniform [N, `noise`].
        """
        assert noise is not None
        state = self.model.imagine(state, action, noise)
        features = self.model.rssm.feature(state)
        return state, self.model.reward.mean(features), self.model.discounts(features)

    def value(self, state: State) -> Tensor:
        """Value of what follows after these states, float32 [N]."""
        features = self.model.rssm.feature(state)
        return self.critic(features) if self.critic is not None else torch.zeros_like(features[..., 0])
