"""Heads that return a distribution of returns per action: atoms with probabilities, or quantiles at random levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.noisy import NoisyStream, factor_noise
from reverie.nets.q_heads import QHead, Reads, best, gather_actions
from reverie.nets.values import Atoms, Quantiles, Scalar
from reverie.ops.n_step import NStep


class RainbowQ(QHead):
    """Dueling, noisy, categorical action values; each of the three can be left out.

    logits_i(o, a) = V_i(o) + A_i(o, a) - mean_b A_i(o, b),    p = softmax(logits),    Q(o, a) = sum_i z_i p_i(o, a)

    Outputs: logits [..., A, K] of K atoms (`Atoms`), or action values [..., A] (`Scalar`). sigma: of the noisy
    layers at the beginning, None: ordinary layers. Without all three it is `reverie.nets.q_heads.PlainQ`.
    Noise is held fixed across a batch, with independent samples for the learned rows, for choosing, and for the target.
    Source: Hessel et al. 2018 (Rainbow), "The integrated agent": streams are joined per atom, before the softmax;
    Fortunato et al. 2018, section 3.1, and its equation for Double DQN, for the noise.
    """

    def __init__(
        self, inputs: int, actions: int, hidden: int, dueling: bool, values: Atoms | Scalar, sigma: float | None
    ) -> None:
        super().__init__(values)
        self.atoms = values.params
        self.value = NoisyStream(inputs, hidden, self.atoms, sigma) if dueling else None
        self.advantage = NoisyStream(inputs, hidden, actions * self.atoms, sigma)
        self.counts = [self.value.noise if self.value is not None else 0, self.advantage.noise]
        self.noise = sum(self.counts)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Outputs of x [..., inputs]; u: uniform [..., noise], or broadcastable to that."""
        for_value, for_advantage = (factor_noise(u) if self.noise else u).split(self.counts, -1)
        outputs = self.advantage(x, for_advantage).unflatten(-1, (-1, self.atoms))
        if self.value is not None:
            value = self.value(x, for_value).unsqueeze(-2)
            outputs = value + outputs - outputs.mean(-2, keepdim=True)
        return outputs if isinstance(self.values, Atoms) else outputs.squeeze(-1)

    def shapes(self, lead: tuple[int, int], double: bool) -> tuple[tuple[int, ...], ...]:
        """Shapes of three independent samples, each one for all rows of a batch."""
        return ((1, 1, self.noise),) * 3

    def loss(self, outputs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error; for atoms they are one number."""
        if isinstance(self.values, Scalar):
            return super().loss(outputs, action, target)
        kl = self.values.loss(gather_actions(outputs, action), target)
        return kl, kl


class ImplicitQuantiles(QHead):
    """Quantiles of every action's return at the levels that are passed in as noise.

    phi_j(tau) = ReLU(sum_{i=0}^{n-1} cos(pi i tau) w_ij + b_j),   Z_tau(o, a) = f(x * phi(tau))_a

    body: f, a head of action values that needs no noise itself. inputs: features of x. cosines: n.
    levels, targets: N and N', quantiles of a learned row, and samples that its target consists of. acting: K, levels
    whose mean is an action value, in acting (`noise`) and in choosing what to bootstrap from.
    Outputs: [..., 1 + A, M], the M levels first, then the quantiles at these levels of each action: a sampled quantile
    function means nothing without the levels it was read at. Action values are means over the levels.
    Source: Dabney et al. 2018, "Implicit Quantile Networks", equation 4 and section 3.1.
    """

    frequencies: Tensor
    heeds_masks = True

    def __init__(
        self, body: QHead, inputs: int, cosines: int, levels: int, targets: int, acting: int, kappa: float = 1.0
    ) -> None:
        super().__init__(Quantiles(kappa))
        if body.noise:
            raise ValueError(f"the body of a quantile head must need no noise, got one that needs {body.noise}")
        self.body, self.noise = body, acting
        self.levels, self.targets = levels, targets
        self.embed = nn.Linear(cosines, inputs)
        self.register_buffer("frequencies", math.pi * torch.arange(cosines), persistent=False)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Outputs of x [..., inputs] at levels u [..., M] in [0, 1)."""
        phi = F.relu_(self.embed(torch.cos(u.unsqueeze(-1) * self.frequencies)))
        quantiles = self.body(x.unsqueeze(-2) * phi, phi[..., :0])
        return torch.cat([u.unsqueeze(-1), quantiles], -1).transpose(-1, -2)

    def q(self, outputs: Tensor) -> Tensor:
        """The mean over the levels, [..., A]."""
        return outputs[..., 1:, :].mean(-1)

    def shapes(self, lead: tuple[int, int], double: bool) -> tuple[tuple[int, ...], ...]:
        """Shapes: N levels for the learned rows; K to choose with; N' for the target, behind them K if it chooses."""
        choosing = 0 if double else self.noise
        return (*lead, self.levels), (*lead, self.noise - choosing), (*lead, self.targets + choosing)

    def steady(self, lead: tuple[int, ...], like: Tensor) -> Tensor:
        """Levels evenly spread, (k + 1/2) / K."""
        middles = (torch.arange(self.noise, device=like.device) + 0.5) / self.noise
        return middles.expand(*lead, self.noise)

    def select(self, reads: Reads) -> Tensor:
        """Actions with the largest mean over K levels that the target itself is not made of, int64 [learn, B]."""
        chooser = reads.target[..., self.targets :] if reads.online is None else reads.online
        return best(self.q(chooser), reads.mask)

    def target(self, reads: Reads, parts: NStep) -> Tensor:
        """Samples of the chosen action's return at the N' levels, after the rewards earned, [learn, B, N']."""
        chosen = self._at(reads.target[..., : self.targets], self.select(reads))
        return self.values.backup(chosen, parts.earned, parts.discount)

    def loss(self, outputs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of quantile regression of Z(o_t, a_t) at its N levels towards the N' samples; error of the means."""
        prediction = self._at(outputs, action)
        return self.values.loss(prediction, target), self.values.error(prediction, target)

    def _at(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Levels and quantiles of one action each: [*lead, 1 + A, M] -> [*lead, 2, M]."""
        return torch.stack([outputs[..., 0, :], gather_actions(outputs[..., 1:, :], action)], -2)
