"""Fetch: four tasks of a robot arm that has to bring its hand or an object to a goal, from state or from pixels.

It stands in for RLBench, whose simulator cannot be installed as a package. ``fetch`` is the published task: states,
reward -1 per step until the goal is reached and 0 there, 50 env_steps. ``fetch-vision`` shows pixels of a camera in
front, on which the goal is a red dot, and pays minus the distance to the goal, as RLBench tasks do with shaped rewards.

An observation with goals is a dictionary; its state is one vector, in this order::

    observation (10 for reach, 25 for the others), achieved_goal (3), desired_goal (3)

Source: Plappert et al. 2018, "Multi-goal reinforcement learning" (arXiv 1802.09464), section 1; gymnasium-robotics,
Fetch*-v4. Differs in: papers report success at the last step alone, here ``success_last``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from typing import Any, Literal

import gymnasium
import numpy as np

from reverie.envs.camera import Camera
from reverie.envs.control import choose_gl
from reverie.envs.env import VectorEnv
from reverie.envs.robots import Arm, RobotProtocol, arms, settled
from reverie.errors import UserError, suggest

TASKS = {"reach": "FetchReach", "push": "FetchPush", "slide": "FetchSlide", "pick-and-place": "FetchPickAndPlace"}
"""Task -> its name in Gymnasium, without version."""
ORDER = ("observation", "achieved_goal", "desired_goal")
FRONT = "external_camera_0"


@dataclass(frozen=True)
class FetchProtocol(RobotProtocol):
    """Choices of what an agent sees of a task and is paid for; the others are `RobotProtocol`'s.

    reward: ``sparse``, -1 or 0 per simulated step, or ``dense``, minus the distance of what is achieved from the goal
    in metres. camera: ``front``, or ``side``, that of the package's own pictures.
    """

    reward: Literal["sparse", "dense"] = "sparse"
    camera: Literal["front", "side"] = "front"


STATES = FetchProtocol(pixels=False, size=64, action_repeat=1, length=50, render="published")
PROTOCOLS = {"fetch": STATES, "fetch-vision": replace(STATES, pixels=True, reward="dense")}


class Fetch(Arm):
    """One task; `protocol` as above."""

    def __init__(self, task: str, protocol: FetchProtocol) -> None:
        self._view = protocol.camera
        self._env = _made(task, protocol.reward)
        self._goal = self._env.model.site("target0").id
        seen = self._env.observation_space
        super().__init__(protocol, sum(seen[key].shape[0] for key in ORDER))

    def camera(self, height: int, width: int) -> Camera:
        """The model's camera in front, or one from the side."""
        view: Any = FRONT
        if self._view == "side":
            import mujoco
            from gymnasium_robotics.envs.fetch.fetch_env import DEFAULT_CAMERA_CONFIG as SIDE

            view = mujoco.MjvCamera()
            view.distance, view.azimuth, view.elevation = SIDE["distance"], SIDE["azimuth"], SIDE["elevation"]
            view.lookat[:] = SIDE["lookat"]
        return Camera(self._env.model, self._env.data, view, height, width, self.protocol.render)

    def begin(self, seed: int) -> np.ndarray:
        """Begin an episode with an object and a goal that the seed draws."""
        return _flat(self._env.reset(seed=seed)[0])

    def simulate(self, action: np.ndarray) -> tuple[np.ndarray, float, float]:
        """One simulated step, of 40 ms."""
        observation, reward, _, _, info = self._env.step(action)
        return _flat(observation), reward, float(info["is_success"])

    def picture(self) -> np.ndarray:
        """What the camera sees, with a red dot at the goal.

        The package puts it there by a call that computes the simulation's state anew; this changes the drawing alone.
        """
        self._env.data.site_xpos[self._goal] = self._env.goal
        return super().picture()

    def close(self) -> None:
        """Free the simulator and its rendering context."""
        super().close()
        self._env.close()


def _flat(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([observation[key] for key in ORDER])


def _made(task: str, reward: str) -> Any:
    """The package's environment without Gymnasium's wrappers: the time limit is ours."""
    _register()
    suffix = "Dense" if reward == "dense" else ""
    return gymnasium.make(f"{TASKS[task]}{suffix}-v4", disable_env_checker=True).unwrapped


@cache
def _register() -> None:
    """Have the package register its tasks."""
    choose_gl()
    # The package's import tells of tasks of other robots, on standard error.
    with redirect_stderr(StringIO()):
        importlib.import_module("gymnasium_robotics")


def names() -> list[str]:
    """Ids of all tasks, or none where gymnasium-robotics is not installed."""
    return sorted(f"fetch/{name}" for name in TASKS) if importlib.util.find_spec("gymnasium_robotics") else []


def protocols(id: str) -> tuple[str, ...]:
    """Protocols: from state with the published reward, the default, and from pixels with a shaped one."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a task. options: any field of `FetchProtocol` but ``pixels``.

    Raises UserError on an unknown task or option, where the package is missing, or where nothing can render pixels.
    """
    task = id.partition("/")[2]
    if task not in TASKS:
        raise UserError(f"unknown environment {id!r}{suggest(id, [f'fetch/{name}' for name in TASKS])}")
    if importlib.util.find_spec("gymnasium_robotics") is None:
        raise UserError(f"{id} needs gymnasium-robotics; install it with: pip install 'reverie-rl[fetch]'")
    flags = settled(id, PROTOCOLS[protocol], options, "fetch")
    return arms(id, num_envs, protocol, flags, lambda: Fetch(task, flags))
