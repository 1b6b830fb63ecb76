"""Redundancy reduction: two codes of the same rows shall agree entry by entry, and no two entries say the same."""

from __future__ import annotations

from torch import Tensor

from reverie.ops.precision import full, product


def redundancy(x: Tensor, y: Tensor, others: float = 5e-4) -> Tensor:
    """Loss sum_i (1 - C_ii)^2 + others sum_{i != j} C_ij^2, a scalar; gradients reach both codes.

    C_ij = (1 / N) sum_n x'_ni y'_nj,   x' = (x - mean) / (std + 1e-8) over the rows, std with N - 1.

    x, y: [N, n], N >= 2. An entry that is the same in all rows correlates with nothing.
    Raises ValueError where shapes differ or there is one row.
    Source: Zbontar et al. 2021 (Barlow Twins), equation 1; the std, and others, as in the code of R2-Dreamer.
    """
    if x.shape != y.shape or x.dim() != 2 or x.shape[0] < 2:
        raise ValueError(f"expected two codes [N, n] of at least 2 rows, got {tuple(x.shape)} and {tuple(y.shape)}")
    one, two = (_standardised(full(code)) for code in (x, y))
    correlation = product(one.T, two) / x.shape[0]
    same = correlation.diagonal()
    return (1 - same).square().sum() + others * (correlation.square().sum() - same.square().sum())


def _standardised(code: Tensor) -> Tensor:
    centred = code - code.mean(0)
    # Not std(), whose slope at 0 is none: an entry that never changes must not spoil the gradient of all.
    variance = centred.square().sum(0) / (code.shape[0] - 1)
    constant = variance <= 0.0
    return centred / (variance.masked_fill(constant, 1.0).sqrt() + 1e-8)
