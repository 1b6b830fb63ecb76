"""The inner problem of NashMTL: a > 0 with M a = 1 / a, through SciPy."""

from __future__ import annotations

import numpy as np

from reverie.errors import UserError

RIDGE = 1e-12
"""added to the diagonal of M (whose norm is 1), so that a loss without gradient gets a large but finite weight"""
LIMIT = 30.0
"""of |log c| while searching: far outside of any solution, near enough that nothing overflows"""


def bargain(gram: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The positive solution of M a = 1 / a.

    It is the minimum of a^T M a / 2 - sum of log a_i, which is strictly convex for a > 0. With C = D^-1 M D^-1,
    D = sqrt(diag M), and c = D a it reads C c = 1 / c: all of one scale, whatever the losses'. It is sought in log c by
    `scipy.optimize.root`, from `start` and, should that fail, from c = 1.

    gram: float64 [K, K], symmetric, positive semi-definite. start: float64 [K], positive. Returns float64 [K].
    Raises UserError without SciPy or if gram has entries that are not finite; RuntimeError if no search converges.
    """
    try:
        from scipy.optimize import root
    except ImportError as error:
        raise UserError("balance 'nashmtl' needs SciPy: pip install 'reverie-rl[nash]'") from error
    if not np.isfinite(gram).all():
        raise UserError("balance 'nashmtl' got gradients that are not finite; lower the model's learning rate")
    scale = np.sqrt(np.diag(gram) + RIDGE)
    unit = gram / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0)

    def residual(b: np.ndarray) -> np.ndarray:
        c = np.exp(np.clip(b, -LIMIT, LIMIT))
        return c * (unit @ c) - 1.0

    def slope(b: np.ndarray) -> np.ndarray:
        c = np.exp(np.clip(b, -LIMIT, LIMIT))
        return np.outer(c, c) * unit + np.diag(c * (unit @ c))

    for guess in (np.log(start * scale), np.zeros(len(gram))):
        found = root(residual, guess, jac=slope, method="hybr", tol=1e-10)
        if np.abs(found.fun).max() < 1e-6:
            return np.exp(found.x) / scale
    raise RuntimeError(f"no bargaining solution found for the Gram matrix {gram.tolist()}")
