"""Sinkhorn's algorithm: soft assignments of rows to clusters that all get the same share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reverie.ops.precision import full


@torch.no_grad()
def sinkhorn(scores: Tensor, eps: float = 0.05, iterations: int = 3) -> Tensor:
    """Assignments of N rows to K clusters, [N, K] without a gradient: each row's sum to 1.

    Q = exp(scores / eps), scaled in turn so that every cluster's sum is 1 / K and every row's is 1 / N, `iterations`
    times; then times N. With enough of them every cluster has N / K rows. Computed as logarithms.

    scores: [N, K], likenesses. eps: positive; small is hard. Raises ValueError for an eps or a number that is not.
    Source: Cuturi 2013; Caron et al. 2020 (SwAV), section 3.1; in this order in the code of DreamerPro.
    """
    if eps <= 0.0 or iterations < 1:
        raise ValueError(f"eps must be positive and iterations at least 1, got {eps} and {iterations}")
    rows, clusters = scores.shape
    log_q = full(scores) / eps
    log_q = log_q - log_q.logsumexp((0, 1))
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True) - math.log(clusters)
        log_q = log_q - log_q.logsumexp(1, keepdim=True) - math.log(rows)
    return (log_q + math.log(rows)).exp()
