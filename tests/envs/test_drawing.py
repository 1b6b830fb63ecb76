"""Pictures that are drawn larger and averaged: by hand, and against larger pictures that are drawn cheaply."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.envs.control import choose_gl
from reverie.envs.drawing import FINER, as_seen, drawn_size
from reverie.envs.make import make_env

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")


def test_a_smooth_pixel_is_the_rounded_mean_of_sixteen() -> None:
    drawn = np.zeros((8, 4, 3), np.uint8)
    drawn[0, 0, 0] = 8  # 8 / 16 rounds up
    drawn[0, 0, 1] = 7  # 7 / 16 rounds down
    drawn[:4, :, 2] = 255
    drawn[4:, 1] = 100  # one column of four
    np.testing.assert_array_equal(as_seen("smooth", drawn), [[[1, 0, 255]], [[25, 25, 25]]])


@pytest.mark.parametrize("render", ["published", "cheap"])
def test_other_pictures_are_what_was_drawn(render: str) -> None:
    drawn = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert as_seen(render, drawn) is drawn  # type: ignore[arg-type]
    assert drawn_size(render, 32) == 32  # type: ignore[arg-type]
    assert drawn_size("smooth", 32) == 32 * FINER


@needs_gl
@pytest.mark.parametrize("id", ["dmc/cartpole-swingup", "fetch/reach"])
def test_a_smooth_picture_is_a_larger_cheap_one_averaged(id: str) -> None:
    pytest.importorskip("dm_control" if id.startswith("dmc") else "gymnasium_robotics")
    protocol = "dmc-vision" if id.startswith("dmc") else "fetch-vision"
    smooth = make_env(id, protocol=protocol, size=16, render="smooth")
    large = make_env(id, protocol=protocol, size=16 * FINER, render="cheap")
    try:
        seen, drawn = smooth.reset(3)["obs.image"][0], large.reset(3)["obs.image"][0]
        assert seen.shape == (16, 16, 3)
        mean = drawn.reshape(16, FINER, 16, FINER, 3).mean((1, 3))
        assert np.abs(seen - mean).max() <= 0.5
        assert seen.std() > 0
    finally:
        smooth.close()
        large.close()


@needs_gl
def test_small_motions_are_seen() -> None:
    pytest.importorskip("dm_control")
    distinct = {}
    for render in ("cheap", "smooth"):
        env = make_env("dmc/cartpole-swingup", size=16, render=render)
        env.reset(0)
        actions = np.random.default_rng(0).uniform(-1, 1, (150, 1, 1)).astype(np.float32)
        distinct[render] = len({env.step(action).rows["obs.image"].tobytes() for action in actions})
        env.close()
    assert distinct["smooth"] > 1.2 * distinct["cheap"]
