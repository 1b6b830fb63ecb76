"""The distributions that planning draws sequences of actions from, and how they are refitted to the best of them.

| | Box in [-1, 1] | Discrete, MultiDiscrete (ours) |
|---|---|---|
| draws | Gaussian, clipped | categorical per factor, one-hot |
| fresh start | mean 0, std start_std | uniform |
| warm start | the last mean, std start_std | half the last probabilities, half uniform |
| refit | weighted mean and std of the elites | weighted frequencies among the elites |
| kept wide by | min_std | mix, a share of the uniform distribution |

Steps of the horizon, dimensions and factors are independent of each other. Encoded discrete actions are one-hots, so
that their mean is their probabilities and one interface serves both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.nets.actions import Actions, DiscreteActions
from reverie.ops.categorical import one_hot_mode, one_hot_straight_through
from reverie.ops.continuous import normal_sample

WARM = 0.5
"""share of the last plan in the probabilities that the next begins with: to categoricals what start_std is to others"""


@dataclass(frozen=True)
class Spread:
    """Width of a search.

    start_std, min_std, max_std: of continuous actions in [-1, 1]: at the beginning of every call, and bounds of refits.
    floor: how min_std holds: ``clamp``, max(std, min_std), as in TD-MPC2, or ``added``, sqrt(std^2 + min_std^2), as in
        PlaNet, whose code adds 1e-6 to the variance.
    momentum: share of the old mean in a refitted one, in [0, 1). Source: TD-MPC (0.1); TD-MPC2 and PlaNet have none.
    mix: share of the uniform distribution in probabilities of discrete actions after each refit, in [0, 1].
    Raises ValueError for numbers out of these bounds.
    """

    start_std: float = 2.0
    min_std: float = 0.05
    max_std: float = 2.0
    floor: Literal["clamp", "added"] = "clamp"
    momentum: float = 0.0
    mix: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_std <= self.start_std <= self.max_std or self.start_std <= 0.0:
            raise ValueError(
                "expected 0 <= min_std <= start_std <= max_std and a positive start_std, "
                f"got {self.min_std}, {self.start_std} and {self.max_std}"
            )
        if self.floor not in ("clamp", "added"):
            raise ValueError(f"floor must be 'clamp' or 'added', got {self.floor!r}")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0.0 <= self.mix <= 1.0:
            raise ValueError(f"mix must be in [0, 1], got {self.mix}")


class Search(ABC):
    """A distribution over sequences of encoded actions: mean and std, [B, H, A] each.

    least: float32 [], in place of the spread's min_std, where that changes over a run; of continuous actions.
    """

    def __init__(self, spread: Spread, least: Tensor | None = None) -> None:
        self.spread, self.least = spread, least

    @abstractmethod
    def fresh(self, device: torch.device) -> Tensor:
        """Mean of a step that nothing is known of, [A]."""

    @abstractmethod
    def warm(self, mean: Tensor, fresh: Tensor) -> Tensor:
        """Mean to begin with, from that of the last plan (already shifted) and a fresh one."""

    @abstractmethod
    def std(self, mean: Tensor, std: Tensor | None) -> Tensor:
        """Std to draw with, from that of the elites; None: at the beginning."""

    @abstractmethod
    def draw(self, mean: Tensor, std: Tensor, u: Tensor) -> Tensor:
        """Candidates [B, N, H, A]. u: uniform [B, N, H, actions.noise]."""

    @abstractmethod
    def mode(self, mean: Tensor) -> Tensor:
        """The action [..., A] that stands for a distribution with this mean."""

    def settle(self, mean: Tensor) -> Tensor:
        """The refitted mean as it is drawn from."""
        return mean

    def start(
        self, streams: int, horizon: int, device: torch.device, last: Tensor | None, first: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mean and std to begin with. last: mean of the last plan; first: bool [B], where it is another episode's."""
        fresh = self.fresh(device)
        mean = fresh.expand(streams, horizon, -1)
        if last is not None:
            if last.shape != mean.shape:
                raise ValueError(f"the last plan must be {tuple(mean.shape)}, got {tuple(last.shape)}")
            warm = torch.cat([self.warm(last[:, 1:], fresh), mean[:, :1]], 1)
            mean = warm if first is None else torch.where(first[:, None, None], mean, warm)
        return mean, self.std(mean, None)

    def refit(self, elites: Tensor, weights: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std [B, H, A] of elites [B, E, H, A] with weights [B, E] that sum to 1. old: mean before."""
        weights = weights[..., None, None]
        mean = (weights * elites).sum(1)
        std = (weights * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt()
        momentum = self.spread.momentum
        mean = self.settle(momentum * old + (1.0 - momentum) * mean if momentum else mean)
        return mean, self.std(mean, std)


class Gaussians(Search):
    """One Gaussian per step and dimension; draws are clipped to [-1, 1] before they are judged and refitted to."""

    def __init__(self, spread: Spread, size: int, least: Tensor | None = None) -> None:
        super().__init__(spread, least)
        self.size = size

    def fresh(self, device: torch.device) -> Tensor:
        """Zeros."""
        return torch.zeros(self.size, device=device)

    def warm(self, mean: Tensor, fresh: Tensor) -> Tensor:
        """The last mean itself: it is the std that begins anew."""
        return mean

    def std(self, mean: Tensor, std: Tensor | None) -> Tensor:
        """Std within its bounds."""
        spread = self.spread
        if std is None:
            return torch.full_like(mean, spread.start_std)
        least = spread.min_std if self.least is None else self.least
        if spread.floor == "added":
            return (std.square() + least**2).sqrt().clamp(max=spread.max_std)
        if isinstance(least, Tensor):
            return torch.maximum(std, least).clamp(max=spread.max_std)
        return std.clamp(least, spread.max_std)

    def draw(self, mean: Tensor, std: Tensor, u: Tensor) -> Tensor:
        """Candidates mean + std Phi^-1(u), clipped."""
        return normal_sample(mean.unsqueeze(1), std.unsqueeze(1), u).clamp(-1.0, 1.0)

    def mode(self, mean: Tensor) -> Tensor:
        """The mean."""
        return mean


class Categoricals(Search):
    """One categorical per step and factor, whose mean is its probabilities; nvec: classes of the factors."""

    def __init__(self, spread: Spread, nvec: list[int]) -> None:
        super().__init__(spread)
        self.nvec = nvec

    def fresh(self, device: torch.device) -> Tensor:
        """Probability 1 / n for every class."""
        return torch.cat([torch.full((n,), 1.0 / n, device=device) for n in self.nvec])

    def warm(self, mean: Tensor, fresh: Tensor) -> Tensor:
        """Mean of half the last probabilities."""
        return WARM * mean + (1.0 - WARM) * fresh

    def settle(self, mean: Tensor) -> Tensor:
        """Probabilities with a share of the uniform distribution, so that no class dies out by chance."""
        mix = self.spread.mix
        return (1.0 - mix) * mean + mix * self.fresh(mean.device)

    def std(self, mean: Tensor, std: Tensor | None) -> Tensor:
        """Std sqrt(p (1 - p)), which follows from the mean."""
        return (mean * (1.0 - mean)).clamp(min=0.0).sqrt()

    def draw(self, mean: Tensor, std: Tensor, u: Tensor) -> Tensor:
        """One-hots, by the inverse of the distribution function."""
        factors = mean.unsqueeze(1).expand(-1, u.shape[1], -1, -1).log().split(self.nvec, -1)
        return torch.cat([one_hot_straight_through(f, u[..., i]) for i, f in enumerate(factors)], -1)

    def mode(self, mean: Tensor) -> Tensor:
        """The likeliest class of every factor."""
        return torch.cat([one_hot_mode(factor) for factor in mean.split(self.nvec, -1)], -1)


def make_search(actions: Actions, spread: Spread, least: Tensor | None = None) -> Search:
    """The search that a space asks for. least: see `Search`."""
    if isinstance(actions, DiscreteActions):
        return Categoricals(spread, actions.nvec)
    return Gaussians(spread, actions.size, least)
