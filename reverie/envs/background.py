"""Moving backgrounds made from a formula: seedable, without files, and endless."""

from __future__ import annotations

import numpy as np


class Plaids:
    """A moving sum of sinusoids per colour, drawn once from `rng`: an unpredictable scene with smooth motion.

    For pixel (x, y) and colour c at time t (a count of frames), with K waves per colour::

        I_c(x, y, t) = 255 · (1/2 + 1/(2K) Σ_k sin(2π (u_ck x / width + v_ck y / height + w_ck t) + φ_ck))

    u, v: uniform in [-4, 4] waves per frame width or height; w: uniform in [-0.15, 0.15] waves per frame of time;
    φ: uniform in [0, 2π).
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, waves: int = 3) -> None:
        shape = (3, waves)
        u, v = rng.uniform(-4.0, 4.0, (2, *shape))
        self._w = rng.uniform(-0.15, 0.15, shape)
        phase = rng.uniform(0.0, 1.0, shape)
        # exp(i(a + b)) = exp(ia) exp(ib): per frame, one small complex product replaces a sine per pixel and wave.
        self._x = np.exp(2j * np.pi * (u[..., None] * np.arange(width) / width + phase[..., None]))
        self._y = np.exp(2j * np.pi * v[..., None] * np.arange(height) / height)

    def frame(self, t: int) -> np.ndarray:
        """The background at time `t`: float64 [height, width, 3] in [0, 255]."""
        moved = self._y * np.exp(2j * np.pi * self._w * t)[..., None]
        waves = np.einsum("cky,ckx->yxc", moved, self._x).imag
        return np.clip(127.5 * (1.0 + waves / self._w.shape[1]), 0.0, 255.0)
