"""Balancers: how the losses of a world model (or of any tasks that share a network) are weighed against each other.

A balancer maps K scalar losses to one. Its weights, detached, are what `reverie plot --weights` draws. Learned scalars
are parameters (of the optimiser that learns the network), running statistics are buffers: both are in a checkpoint.

| kind | total | weight of L |
|---|---|---|
| harmony | sum of L_i / e^s_i + log(1 + e^s_i), s learned | 1 / e^s_i |
| harmony-unrectified | sum of L_i / e^s_i + s_i, s learned | 1 / e^s_i |
| harmony-closed | sum of L_i / sigma*(mean of L_i) | 1 / sigma* |
| uw | sum of (L_i / e^s_i + s_i) / 2, s learned | 1 / (2 e^s_i) |
| dwa | sum of w_i L_i, w from how fast each loss falls | w_i |
| nashmtl | sum of a_i L_i, a the Nash bargaining of the gradients | a_i |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nets.nash import bargain, solver
from reverie.ops import world

BalanceKind = Literal["fixed", "harmony", "harmony-unrectified", "harmony-closed", "uw", "dwa", "nashmtl"]

UW_LR = 0.025
"""learning rate of uncertainty weighting's scalars, in the network's Adam, as in the code of Navon et al. 2022"""


class Balancer(nn.Module, ABC):
    """Balancer of `tasks` scalar losses."""

    lr: float | None = None
    """the learned scalars' own learning rate, given to the optimiser by `rates`; None: that of the network"""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks

    @property
    def rates(self) -> dict[nn.Parameter, float]:
        """Learning rates of the parameters that have one of their own (the `rates` of an `Optimiser`)."""
        return {} if self.lr is None else dict.fromkeys(self.parameters(), self.lr)

    @abstractmethod
    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total [] and weights [tasks], detached. losses: [tasks]; shared: parameters that all of them train."""


class Harmony(Balancer):
    """The harmonious loss: sum of L_i / sigma_i + log(1 + sigma_i), sigma_i = e^{s_i}, s_i learned from 0.

    For a constant loss L the best sigma is (L + sqrt(L^2 + 4 L)) / 2, so that every weighted loss tends to the same
    scale (below 1), while the weight of a vanishing loss grows like 1 / sqrt(L) only. Unrectified, log(sigma_i)
    replaces log(1 + sigma_i) and the best sigma is L. Source: Ma et al. 2024 (HarmonyDream), section 3, equations 5-6.
    """

    def __init__(self, tasks: int, rectified: bool = True) -> None:
        super().__init__(tasks)
        self.log_sigma = nn.Parameter(torch.zeros(tasks))
        self.rectified = rectified

    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total and weights.

        No stop-gradients: the networks get grad L_i / sigma_i, s_i gets -L_i / sigma_i + sigma_i / (1 + sigma_i).
        """
        weights = torch.exp(-self.log_sigma)
        bound = F.softplus(self.log_sigma) if self.rectified else self.log_sigma
        return (losses * weights + bound).sum(), weights.detach()


class HarmonyClosed(Balancer):
    """Harmony without learned scalars: each weight is 1 / sigma*(M), M a running mean of the detached loss.

    sigma*(M) = (M + sqrt(M^2 + 4 M)) / 2, the minimum that the rectified harmonious loss moves towards. A learned s
    moves by about a learning rate per learner_step, thousands of them for a loss of 100; M forgets its start by a
    factor of e per 1 / (1 - decay) of them. It begins at 1/2, where sigma* = 1, as e^s does: at the weight of a KL
    that is still near 0 (31 for 1e-3) the latents would never begin to carry anything, and the KL would stay there.
    decay: of the mean, per learner_step. Source: ours, from equation 6 of HarmonyDream.
    """

    mean: Tensor

    def __init__(self, tasks: int, decay: float = 0.999) -> None:
        super().__init__(tasks)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"the decay of a running mean must be in [0, 1), got {decay}")
        self.decay = decay
        self.register_buffer("mean", torch.full((tasks,), 0.5))

    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total and weights; the mean takes the present losses in first."""
        with torch.no_grad():
            self.mean.lerp_(world.average(losses.detach()), 1.0 - self.decay)
            weights = 1.0 / best_sigma(self.mean)
        return (losses * weights).sum(), weights


class UncertaintyWeighting(Balancer):
    """Sum of (L_i / e^{s_i} + s_i) / 2, s_i = log sigma_i^2 learned from 0, with a learning rate of its own.

    Half the unrectified harmonious loss. Source: Kendall, Gal & Cipolla 2018, as in Navon et al. 2022 (lr 0.025).
    """

    lr = UW_LR

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.log_variance = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total, whose gradients reach the losses and s, and weights."""
        weights = 0.5 * torch.exp(-self.log_variance)
        return (losses * weights + 0.5 * self.log_variance).sum(), weights.detach()


class DynamicWeightAverage(Balancer):
    """Losses that fall slowly weigh more: w = K softmax(ratio / temperature).

    ratio_i = mean of the last `window` losses / mean of the `window` before them; weights are 1 until more than
    `window` updates have passed. From then to update 2 window - 1 the earlier mean is in part of ones, with which the
    history begins: losses far from 1 get weights that say so, not how fast they fall. Weights sum to K.
    Source: Liu, Johns & Davison 2019, equation 7, over windows as in Navon et al. 2022.
    Differs in: the total is the weighted sum, not its mean over tasks.
    """

    history: Tensor
    count: Tensor

    def __init__(self, tasks: int, window: int = 25, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        self.window, self.temperature = window, temperature
        self.register_buffer("history", torch.ones(2 * window, tasks))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total and weights; the present losses are the newest of the history."""
        with torch.no_grad():
            self.history.copy_(torch.cat([self.history[1:], world.average(losses.detach()).unsqueeze(0)]))
            before, after = self.history[: self.window].mean(0), self.history[self.window :].mean(0)
            # A loss that has reached 0 has stopped falling: its ratio is finite whatever came before.
            ratio = after / before.clamp_min(torch.finfo(before.dtype).tiny)
            moved = self.tasks * torch.softmax(ratio / self.temperature, 0)
            weights = torch.where(self.count > self.window, moved, 1.0)
            self.count += 1
        return (losses * weights).sum(), weights


class NashMTL(Balancer):
    """Sum of a_i L_i where G G^T a = 1 / a for the gradients g_i of the losses on the shared parameters.

    With M = G G^T / |G G^T|_F. The bargaining solution makes the update's gain a fair share for every task, whatever
    the scale of its loss. Takes one backward pass per task and a solver on the host (`reverie.nets.nash`), so the
    update is neither free of host synchronisation nor cheap. Gradients that cancel get large but finite weights; a loss
    that has none on the shared parameters has nothing to bargain with, and the weight 1.
    Source: Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", claim 3.1 and algorithm 1.
    Differs in: the solver; the norm of the shared gradient is clipped with all others, not to 1.
    Raises UserError without SciPy.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        solver()

    def forward(self, losses: Tensor, shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Total and weights. Raises ValueError if there is nothing shared, UserError if a gradient is not finite."""
        if not shared:
            raise ValueError("nashmtl needs parameters that all losses share")
        rows = []
        for loss in losses.unbind():
            parts = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
            full = [torch.zeros_like(p) if g is None else g for p, g in zip(shared, parts, strict=True)]
            rows.append(torch.cat([g.flatten().float() for g in full]))
        gradients = torch.stack(rows).double()
        gram = (gradients @ gradients.T).cpu().numpy()
        weights = np.ones(len(gram))
        share = np.flatnonzero(gram.diagonal() != 0.0)  # what is not finite is for the bargain to refuse
        if len(share):
            among = gram[np.ix_(share, share)]
            weights[share] = bargain(among / np.linalg.norm(among))
        scaled = torch.from_numpy(weights).to(losses)
        return (losses * scaled).sum(), scaled


def best_sigma(loss: Tensor) -> Tensor:
    """(L + sqrt(L^2 + 4 L)) / 2, the minimum over sigma > 0 of L / sigma + log(1 + sigma), for L >= 0."""
    loss = loss.clamp_min(1e-8)
    return 0.5 * (loss + torch.sqrt(loss * (loss + 4.0)))


def make_balancer(kind: BalanceKind, tasks: int) -> Balancer | None:
    """A fresh balancer; None for ``fixed``: those weights are the caller's. Raises ValueError for another kind."""
    if kind == "fixed":
        return None
    if kind in ("harmony", "harmony-unrectified"):
        return Harmony(tasks, rectified=kind == "harmony")
    kinds: dict[str, type[HarmonyClosed] | type[UncertaintyWeighting] | type[DynamicWeightAverage] | type[NashMTL]] = {
        "harmony-closed": HarmonyClosed,
        "uw": UncertaintyWeighting,
        "dwa": DynamicWeightAverage,
        "nashmtl": NashMTL,
    }
    if kind not in kinds:
        raise ValueError(f"balance must be fixed, harmony, harmony-unrectified or one of {list(kinds)}, got {kind!r}")
    return kinds[kind](tasks)
