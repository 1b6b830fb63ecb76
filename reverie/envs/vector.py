"""N single Gymnasium environments stepped in this process, as one `VectorEnv` whose streams can be resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from reverie.envs import calls
from reverie.envs.adapter import Adapter
from reverie.envs.env import EnvSpec, close_all
from reverie.envs.masks import Masks
from reverie.envs.owned import claim, release
from reverie.envs.reading import Reading
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.envs.stepping import Stepping
from reverie.envs.stream import Place, Stream, Turn
from reverie.envs.streams import Streams
from reverie.envs.wrappers import Carried, carry
from reverie.errors import UserError


class SyncVector(Streams):
    """Environment of several, `envs`, stepped one after another.

    id: the name reports use. envs: N >= 1 environments with equal spaces. reading: what was said of observations whose
    spaces do not tell what they are. make: makes another of them, where one that raised may be made anew. spec: further
    fields of `EnvSpec` (action_repeat, protocol, flags, random_score, optimal_score).

    What an environment puts in ``info["episode_info"]`` (name -> number) at its last step is passed on in
    `Step.episode_info`. An environment with a true class attribute ``counts_episodes`` gets
    ``reset(options={"episode": k})``.

    Raises UserError if the spaces differ between environments or cannot be adapted.
    """

    def __init__(
        self,
        id: str,
        envs: Sequence[gymnasium.Env],
        reading: Reading | None = None,
        *,
        make: Callable[[], gymnasium.Env] | None = None,
        **spec: Any,
    ) -> None:
        if not envs:
            raise UserError(f"{id} needs at least one environment; set num_envs to 1 or more")
        first = envs[0]
        self._check_spaces(id, envs)
        calls.check_signature(id, first)
        seen, taken = ObservationAdapter(first.observation_space, reading), ActionAdapter(first.action_space)
        masks = Masks(id, seen.spaces, taken.space, reading.action_mask if reading is not None else None)
        self._adapter = Adapter(seen, taken, masks)
        self.reading = reading
        described = EnvSpec(
            id=id,
            observation=masks.extend(seen.spaces),
            action=taken.space,
            action_mask=masks.source is not None,
            **{"resume": "replay", **spec},
        )
        super().__init__(described, len(envs))
        self.render_fps = (first.metadata or {}).get("render_fps")
        self.action_names = calls.action_names(first)
        claim(self, id, envs)
        spaces = (first.observation_space, first.action_space)
        self._make = make and partial(_made_anew, id, make, spaces)
        self._streams = [Stream(id, i, env, self._adapter, Stepping(), self._make) for i, env in enumerate(envs)]

    @property
    def adapter(self) -> Adapter:
        """Adapter of a single environment's observations and actions."""
        return self._adapter

    @property
    def envs(self) -> list[gymnasium.Env]:
        """The environments."""
        return [stream.env for stream in self._streams]

    def settle(self, stepping: Stepping) -> None:
        """Say how the streams are stepped, before the first reset. Raises UserError if that cannot be."""
        if stepping.restarts and self._make is None:
            raise UserError(f"{self.spec.id} cannot be made anew: env.restarts must be 0")
        self._streams = [
            Stream(self.spec.id, stepping.first + i, env, self._adapter, stepping, self._make)
            for i, env in enumerate(self.envs)
        ]

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Have the wrappers of all environments carry that."""
        for env in self.envs:
            carry(env, carried, keep)

    def render(self) -> np.ndarray | None:
        """Picture of the first environment, if it was made with the render mode ``rgb_array``."""
        if self.envs[0].render_mode != "rgb_array":
            return None
        return calls.drawn(self.spec.id, self.envs[0].render)

    def close(self) -> None:
        """Close every environment; the error of the first that fails at that is raised when all are."""
        release(self)
        close_all(self.envs)

    def go(self, seed: int, places: Sequence[Place]) -> list[Turn]:
        """Bring every stream to its place."""
        return [stream.place(seed, place) for stream, place in zip(self._streams, places, strict=True)]

    def advance(self, action: np.ndarray) -> list[Turn]:
        """Step every stream with its row action."""
        adapter = self._adapter.action
        native: Any = adapter.batch(action)
        if isinstance(adapter.native, gymnasium.spaces.Discrete):
            native = native.tolist()
        return [stream.step(a) for stream, a in zip(self._streams, native, strict=True)]

    @staticmethod
    def _check_spaces(id: str, envs: Sequence[gymnasium.Env]) -> None:
        first = envs[0]
        for name in ("observation_space", "action_space"):
            if getattr(first, name, None) is None:
                raise UserError(f"{id} has no {name}; set self.{name} in its __init__ to a space of gymnasium")
        for env in envs[1:]:
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                raise UserError(f"{id} gives environments with different spaces; make the factory's spaces fixed")


def _made_anew(
    id: str, make: Callable[[], gymnasium.Env], expected: tuple[gymnasium.Space[Any], gymnasium.Space[Any]]
) -> gymnasium.Env:
    """Another environment, whose spaces are those of the first."""
    env = make()
    if (env.observation_space, env.action_space) != expected:
        raise UserError(f"{id} gives environments with different spaces; make the factory's spaces fixed")
    return env
