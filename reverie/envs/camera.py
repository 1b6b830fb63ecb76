"""Pictures of a MuJoCo simulation, for families whose packages bring no renderer that can be relied on.

OpenGL draws in the context that is current in its thread. All cameras draw in one thread of their own, each with a
context of its own, which it makes current every time: dm_control remembers which context it left current in the other
threads, and would draw in ours.
"""

from __future__ import annotations

import atexit
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from reverie.envs.control import choose_gl
from reverie.envs.drawing import Render, as_seen, drawn_size
from reverie.errors import UserError

T = TypeVar("T")


class Camera:
    """A camera that looks at one simulation. Its context is made at the first picture.

    model, data: mujoco.MjModel and mujoco.MjData. view: name of a camera of the model, or a mujoco.MjvCamera.
    height, width: of the picture. render: how it is drawn, see `Render`.
    """

    def __init__(self, model: Any, data: Any, view: Any, height: int, width: int, render: Render) -> None:
        self._model, self._data, self._view = model, data, view
        self._size, self._render = (drawn_size(render, height), drawn_size(render, width)), render
        self._gl: Any = None

    def picture(self) -> np.ndarray:
        """What is to be seen now: uint8 [height, width, 3]. Drawing changes nothing that is simulated."""
        return _thread()(self._draw)

    def close(self) -> None:
        """Free the context."""
        if self._gl is not None:
            _thread()(self._free)

    def __del__(self) -> None:
        # MuJoCo would free it in this thread, and leave this thread without the context that it had.
        if getattr(self, "_gl", None) is not None and not sys.is_finalizing():
            self.close()

    def _open(self) -> None:
        import mujoco

        visual, (height, width) = self._model.vis, self._size
        if self._render != "published":
            # Read when the context is made; later they change nothing.
            visual.quality.shadowsize = visual.quality.offsamples = 0
        visual.global_.offwidth, visual.global_.offheight = width, height
        backend = (choose_gl() or "").lower()
        # MuJoCo chooses when it is imported, which may have been before anybody asked what works here.
        own = importlib.import_module(f"mujoco.{backend}") if backend in ("egl", "osmesa") else mujoco
        gl = own.GLContext(width, height)
        gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene, self._option = mujoco.MjvScene(self._model, maxgeom=10_000), mujoco.MjvOption()
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        if isinstance(self._view, str):
            number, self._view = self._model.camera(self._view).id, mujoco.MjvCamera()
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
        if self._render != "published":
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._scene.flags[flag] = False
        self._gl = gl
        _OPEN.add(self)
        _free_at_exit()

    def _draw(self) -> np.ndarray:
        import mujoco

        if self._gl is None:
            self._open()
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        rows = np.empty((*self._size, 3), np.uint8)
        mujoco.mjr_readPixels(rows, None, self._rectangle, self._context)
        return as_seen(self._render, rows[::-1].copy())  # OpenGL's first row is the lowest

    def _free(self) -> None:
        gl, self._gl = self._gl, None
        _OPEN.discard(self)
        gl.make_current()
        self._context.free()  # first, or what is in it would be freed in another one
        gl.free()


_OPEN: WeakSet[Camera] = WeakSet()
"""Cameras whose contexts are not freed yet."""


class _Thread:
    """A thread that makes calls one after another. It lives until the process has run all that runs at its exit."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="cameras", daemon=True)
        self._thread.start()

    def __call__(self, call: Callable[[], T]) -> T:
        """What the call returns, or raises."""
        if current_thread() is self._thread:  # a camera was collected while another one drew
            return call()
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future.result()

    def _serve(self) -> None:
        while True:
            future, call = self._calls.get()
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call  # or they would be kept until the next one


@cache
def _thread() -> _Thread:
    return _Thread()


@cache
def _free_at_exit() -> None:
    """Have what is left freed before MuJoCo closes the display, for whose opening it had itself called at the exit."""
    atexit.register(_free_all)


def _free_all() -> None:
    for camera in list(_OPEN):
        camera.close()


def needs_gl(id: str, otherwise: str) -> None:
    """Raise UserError where nothing can render. otherwise: what to use instead, in words."""
    if choose_gl() is None:
        raise UserError(f"{id} cannot render here; install libosmesa6 (CPU) or libegl1 (GPU), or use {otherwise}")
