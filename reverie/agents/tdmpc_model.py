"""TD-MPC's model of the world: what follows on an action, what it pays, and what it is worth, as plain numbers.

::

    z' = d(z, a)      r = R(z, a)      a ~ p(z)      Q_1(z, a), Q_2(z, a)

    d, R, p        layer, ELU, layer, ELU, layer
    Q_k            layer, LayerNorm, tanh, layer, ELU, layer

Latents come from an encoder (`reverie.nets.latent_encoder.PlainEncoder`). See `reverie.agents.tdmpc`.
Source: Hansen et al. 2022 (TD-MPC), appendix on the architecture; its code, algorithm/tdmpc.py (`TOLD`), helper.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.agents.latent_policy import LatentModel
from reverie.nets.latent_encoder import orthogonal_
from reverie.nets.layers import Numbers
from reverie.ops.continuous import clipped_normal_sample


def layers(inputs: int, units: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with ELU and an output."""
    return nn.Sequential(nn.Linear(inputs, units), nn.ELU(), nn.Linear(units, units), nn.ELU(), Numbers(units, outputs))


class Critics(nn.Module):
    """Two critics of their own weights: [..., inputs] -> [2, ...] float32."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(inputs, units), nn.LayerNorm(units), nn.Tanh()),
                *(nn.Linear(units, units), nn.ELU(), Numbers(units, 1)),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Values of both."""
        return torch.stack([member(x).squeeze(-1) for member in self.members])


class TaskModel(LatentModel):
    """Dynamics, reward, policy prior and two critics over latents [..., latent] and actions [..., actions].

    units: of every hidden layer. std, clip: of the prior's noise, see `propose`.
    First weights are orthogonal, the last layers of reward and critics zero, so that all values begin at exactly 0.
    """

    critics: Critics

    def __init__(self, latent: int, actions: int, units: int, std: float, clip: float) -> None:
        super().__init__()
        self.latent, self.actions, self.std, self.clip = latent, actions, std, clip
        both = latent + actions
        self.dynamics, self.reward = layers(both, units, latent), layers(both, units, 1)
        self.prior = layers(latent, units, actions)
        self.critics = Critics(both, units)
        self.value_noise = (actions, 0)
        orthogonal_(self)
        for network in (self.reward, *self.critics.members):
            nn.init.zeros_(network[-1].weight)

    def next(self, z: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """The latent that follows."""
        latent: Tensor = self.dynamics(torch.cat([z, action], -1))
        return latent

    def pays(self, z: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Reward [...] of an action."""
        reward: Tensor = self.reward(torch.cat([z, action], -1)).squeeze(-1)
        return reward

    def propose(self, z: Tensor, u: Tensor, task: Tensor | None = None) -> Tensor:
        """An action of the prior: tanh(p(z)) and Gaussian noise of std `std`, cut off at +-`clip`, within [-1, 1].

        u: uniform [..., A]. Source: algorithm/helper.py, ``TruncatedNormal``, after Yarats et al. 2021 (DrQ-v2).
        """
        return clipped_normal_sample(self.prefer(z), self.std, u, self.clip)

    def prefer(self, z: Tensor, task: Tensor | None = None) -> Tensor:
        """tanh(p(z))."""
        return torch.tanh(self.prior(z))

    def worth(self, z: Tensor, own: Tensor, shared: Tensor, task: Tensor | None = None) -> Tensor:
        """The lesser value [N] at an action of the prior. own: uniform [N, A]; nothing is shared."""
        return self.critics(torch.cat([z, self.propose(z, own)], -1)).amin(0)
