"""Distributions over a fixed set of values: the support, and the projection of others onto it.

::

    support      z_0       z_1       z_2       z_3       z_4
    values             x                                       y      y lies beyond: it counts as z_4
    mass                p_x                                    p_y
    projected          .6 p_x  .4 p_x                  p_y            closer atoms get more; the mean of x is kept
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.ops.precision import full
from reverie.ops.transforms import two_hot


def atoms(low: float, high: float, count: int) -> Tensor:
    """The support z_i = low + i (high - low) / (count - 1), float32 [count].

    Raises ValueError if count < 2 or low >= high.
    Source: Bellemare et al. 2017 (C51), section 4.
    """
    if count < 2 or low >= high:
        raise ValueError(f"expected at least 2 atoms and low < high, got {count} from {low} to {high}")
    return (low + (high - low) * torch.arange(count, dtype=torch.float64) / (count - 1)).float()


def categorical_projection(probs: Tensor, values: Tensor, support: Tensor) -> Tensor:
    """Probabilities of the atoms of `support`, to which the mass of a distribution over `values` is moved.

    (Phi p)_i = sum_j max(0, 1 - |clip(x_j, z_0, z_{K-1}) - z_i| / dz) p_j

    The mass of a value that lies on an atom stays there whole, and that of a value beyond the outermost atoms goes to
    the outermost atom.

    probs: [..., J], masses, each at least 0. values: [..., J], where they lie (for C51 earned + discount * support).
    support: [K], increasing. Returns [..., K], summing to what probs sum to.
    Raises ValueError if probs and values have different shapes.
    Source: Bellemare et al. 2017 (C51), equation 7 and algorithm 1.
    """
    if probs.shape != values.shape:
        raise ValueError(f"probs and values must have one shape, got {tuple(probs.shape)} and {tuple(values.shape)}")
    return (full(probs).unsqueeze(-1) * two_hot(values, support)).sum(-2)
