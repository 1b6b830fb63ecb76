"""Adapter: between what an environment's own steps give and take, and rows.

::

    environment   observation [...] or [B, ...], nested, in its own dtypes  --observe-->  obs.* [B, ...]
                  action [...] or [B, ...], within its own bounds           <--act-----   action [B, ...]

A `VectorEnv` uses it on its way; whoever plays with a loaded policy outside of one needs it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK
from reverie.envs.masks import Masks
from reverie.envs.spaces import ActionAdapter, ObservationAdapter, Part, at
from reverie.errors import UserError


@dataclass(frozen=True)
class Adapter:
    """Adapter of an environment. masks: of its actions. hidden: entries of vectors that are always 0, by key."""

    observation: ObservationAdapter
    action: ActionAdapter
    masks: Masks | None = None
    hidden: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def observe(
        self, observation: Any, batch: int, info: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], bool]:
        """Observations as rows have them, key -> [batch, ...], and whether there was no leading axis.

        observation: of one stream or, with a leading axis, of `batch` streams, as the environment gives it; where it is
        one array, also key -> array. info: beside it, for action masks that are there.
        Raises UserError if something is missing or does not fit the environment's space.
        """
        parts = self.observation.parts
        values = [self._checked(part, _part(observation, part), batch) for part in parts]
        alone = [batch == 1 and value.shape == part.own.shape for part, value in zip(parts, values, strict=True)]
        if any(alone) != all(alone):
            named = {part.key: value.shape for part, value in zip(parts, values, strict=True)}
            raise UserError(f"some observations have a leading axis and some have none: {named}")
        seen = {
            part.key: part.convert(value[None] if alone[0] else value)
            for part, value in zip(parts, values, strict=True)
        }
        for key, entries in self.hidden.items():
            seen[key][:, list(entries)] = 0
        if self.masks is not None and self.masks.source == "info":
            found = (info or {}).get(ACTION_MASK)
            if found is None:
                raise UserError(f"{self.masks.id}: info['action_mask'] is missing; pass info=info as well")
            seen[ACTION_MASK] = self.masks.flat(found)[None] if alone[0] else self.masks.batch(found, batch)
        return seen, alone[0]

    def act(self, action: np.ndarray, alone: bool) -> Any:
        """Actions as the environment takes them, of row actions [B, ...]; of one without leading axis if `alone`."""
        return self.action.one(action[0]) if alone else self.action.batch(action)

    def _checked(self, part: Part, value: np.ndarray, batch: int) -> np.ndarray:
        """The array in its own dtype."""
        shape = tuple(part.own.shape or ())
        if value.shape != (batch, *shape) and not (batch == 1 and value.shape == shape):
            raise UserError(f"observation {part.key!r} has shape {value.shape}, expected {(batch, *shape)}")
        dtype = part.own.dtype
        if dtype is None or value.dtype == dtype:
            return value
        if value.dtype.kind not in "biuf":
            raise UserError(f"observation {part.key!r} has dtype {value.dtype}, its space declares {dtype}")
        cast = value.astype(dtype)
        if dtype.kind != "f" and not np.array_equal(cast, value):
            raise UserError(
                f"observation {part.key!r} is {value.dtype} with values from {np.min(value):g} to {np.max(value):g}, "
                f"its space declares {dtype}"
            )
        return cast


def of_rows(observation: Mapping[str, spaces.Space], action: spaces.Space) -> Adapter:
    """The adapter of an environment that gives rows itself: a dictionary of its observations, or one alone."""
    return Adapter(ObservationAdapter.of_rows(observation), ActionAdapter(action))


def _part(observation: Any, part: Part) -> np.ndarray:
    """The array of one part."""
    named = not part.path and isinstance(observation, Mapping)
    return np.asarray(at(observation, (part.key,) if named else part.path, part.key))
