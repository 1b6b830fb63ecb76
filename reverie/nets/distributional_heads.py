"""Heads that return a distribution of returns per action: atoms with probabilities, or quantiles at random levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.noisy import NoisyStream, factor_noise
from reverie.nets.q_heads import QHead


class RainbowQ(QHead):
    """Dueling, noisy, categorical action values; each of the three can be left out.

    logits_i(o, a) = V_i(o) + A_i(o, a) - mean_b A_i(o, b),    p = softmax(logits),    Q(o, a) = sum_i z_i p_i(o, a)

    Outputs: logits [..., A, K] for a support of K atoms; action values [..., A] if there is none. sigma: of the noisy
    layers at the beginning, None: ordinary layers. Without all three it is `reverie.nets.q_heads.PlainQ`.
    Source: Hessel et al. 2018 (Rainbow), "The integrated agent": streams are joined per atom, before the softmax.
    """

    support: Tensor | None

    def __init__(
        self, inputs: int, actions: int, hidden: int, dueling: bool, support: Tensor | None, sigma: float | None
    ) -> None:
        super().__init__()
        self.register_buffer("support", support, persistent=False)
        self.atoms = 1 if support is None else len(support)
        self.value = NoisyStream(inputs, hidden, self.atoms, sigma) if dueling else None
        self.advantage = NoisyStream(inputs, hidden, actions * self.atoms, sigma)
        self.counts = [self.value.noise if self.value is not None else 0, self.advantage.noise]
        self.noise = sum(self.counts)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """x: [..., inputs]; u: uniform [..., noise], or broadcastable to that."""
        for_value, for_advantage = (factor_noise(u) if self.noise else u).split(self.counts, -1)
        outputs = self.advantage(x, for_advantage).float().unflatten(-1, (-1, self.atoms))
        if self.value is not None:
            value = self.value(x, for_value).float().unsqueeze(-2)
            outputs = value + outputs - outputs.mean(-2, keepdim=True)
        return outputs.squeeze(-1) if self.support is None else outputs

    def q(self, outputs: Tensor) -> Tensor:
        """The expected value of every action, [..., A]."""
        return outputs if self.support is None else (F.softmax(outputs, -1) * self.support).sum(-1)


class ImplicitQuantiles(QHead):
    """Quantiles of every action's return at the levels that are passed in as noise.

    phi_j(tau) = ReLU(sum_{i=0}^{n-1} cos(pi i tau) w_ij + b_j),   Z_tau(o, a) = f(x * phi(tau))_a

    body: f, a head of action values that needs no noise itself. inputs: features of x. cosines: n. acting: levels that
    the policy draws per decision (K of the paper), `noise`; a learner may pass any number.
    Outputs: [..., 1 + A, M], the M levels first, then the quantiles at these levels of each action: a sampled quantile
    function means nothing without the levels it was read at. Action values are means over the levels.
    Source: Dabney et al. 2018, "Implicit Quantile Networks", equation 4 and section 3.1.
    """

    steps: Tensor

    def __init__(self, body: QHead, inputs: int, cosines: int, acting: int) -> None:
        super().__init__()
        if body.noise:
            raise ValueError(f"the body of a quantile head must need no noise, got one that needs {body.noise}")
        self.body, self.noise = body, acting
        self.embed = nn.Linear(cosines, inputs)
        self.register_buffer("steps", math.pi * torch.arange(cosines), persistent=False)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """x: [..., inputs]; u: levels in [0, 1), [..., M]."""
        phi = F.relu_(self.embed(torch.cos(u.unsqueeze(-1) * self.steps)))
        quantiles = self.body(x.unsqueeze(-2) * phi, phi[..., :0])
        return torch.cat([u.unsqueeze(-1), quantiles], -1).transpose(-1, -2)

    def q(self, outputs: Tensor) -> Tensor:
        """The mean over the levels, [..., A]."""
        return outputs[..., 1:, :].mean(-1)
