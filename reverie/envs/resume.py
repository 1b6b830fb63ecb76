"""Seeds of episodes and the record from which an interrupted episode is simulated again.

An episode is a function of its seed and its actions. So the state of an environment that offers no state of its own
is short: which episode, which seed, which actions so far, and a checksum of the last row to prove the return.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from reverie.errors import UserError


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """Seed of one episode, in [0, 2^31): the first word of ``SeedSequence(seed, spawn_key=(stream, episode))``, halved.

    stream, episode: counted from 0. Neighbouring seeds, streams and episodes give unrelated seeds, and a run can be
    entered at any episode without playing those before it. 31 bits: the emulators take a signed 32-bit seed.
    """
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be at least 0")
    return int(np.random.SeedSequence(seed, spawn_key=(stream, episode)).generate_state(1, np.uint32)[0] >> 1)


def compact_dtype(space: spaces.Space) -> np.dtype:
    """The smallest dtype that holds row actions of `space` exactly: uint8 for up to 256 choices, float32 for a Box."""
    if isinstance(space, spaces.Discrete):
        return np.min_scalar_type(int(space.n) - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return np.min_scalar_type(int(np.max(space.nvec)) - 1)
    return np.dtype(np.float32)


def row_checksum(row: Mapping[str, np.ndarray]) -> int:
    """CRC-32 over the bytes of a row's observations and reward, in the order of their names."""
    crc = 0
    for name in sorted(row):
        if name.startswith("obs.") or name == "reward":
            crc = zlib.crc32(np.ascontiguousarray(row[name]).tobytes(), crc)
    return crc


class ActionLog:
    """The actions of one open episode, appended one by one; `space` is the row action space."""

    def __init__(self, space: spaces.Space) -> None:
        self._data = np.zeros((64, *(space.shape or ())), compact_dtype(space))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def dtype(self) -> np.dtype:
        """Dtype that actions are recorded in."""
        return self._data.dtype

    def clear(self) -> None:
        """Begin a new episode."""
        self._size = 0

    def append(self, action: np.ndarray) -> None:
        """Record one action [...]."""
        if self._size == len(self._data):
            self._data = np.concatenate([self._data, np.zeros_like(self._data)])
        self._data[self._size] = action
        self._size += 1

    def actions(self) -> np.ndarray:
        """Copy of the recorded actions, [L, ...]."""
        return self._data[: self._size].copy()
