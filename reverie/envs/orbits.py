"""Turn a MuJoCo model's cameras about what they show and its lights about what they shine on.

The point is that of the axis which is nearest to the subject: the body that is followed, else the middle of the model.
What sits on a body that moves by itself turns, but keeps its place there. `model` is MuJoCo's MjModel or dm_control's
wrapper of it, and is changed in place; `mj_camlight` then brings a state's cameras and lights up to date.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

YAW, ELEVATION, ROLL = 20.0, 20.0, 8.0
"""The camera's orbit in degrees: to either side, upwards only (below is the floor), and about its own axis."""
ZOOM = 0.2
"""The field of view changes by at most this share; the camera's distance makes up for it."""
RETREAT = 0.15
"""Then the camera moves away by at most this share."""
LIGHT_TILT = 45.0
"""Degrees by which lights leave their places, on a circle about what they shine on."""


def tilt_light(model: Any, light: int, rng: np.random.Generator) -> None:
    """Turn a light about the point that it shines on: u' = Q u and p' = p + d (u - u'), d its distance."""
    import mujoco

    modes = mujoco.mjtCamLight
    azimuth = rng.uniform(0.0, 2 * math.pi)
    tilt = _rotation(np.array([math.cos(azimuth), math.sin(azimuth), 0.0]), math.radians(rng.uniform(0, LIGHT_TILT)))
    mode = int(model.light_mode[light])
    place = {int(modes.mjCAMLIGHT_TRACK): model.light_pos0, int(modes.mjCAMLIGHT_TRACKCOM): model.light_poscom0}
    tracks = mode in place
    position = place.get(mode, model.light_pos)[light]
    direction = (model.light_dir0 if tracks else model.light_dir)[light]
    turned = tilt @ direction
    if tracks or model.light_bodyid[light] == 0:
        offset = position if tracks else position - model.stat.center
        position += max(0.0, -float(offset @ direction)) * (direction - turned)
    direction[:] = turned


def orbit_camera(model: Any, camera: int, rng: np.random.Generator) -> None:
    """Move the camera on a sphere about the point of its axis that is nearest to its subject, and change its zoom.

    With half fields of view α and α', axes θ apart and distances d and s d::

        s = r tan α (cos θ* / tan α' + sin θ*),    θ* = min(θ, α'),    r uniform in [1, 1 + RETREAT]

    r = 1 is the nearest place from which the disc that filled the picture (in the plane through that point) is
    still inside the picture's inscribed circle; θ* is where on its rim the disc touches. A camera on a moving body
    turns, but keeps its place.
    """
    import mujoco

    modes = mujoco.mjtCamLight
    yaw, elevation, roll = np.radians(rng.uniform([-YAW, 0.0, -ROLL], [YAW, ELEVATION, ROLL]))
    x, y, z = np.eye(3)
    turn = _rotation(y, yaw) @ _rotation(x, -elevation) @ _rotation(z, roll)
    before = math.radians(model.cam_fovy[camera]) / 2
    model.cam_fovy[camera] *= rng.uniform(1 - ZOOM, 1 + ZOOM)
    after = math.radians(model.cam_fovy[camera]) / 2
    tilt = min(math.acos(turn[2, 2]), after)
    nearest = math.tan(before) * (math.cos(tilt) / math.tan(after) + math.sin(tilt))
    scale = rng.uniform(1.0, 1 + RETREAT) * nearest

    axes = model.cam_mat0[camera].reshape(3, 3).copy()
    place = {int(modes.mjCAMLIGHT_TRACK): model.cam_pos0, int(modes.mjCAMLIGHT_TRACKCOM): model.cam_poscom0}
    mode = int(model.cam_mode[camera])
    position = place.get(mode, model.cam_pos)[camera]
    if mode in place or model.cam_bodyid[camera] == 0:
        offset = position if mode in place else position - model.stat.center
        distance = max(0.0, float(offset @ axes[:, 2]))
        position += distance * (scale * axes @ turn[:, 2] - axes[:, 2])
    model.cam_mat0[camera] = (axes @ turn).reshape(9)
    rotation = np.zeros(4)
    mujoco.mju_mat2Quat(rotation, turn.reshape(9))
    mujoco.mju_mulQuat(model.cam_quat[camera], model.cam_quat[camera].copy(), rotation)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """The rotation [3, 3] by `angle` radians about the unit vector `axis` [3] (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
