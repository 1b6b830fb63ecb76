"""Cameras: a context each, none of which is another's, and none of dm_control's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.envs.camera import _OPEN, Camera
from reverie.envs.control import choose_gl
from reverie.envs.make import make_env

pytestmark = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")

BALL = """<mujoco><worldbody><light pos="0 0 3"/><camera name="above" pos="0 0 3"/>
<body pos="{x} 0 0"><geom type="sphere" size=".5" rgba="{colour} 1"/></body></worldbody></mujoco>"""


def ball(x: float, colour: str, render: str = "cheap") -> tuple[Camera, Any]:
    import mujoco

    model = mujoco.MjModel.from_xml_string(BALL.format(x=x, colour=colour))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return Camera(model, data, "above", 24, 36, render), data  # type: ignore[arg-type]


def test_a_picture_is_upright_and_of_its_own_simulation() -> None:
    (left, data), (right, _) = ball(-0.7, "1 0 0"), ball(0.7, "0 1 0")
    a, b = left.picture(), right.picture()
    assert (a.shape, a.dtype) == ((24, 36, 3), np.uint8)
    assert a[:, :18, 0].sum() > 10 * a[:, 18:, 0].sum()
    assert b[:, 18:, 1].sum() > 10 * b[:, :18, 1].sum()
    assert a[..., 1].sum() < a[..., 0].sum() / 3
    assert b[..., 0].sum() < b[..., 1].sum() / 3
    data.geom_xpos[0] += (0.0, 0.8, 0.0)  # y is up
    up = left.picture()
    assert up[:12, :, 0].sum() > 3 * up[12:, :, 0].sum()
    right.close()  # frees its own only
    np.testing.assert_array_equal(left.picture(), up)
    np.testing.assert_array_equal(right.picture(), b)  # opened again
    left.close()
    right.close()


def test_a_camera_that_is_forgotten_frees_its_own_context() -> None:
    (kept, _), (forgotten, _) = ball(0.0, "1 0 0"), ball(0.0, "0 1 0")
    before, _ = kept.picture(), forgotten.picture()
    open_ones = len(_OPEN)
    del forgotten
    assert len(_OPEN) == open_ones - 1
    np.testing.assert_array_equal(kept.picture(), before)
    kept.close()


def test_dm_control_draws_on_in_its_own() -> None:
    env = make_env("dmc/cartpole-swingup", size=16, render="cheap")
    first = env.reset(0)["obs.image"]
    camera, _ = ball(0.0, "1 0 0")
    camera.picture()
    np.testing.assert_array_equal(env.reset(0)["obs.image"], first)
    camera.close()
    np.testing.assert_array_equal(env.reset(0)["obs.image"], first)
    env.close()


def test_cheap_pictures_have_no_borders_between_colours() -> None:
    (cheap, _), (published, _) = ball(0.0, "1 0 0"), ball(0.0, "1 0 0", "published")
    shades = [len(np.unique(camera.picture()[..., 0])) for camera in (cheap, published)]
    assert shades[0] < shades[1]
    for camera in (cheap, published):
        camera.close()
