"""Stochastic parts of a world model's state: categorical (DreamerV2) and Gaussian (PlaNet, Dreamer V1)."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.ops import distributions as D
from reverie.ops.precision import full

StdKind = Literal["sigmoid2", "softplus"]
Stats = tuple[Tensor, ...]
"""Parameters of a latent distribution, each [..., ...]; what `Latent.stats` returns and `kl` compares."""


class Latent(Protocol):
    """A family of latent distributions with reparameterised samples."""

    params: int
    """width of the layer that parameterises it"""
    size: int
    """width of a sample"""
    noise: int
    """uniform numbers that one sample consumes"""

    def stats(self, x: Tensor) -> Stats:
        """Parameters of the distribution from outputs [..., params]."""

    def sample(self, stats: Stats, u: Tensor) -> Tensor:
        """Sample [..., size] from parameters and uniform noise [..., noise]."""

    def mode(self, stats: Stats) -> Tensor:
        """Most likely sample (Gaussian: the mean) [..., size]."""

    def kl(self, *stats: Tensor) -> Tensor:
        """KL(p || q) of the parameters of p followed by those of q, summed over the variables -> [...]."""

    def entropy(self, stats: Stats) -> Tensor:
        """Entropy in nats, summed over the variables -> [...]."""


class Categorical:
    """`stoch` independent one-hot variables of `classes` values, straight-through gradients.

    Source: DreamerV2 section 2.1, algorithm 1; unimix as in DreamerV3 (0 in V2).
    """

    def __init__(self, stoch: int, classes: int, unimix: float = 0.0) -> None:
        self.stoch, self.classes, self.unimix = stoch, classes, unimix
        self.params = self.size = stoch * classes
        self.noise = stoch

    def stats(self, x: Tensor) -> Stats:
        """Logits [..., stoch, classes] of [..., stoch * classes], alone in a tuple, not normalised unless mixed."""
        logits = full(x).unflatten(-1, (self.stoch, self.classes))
        return (D.unimix_logits(logits, self.unimix) if self.unimix else logits,)

    def sample(self, stats: Stats, u: Tensor) -> Tensor:
        """One-hot sample, flattened; the gradient is that of the probabilities."""
        return D.one_hot_straight_through(stats[0], u).flatten(-2)

    def mode(self, stats: Stats) -> Tensor:
        """One-hot of the likeliest classes, flattened."""
        return D.one_hot_mode(stats[0]).flatten(-2)

    def kl(self, *stats: Tensor) -> Tensor:
        """KL(p || q), logits p and q [..., stoch, classes] -> [...]."""
        return D.categorical_kl(*stats).sum(-1)

    def entropy(self, stats: Stats) -> Tensor:
        """Entropy [...] of logits [..., stoch, classes]."""
        return D.categorical_entropy(stats[0]).sum(-1)


class Gaussian:
    """`stoch` independent normals with std 2 sigmoid(x / 2) + 0.1 (``sigmoid2``) or softplus(x) + 0.1 (``softplus``).

    Source: ``softplus`` PlaNet and Dreamer V1 code; ``sigmoid2`` DreamerV2 code with ``discrete: False``.
    Raises ValueError for another kind.
    """

    def __init__(self, stoch: int, std: StdKind = "sigmoid2", min_std: float = 0.1) -> None:
        if std not in ("sigmoid2", "softplus"):
            raise ValueError(f"std must be 'sigmoid2' or 'softplus', got {std!r}")
        self.size = self.noise = stoch
        self.params = 2 * stoch
        self.kind, self.min_std = std, min_std

    def stats(self, x: Tensor) -> Stats:
        """Mean and std, each [..., stoch], of [..., 2 stoch]."""
        mean, std = full(x).chunk(2, -1)
        return mean, (F.softplus(std) if self.kind == "softplus" else 2 * torch.sigmoid(std / 2)) + self.min_std

    def sample(self, stats: Stats, u: Tensor) -> Tensor:
        """Sample mean + std * icdf(u)."""
        mean, std = stats
        return D.normal_sample(mean, std, u)

    def mode(self, stats: Stats) -> Tensor:
        """The mean."""
        return stats[0]

    def kl(self, *stats: Tensor) -> Tensor:
        """KL(p || q) of mean_p, std_p, mean_q, std_q, each [..., stoch] -> [...]."""
        return D.normal_kl(*stats).sum(-1)

    def entropy(self, stats: Stats) -> Tensor:
        """Entropy [...] of mean and std [..., stoch]."""
        return D.normal_entropy(stats[1]).sum(-1)
