"""Gymnasium's own vector environments, in each of its three reset conventions, as one `VectorEnv`.

::

    NextStep   the done step returns the true last observation; the next step ignores its action and resets:
               passed on as it is, is_last rows in place
    SameStep   the done step returns the reset observation, the last one is in info["final_obs"]:
               passed on as `Step.ends`
    Disabled   the done step returns the true last observation and waits: reset here at once, passed on as `Step.ends`

Which of the three it is, its ``metadata["autoreset_mode"]`` says, or who uses it (`Conventions`): read as another, last
rows are wrong and steps are lost, and nothing would tell. Last observations are taken from ``final_obs`` or, as before
Gymnasium 1.0, ``final_observation``.

Gymnasium's Sync- and AsyncVectorEnv in Disabled mode get `episode_seed` at every reset. Other vector environments take
one seed at their first reset and go on from there, so their later episodes depend on how the earlier ones went.
Neither can be brought back in mid-episode: an interrupted episode counts as truncated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs import calls
from reverie.envs.adapter import Adapter
from reverie.envs.calls import EPISODE_INFO
from reverie.envs.env import EnvSpec, Step, VectorEnv
from reverie.envs.faults import EnvFault, faults_of
from reverie.envs.hold import Hold
from reverie.envs.masks import Masks
from reverie.envs.owned import claim, release
from reverie.envs.reading import Reading
from reverie.envs.resume import episode_seed
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.envs.stepping import Stepping
from reverie.envs.vector_faults import calling, end_workers
from reverie.envs.wrappers import check_vector
from reverie.errors import UserError, notice

Autoreset = Literal["next_step", "same_step", "disabled"]
FinalObs = Literal["given", "previous"]
SAYABLE: dict[str, Any] = {"autoreset": Autoreset, "final_obs": FinalObs}
"""The fields of `Conventions` as options of an environment."""
MODES = {"next_step": "NextStep", "same_step": "SameStep", "disabled": "Disabled"}
FINALS = ("final_obs", "final_observation")
"""Keys of ``info`` under which last observations are found."""


@dataclass(frozen=True)
class Conventions:
    """What a user says of a vector environment, where it does not say so itself.

    autoreset: when a stream is reset whose episode ended; None: as its metadata say. final_obs: ``given``, or
    ``previous`` where same-step environments do not give the last observations: episodes then close with the
    observation before.
    """

    autoreset: Autoreset | None = None
    final_obs: FinalObs = "given"


class NativeVector(VectorEnv):
    """Adapts `env`; reading, conventions: what was said of it; `spec`: further fields of `EnvSpec`.

    Raises UserError on spaces or modes that it does not know, and where nobody says what it must know.
    """

    def __init__(
        self,
        id: str,
        env: gymnasium.vector.VectorEnv,
        reading: Reading | None = None,
        conventions: Conventions | None = None,
        **spec: Any,
    ) -> None:
        check_vector(id, env)
        self.env = env
        self._conventions = conventions or Conventions()
        self.num_envs = int(env.num_envs)
        self._observation = ObservationAdapter(env.single_observation_space, reading)
        self._action = ActionAdapter(env.single_action_space)
        heed = reading.action_mask if reading is not None else None
        self._masks = Masks(id, self._observation.spaces, self._action.space, heed)
        self.spec = EnvSpec(
            id=id,
            observation=self._masks.extend(self._observation.spaces),
            action=self._action.space,
            action_mask=self._masks.source is not None,
            **spec,
        )
        self.mode = _mode(id, env, self._conventions)
        self._seeds_streams = isinstance(
            env.unwrapped, gymnasium.vector.SyncVectorEnv | gymnasium.vector.AsyncVectorEnv
        )
        self.render_fps = (env.metadata or {}).get("render_fps")
        claim(self, id, [env])
        self._hold = Hold(env.observation_space, "first")
        self._seed = self._steps = 0
        self._episode = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)
        self._seen: dict[str, np.ndarray] = {}

    @property
    def adapter(self) -> Adapter:
        """Adapter of a single environment's observations and actions."""
        return Adapter(self._observation, self._action, self._masks)

    def settle(self, stepping: Stepping) -> None:
        """Say how the streams are stepped, before the first reset. Raises UserError if that cannot be."""
        if stepping.restarts:
            raise UserError(
                f"{self.spec.id} is a vector environment, of which no single one can be made anew: env.restarts must "
                "be 0; or let its factory return one gymnasium.Env"
            )
        self._hold = Hold(self.env.observation_space, stepping.check)

    def reset(self, seed: int) -> Rows:
        """First rows of all streams, which begin anew."""
        self._seed = int(seed)
        self._episode[:] = 0
        self._ended[:] = False
        # Sync- and AsyncVectorEnv take a list of seeds, which the base class does not declare.
        first: Any = self._seeds() if self._seeds_streams else episode_seed(self._seed, 0, 0)
        self._steps = 0
        with self._calling("reset()"):
            observation, info = self.env.reset(seed=first)
        return self._rows(observation, info, is_first=np.ones(self.num_envs, bool))

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of every stream; `action` is ignored where the row before was is_last (NextStep only)."""
        self.check_action(action)
        self._steps += 1
        with self._calling("step()"):
            observation, reward, terminated, truncated, info = self.env.step(self._action.batch(action))
        # Copies: an environment may write its next step, or a reset, into the arrays that it returned.
        with faults_of(lambda: f"{self._where()}: what step() returned"):
            terminated, truncated = self._each("terminated", terminated, bool), self._each("truncated", truncated, bool)
            reward, told = self._each("the reward", reward, np.float32), info
            info = self._masks.kept(info)
        if self.mode == "NextStep":
            if (terminated | truncated).any() and any(name in info for name in FINALS):
                raise UserError(
                    f"{self.spec.id} gives last observations in info, as those do that reset in the same step, but is "
                    "read as one that resets in the next: say --env.options.autoreset same_step"
                )
            first = self._ended
            terminated, truncated = terminated & ~first, truncated & ~first  # the step that begins an episode ends none
            self._ended = terminated | truncated
            reward = np.where(first, 0.0, reward)
            said = measured(told, np.flatnonzero(self._ended))
            return Step(self._rows(observation, info, reward, first, self._ended, terminated), episode_info=said)
        last = terminated | truncated
        streams = np.flatnonzero(last)
        if not len(streams):
            return Step(self._rows(observation, info, reward))
        said = measured(told, streams)  # before a reset, which may write into it
        (before, info_before), (after, info) = self._turn(observation, info, last, streams)
        whole = self._rows(before, info_before, reward, is_last=last, is_terminal=terminated)
        ends = {name: value[streams] for name, value in whole.items()}
        rows = self._rows(after, info, np.where(last, 0.0, reward), is_first=last)
        return Step(rows, ends, streams.astype(np.int64), said)

    def _each(self, name: str, values: Any, dtype: Any) -> np.ndarray:
        """A copy of one number for each stream, [N]. Raises ValueError for another count."""
        array = np.array(values, dtype)
        if array.size != self.num_envs:
            raise ValueError(f"{name} has the shape {list(array.shape)}, expected [{self.num_envs}]")
        return array.reshape(self.num_envs)

    def render(self) -> np.ndarray | None:
        """Picture of the first stream, if the vector environment was made with the render mode ``rgb_array``."""
        if self.env.render_mode != "rgb_array":
            return None
        pictures: Any = calls.drawn(self.spec.id, lambda: self.env.render()[0])  # type: ignore[index]
        return pictures

    def close(self) -> None:
        """Close the vector environment."""
        release(self)
        if not end_workers(self.env):
            self.env.close()

    def _calling(self, name: str) -> AbstractContextManager[None]:
        return calling(self.env, lambda stream: f"{self._where(stream)}: {name}")

    def _where(self, stream: int | None = None) -> str:
        which = "" if stream is None else f"stream {stream}, "
        return f"{self.spec.id}: {which}step {self._steps} since its reset (seed {self._seed})"

    def _read(self, observation: Any) -> dict[str, np.ndarray]:
        """Observations [N, ...] as rows hold them. Raises EnvFault if they depart from their spaces."""
        wrong = self._hold.look(observation)
        for line in self._hold.said:
            notice(f"{self.spec.id}: {line}")
        self._hold.said.clear()
        if wrong:
            raise EnvFault(
                f"{self._where()} departs from its spaces: {wrong}; mend it, or its space (env.check none lets it pass)"
            )
        with faults_of(lambda: f"{self._where()}: an observation"):
            return self._observation.batch(observation)

    def _turn(
        self, observation: Any, info: dict[str, Any], last: np.ndarray, streams: np.ndarray
    ) -> tuple[tuple[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]:
        """Observations [N] and info before and after the resets of the streams that ended."""
        if self.mode == "SameStep":
            finals = self._masks.instead(info, self._masks.finals(info.get("final_info")), last)
            return (self._with_finals(observation, info, streams), finals), (observation, info)
        # Adapted first, because a reset may write into the arrays that the step returned.
        before = self._read(observation)
        self._episode += last
        seeds: Any = self._seeds() if self._seeds_streams else None
        with self._calling("reset()"):
            after, begun = self.env.reset(seed=seeds, options={"reset_mask": last})
        return (_Adapted(before), info), (after, self._masks.instead(info, begun, last))

    def _with_finals(self, observation: Any, info: dict[str, Any], streams: np.ndarray) -> _Adapted:
        """The observations, with those of `streams` replaced by the last ones of their episodes."""
        adapted = self._read(observation)
        name = next((name for name in FINALS if info.get(name) is not None), None)
        finals = None if name is None else info[name]
        each = isinstance(finals, np.ndarray) and finals.dtype == object
        there = np.asarray(info.get(f"_{name}", np.ones(self.num_envs, bool)), bool)
        # Only those of streams that ended are observations: elsewhere there may be anything.
        ended = [i for i in streams if there[i]]
        batch = self._observation.batch(_at(finals, ended)) if finals is not None and not each and ended else {}
        for i in streams:
            if finals is None or not there[i] or (each and finals[i] is None):
                last = self._previous(i)
            elif each:
                last = self._observation.one(finals[i])
            else:
                last = {key: value[ended.index(i)] for key, value in batch.items()}
            for key, value in last.items():
                adapted[key][i] = value
        return _Adapted(adapted)

    def _previous(self, i: int) -> dict[str, np.ndarray]:
        """The observation of stream i before its last one, which the environment does not give."""
        if self._conventions.final_obs == "given":
            raise UserError(
                f"{self.spec.id} resets in the step that ends an episode and does not give the last observation "
                "(info['final_obs']): say --env.options.final_obs previous, to close episodes with the one before, or "
                "--env.options.autoreset next_step if it resets in the step after"
            )
        return {key: value[i] for key, value in self._seen.items()}

    def _seeds(self) -> list[int]:
        return [episode_seed(self._seed, i, int(k)) for i, k in enumerate(self._episode)]

    def _rows(
        self,
        observation: Any,
        info: dict[str, Any],
        reward: np.ndarray | None = None,
        is_first: np.ndarray | None = None,
        is_last: np.ndarray | None = None,
        is_terminal: np.ndarray | None = None,
    ) -> Rows:
        adapted = observation if isinstance(observation, _Adapted) else self._read(observation)
        self._seen = adapted
        rows: Rows = {OBS + key: value for key, value in adapted.items()}
        rows["reward"] = np.zeros(self.num_envs, np.float32) if reward is None else np.asarray(reward, np.float32)
        for name, flag in (("is_first", is_first), ("is_last", is_last), ("is_terminal", is_terminal)):
            rows[name] = np.zeros(self.num_envs, bool) if flag is None else np.array(flag, bool)
        self._masks.put(rows, info, rows["is_last"])
        return rows


def _at(observation: Any, streams: list[int]) -> Any:
    """A batched observation of these streams alone."""
    if isinstance(observation, Mapping):
        return {key: _at(value, streams) for key, value in observation.items()}
    if isinstance(observation, tuple | list):
        return tuple(_at(value, streams) for value in observation)
    return np.asarray(observation)[streams]


def measured(info: Mapping[str, Any], streams: np.ndarray) -> dict[int, Mapping[str, float]]:
    """What a step's info says of the episodes of `streams`, which ended: the numbers in ``episode_info``, by stream.

    In the step that ended them, or among the last infos of a vector environment that has reset them already. Gymnasium
    gives arrays [N] by name, with those of the streams that said something beside them (``_name``); others give one
    dictionary for each stream.
    """
    said: dict[int, Mapping[str, float]] = {}
    finals = info if info.get("final_info") is None else info["final_info"]
    for stream in streams.tolist():
        if isinstance(finals, Mapping):
            found = _of_stream(finals.get(EPISODE_INFO), finals.get(f"_{EPISODE_INFO}"), stream)
        else:
            own = _item(finals, stream)
            found = own.get(EPISODE_INFO) if isinstance(own, Mapping) else None
        if numbers := calls.numbers(found):
            said[stream] = numbers
    return said


def _of_stream(found: Any, there: Any, stream: int) -> Any:
    """What one stream says, of what all of them do."""
    if there is not None and not _item(there, stream):
        return None
    if not isinstance(found, Mapping):
        return _item(found, stream)
    names = [name for name in found if not str(name).startswith("_")]
    return {
        name: _item(found[name], stream)
        for name in names
        if f"_{name}" not in found or _item(found[f"_{name}"], stream)
    }


def _item(values: Any, stream: int) -> Any:
    """One stream's entry of an array or a list of all; None of what is neither."""
    there = isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)
    return values[stream] if there and len(values) > stream else None


def _mode(id: str, env: gymnasium.vector.VectorEnv, conventions: Conventions) -> str:
    """NextStep, SameStep or Disabled."""
    mode: Any = conventions.autoreset or (env.metadata or {}).get("autoreset_mode")
    if mode is None:
        # Gymnasium 1.0 has no such key: its own vector environments all reset in the next step.
        if type(env.unwrapped).__module__.startswith("gymnasium."):
            return "NextStep"
        raise UserError(
            f"{id} does not say when a stream is reset whose episode ended: give it metadata['autoreset_mode'], or say "
            "--env.options.autoreset same_step (the step that ends an episode returns the first observation of the "
            "next, as before Gymnasium 1.0), next_step (the step after does), or disabled (reset is called for it)"
        )
    mode = str(getattr(mode, "value", mode))
    mode = MODES.get(mode, mode)
    if mode not in MODES.values():
        raise UserError(f"{id} has autoreset mode {mode!r}; use NextStep, SameStep or Disabled")
    return str(mode)


class _Adapted(dict[str, np.ndarray]):
    """Observations [N, ...] that have been through the adapter already."""
