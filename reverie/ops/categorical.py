"""Categorical and Bernoulli distributions as functions of their logits.

Every function works on the last axis: logits [..., K] over K classes. Log-probabilities, entropies and divergences
reduce that axis only, so that 32 latent variables of 32 classes, [..., 32, 32], give [..., 32]; sum where the model is
a product. A class is masked out by the logit -inf. Half precision is computed in float32. Samplers take their noise as
an argument.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.ops.precision import full
from reverie.ops.softmax import log_softmax, softmax

# Stands in for log 0, so that 0 * log 0 is 0 and not NaN; p * 1e30 still tells a true zero-probability event.
_LOG_ZERO = -1e30
# The largest float32 below 1.
_BELOW_ONE = 1.0 - 2.0**-24


def _log_softmax(logits: Tensor) -> Tensor:
    return log_softmax(logits).clamp(min=_LOG_ZERO)


def unimix_logits(logits: Tensor, mix: float) -> Tensor:
    """Logits of a mixture with the uniform distribution: log((1 - mix) softmax(logits) + mix / K).

    logits: [..., K]. mix: in [0, 1], share of the uniform part; 0 returns log_softmax(logits).
    Returns normalised log-probabilities [..., K], at least log(mix / K).
    Source: Hafner et al. 2023 (DreamerV3), "World model learning": 1 % uniform.
    """
    if mix == 0.0:
        return log_softmax(logits)
    probs = softmax(logits)
    return ((1.0 - mix) * probs + mix / logits.shape[-1]).log()


def _triangle(classes: int, device: torch.device) -> Tensor:
    """Ones on and above the diagonal, float64 [classes, classes]: p times it is the running sum of p."""
    return torch.ones(classes, classes, dtype=torch.float64, device=device).triu()


@lru_cache
def _kept_triangle(classes: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is read by calls of both kinds
        return _triangle(classes, device)


def sums_by_product(probs: Tensor) -> Tensor:
    """Running sums of numbers [..., K], float64: a product, which no kind of precision rounds.

    A GPU's scan would take one such row at a time, for which few of its threads have anything to do.
    """
    triangle = _triangle if torch.compiler.is_compiling() else _kept_triangle
    return probs.double() @ triangle(probs.shape[-1], probs.device)


def sample_index(probs: Tensor, u: Tensor) -> Tensor:
    """Class drawn as by `sample_categorical`, but from probabilities [..., K], which are not differentiated."""
    # Impossible classes leave the running sum, for in parallel two neighbours of it may round differently; and the
    # noise is scaled to its largest entry, for that is 1 only up to rounding. Hence some entry always exceeds it.
    cdf = torch.where(probs > 0, probs.cumsum(-1) if probs.device.type == "cpu" else sums_by_product(probs), 0.0)
    level = u.to(cdf.dtype).clamp(0.0, _BELOW_ONE) * cdf.amax(-1)
    # The first of equal maxima is documented; on booleans this is faster than argmax or a sum.
    return (cdf > level.unsqueeze(-1)).max(-1).indices


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(-1, index.unsqueeze(-1), 1.0)


def sample_categorical(logits: Tensor, u: Tensor) -> Tensor:
    """Class drawn by the inverse of the distribution function: the first k with p_0 + ... + p_k > u.

    logits: [..., K]. u: [...], uniform in [0, 1), one number per variable.
    Returns int64 [...], in [0, K). A class of probability zero is never drawn. No gradient.
    """
    return sample_index(softmax(logits).detach(), u)


def one_hot_straight_through(logits: Tensor, u: Tensor) -> Tensor:
    """One-hot vector, drawn, whose gradient is that of the probabilities: sample + p - sg(p).

    logits: [..., K]. u: [...], uniform in [0, 1). Returns [..., K], exactly one-hot.
    Source: Bengio et al. 2013 (straight-through); Hafner et al. 2021 (DreamerV2), algorithm 1.
    """
    probs = softmax(logits)
    sample = _one_hot(sample_index(probs.detach(), u), probs)
    # The brackets keep the value exact: p - sg(p) is 0, while (sample + p) - sg(p) would round.
    return sample + (probs - probs.detach())


def one_hot_mode(logits: Tensor) -> Tensor:
    """The most probable class (the first, if several are) as a one-hot vector, with the gradient of the probabilities.

    logits: [..., K]. Returns [..., K], exactly one-hot.
    """
    probs = softmax(logits)
    return _one_hot(logits.argmax(-1), probs) + (probs - probs.detach())


def categorical_log_prob(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Log-probability sum_k one_hot_k log p_k; with soft targets, minus the cross-entropy.

    logits, one_hot: [..., K]. Returns [...]. Gradients reach both arguments: detach a straight-through sample first.
    """
    return (full(one_hot) * _log_softmax(logits)).sum(-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Entropy -sum_k p_k log p_k. logits: [..., K]. Returns [...], nats, in [0, log K]."""
    log_p = _log_softmax(logits)
    return -(log_p.exp() * log_p).sum(-1)


def categorical_kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) = sum_k p_k (log p_k - log q_k).

    logits_p, logits_q: [..., K]. Returns [...], nats; beyond 1e20 where p has a class that q excludes.
    """
    log_p, log_q = _log_softmax(logits_p), _log_softmax(logits_q)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def bernoulli_log_prob(logits: Tensor, target: Tensor) -> Tensor:
    """Elementwise t log s + (1 - t) log(1 - s) with s = sigmoid(logits).

    logits, target: the same shape; target in [0, 1], soft targets allowed (a continuation times the discount).
    """
    return -F.binary_cross_entropy_with_logits(full(logits), target.to(full(logits).dtype), reduction="none")


def bernoulli_mean(logits: Tensor) -> Tensor:
    """Probability of 1, sigmoid(logits), elementwise."""
    return torch.sigmoid(full(logits))
