"""Invertible squashings of values and rewards, and two-hot encodings of numbers.

The squashings are elementwise, odd, and have their true slope at 0 (a network that starts by predicting exactly 0 must
learn). Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.ops.precision import full
from reverie.ops.softmax import log_softmax


def _odd(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """sign(x) function(|x|) for function(0) = 0.

    The two ways to cut at 0 have slopes 1 and 0 there, so that they add up to the slope of the function, where
    sign(x) function(|x|) itself would give 0.
    """
    return function(x.clamp(min=0.0)) - function(F.relu(-x))


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|). Source: Hafner et al. 2023 (DreamerV3), "Robust predictions"."""
    return _odd(torch.log1p, full(x))


def symexp(x: Tensor) -> Tensor:
    """sign(x) (exp(|x|) - 1), the inverse of `symlog`. Source: Hafner et al. 2023 (DreamerV3), "Robust predictions"."""
    return _odd(torch.expm1, full(x))


def rescale(x: Tensor, eps: float = 1e-3) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x.

    Computed as x / (sqrt(|x| + 1) + 1) + eps x, which is the same and does not subtract near equals around 0.
    x: any shape. eps: at least 0, keeps the inverse Lipschitz.
    Source: Pohlen et al. 2018; Kapturowski et al. 2019 (R2D2), section 2.3.
    """
    x = full(x)
    return x / ((x.abs() + 1.0).sqrt() + 1.0) + eps * x


def rescale_inverse(y: Tensor, eps: float = 1e-3) -> Tensor:
    """h^-1(y) = sign(y) (((sqrt(1 + 4 eps (|y| + 1 + eps)) - 1) / (2 eps))^2 - 1).

    That subtracts near equals twice. Put w = sqrt(|x| + 1) - 1, so |x| = w (w + 2) and |y| = w + eps w (w + 2): w
    solves eps w^2 + b w - |y| = 0 with b = 1 + 2 eps. The root without subtraction is
    w = 2 |y| / (b + sqrt(b^2 + 4 eps |y|)), and x = sign(y) w (w + 2) is exact to rounding for every y and eps.
    Source: Pohlen et al. 2018, proposition A.2; Kapturowski et al. 2019 (R2D2), section 2.3.
    """
    y = full(y)
    b = 1.0 + 2.0 * eps
    slope = 2.0 / (b + (b * b + 4.0 * eps * y.abs()).sqrt())
    return y * slope * (y.abs() * slope + 2.0)


def two_hot(x: Tensor, bins: Tensor) -> Tensor:
    """Weights on the two bins around x whose mean is x.

    With b_k <= x <= b_{k+1}: weight (x - b_k) / (b_{k+1} - b_k) on bin k+1 and the rest on bin k. Values beyond the
    outermost bins are clipped to them.

    x: [...]. bins: [K], increasing, K >= 2. Returns [..., K], at least 0, summing to 1.
    Source: Bellemare et al. 2017 (C51) for the projection; Hafner et al. 2023 (DreamerV3), "Robust predictions".
    """
    below, upper = _between(x, bins)
    k, upper = below.unsqueeze(-1), upper.unsqueeze(-1)
    return upper.new_zeros(*x.shape, bins.shape[0]).scatter_(-1, k, 1.0 - upper).scatter_(-1, k + 1, upper)


def two_hot_cross_entropy(logits: Tensor, x: Tensor, bins: Tensor) -> Tensor:
    """-sum_k two_hot(x)_k log softmax(logits)_k, of the two bins that count: the rest is never multiplied out.

    logits: [..., K]. x: [...]. bins: [K], as for `two_hot`. Returns [...], nats.
    """
    below, upper = _between(x, bins)
    low, high = log_softmax(logits).gather(-1, torch.stack([below, below + 1], -1)).unbind(-1)
    return (upper - 1.0) * low - upper * high


def _between(x: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """The bin k with b_k <= x <= b_{k+1}, int64 [...], and the weight of the bin above it, [...]."""
    x, bins = full(x), full(bins)
    x = x.clamp(bins[0], bins[-1])
    below = (torch.searchsorted(bins, x.detach(), right=True) - 1).clamp(0, bins.shape[0] - 2)
    low, high = bins[below], bins[below + 1]
    return below, (x - low) / (high - low)


def two_hot_mean(probs: Tensor, bins: Tensor) -> Tensor:
    """sum_k p_k b_k, summed in mirrored pairs so that equal weights on symmetric bins give exactly 0.

    probs: [..., K]. bins: [K]. Returns [...].
    Source: Hafner et al. 2023 (DreamerV3), "Critic learning".
    """
    terms = full(probs) * full(bins)
    half = terms.shape[-1] // 2
    pairs = (terms[..., :half] + terms[..., -half:].flip(-1)).sum(-1)
    return pairs + terms[..., half] if terms.shape[-1] % 2 else pairs


def symexp_bins(count: int, limit: float = 20.0, device: torch.device | str | None = None) -> Tensor:
    """Bins symexp(linspace(-limit, limit, count)), exactly symmetric. Returns float32 [count].

    count: odd and at least 3, so that 0 is a bin. Raises ValueError otherwise.
    Source: Hafner et al. 2023 (DreamerV3), "Critic learning".
    """
    if count < 3 or count % 2 == 0:
        raise ValueError(f"count must be odd and at least 3, got {count}")
    half = torch.expm1(torch.linspace(0.0, limit, count // 2 + 1, device=device))
    return torch.cat([-half[1:].flip(0), half])


def identity_reward(reward: Tensor) -> Tensor:
    """The reward itself."""
    return full(reward)


def tanh_reward(reward: Tensor) -> Tensor:
    """tanh(r), DreamerV2's choice on Atari. Source: Hafner et al. 2021 (DreamerV2), appendix on hyper-parameters."""
    return torch.tanh(full(reward))


def sign_reward(reward: Tensor) -> Tensor:
    """sign(r), in {-1, 0, 1}. Source: Mnih et al. 2015 (DQN), Methods ("clipped all positive rewards at 1")."""
    return torch.sign(full(reward))


def clip_reward(reward: Tensor) -> Tensor:
    """Reward clipped to [-1, 1]. Source: Espeholt et al. 2018 (IMPALA), appendix D, table of the Atari settings."""
    return full(reward).clamp(-1.0, 1.0)


_REWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": identity_reward,
    "tanh": tanh_reward,
    "sign": sign_reward,
    "clip": clip_reward,
    "symlog": symlog,
}


def reward_transform(name: str) -> Callable[[Tensor], Tensor]:
    """The function called identity, tanh, sign, clip or symlog. Raises ValueError for any other name."""
    if name not in _REWARDS:
        raise ValueError(f"reward transform must be one of {', '.join(_REWARDS)}; got {name!r}")
    return _REWARDS[name]
