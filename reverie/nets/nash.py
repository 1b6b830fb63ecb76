"""The inner problem of NashMTL: a > 0 with M a = 1 / a, by Newton's method."""

from __future__ import annotations

import numpy as np

from reverie.errors import UserError

TINY = 1e-12
"""added to the diagonal of M (whose norm is 1), so that a loss without gradient gets a large but finite weight"""
RIDGE = 1e-9
"""added to the diagonal of the scaled M, so that gradients that cancel each other get large but finite weights"""
NEAR = 0.25
"""Newton decrement below which full steps converge quadratically"""
ITERATIONS = 1000
"""at most; 49 were needed by nine parallel gradients, 38 by three that cancel, about 10 by others"""


def bargain(gram: np.ndarray) -> np.ndarray:
    """The positive solution of M a = 1 / a.

    With C = D^-1 M D^-1, D = sqrt(diag M), and c = D a it reads C c = 1 / c: all of one scale, whatever the losses'. It
    is the minimum of f(c) = c^T C c / 2 - sum of log c_i, strictly convex and self-concordant for c > 0: damped Newton
    steps, c + step / (1 + decrement), stay in c > 0 and come near the minimum from everywhere, full steps end there
    (Boyd & Vandenberghe 2004, section 9.6). They are taken from c = 1, relative to c: with the gradient c (C c) - 1 and
    the Hessian diag(c) C diag(c) + 1, whose eigenvalues are at least 1.

    Of gradients that cancel (a Pareto-stationary point) any multiple of a solution is a better one: what is returned
    then solves (C + RIDGE) c = 1 / c, at most RIDGE^-1/2 = 3e4 per unit of a gradient.

    gram: float64 [K, K], symmetric, positive semi-definite. Returns float64 [K], positive and finite.
    Raises UserError if gram has entries that are not finite.
    """
    if not np.isfinite(gram).all():
        raise UserError("balance 'nashmtl' got gradients that are not finite; lower the model's learning rate")
    scale = np.sqrt(np.diag(gram) + TINY)
    unit = gram / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0 + RIDGE)
    c = np.ones(len(gram))
    for _ in range(ITERATIONS):
        slope = c * (unit @ c) - 1.0
        step = -np.linalg.solve(np.outer(c, c) * unit + np.eye(len(c)), slope)
        decrement = np.sqrt(max(0.0, -slope @ step))
        c = c * (1.0 + (step if decrement < NEAR else step / (1.0 + decrement)))
        if decrement < 1e-5:  # squared by the step just taken
            break
    return c / scale
