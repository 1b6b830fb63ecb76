"""The task that a preset is asked for: an environment that is made only if the preset wants to look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

from gymnasium import spaces

from reverie.config import Config, EnvConfig
from reverie.config.env import check_option_names
from reverie.envs.env import EnvSpec, shut
from reverie.envs.make import make_env, protocols
from reverie.envs.tasks import tasks_of
from reverie.errors import UserError

Preset = Callable[["Task"], Config]
"""A whole configuration for a task."""
Kind = Literal["pixels", "toy", "control", "continuous", "vectors"]
PIXELS = 36
"""Shortest side of the images, in pixels, from which on a task is of the kind ``pixels``."""
VISION = ("dmc-vision", "dmc-background")
"""Protocols of the control suite from pixels, before its own backgrounds and before films."""


class Task:
    """An environment's id with the protocol and the options that it is to have.

    id: empty where nobody named one: see `default`. protocol: ``auto`` leaves it to the preset.
    """

    def __init__(self, id: str = "", protocol: str = "auto", options: Mapping[str, Any] | None = None) -> None:
        self.id, self.protocol, self.options = id, protocol, dict(options or {})
        try:
            check_option_names(self.options)
        except ValueError as error:
            raise UserError(str(error)) from error

    def default(self, id: str) -> Task:
        """This task, or one with that id if it has none."""
        return self if self.id else Task(id, self.protocol, self.options)

    @cached_property
    def spec(self) -> EnvSpec:
        """Description of the environment. Raises UserError if it cannot be made."""
        env = make_env(self.id, protocol=self.protocol, **self.options)
        shut(env)
        return env.spec

    @cached_property
    def kind(self) -> Kind:
        """Kind of the spaces: pixels if an image has 36 of them a side, toy if all images are smaller; else vectors.

        Vectors with continuous actions are a kind of their own.
        """
        boxes = [space for space in self.spec.observation.values() if isinstance(space, spaces.Box)]
        images = [space for space in boxes if len(space.shape) == 3]
        if images:
            return "pixels" if any(min(space.shape[:2]) >= PIXELS for space in images) else "toy"
        return "continuous" if isinstance(self.spec.action, spaces.Box) else "vectors"

    @property
    def control(self) -> bool:
        """Whether images are seen and actions are continuous, whatever the kind of the images."""
        return self.kind in ("pixels", "toy") and isinstance(self.spec.action, spaces.Box)

    @property
    def domain(self) -> str:
        """What moves in a task of the control suite: ``walker`` of ``dmc/walker-run``."""
        return self.id.rpartition("/")[2].partition("-")[0]

    def has(self, protocol: str) -> bool:
        """Whether the environment has a protocol of that name."""
        return protocol in protocols(self.id)

    def env(
        self, num_envs: int, protocol: str | tuple[str, ...] = "auto", options: Mapping[str, Any] | None = None
    ) -> EnvConfig:
        """The environment for a run: with the first of the protocols that it has, and these options of it.

        num_envs: streams; of several tasks the next number that they can share equally. An environment that has none of
        the protocols comes as it likes to, without the options.
        """
        tasks = max(1, len(tasks_of(self.id)))
        num_envs = -(-num_envs // tasks) * tasks
        for name in (protocol,) if isinstance(protocol, str) else protocol:
            if name == "auto" or self.has(name):
                return EnvConfig(self.id, num_envs, name, dict(options or {}))
        return EnvConfig(self.id, num_envs)
