"""Textures from formulas: functions of their generators, without seams, in OpenGL's order."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from reverie.envs import patterns


@pytest.mark.parametrize("draw", [patterns.tile, patterns.cube])
def test_patterns_are_functions_of_their_generator(draw: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    textures = [draw(np.random.default_rng(seed), 16) for seed in range(40)]
    faces = 1 if draw is patterns.tile else 6
    assert {texture.shape for texture in textures} == {(16 * faces, 16, 3)}
    assert {texture.dtype for texture in textures} == {np.dtype(np.uint8)}
    assert len({texture.tobytes() for texture in textures}) == 40
    assert min(len(np.unique(texture.reshape(-1, 3), axis=0)) for texture in textures) >= 2
    np.testing.assert_array_equal(textures[5], draw(np.random.default_rng(5), 16))


def test_tiles_repeat_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [patterns.tile(np.random.default_rng(seed), 16).astype(int) for seed in range(30)]
    points = patterns._torus(16)
    monkeypatch.setattr(patterns, "_torus", lambda size: points + np.float32([1, -2]))
    for seed, texture in enumerate(expected):
        again = patterns.tile(np.random.default_rng(seed), 16).astype(int)
        # Texels at a sharp border may fall to either side of it.
        assert (np.abs(again - texture).max(axis=-1) > 2).mean() < 0.1


def test_faces_are_in_the_order_of_opengl() -> None:
    np.testing.assert_array_equal(
        patterns._directions(1), [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    )
    # The first texel of face +x looks along (1, 1/2, 1/2): rows go down along y, columns along -z.
    np.testing.assert_allclose(patterns._directions(2)[0], np.array([1, 0.5, 0.5]) / math.sqrt(1.5), atol=1e-6)


def test_levels_lie_between_their_colours() -> None:
    colours = np.array([[0, 0, 0], [100, 50, 0], [200, 50, 255]], float)
    mixed = patterns._coloured(np.array([0.0, 0.25, 0.5, 1.0]), colours)
    assert mixed.tolist() == [[0, 0, 0], [50, 25, 0], [100, 50, 0], [200, 50, 255]]
