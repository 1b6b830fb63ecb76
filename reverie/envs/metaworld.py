"""Meta-world (version 3): fifty tasks of a robot arm, from pixels or from state.

``metaworld`` is HarmonyDream's protocol: pixels of the camera ``corner``, an env_step per action, 500 of them, object
and goal drawn anew at every reset, and an episode that succeeds if any of its steps does. ``metaworld-state`` is the
same from state, ``metaworld-tdmpc2`` TD-MPC2's: from state, every action twice, 100 env_steps, and success is that of
the last one. Source: Yu et al. 2020, arXiv 1910.10897; Ma et al. 2024 (HarmonyDream), appendix, and Hansen et al. 2024
(TD-MPC2), appendix, as released.

Differs from both in: theirs is version 2, whose simulator and models are others; scores are not comparable. Pictures:
the simulator that they used gave the rows of a picture from the bottom up, and they were left so; the cameras are
turned to suit that. Ours are turned likewise (`flip`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from reverie.envs.camera import Camera
from reverie.envs.control import choose_gl
from reverie.envs.env import VectorEnv
from reverie.envs.robots import Arm, RobotProtocol, arms, settled
from reverie.errors import UserError, suggest

View = Literal["corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"]
CORNER2 = (0.75, 0.075, 0.7)
"""Where published experiments put the camera ``corner2``, so that it is nearer."""
STATE = 39
"""Numbers of a state: hand, grip and objects now, the same a step before, and the goal."""
SUFFIX = "-v3-goal-observable"


@dataclass(frozen=True)
class MetaworldProtocol(RobotProtocol):
    """Choices of what an agent sees of a task; the others are `RobotProtocol`'s.

    camera: by its name; ``corner2`` is moved to `CORNER2`. flip: rows of a picture are given from the bottom up.
    goals: ``random`` draws the places of object and goal at every reset, ``fixed`` once for all.
    settle: simulated steps without motion before an episode's first action, whose observation is not seen.
    """

    camera: View = "corner"
    flip: bool = True
    goals: Literal["random", "fixed"] = "random"
    settle: int = 0


VISION = MetaworldProtocol(pixels=True, size=64, action_repeat=1, length=500, render="published")
STATES = replace(VISION, pixels=False)
PROTOCOLS = {
    "metaworld": VISION,
    "metaworld-state": STATES,
    "metaworld-tdmpc2": replace(STATES, action_repeat=2, length=200, settle=1),
}


class Metaworld(Arm):
    """One task; `protocol` as above. Rewards are in [0, 10] per simulated step."""

    def __init__(self, task: str, protocol: MetaworldProtocol) -> None:
        self._protocol = protocol
        self._env = _tasks()[task](seed=0)
        # Its places are drawn from a generator of its own, and not from NumPy's, which everybody shares.
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self._env.max_path_length = protocol.settle + protocol.length
        if protocol.camera == "corner2":
            self._env.model.camera("corner2").pos[:] = CORNER2
        super().__init__(protocol, STATE)

    def camera(self, height: int, width: int) -> Camera:
        """The camera of that name."""
        return Camera(self._env.model, self._env.data, self._protocol.camera, height, width, self._protocol.render)

    def begin(self, seed: int) -> np.ndarray:
        """Begin an episode at places that the seed draws."""
        self._env.seed(seed if self._protocol.goals == "random" else 0)
        state, _ = self._env.reset()
        for _ in range(self._protocol.settle):
            self._env.step(np.zeros(4, np.float32))
        return state

    def simulate(self, action: np.ndarray) -> tuple[np.ndarray, float, float]:
        """One simulated step, of 12.5 ms."""
        state, reward, _, _, info = self._env.step(action)
        return state, reward, float(info["success"])

    def picture(self) -> np.ndarray:
        """What the camera sees, its rows as the protocol says."""
        picture = super().picture()
        return picture[::-1].copy() if self._protocol.flip else picture

    def close(self) -> None:
        """Free the simulator and its rendering context."""
        super().close()
        self._env.close()


@cache
def _tasks() -> Mapping[str, Any]:
    """Task -> class of its environment, whose states tell the goal."""
    choose_gl()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ALL

    return {name.removesuffix(SUFFIX): task for name, task in ALL.items()}


def names() -> list[str]:
    """Ids of all tasks, or none where metaworld is not installed."""
    return sorted(f"metaworld/{name}" for name in _tasks()) if importlib.util.find_spec("metaworld") else []


def protocols(id: str) -> tuple[str, ...]:
    """Protocols: HarmonyDream's from pixels, the default, the same from state, and TD-MPC2's."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a task. options: any field of `MetaworldProtocol` but ``pixels``.

    Raises UserError on an unknown task or option, where metaworld is missing, or where nothing can render pixels.
    """
    if importlib.util.find_spec("metaworld") is None:
        raise UserError(f"{id} needs metaworld and mujoco; install them with: pip install 'reverie-rl[metaworld]'")
    task = id.partition("/")[2]
    if task not in _tasks():
        raise UserError(f"unknown environment {id!r}{suggest(id, names())}")
    flags = settled(id, PROTOCOLS[protocol], options, "metaworld-state")
    if flags.settle < 0:
        raise UserError(f"{id}: settle {flags.settle} must be at least 0")
    return arms(id, num_envs, protocol, flags, lambda: Metaworld(task, flags))
