"""A dream as an environment: whatever acts in the real one can act in it, and sees rows of the same kind.

::

    start        a posterior state of real rows                       rows[i] is_first, what the model tells of it
    step(a)      state <- imagine(state, a)                           rows[i] what the model tells of the new state
    end          the model says so (is_terminal), or `Ends.length`    ends: the is_last row; rows[i]: another start

Rewards are in the environment's unit if the model's can be had back in it; otherwise they are what
`WorldModel.tell` names them, which is also what ``spec.flags["reward"]`` says.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.agents.worldmodel import WorldModel
from reverie.data.rows import OBS, Rows, State
from reverie.envs.env import EnvSpec, ResumeError, Step, VectorEnv
from reverie.errors import UserError


@dataclass(frozen=True)
class Ends:
    """Ends of episodes of a dream.

    threshold: it truly ends where the predicted probability of going on is below it; None: it ends with the probability
    of not going on, drawn. length: env_steps after which it is cut off (is_last without is_terminal), at least 1.
    """

    threshold: float | None = 0.5
    length: int = 1000

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length, the env_steps of a dream, must be at least 1, got {self.length}")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold, a probability or None, must be in [0, 1], got {self.threshold}")


class DreamEnv(VectorEnv):
    """Environment of N dreams of a world model.

    spec: of the real environment. starts: posterior states to begin from, name -> [S, ...]; episodes draw one each.
    All randomness of stream i (its starts, latents and drawn ends) is a function of the seed, i, and how often it was
    drawn from. Raises UserError if the model says nothing of observations.
    """

    def __init__(
        self, model: WorldModel, spec: EnvSpec, starts: State, num_envs: int, ends: Ends | None = None
    ) -> None:
        if not model.objective.tells:
            raise UserError(f"the model says nothing about observations of {spec.id}: nobody can play in its dreams")
        self.model, self.num_envs, self.ends = model, num_envs, ends or Ends()
        flags = {**spec.flags, "reward": model.reward.unit}
        # What the model knows as an end is one: where lives are episodes, nobody tells of games that go on.
        self.spec = replace(spec, id=f"dream of {spec.id}", flags=flags, resume="state", lives=False)
        self.starts = {name: value.to(model.device) for name, value in starts.items()}
        with torch.inference_mode():
            self._first = self._rows(model.tell(self.starts))
        self._seed: int | None = None
        self._draws = np.zeros(num_envs, np.int64)
        self._length = np.zeros(num_envs, np.int64)
        self.state: State = {}
        """of all streams, name -> [N, ...]"""

    def reset(self, seed: int) -> Rows:
        """First rows [N] of fresh episodes."""
        self._seed = int(seed)
        self._draws[:] = 0
        everyone = np.arange(self.num_envs)
        starts = self._draw_starts(everyone)
        self.state = {name: value[torch.from_numpy(starts)] for name, value in self.starts.items()}
        self._length[:] = 0
        return self._begin(starts)

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step, with those that end and begin episodes."""
        self.check_action(action)
        u = self.uniform(np.arange(self.num_envs), self.model.latent_noise + 1)
        rows, terminal = self.advance(action, u)
        self._length += 1
        last = terminal | (self._length >= self.ends.length)
        if not last.any():
            return Step(rows)
        streams = np.flatnonzero(last)
        closing = {name: value[streams] for name, value in rows.items()}
        closing["is_last"][:] = True
        closing["is_terminal"] = terminal[streams]
        starts = self._draw_starts(streams)
        stream_index, start_index = torch.from_numpy(streams), torch.from_numpy(starts)
        # Out of place: what was handed out as a state stays what it was.
        self.state = {
            name: value.index_copy(0, stream_index.to(value.device), self.starts[name][start_index.to(value.device)])
            for name, value in self.state.items()
        }
        self._length[streams] = 0
        for name, value in self._begin(starts).items():
            rows[name][streams] = value
        return Step(rows, closing, streams)

    def advance(self, action: np.ndarray, u: np.ndarray, likely: bool = False) -> tuple[Rows, np.ndarray]:
        """Rows [N] of every stream one step on, none of them begun anew, and whether they are terminal.

        u: uniform [N, latent_noise + 1], the last number of which decides drawn ends. likely: take the most likely
        latents instead of sampling them.
        """
        model = self.model
        with torch.inference_mode():
            noise = None if likely else torch.from_numpy(u[:, :-1].astype(np.float32)).to(model.device)
            encoded = model.actions.encode(torch.from_numpy(np.asarray(action)).to(model.device))
            self.state = model.imagine(self.state, encoded, noise)
            predicted = model.tell(self.state)
        limit = u[:, -1] if self.ends.threshold is None else self.ends.threshold
        return self._rows(predicted), predicted["continuation"].cpu().numpy() < limit

    def uniform(self, streams: np.ndarray, count: int) -> np.ndarray:
        """The next `count` uniform numbers of each of these streams, float64 [M, count]."""
        if self._seed is None:
            raise RuntimeError(f"{self.spec.id} was not reset")
        numbers = [np.random.default_rng([self._seed, int(i), int(self._draws[i])]).random(count) for i in streams]
        self._draws[streams] += 1
        return np.stack(numbers)

    def _draw_starts(self, streams: np.ndarray) -> np.ndarray:
        """Numbers of the starts that these streams begin from, int64 [M]."""
        count = len(next(iter(self.starts.values())))
        return (self.uniform(streams, 1)[:, 0] * count).astype(np.int64)

    def _begin(self, starts: np.ndarray) -> Rows:
        """Rows of fresh episodes from these starts."""
        rows = {name: value[starts] for name, value in self._first.items()}
        rows["is_first"][:] = True
        rows["reward"][:] = 0.0
        return rows

    def _rows(self, predicted: dict[str, Tensor]) -> Rows:
        """Predictions as the seen half of rows, amid an episode."""
        rows = {name: value.cpu().numpy() for name, value in predicted.items() if name.startswith(OBS)}
        rows["reward"] = predicted[self.model.reward.unit].cpu().numpy().copy()
        return rows | {name: np.zeros(len(rows["reward"]), bool) for name in ("is_first", "is_last", "is_terminal")}

    def state_dict(self) -> dict[str, Any]:
        """Seed, numbers drawn, lengths and states of the open episodes, and a checksum of each state."""
        if self._seed is None:
            raise RuntimeError(f"{self.spec.id} was not reset: there is nothing to save")
        state = {name: value.cpu().numpy().copy() for name, value in self.state.items()}
        return {
            "seed": self._seed,
            "drawn": self._draws.copy(),
            "length": self._length.copy(),
            "state": state,
            "checksum": _checksum(state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`. Raises ResumeError for another number of streams or damaged states."""
        if len(state["drawn"]) != self.num_envs:
            raise ResumeError(f"{self.spec.id}: {len(state['drawn'])} streams were saved, {self.num_envs} are here")
        if not np.array_equal(_checksum(state["state"]), state["checksum"]):
            raise ResumeError(f"{self.spec.id}: the saved states are not those that were saved")
        self._seed = int(state["seed"])
        self._draws, self._length = np.array(state["drawn"], np.int64), np.array(state["length"], np.int64)
        self.state = {name: torch.from_numpy(value).to(self.model.device) for name, value in state["state"].items()}


def _checksum(state: dict[str, np.ndarray]) -> np.ndarray:
    """CRC-32 of each stream's state, int64 [N]."""
    streams = range(len(next(iter(state.values()))))
    parts = [b"".join(np.ascontiguousarray(state[name][i]).tobytes() for name in sorted(state)) for i in streams]
    return np.array([zlib.crc32(part) for part in parts], np.int64)
