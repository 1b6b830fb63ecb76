"""Action masks: which actions may be taken, as Gymnasium and PettingZoo tell it, as an observation of rows.

::

    obs["action_mask"]   in the observation: taken from there
    info["action_mask"]  beside it: added to the observations, if `Reading.action_mask` says so

In rows it is ``obs.action_mask``, float32 [n] of 0 and 1, for Discrete(n); for MultiDiscrete the masks of its factors
one after the other. A closing row may have none: it is all 0 then, which nobody acts on.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK, OBS, Rows
from reverie.envs.reading import Heed
from reverie.errors import UserError

UNSAID = "{} says in info['action_mask'] which actions may be taken: say --env.options.action_mask follow, or ignore"


class Masks:
    """Masks of the environment `id`, for its adapted spaces. heed: what was said of them.

    source: where they are found; None: there are none, or they are to be ignored.
    Raises UserError for an observation of that name which fits no actions.
    """

    def __init__(
        self, id: str, observation: Mapping[str, spaces.Space], action: spaces.Space, heed: Heed | None = None
    ) -> None:
        self.id, self.heed = id, heed
        self.factors = _factors(action)
        self.size = sum(self.factors)
        self.source: Literal["obs", "info"] | None = None
        if heed == "ignore":
            return
        if ACTION_MASK in observation:
            space = observation[ACTION_MASK]
            if not (isinstance(space, spaces.Box) and space.shape == (self.size,)):
                raise UserError(
                    f"{id}: observation 'action_mask' is {space}, but the actions are {action}; rename it, or say "
                    "--env.options.action_mask ignore"
                )
            self.source = "obs"
        elif heed == "follow":
            if not self.size:
                raise UserError(f"{id}: action_mask is for Discrete and MultiDiscrete actions, not for {action}")
            self.source = "info"

    def extend(self, observation: Mapping[str, spaces.Space]) -> dict[str, spaces.Space]:
        """The observations, with the mask if it is beside them."""
        added = {ACTION_MASK: spaces.Box(0.0, 1.0, (self.size,), np.float32)} if self.source == "info" else {}
        return {**observation, **added}

    def put(self, rows: Rows, info: Mapping[str, Any], last: np.ndarray) -> None:
        """Put the masks of rows [N, ...] in place, from the info of a vector environment. last: bool [N], closing rows.

        Raises UserError where a row that is acted on has no mask, or one of zeros, or nobody said what masks are for.
        """
        found = self._asked(info)
        if self.source == "info":
            rows[OBS + ACTION_MASK] = self.batch(found, len(last), info.get(f"_{ACTION_MASK}"))
        if self.source is not None:
            self.check(rows[OBS + ACTION_MASK], last)

    def one(self, row: Rows, info: Mapping[str, Any], last: bool) -> None:
        """`put` for one row [...] of a single environment."""
        found = self._asked(info)
        if self.source == "info":
            row[OBS + ACTION_MASK] = np.zeros(self.size, np.float32) if found is None else self.flat(found)
        if self.source is not None:
            self.check(row[OBS + ACTION_MASK][None], np.array([last]))

    def instead(self, info: Mapping[str, Any], other: Mapping[str, Any], streams: np.ndarray) -> dict[str, Any]:
        """The masks of `info`, with those of `other` for some streams, bool [N]; empty where they are not followed."""
        if self.source != "info":
            return {}
        masks, others = (
            self.batch(each.get(ACTION_MASK), len(streams), each.get(f"_{ACTION_MASK}")) for each in (info, other)
        )
        return {ACTION_MASK: np.where(streams[:, None], others, masks)}

    def kept(self, info: dict[str, Any]) -> dict[str, Any]:
        """The info of a step with a copy of its masks, which the environment may write into at a reset."""
        if self.source != "info" or info.get(ACTION_MASK) is None:
            return info
        return {**info, ACTION_MASK: deepcopy(info[ACTION_MASK])}

    def finals(self, info: Any) -> Mapping[str, Any]:
        """The info of last steps as one of all streams; before Gymnasium 1.0 it is an array of one for each."""
        if info is None or isinstance(info, Mapping):
            return info or {}
        found = np.empty(len(info), object)
        for stream, one in enumerate(info):
            found[stream] = one.get(ACTION_MASK) if isinstance(one, Mapping) else None
        return {ACTION_MASK: found}

    def batch(self, found: Any, count: int, there: Any = None) -> np.ndarray:
        """Masks [count, n] of info: an array, or one of objects; zeros where there is none."""
        masks = np.zeros((count, self.size), np.float32)
        if isinstance(found, tuple):  # the factors of a MultiDiscrete, each [count, n_i]
            found = np.concatenate([np.asarray(factor) for factor in found], -1)
        for i in range(count):
            if found is not None and (there is None or there[i]) and found[i] is not None:
                masks[i] = self.flat(found[i])
        return masks

    def flat(self, mask: Any) -> np.ndarray:
        """One mask, float32 [n], of an array or of the tuple of its factors'. Raises UserError for another size."""
        parts = [np.asarray(part).reshape(-1) for part in (mask if isinstance(mask, tuple | list) else [mask])]
        flat = np.concatenate(parts) if parts else np.zeros(0)
        if flat.shape != (self.size,):
            raise UserError(f"{self.id}: info['action_mask'] has {flat.size} entries, the actions are {self.size}")
        return flat.astype(np.float32)

    def check(self, masks: np.ndarray, last: np.ndarray) -> None:
        """Raise UserError where a row that is acted on allows nothing."""
        splits = np.cumsum(self.factors)[:-1]
        for factor in np.split(masks, splits, -1):
            if (~(factor > 0.5).any(-1) & ~last).any():
                raise UserError(f"{self.id}: the action mask of a row allows no action; end the episode before that")

    def unsaid(self, info: Mapping[str, Any]) -> bool:
        """Whether there is a mask beside the observations of which nobody said whether it is to be followed."""
        there = self.source is None and self.heed is None and self.size > 0
        return there and info.get(ACTION_MASK) is not None

    def _asked(self, info: Mapping[str, Any]) -> Any:
        if self.unsaid(info):
            raise UserError(UNSAID.format(self.id))
        return info.get(ACTION_MASK)


def _factors(action: spaces.Space) -> list[int]:
    """Numbers of actions of each factor."""
    if isinstance(action, spaces.Discrete):
        return [int(action.n)]
    return [int(n) for n in action.nvec] if isinstance(action, spaces.MultiDiscrete) else []
