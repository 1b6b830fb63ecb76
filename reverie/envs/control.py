"""DeepMind Control tasks, from pixels (``dmc-vision``, ``dmc-remastered``) or from state (``dmc-proprio``).

All repeat each action twice and add the rewards. Episodes end by a time limit with discount 1 (is_last, never
is_terminal), but for tasks that say discount 0. Source: Tassa et al. 2018; image size, cameras and action repeat as in
Hafner et al. 2020, "Dream to Control", and the DreamerV2 release (``dmc_vision``, ``dmc_proprio``). ``dmc-remastered``
gives the task a new look at every reset; see `reverie.envs.remastered`.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.drawing import Render, as_seen, drawn_size
from reverie.envs.env import VectorEnv
from reverie.envs.options import annotated, check_names, check_options, of_pictures
from reverie.envs.reading import PICTURE
from reverie.envs.remastered import FACTORS, Visuals, with_body_texture
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest


@dataclass(frozen=True)
class ControlProtocol:
    """Choices of what an agent sees of a task.

    pixels: an RGB image [size, size, 3], else the task's own dictionary of float32 vectors. size: pixels.
    action_repeat: control steps per env_step (the frames that papers count).
    camera: its number; -1 is 2 for quadrupeds and 0 for all others, as in the published wrappers.
    render: ``published`` draws what papers show; ``cheap`` leaves out shadows, reflections and multisampling, which
    on a CPU is an order of magnitude faster and another picture: say so beside any score. ``smooth`` too, and is the
    mean of a larger picture, see `Render`.
    vary: what is drawn anew at every reset, of `FACTORS`; nothing by default.
    visual_seeds: how many looks there are, `first_visual_seed` and the following; 0 for a fresh one at every reset.
    """

    pixels: bool
    size: int
    action_repeat: int
    camera: int
    render: Render
    vary: tuple[str, ...] = ()
    visual_seeds: int = 0
    first_visual_seed: int = 0


VISION = ControlProtocol(pixels=True, size=64, action_repeat=2, camera=-1, render="published")
PROPRIO = ControlProtocol(pixels=False, size=64, action_repeat=2, camera=-1, render="published")
REMASTERED = replace(VISION, vary=FACTORS)
PROTOCOLS = {"dmc-vision": VISION, "dmc-proprio": PROPRIO, "dmc-remastered": REMASTERED}
UNBOUNDED = ("lqr",)
"""Domains whose actuators have no limits, which agents that act in [-1, 1] cannot reach."""
FRESH_SEEDS = 2**31
"""Visual seeds of episodes that share none on purpose."""


class Control(gymnasium.Env[Any, np.ndarray]):
    """One task of the suite; `protocol` as above. Every episode is a function of its reset seed and actions.

    Raises UserError if the task has no such camera.

    visual_seed: of the open episode's look; None where nothing varies.
    """

    render_mode = "rgb_array"

    def __init__(self, domain: str, task: str, protocol: ControlProtocol) -> None:
        suite = _suite()
        with with_body_texture() if "body" in protocol.vary else nullcontext():
            # Some tasks (lqr) draw their model when they are loaded; it must not differ from process to process.
            self._env = suite.load(domain, task, task_kwargs={"random": 0})
        self._protocol = protocol
        self._lighten()
        cameras = int(self._env.physics.model.ncam)
        if not -1 <= protocol.camera < cameras:
            raise UserError(
                f"dmc/{domain}-{task} has {cameras} cameras; camera {protocol.camera} must be 0..{cameras - 1}, "
                "or -1 for the usual one"
            )
        quadruped = domain == "quadruped"
        self._camera = protocol.camera if protocol.camera >= 0 else (2 if quadruped else 0)
        self._visuals = Visuals(self._env.physics, protocol.vary, self._camera) if protocol.vary else None
        self.visual_seed: int | None = None
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
        if self._visuals is None:
            return self._observe(self._begin()), {}
        self._visuals.restore()
        time_step = self._begin()
        # After the task's own draw, so that the same seed gives the same episode with and without looks.
        pool = self._protocol.visual_seeds
        first = self._protocol.first_visual_seed if pool else 0
        self.visual_seed = first + int(self.np_random.integers(pool or FRESH_SEEDS))
        self._visuals.draw(self.visual_seed)
        return self._observe(time_step), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold `action` (native bounds) for action_repeat control steps, or until the episode ends."""
        reward = 0.0
        for _ in range(self._protocol.action_repeat):
            time_step = self._env.step(action)
            reward += float(time_step.reward or 0.0)
            if time_step.last():
                break
        is_last = bool(time_step.last())
        terminal = is_last and time_step.discount == 0.0
        return self._observe(time_step), reward, terminal, is_last and not terminal, {}

    def render(self) -> np.ndarray:
        """The picture that is observed, or one of 320 x 240 pixels where none is; without a renderer UserError."""
        if self._protocol.pixels:
            return self._image()
        if choose_gl() is None:
            raise UserError("nothing can render here; install libosmesa6 (CPU) or libegl1 (GPU)")
        return np.array(self._env.physics.render(240, 320, camera_id=self._camera))

    def close(self) -> None:
        """Free the simulator and its rendering contexts: the suite's own `close` leaves both to the collector.

        A rendering context can only be freed in the thread that drew.
        """
        self._env.physics.free()

    def _vectors(self) -> spaces.Space[Any]:
        specs = self._env.observation_spec()
        return spaces.Dict(
            {k: spaces.Box(-np.inf, np.inf, spec.shape or (1,), np.float32) for k, spec in specs.items()}
        )

    def _observe(self, time_step: Any) -> Any:
        if self._protocol.pixels:
            return self._image()
        return {key: np.atleast_1d(np.asarray(value, np.float32)) for key, value in time_step.observation.items()}

    def _image(self) -> np.ndarray:
        render, physics = self._protocol.render, self._env.physics
        size = drawn_size(render, self._protocol.size)
        if render == "published":
            self._upload()
            return np.array(physics.render(size, size, camera_id=self._camera))
        self._lighten()
        self._upload()
        flags = {"shadow": False, "reflection": False}
        return as_seen(
            render, np.array(physics.render(size, size, camera_id=self._camera, render_flag_overrides=flags))
        )

    def _begin(self) -> Any:
        """Have the suite begin an episode. A task that asks for a rendering context (quadruped-escape) makes none."""
        physics = self._env.physics
        kind: Any = type(physics)
        physics.__class__ = _with_the_contexts_it_has(kind)
        try:
            return self._env.reset()
        finally:
            physics.__class__ = kind

    def _lighten(self) -> None:
        """What is read when the rendering context is made, at the first image of a model; later it changes nothing."""
        protocol = self._protocol
        if protocol.render == "published":
            return
        visual = self._env.physics.model.vis
        visual.quality.shadowsize = visual.quality.offsamples = 0
        visual.global_.offwidth = visual.global_.offheight = drawn_size(protocol.render, protocol.size)

    def _upload(self) -> None:
        if self._visuals is not None:
            self._visuals.upload()


@cache
def _with_the_contexts_it_has(kind: type) -> type:
    """The same simulator, which makes no rendering contexts when it is asked for them."""
    return type(kind.__name__, (kind,), {"contexts": property(lambda it: it._contexts)})


def choose_gl() -> str | None:
    """Renderer that works here, which MUJOCO_GL is set to before mujoco is imported, or None if there is none.

    What the user set stays. Else EGL on a GPU, OSMesa on a CPU, EGL in software; with a display MuJoCo decides.
    """
    backend = os.environ.get("MUJOCO_GL")
    if backend or os.environ.get("DISPLAY"):
        return backend or "glfw"
    egl, osmesa = ctypes.util.find_library("EGL"), ctypes.util.find_library("OSMesa")
    gpu = Path("/dev/nvidia0").exists()
    backend = "egl" if egl and (gpu or not osmesa) else "osmesa" if osmesa else None
    if backend:
        os.environ["MUJOCO_GL"] = backend
    return backend


@cache
def tasks() -> dict[str, tuple[str, str]]:
    """Domain and task by ``<domain>-<task>``, for every task of the installed suite whose actions have bounds."""
    return {f"{domain}-{task}": (domain, task) for domain, task in _suite().ALL_TASKS if domain not in UNBOUNDED}


@cache
def _suite() -> ModuleType:
    choose_gl()
    from dm_control import suite
    from dm_control.suite import quadruped

    # dm-control 1.0.28 calls numpy.in1d, which NumPy 2.4 dropped: that one module gets a numpy which has it.
    if not hasattr(np, "in1d"):
        quadruped.np = SimpleNamespace(**{**vars(np), "in1d": np.isin})
    return suite


def names(family: str = "dmc") -> list[str]:
    """Ids of all tasks in a family, or none where dm-control is not installed."""
    return sorted(f"{family}/{name}" for name in tasks()) if importlib.util.find_spec("dm_control") else []


def protocols(id: str) -> tuple[str, ...]:
    """Protocols: from pixels, the default, from state, and from pixels that vary."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a task. options: any field of `ControlProtocol` but ``pixels``.

    Raises UserError on an unknown task or option, where dm-control is missing, or where nothing can render pixels.
    """
    flags, one = settled(id, PROTOCOLS[protocol], options, but=("pixels",))
    spec: dict[str, Any] = {"protocol": protocol, "flags": asdict(flags), "action_repeat": flags.action_repeat}
    return SyncVector(id, [one() for _ in range(num_envs)], PICTURE if flags.pixels else None, make=one, **spec)


P = TypeVar("P", bound=ControlProtocol)


def settled(
    id: str, protocol: P, options: Mapping[str, Any], but: Sequence[str]
) -> tuple[P, Callable[[], gymnasium.Env]]:
    """A protocol of a family whose ids end in ``/<domain>-<task>``, with options, and a maker of its environments.

    but: fields that are no options. Raises UserError as `make` does.
    """
    if importlib.util.find_spec("dm_control") is None:
        raise UserError(f"{id} needs dm-control and mujoco; install them with: pip install 'reverie-rl[dmc]'")
    gl = choose_gl()
    family, _, name = id.partition("/")
    if name.startswith(UNBOUNDED):
        raise UserError(f"{id}: its actuators have no limits, and agents here act within limits")
    if name not in tasks():
        raise UserError(f"unknown environment {id!r}{suggest(id, names(family))}")
    check_options(id, options, {k: v for k, v in annotated(type(protocol)).items() if k not in but})
    of_pictures(id, protocol.pixels, options)
    flags = _varied(id, replace(protocol, **options))
    if flags.action_repeat < 1 or flags.size < 8:
        raise UserError(
            f"{id}: action_repeat {flags.action_repeat} must be at least 1 and size {flags.size} at least 8"
        )
    if flags.pixels and gl is None:
        raise UserError(
            f"{id} cannot render here; install libosmesa6 (CPU) or libegl1 (GPU), or use dmc/{name} with protocol "
            "dmc-proprio"
        )
    return flags, lambda: Control(*tasks()[name], flags)


def _varied(id: str, protocol: P) -> P:
    """`protocol` with the factors that vary in their own order, whatever list names them; checked."""
    check_names(id, "factor", protocol.vary, FACTORS)
    if protocol.vary and not protocol.pixels:
        raise UserError(f"{id}: vary {list(protocol.vary)} changes pictures only; use protocol dmc-remastered")
    if protocol.visual_seeds < 0 or protocol.first_visual_seed < 0:
        raise UserError(
            f"{id}: visual_seeds {protocol.visual_seeds} and first_visual_seed {protocol.first_visual_seed} must be at "
            "least 0"
        )
    if (protocol.visual_seeds or protocol.first_visual_seed) and not protocol.vary:
        raise UserError(
            f"{id}: visual_seeds {protocol.visual_seeds} and first_visual_seed {protocol.first_visual_seed} say how "
            "looks vary, and nothing does: say with vary what, or use protocol dmc-remastered"
        )
    if protocol.first_visual_seed and not protocol.visual_seeds:
        raise UserError(f"{id}: first_visual_seed {protocol.first_visual_seed} needs visual_seeds, how many there are")
    return replace(protocol, vary=tuple(factor for factor in FACTORS if factor in protocol.vary))
