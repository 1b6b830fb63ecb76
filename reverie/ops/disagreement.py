"""Disagreement of an ensemble: how far apart its members' predictions are."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from reverie.ops.precision import full

Spread = Literal["variance", "std"]
"""What disagreement is: a variance over the members, or its root."""


def disagreement(means: Tensor, spread: Spread = "variance") -> Tensor:
    """Disagreement of K members, a mean over dimensions of their spread in each.

    D = (1 / n) sum_j Var_k mu_{k, j},   Var_k mu = (1 / K) sum_k (mu_k - (1 / K) sum_l mu_l)^2;   ``std``: its root.

    means: [K, ..., n], what each member predicts, K >= 2. Returns float32 [...]; gradients reach the means.
    Raises ValueError for fewer members.
    Source: Sekar et al. 2020 (Plan2Explore), equation 4 (variance); DreamerV2's code (std).
    """
    if means.shape[0] < 2:
        raise ValueError(f"disagreement is of at least 2 members, got {means.shape[0]}")
    means = full(means)
    # The root of 0 has no slope: members that agree wholly give none.
    spreads = means.var(0, correction=0) if spread == "variance" else means.std(0, correction=0)
    return spreads.mean(-1)
