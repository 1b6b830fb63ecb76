"""Recurrent states beside the rows of a replay, one before every row whose index is a multiple of the period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from reverie.data.rings import Rings
from reverie.data.rows import RowSpec, State
from reverie.data.sequences import Chunk


class StateStore:
    """Rings of states per stream; with an empty spec it keeps nothing and asks for nothing.

    A state comes from the actor and may be *refreshed* by a learner. A chunk file has each as it was when the file was
    sealed, so those that are refreshed are part of the saved state.
    """

    def __init__(self, spec: RowSpec, streams: int, slots: int, period: int, device: torch.device) -> None:
        self.spec = dict(spec)
        self.period = period
        self._slots = slots if spec else 0
        self._rings = Rings(self.spec, streams * self._slots, device)
        self._refreshed = np.zeros(streams * self._slots, bool)

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return self._rings.nbytes

    def add(self, streams: np.ndarray, indices: np.ndarray, states: Mapping[str, np.ndarray] | None) -> None:
        """Keep the states, name -> [n, ...], of those rows (streams[i], indices[i]) that are due.

        Raises ValueError if a state is due and none is given.
        """
        if not self.spec:
            return
        on_grid = indices % self.period == 0
        if on_grid.any():
            selected = {name: value[on_grid] for name, value in self._required(states).items()}
            self._write(streams[on_grid], indices[on_grid], selected)

    def check_chunk(self, chunk: Chunk) -> None:
        """Raises ValueError if a chunk has not the states of its rows that are due."""
        grid = self._grid(chunk)
        if self.spec and len(grid):
            self._rings.check(dict(self._required(chunk.states)), len(grid))

    def add_chunk(self, chunk: Chunk, first: int, stop: int) -> None:
        """Keep the states of a chunk's rows with absolute index first <= index < stop."""
        grid = self._grid(chunk)
        if self.spec:
            self._write_some(chunk, grid, (grid >= first) & (grid < stop))

    def restore(self, chunk: Chunk, first: int, stop: int) -> None:
        """Keep a chunk's states as `add_chunk` does, but for those that a learner refreshed since."""
        grid = self._grid(chunk)
        if self.spec:
            refreshed = self._refreshed[self._places(np.full(len(grid), chunk.stream), grid)]
            self._write_some(chunk, grid, (grid >= first) & (grid < stop) & ~refreshed)

    def get(self, streams: np.ndarray, indices: np.ndarray) -> State | None:
        """States before the rows (streams[i], indices[i]), name -> [n, ...] on the device; None with an empty spec."""
        if not self.spec:
            return None
        places = torch.from_numpy(self._places(streams, indices)).to(self._rings.device)
        return {name: ring.index_select(0, places) for name, ring in self._rings.data.items()}

    def read(self, streams: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """States before those rows, on the host; none with an empty spec."""
        return self._rings.read(self._places(streams, indices)) if self.spec else {}

    def refresh(self, streams: np.ndarray, indices: np.ndarray, states: State, take: np.ndarray) -> None:
        """Replace the states before rows (streams[i], indices[i]) by entry take[i] of `states`; no row twice.

        Raises ValueError if names differ from the spec's, or if an index is no multiple of the period.
        """
        if set(states) != set(self.spec):
            raise ValueError(f"refreshed states {sorted(states)} are not the stored ones {sorted(self.spec)}")
        if (indices % self.period != 0).any():
            raise ValueError(f"states are stored at multiples of the period {self.period} only")
        places = self._places(streams, indices)
        target, source = torch.from_numpy(places).to(self._rings.device), torch.from_numpy(take)
        for name, ring in self._rings.data.items():
            value = states[name].detach()
            ring.index_copy_(0, target, value.index_select(0, source.to(value.device)).to(ring.device, ring.dtype))
        self._refreshed[places] = True

    def state_dict(self) -> dict[str, Any]:
        """The refreshed states: their places int64 [n], and ``state.<name>`` [n, ...]."""
        places = np.flatnonzero(self._refreshed)
        return {"slots": places, **{f"state.{name}": value for name, value in self._rings.read(places).items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the refreshed states back; `restore` brings the others."""
        places = np.asarray(state["slots"], np.int64)
        self._rings.write(places, {name: np.asarray(state[f"state.{name}"]) for name in self.spec})
        self._refreshed[:] = False
        self._refreshed[places] = True

    def _places(self, streams: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return streams * self._slots + (indices // self.period) % self._slots

    def _grid(self, chunk: Chunk) -> np.ndarray:
        """Absolute indices of the rows that a chunk's states precede."""
        return chunk.grid(self.period)

    def _required(self, states: Mapping[str, np.ndarray] | None) -> Mapping[str, np.ndarray]:
        if not states:
            raise ValueError(f"the sequence stores states: rows need {sorted(self.spec)}, got none")
        return states

    def _write_some(self, chunk: Chunk, grid: np.ndarray, mask: np.ndarray) -> None:
        if not mask.any():
            return
        selected = {name: value[mask] for name, value in self._required(chunk.states).items()}
        self._write(np.full(int(mask.sum()), chunk.stream, np.int64), grid[mask], selected)

    def _write(self, streams: np.ndarray, indices: np.ndarray, states: dict[str, np.ndarray]) -> None:
        self._rings.check(states, len(indices))
        places = self._places(streams, indices)
        self._rings.write(places, states)
        self._refreshed[places] = False
