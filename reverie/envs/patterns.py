"""Still textures made from a formula: plaids, checks, stripes, clouds, marble and patches in random colours.

Every pattern is a random sum of sinusoids over points x, shaped and mapped onto a palette of two to four colours. The
points decide how the pattern fits together: on a torus it repeats without a seam, on directions it closes around a
viewer or a body.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

WAVES = 8
"""Sinusoids of a pattern."""


def tile(rng: np.random.Generator, size: int) -> np.ndarray:
    """A texture that repeats in both directions: uint8 [size, size, 3]."""
    fastest = int(rng.integers(1, 6))
    frequencies = rng.integers(1, fastest + 1, (WAVES, 2)) * rng.choice([-1, 1], (WAVES, 2))
    # One wave in five loses a component, and runs along a side.
    frequencies[np.arange(WAVES), rng.integers(0, 2, WAVES)] *= rng.random(WAVES) > 0.2
    return _pattern(rng, _torus(size), frequencies).reshape(size, size, 3)


def cube(rng: np.random.Generator, size: int) -> np.ndarray:
    """A texture on the six faces of a cube, one above the other, without seams: uint8 [6 size, size, 3].

    Faces and rows are in OpenGL's order: +x, -x, +y, -y, +z, -z.
    """
    frequencies = rng.normal(size=(WAVES, 3))
    frequencies *= rng.uniform(0.5, 2.5, (WAVES, 1)) / np.linalg.norm(frequencies, axis=1, keepdims=True)
    return _pattern(rng, _directions(size), frequencies).reshape(6 * size, size, 3)


def _pattern(rng: np.random.Generator, points: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Colours uint8 [P, 3] at `points` [P, D], from waves of `frequencies` [K, D] (cycles per unit).

    The k-th wave is ``sin(2π (f_k · x + φ_k))`` with φ_k uniform in [0, 1).
    """
    phases = rng.uniform(0.0, 1.0, WAVES)
    style = STYLES[int(rng.integers(len(STYLES)))]
    colours = rng.uniform(0.0, 255.0, (int(rng.integers(2, 5)), 3))

    def wave(count: int) -> np.ndarray:
        angle = points @ frequencies[:count].T.astype(np.float32) + phases[:count].astype(np.float32)
        return np.sin(2 * np.float32(np.pi) * angle)

    return _coloured(style(wave, frequencies), colours)


def _coloured(level: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Levels [P] in [0, 1] between the colours [C, 3]: 0 is the first, 1 the last, linear between neighbours."""
    at = np.linspace(0.0, 1.0, len(colours))
    return np.stack([np.interp(level, at, channel) for channel in colours.T], axis=1).round().astype(np.uint8)


Wave = Callable[[int], np.ndarray]


def _clouds(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """All waves, the slow ones strongest, stretched to [0, 1]."""
    total = wave(WAVES) @ (1.0 / np.linalg.norm(frequencies, axis=1))
    return (total - total.min()) / (total.max() - total.min())


def _marble(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """Bands along the contours of clouds."""
    return 0.5 + 0.5 * np.sin(6 * np.pi * _clouds(wave, frequencies))


def _patches(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """Clouds cut into three levels with sharp borders."""
    return np.minimum(np.floor(3 * _clouds(wave, frequencies)), 2) / 2


def _stripes(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """One wave, cut in two levels."""
    return (wave(1)[:, 0] > 0).astype(np.float64)


def _checks(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """The product of two waves, cut in two levels."""
    return (wave(2).prod(axis=1) > 0).astype(np.float64)


def _plaid(wave: Wave, frequencies: np.ndarray) -> np.ndarray:
    """The mean of three waves, smooth."""
    return 0.5 + wave(3).mean(axis=1) / 2


STYLES = (_clouds, _marble, _patches, _stripes, _checks, _plaid)


@cache
def _torus(size: int) -> np.ndarray:
    """Points [size², 2] of one period, in [0, 1)."""
    side = np.arange(size, dtype=np.float32) / size
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


@cache
def _directions(size: int) -> np.ndarray:
    """Unit vectors [6 size², 3] to the middles of a cube map's texels."""
    side = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    t, s = np.meshgrid(side, side, indexing="ij")
    one = np.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    points = np.stack([np.stack(face, axis=-1) for face in faces]).reshape(-1, 3)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
