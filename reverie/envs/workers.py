"""Streams of single environments stepped in processes, for environments that are slow; the same rows as in one process.

Gymnasium's `AsyncVectorEnv` carries them: its environments are `Group`s, each a part of the streams in a process of its
own, and what one of its steps moves through shared memory is the rows of a group::

    here   Streams (books)  --actions [W, k, ...]-->  AsyncVectorEnv  ==pipe==>  Group 0   SyncVector, streams 0 .. k-1
                            <--rows, ends [W, k, ..]                  <=memory=  Group 1   SyncVector, streams k .. 2k-1

The books stay here, so that a state is saved and brought back as without processes, by either, and is there also when a
process is gone.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv

from reverie.data.rows import Rows, RowSpec, row_spec
from reverie.envs.adapter import Adapter
from reverie.envs.env import VectorEnv, shut
from reverie.envs.faults import RAISED, EnvFault, fault
from reverie.envs.stepping import Stepping
from reverie.envs.stream import Place, Turn
from reverie.envs.streams import Streams
from reverie.envs.vector import SyncVector
from reverie.envs.vector_faults import GONE, calling, end_workers
from reverie.envs.wrappers import Carried
from reverie.errors import UserError

CONTEXT = "forkserver"
"""How processes begin: from a server that was started aside, not as copies of this one with its threads and its GPU."""
Open = Callable[..., VectorEnv]
"""`reverie.envs.make.make_env` for some environment: takes ``num_envs`` and ``stepping``; it can be pickled."""


def open_workers(id: str, open: Open, num_envs: int, stepping: Stepping) -> WorkerVector:
    """`num_envs` streams in ``stepping.workers`` processes.

    One environment is made here for its spaces, and closed. Raises UserError if the source is not made of single
    environments, or if the streams cannot be shared out evenly.
    """
    workers = stepping.workers
    if num_envs % workers:
        raise UserError(
            f"{num_envs} streams of {id} cannot be shared out evenly among {workers} processes; set env.num_envs to a "
            "multiple of env.workers"
        )
    probe = open(num_envs=1, stepping=replace(stepping, workers=0))
    shut(probe)
    if not isinstance(probe, SyncVector):
        raise UserError(
            f"{id} steps its streams itself: env.workers must be 0 (Atari's emulators have --env.options.threads; the "
            "factory of a vector environment may use gymnasium.vector.AsyncVectorEnv)"
        )
    return WorkerVector(probe, open, num_envs, stepping)


class WorkerVector(Streams):
    """Streams of the environments that `open` makes, in processes; described by `probe`, one such environment."""

    def __init__(self, probe: SyncVector, open: Open, num_envs: int, stepping: Stepping) -> None:
        super().__init__(probe.spec, num_envs)
        self._adapter, self._stepping = probe.adapter, stepping
        self.render_fps, self.action_names = probe.render_fps, probe.action_names
        self._each = num_envs // stepping.workers
        fields = row_spec(probe.spec.observation, probe.spec.action)
        self._action = fields["action"].shape
        self._fields = {name: field for name, field in fields.items() if name not in ("action", "prev_action")}
        self._fns = [
            partial(Group, open, w * self._each, self._each, stepping, self._fields, self._action)
            for w in range(stepping.workers)
        ]
        self._env = self._start()

    @property
    def adapter(self) -> Adapter:
        """Adapter of a single environment's observations and actions."""
        return self._adapter

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Have the wrappers of all environments carry that."""
        with calling(self._env, lambda worker: self._where(worker, "adopt")):
            self._env.call("adopt", carried, keep)

    def close(self) -> None:
        """Close the environments and end the processes."""
        if not end_workers(self._env):
            self._env.close()

    def _start(self) -> AsyncVectorEnv:
        if CONTEXT == "forkserver":
            multiprocessing.set_forkserver_preload(["reverie.envs.make"])
        try:
            return AsyncVectorEnv(self._fns, context=CONTEXT)
        except (*GONE, RuntimeError) as error:
            raise UserError(
                f"{self.spec.id}: its worker processes could not begin ({type(error).__name__}); a script that asks "
                'for env.workers must do so below if __name__ == "__main__":, and cannot be read from a pipe'
            ) from error

    def go(self, seed: int, places: Sequence[Place]) -> list[Turn]:
        """Bring every stream to its place."""
        with calling(self._env, lambda worker: self._where(worker, "reset")):
            seen, info = self._env.reset(seed=[seed] * len(self._fns), options={"places": list(places)})
        return self._turns(seen, info)

    def advance(self, action: np.ndarray) -> list[Turn]:
        """Step every stream with its row action."""
        try:
            with calling(self._env, lambda worker: self._where(worker, "step")):
                seen, _, _, _, info = self._env.step(action.reshape(len(self._fns), self._each, *self._action))
        except EnvFault as error:
            if not isinstance(error.__cause__, GONE):
                raise
            return self._start_anew(error)
        return self._turns(seen, info)

    def _where(self, worker: int | None, doing: str) -> str:
        if worker is None:
            return f"{self.spec.id}: {doing}"
        first = worker * self._each
        return f"{self.spec.id}: worker {worker} (streams {first} to {first + self._each - 1}), {doing}"

    def _turns(self, seen: dict[str, np.ndarray], info: dict[str, Any]) -> list[Turn]:
        """What the groups say, stream by stream."""
        reports: list[Any] = [None] * self.num_envs
        if "report" in info:
            told = [each for each in info["report"] if each is not None]
            if errors := [each for each in told if isinstance(each, Exception)]:
                raise errors[0]
            for first, group in told:
                reports[first : first + self._each] = group
        # [W, k, ...] -> [N, ...]; they are this step's own copy.
        flat = {name: value.reshape(self.num_envs, *value.shape[2:]) for name, value in seen.items()}
        turns = []
        for i in range(self.num_envs):
            row: Rows = {name: _as(flat[f"row {name}"][i], field.dtype) for name, field in self._fields.items()}
            end: Rows | None = None
            if flat["ended"][i]:
                end = {name: _as(flat[f"end {name}"][i], field.dtype) for name, field in self._fields.items()}
            rest = reports[i] or {"restarts": int(self._restarts[i])}
            turns.append(Turn(row, end, **rest))
        return turns

    def _start_anew(self, error: EnvFault) -> list[Turn]:
        """Begin other episodes in new processes. Raises `error` where that may not be done again."""
        dead = [w for w, process in enumerate(self._env.processes) if not process.is_alive()]
        restarts = self._restarts.copy()
        for w in dead or range(len(self._env.processes)):  # one that does not answer may still be there
            restarts[w * self._each : (w + 1) * self._each] += 1
        if (restarts > self._stepping.restarts).any():
            raise error
        end_workers(self._env)
        self._env = self._start()
        assert self._seed is not None
        turns = self.go(
            self._seed,
            [
                Place(int(k) + 1, (), int(n), told)
                for k, n, told in zip(self._episode, restarts, self._carried, strict=True)
            ],
        )
        said = f"{error}; all streams begin other episodes in new processes"
        return [replace(turn, lost=True, restarts=int(restarts[i]), said=(said,)) for i, turn in enumerate(turns)]


@dataclass
class Group(gymnasium.Env[Any, Any]):
    """Streams first .. first + each - 1 of a source, as what `AsyncVectorEnv` takes for one environment.

    Its environments are made at the first reset, which is in the worker: the shell alone is made where `WorkerVector`
    is. What an environment raises is in the report, because Gymnasium would hand on no more than its message.
    """

    open: Open
    first: int
    each: int
    stepping: Stepping
    fields: RowSpec
    action: tuple[int, ...]

    def __post_init__(self) -> None:
        box = {name: _box((self.each, *field.shape), field.dtype) for name, field in self.fields.items()}
        rows = {f"row {name}": space for name, space in box.items()} | {f"end {name}": s for name, s in box.items()}
        self.observation_space = spaces.Dict({**rows, "ended": _box((self.each,), np.dtype(bool))})
        self.action_space = spaces.Box(-np.inf, np.inf, (self.each, *self.action), np.float64)
        self._seen: dict[str, np.ndarray] = self.observation_space.sample()
        self._source: SyncVector | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Bring the streams to their ``places``."""
        assert options is not None
        assert seed is not None
        places = options["places"][self.first : self.first + self.each]
        return self._tell(lambda: self._opened().go(seed, places))

    def step(self, action: Any) -> Any:
        """Step every stream with its row action."""
        seen, info = self._tell(lambda: self._opened().advance(action))
        return seen, 0.0, False, False, info

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Have the wrappers of all environments carry that."""
        self._opened().adopt(carried, keep)

    def close(self) -> None:
        """Close the environments."""
        if self._source is not None:
            shut(self._source)

    def _opened(self) -> SyncVector:
        if self._source is None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the run decides
            torch.set_flush_denormal(True)  # as in the process of the run, whose rows these are to be
            stepping = replace(self.stepping, workers=0, first=self.first)
            source = self.open(num_envs=self.each, stepping=stepping)
            assert isinstance(source, SyncVector)
            self._source = source
        return self._source

    def _tell(self, move: Callable[[], list[Turn]]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        try:
            turns = move()
        except RAISED as error:
            known = isinstance(error, UserError | RuntimeError)
            told = error if known else fault(f"a worker (streams from {self.first} on)", error)
            return self._seen, {"report": told}
        for j, turn in enumerate(turns):
            self._seen["ended"][j] = turn.end is not None
            for kind, row in (("row", turn.row), ("end", turn.end)):
                for name, value in (row or {}).items():
                    self._seen[f"{kind} {name}"][j] = value
        if not any(turn.info or turn.lost or turn.restarts or turn.said or _more(turn) for turn in turns):
            return self._seen, {}
        said = ("info", "lost", "restarts", "said", "earned", "carried")
        report = [{name: getattr(turn, name) for name in said} for turn in turns]
        return self._seen, {"report": (self.first, report)}


def _more(turn: Turn) -> bool:
    """Whether wrappers have something to tell."""
    return turn.earned is not None or turn.carried is not None


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> spaces.Box:
    """Space of an array in shared memory, where a flag is a byte."""
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    low, high = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(low, high, shape, dtype.type)


def _as(value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    return np.asarray(value, dtype)
