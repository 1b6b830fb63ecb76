"""Rows: one step of one environment stream, complete in itself.

The time picture. Row t holds what the policy saw and then what it did; nobody downstream shifts time by hand::

    row            0          1          2     ...     n (episode ends)   |  0' (next episode)
    obs.*        o_0        o_1        o_2             o_n                |  o_0'
    prev_action    0        a_0        a_1             a_{n-1}            |    0
    reward         0        r_1        r_2             r_n                |    0      earned on the way to obs
    is_first       1          0          0             0                  |    1
    is_last        0          0          0             1                  |    0      terminal or time limit
    is_terminal    0          0          0             1 or 0             |    0      true ends only
    action       a_0        a_1        a_2             0 (never taken)    |  a_0'

The final observation of an episode is a row of its own (``is_last``). A time limit sets ``is_last`` only; a true end
sets ``is_terminal`` too. Rows are flat dictionaries: observations are named ``obs.<key>``, what the policy adds
(behaviour log-probability, Q of the action, ...) is named ``extra.<key>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

OBS = "obs."
EXTRA = "extra."
ACTION_MASK = "action_mask"
"""The observation that says which actions may be taken, where `EnvSpec.action_mask` is true."""
TASK = "task"
"""The observation that says which of several environments a row is of, where `EnvSpec.tasks` names them; for learners,
and for policies that say so (`reverie.agents.policy.Policy.by_task`)."""
FLAGS = ("is_first", "is_last", "is_terminal")

Rows = dict[str, np.ndarray]
"""Rows on the environment side: field name -> array [N, ...] (one row per stream) or [T, ...] (one stream in time)."""

State = dict[str, torch.Tensor]
"""A recurrent state: name -> tensor [B, ...]; opaque to everyone but the policy that made it."""


@dataclass(frozen=True)
class Field:
    """Shape and dtype of one field of a row, without batch or time axes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of one row of this field."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


RowSpec = dict[str, Field]


def bytes_of(spec: RowSpec) -> int:
    """Bytes of one row with these fields."""
    return sum(field.nbytes for field in spec.values())


def row_spec(
    observation: Mapping[str, spaces.Space], action: spaces.Space, extras: Mapping[str, Field] = {}
) -> RowSpec:
    """Fields of the rows that an environment with these spaces produces, in storage order.

    Discrete spaces travel as int64 indices, MultiDiscrete as int64 vectors; encoders and heads expand them.
    """
    spec: RowSpec = {OBS + key: _space_field(space) for key, space in observation.items()}
    spec["prev_action"] = spec["action"] = _space_field(action)
    spec["reward"] = Field((), np.dtype(np.float32))
    spec |= {flag: Field((), np.dtype(bool)) for flag in FLAGS}
    spec |= {EXTRA + key: field for key, field in (extras or {}).items()}
    return spec


def _space_field(space: spaces.Space) -> Field:
    if isinstance(space, spaces.Discrete):
        return Field((), np.dtype(np.int64))
    if isinstance(space, spaces.MultiDiscrete):
        return Field(tuple(space.shape), np.dtype(np.int64))
    if isinstance(space, spaces.Box):
        dtype = np.dtype(np.uint8) if space.dtype == np.uint8 else np.dtype(np.float32)
        return Field(tuple(space.shape), dtype)
    raise ValueError(
        f"unsupported space {space!r}: expected Discrete, MultiDiscrete or Box (the adapter flattens others)"
    )


T = TypeVar("T")


def observations(rows: Mapping[str, T]) -> dict[str, T]:
    """Observation fields of rows, under their own names: ``obs.image`` becomes ``image``."""
    return {name.removeprefix(OBS): value for name, value in rows.items() if name.startswith(OBS)}
