"""The inner problem of NashMTL: a > 0 with M a = 1 / a, through SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.errors import UserError

TINY = 1e-12
"""added to the diagonal of M (whose norm is 1), so that a loss without gradient gets a large but finite weight"""
RIDGE = 1e-9
"""added to the diagonal of the scaled M, so that gradients that cancel each other get large but finite weights"""
ITERATIONS = 1000
"""at most"""


def bargain(gram: np.ndarray) -> np.ndarray:
    """The positive solution of M a = 1 / a.

    With C = D^-1 M D^-1, D = sqrt(diag M), and c = D a it reads C c = 1 / c: all of one scale, whatever the losses'. It
    is the minimum of f(c) = c^T C c / 2 - sum of log c_i, strictly convex for c > 0. SciPy's trust-region Newton method
    comes near it from c = 1, with f infinite elsewhere, and SciPy's root finder ends there, in log c. (Alone, that one
    overshoots where gradients conflict: two losses at a cosine of -0.95, a third of random triples in two dimensions.)

    Of gradients that cancel (a Pareto-stationary point) any multiple of a solution is a better one: what is returned
    then solves (C + RIDGE) c = 1 / c, at most RIDGE^-1/2 = 3e4 per unit of a gradient.

    gram: float64 [K, K], symmetric, positive semi-definite. Returns float64 [K], positive and finite.
    Raises UserError without SciPy or if gram has entries that are not finite.
    """
    if not np.isfinite(gram).all():
        raise UserError("balance 'nashmtl' got gradients that are not finite; lower the model's learning rate")
    optimize = solver()
    scale = np.sqrt(np.diag(gram) + TINY)
    unit = gram / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0 + RIDGE)

    def objective(c: np.ndarray) -> float:
        return float(0.5 * c @ unit @ c - np.log(c).sum()) if (c > 0.0).all() else np.inf

    near = optimize.minimize(
        objective,
        np.ones(len(gram)),
        jac=lambda c: unit @ c - 1.0 / c,
        hess=lambda c: unit + np.diag(c**-2.0),
        method="trust-exact",
        options={"gtol": 1e-10, "maxiter": ITERATIONS},
    ).x

    def residual(c: np.ndarray) -> np.ndarray:
        return c * (unit @ c) - 1.0

    def slope(b: np.ndarray) -> np.ndarray:
        c = near * np.exp(b)
        return np.outer(c, c) * unit + np.diag(c * (unit @ c))

    solution = optimize.root(lambda b: residual(near * np.exp(b)), np.zeros(len(gram)), jac=slope, tol=1e-10)
    refined = near * np.exp(solution.x)
    return (refined if np.abs(residual(refined)).max() < np.abs(residual(near)).max() else near) / scale


def solver() -> Any:
    """`scipy.optimize`. Raises UserError without SciPy; called where a run begins, too."""
    try:
        from scipy import optimize
    except ImportError as error:
        raise UserError("balance 'nashmtl' needs SciPy: pip install 'reverie-rl[nash]'") from error
    return optimize
