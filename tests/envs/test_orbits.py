"""Cameras and lights of varied tasks: what was seen stays in view, what was lit stays lit."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.envs import orbits
from reverie.envs.control import Control
from tests.envs.test_remastered import model_of, needs_gl, unseen


def seen_at(env: Control, points: np.ndarray) -> np.ndarray:
    """How far world points [P, 3] are from the middle of camera 0's image, in halves of its height."""
    model, data = model_of(env), env._env.physics.data
    local = (points - data.cam_xpos[0]) @ data.cam_xmat[0].reshape(3, 3)
    assert (local[:, 2] < 0).all()
    half = math.tan(math.radians(model.cam_fovy[0]) / 2)
    radius: np.ndarray = np.linalg.norm(local[:, :2] / -local[:, 2:], axis=1) / half
    return radius


def circle(env: Control) -> np.ndarray:
    """World points [90, 3] on the plain image's inscribed circle, in the plane through its subject."""
    model, data = model_of(env), env._env.physics.data
    axes, place = data.cam_xmat[0].reshape(3, 3), data.cam_xpos[0]
    follows = int(model.cam_mode[0]) != 0
    subject = data.subtree_com[model.cam_bodyid[0]] if follows else model.stat.center
    distance = (place - subject) @ axes[:, 2]
    angle = np.radians(np.arange(0, 360, 4))[:, None]
    rim = np.cos(angle) * axes[:, 0] + np.sin(angle) * axes[:, 1]
    return place - distance * axes[:, 2] + distance * math.tan(math.radians(model.cam_fovy[0]) / 2) * rim


@pytest.mark.parametrize("domain", ["cheetah", "cartpole", "walker", "reacher", "manipulator"])
def test_the_camera_keeps_in_view_what_it_showed(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = unseen(domain, vary=("camera",))
    visuals = env._visuals
    assert visuals is not None
    furthest, heights, turned = [], [], []
    for retreat in (orbits.RETREAT, 0.0):
        monkeypatch.setattr(orbits, "RETREAT", retreat)
        for seed in range(40):
            visuals.restore()
            env._env.reset()
            rim = circle(env)
            assert seen_at(env, rim).max() == pytest.approx(1.0)
            axis = env._env.physics.data.cam_xmat[0].reshape(3, 3)[:, 2].copy()
            visuals.draw(seed)
            furthest.append(seen_at(env, rim).max())
            heights.append(env._env.physics.data.cam_xpos[0, 2])
            turned.append(float(axis @ env._env.physics.data.cam_xmat[0].reshape(3, 3)[:, 2]))
    assert max(furthest) < 1.0 + 1e-6
    assert min(furthest) > 0.75
    # Without a retreat the disc touches; its rim is known in points 4 degrees apart.
    assert min(furthest[40:]) > 0.99
    assert min(turned) < math.cos(math.radians(20))
    assert min(heights) > 0.2


def test_distance_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Yaw 20° at an unchanged field of view of 45°: s = cos 20° + tan 22.5° sin 20° = 0.93969 + 0.14167."""

    class Drawn:
        answers = iter([np.array([20.0, 0.0, 0.0]), 1.0, 1.0])

        def uniform(self, low: object, high: object) -> object:
            return next(self.answers)

    env = unseen("cartpole", "balance", vary=("camera",))
    env.reset(seed=0)
    assert env._visuals is not None
    env._visuals.restore()
    orbits.orbit_camera(model_of(env), 0, Drawn())  # type: ignore[arg-type]
    # The plain camera is at (0, -4, 1) and looks along +y at the middle (0, 0, 1).
    far = 4 * 1.08136
    angle = math.radians(20)
    np.testing.assert_allclose(
        model_of(env).cam_pos[0], [far * math.sin(angle), -far * math.cos(angle), 1.0], atol=1e-4
    )


@pytest.mark.parametrize("domain", ["cheetah", "cartpole", "swimmer", "fish"])
def test_lights_shine_on_what_they_shone_on(domain: str) -> None:
    env = unseen(domain, vary=("light",))
    visuals, model, data = env._visuals, model_of(env), env._env.physics.data
    assert visuals is not None
    for seed in range(20):
        visuals.restore()
        env._env.reset()
        before, down = data.light_xpos.copy(), data.light_xdir.copy()
        visuals.draw(seed)
        for light in range(model.nlight):
            moved = float(np.linalg.norm(data.light_xpos[light] - before[light]))
            angle = math.acos(np.clip(down[light] @ data.light_xdir[light], -1, 1))
            assert angle <= math.radians(orbits.LIGHT_TILT) + 1e-6
            # A chord: |p' - p| = 2 d sin(angle / 2), and both axes meet at distance d.
            distance = moved / (2 * math.sin(angle / 2))
            np.testing.assert_allclose(
                before[light] + distance * down[light],
                data.light_xpos[light] + distance * data.light_xdir[light],
                atol=1e-6,
            )
            assert data.light_xpos[light, 2] > 0
            assert 0.2 <= model.light_diffuse[light].min() <= model.light_diffuse[light].max() <= 1.0


@needs_gl
@pytest.mark.parametrize("domain", ["cheetah", "walker", "cartpole"])
def test_bodies_stay_in_the_picture(domain: str) -> None:
    env = unseen(domain, vary=("camera",))
    env.reset(seed=0)
    physics, model = env._env.physics, model_of(env)
    body = [i for i in range(model.ngeom) if model.geom_bodyid[i] > 0]

    def pixels() -> int:
        seen = physics.render(64, 64, camera_id=0, segmentation=True)
        return int(np.isin(seen[..., 0], body).sum())

    assert env._visuals is not None
    env._visuals.restore()
    env._env.reset()
    usual, fewest = pixels(), 10**6
    for seed in range(8):
        env._visuals.restore()
        env._env.reset()
        env._visuals.draw(seed)
        fewest = min(fewest, pixels())
    assert fewest > 0.4 * usual
    env.close()
