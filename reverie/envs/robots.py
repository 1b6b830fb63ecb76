"""What the families of robot arms share: action repeat, an episode's length, success, and pictures or states."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.camera import Camera, needs_gl
from reverie.envs.drawing import Render
from reverie.envs.env import VectorEnv
from reverie.envs.options import annotated, check_options, of_pictures
from reverie.envs.reading import PICTURE
from reverie.envs.vector import SyncVector
from reverie.errors import UserError

SEEDS = 2**31
"""Seeds of episodes, as the packages take them."""
PEOPLE = (240, 320)
"""Height and width, in pixels, of pictures for people."""


@dataclass(frozen=True)
class RobotProtocol:
    """Choices of what an agent sees of a task, and for how long.

    pixels: an RGB image [size, size, 3], else the task's state as one float32 vector. size: pixels. action_repeat:
    simulated steps per env_step, whose rewards are added. length: of an episode, in simulated steps. render:
    ``published`` draws what papers show; the others are `Render`'s.
    """

    pixels: bool
    size: int
    action_repeat: int
    length: int
    render: Render


P = TypeVar("P", bound=RobotProtocol)


class Arm(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task of a robot arm with four actions: three for the hand's motion, one for its grip.

    The end is a time limit. At it ``info["episode_info"]`` has ``success``, 1 if the task's own test was met at any
    simulated step of the episode, and ``success_last``, 1 if it was at the last. Papers report either.
    """

    render_mode = "rgb_array"

    def __init__(self, protocol: RobotProtocol, vector: int) -> None:
        size = protocol.size
        self.protocol = protocol
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = (
            spaces.Box(0, 255, (size, size, 3), np.uint8)
            if protocol.pixels
            else spaces.Box(-np.inf, np.inf, (vector,), np.float32)
        )
        self._camera = self.camera(*((size, size) if protocol.pixels else PEOPLE))
        self._steps, self._successes = 0, 0.0

    @abstractmethod
    def camera(self, height: int, width: int) -> Camera:
        """A camera that looks at the simulation."""

    @abstractmethod
    def begin(self, seed: int) -> np.ndarray:
        """Begin an episode; its state."""

    @abstractmethod
    def simulate(self, action: np.ndarray) -> tuple[np.ndarray, float, float]:
        """One simulated step: state, reward, and 1 if the task's test of success is met, else 0."""

    def picture(self) -> np.ndarray:
        """What the camera sees."""
        return self._camera.picture()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        """Begin an episode, which is a function of the seed."""
        super().reset(seed=seed)
        self._steps, self._successes = 0, 0.0
        return self._observe(self.begin(int(self.np_random.integers(SEEDS)))), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold `action` for action_repeat simulated steps, or until the episode ends."""
        total = 0.0
        for _ in range(self.protocol.action_repeat):
            state, reward, success = self.simulate(action)
            total += float(reward)
            self._steps += 1
            self._successes = max(self._successes, float(success))
            if late := self._steps >= self.protocol.length:
                break
        told = {"episode_info": {"success": self._successes, "success_last": float(success)}} if late else {}
        return self._observe(state), total, False, late, told

    def render(self) -> np.ndarray:
        """What the camera sees, in the observation's size or, where states are observed, of 240 x 320 pixels."""
        return self.picture()

    def close(self) -> None:
        """Free the rendering context."""
        self._camera.close()

    def _observe(self, state: np.ndarray) -> np.ndarray:
        return self.picture() if self.protocol.pixels else np.asarray(state, np.float32)


def settled(id: str, protocol: P, options: Mapping[str, Any], otherwise: str) -> P:
    """`protocol` with options: any field of it but ``pixels``. otherwise: a protocol without pictures.

    Raises UserError on an unknown option, a value that cannot be, or where nothing can render pixels.
    """
    check_options(id, options, {name: hint for name, hint in annotated(type(protocol)).items() if name != "pixels"})
    of_pictures(id, protocol.pixels, options)
    flags = replace(protocol, **options)
    if flags.action_repeat < 1 or flags.size < 8 or flags.length < 1:
        raise UserError(
            f"{id}: action_repeat {flags.action_repeat} and length {flags.length} must be at least 1 and size "
            f"{flags.size} at least 8"
        )
    if flags.pixels:
        needs_gl(id, f"protocol {otherwise}")
    return flags


def arms(id: str, num_envs: int, protocol: str, flags: RobotProtocol, one: Callable[[], Arm]) -> VectorEnv:
    """N arms, each made by `one`."""
    spec: dict[str, Any] = {"protocol": protocol, "flags": asdict(flags), "action_repeat": flags.action_repeat}
    return SyncVector(id, [one() for _ in range(num_envs)], PICTURE if flags.pixels else None, make=one, **spec)
