"""DeepMind Control tasks, from pixels (``dmc-vision``) or from state (``dmc-proprio``).

Both repeat each action twice and add the rewards. Episodes end by a time limit with discount 1 (is_last, never
is_terminal), but for tasks that say discount 0. Source: Tassa et al. 2018; image size, cameras and action repeat as in
Hafner et al. 2020, "Dream to Control", and the DreamerV2 release (``dmc_vision``, ``dmc_proprio``).
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.env import VectorEnv
from reverie.envs.options import check_options
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest


@dataclass(frozen=True)
class ControlProtocol:
    """What an agent sees of a task.

    pixels: an RGB image [size, size, 3], else the task's own dictionary of float32 vectors. size: pixels.
    action_repeat: control steps per env_step (the frames that papers count).
    camera: its number; -1 is 2 for quadrupeds and 0 for all others, as in the published wrappers.
    render: ``published`` draws what papers show; ``cheap`` leaves out shadows, reflections and multisampling, which
    on a CPU is an order of magnitude faster and another picture: say so beside any score.
    """

    pixels: bool
    size: int
    action_repeat: int
    camera: int
    render: str


VISION = ControlProtocol(pixels=True, size=64, action_repeat=2, camera=-1, render="published")
PROPRIO = ControlProtocol(pixels=False, size=64, action_repeat=2, camera=-1, render="published")
PROTOCOLS = {"dmc-vision": VISION, "dmc-proprio": PROPRIO}


class Control(gymnasium.Env[Any, np.ndarray]):
    """One task of the suite; `protocol` as above. Every episode is a function of its reset seed and actions."""

    def __init__(self, domain: str, task: str, protocol: ControlProtocol) -> None:
        suite = _suite()
        self._env = suite.load(domain, task)
        self._protocol = protocol
        quadruped = domain == "quadruped"
        self._camera = protocol.camera if protocol.camera >= 0 else (2 if quadruped else 0)
        action = self._env.action_spec()
        self.action_space = spaces.Box(
            np.asarray(action.minimum, np.float32), np.asarray(action.maximum, np.float32), action.shape, np.float32
        )
        self.observation_space: spaces.Space[Any] = (
            spaces.Box(0, 255, (protocol.size, protocol.size, 3), np.uint8) if protocol.pixels else self._vectors()
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; with a seed, the task draws its start (and its model, if it does) from that seed."""
        super().reset(seed=seed)
        # The suite seeds a task when it is loaded, which parses its model anew; this is the same generator, reseeded.
        self._env.task._random = np.random.RandomState(int(self.np_random.integers(2**32)))
        return self._observe(self._env.reset()), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold `action` (native bounds) for action_repeat control steps, or until the episode ends."""
        reward = 0.0
        for _ in range(self._protocol.action_repeat):
            seen = self._env.step(action)
            reward += float(seen.reward or 0.0)
            if seen.last():
                break
        over = bool(seen.last())
        terminal = over and seen.discount == 0.0
        return self._observe(seen), reward, terminal, over and not terminal, {}

    def close(self) -> None:
        """Free the simulator and its rendering contexts."""
        self._env.close()

    def _vectors(self) -> spaces.Space[Any]:
        specs = self._env.observation_spec()
        return spaces.Dict(
            {k: spaces.Box(-np.inf, np.inf, spec.shape or (1,), np.float32) for k, spec in specs.items()}
        )

    def _observe(self, seen: Any) -> Any:
        if self._protocol.pixels:
            return self._image()
        return {key: np.atleast_1d(np.asarray(value, np.float32)) for key, value in seen.observation.items()}

    def _image(self) -> np.ndarray:
        size, physics = self._protocol.size, self._env.physics
        if self._protocol.render == "published":
            return np.array(physics.render(size, size, camera_id=self._camera))
        # Read when the rendering context is made, at the first image of a model; later it changes nothing.
        visual = physics.model.vis
        visual.quality.shadowsize = visual.quality.offsamples = 0
        visual.global_.offwidth = visual.global_.offheight = size
        flags = {"shadow": False, "reflection": False}
        return np.array(physics.render(size, size, camera_id=self._camera, render_flag_overrides=flags))


def choose_gl() -> str | None:
    """Set MUJOCO_GL, before mujoco is imported, to a renderer that works here; returns it, or None if there is none.

    What the user set stays. Else EGL on a GPU, OSMesa on a CPU, EGL in software; with a display MuJoCo decides.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen or os.environ.get("DISPLAY"):
        return chosen or "glfw"
    egl, osmesa = ctypes.util.find_library("EGL"), ctypes.util.find_library("OSMesa")
    gpu = Path("/dev/nvidia0").exists()
    chosen = "egl" if egl and (gpu or not osmesa) else "osmesa" if osmesa else None
    if chosen:
        os.environ["MUJOCO_GL"] = chosen
    return chosen


@cache
def _tasks() -> dict[str, tuple[str, str]]:
    """Id -> (domain, task), for every task of the installed suite."""
    return {f"dmc/{domain}-{task}": (domain, task) for domain, task in _suite().ALL_TASKS}


@cache
def _suite() -> ModuleType:
    choose_gl()
    from dm_control import suite
    from dm_control.suite import quadruped

    # dm-control 1.0.28 calls numpy.in1d, which NumPy 2.4 dropped: that one module gets a numpy which has it.
    if not hasattr(np, "in1d"):
        quadruped.np = SimpleNamespace(**{**vars(np), "in1d": np.isin})
    return suite


def names() -> list[str]:
    """Every task's id, or none where dm-control is not installed."""
    return sorted(_tasks()) if importlib.util.find_spec("dm_control") else []


def protocols(id: str) -> tuple[str, ...]:
    """From pixels, the default, and from state."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a task. options: any field of `ControlProtocol` but ``pixels``.

    Raises UserError on an unknown task or option, where dm-control is missing, or where nothing can render pixels.
    """
    if importlib.util.find_spec("dm_control") is None:
        raise UserError(f"{id} needs dm-control and mujoco; install them with: pip install 'reverie-rl[dmc]'")
    gl = choose_gl()
    if id not in _tasks():
        raise UserError(f"unknown environment {id!r}{suggest(id, _tasks())}")
    check_options(id, options, [field.name for field in fields(ControlProtocol) if field.name != "pixels"])
    chosen = replace(PROTOCOLS[protocol], **options)
    if chosen.render not in ("published", "cheap") or chosen.action_repeat < 1 or chosen.size < 8:
        raise UserError(
            f"{id}: render {chosen.render!r} must be 'published' or 'cheap', action_repeat {chosen.action_repeat} at "
            f"least 1 and size {chosen.size} at least 8"
        )
    if chosen.pixels and gl is None:
        raise UserError(
            f"{id} cannot render here; install libosmesa6 (CPU) or libegl1 (GPU), or use protocol dmc-proprio"
        )
    domain, task = _tasks()[id]
    envs = [Control(domain, task, chosen) for _ in range(num_envs)]
    return SyncVector(id, envs, protocol=protocol, flags=asdict(chosen), action_repeat=chosen.action_repeat)
