"""Families of Gymnasium environments that other packages bring: what registers them, and what their spaces do not say.

Gymnasium knows an id only once its package was imported; the package of an id of a known family is imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium

from reverie.envs.reading import Said
from reverie.errors import UserError


@dataclass(frozen=True)
class Family:
    """A published family. package: its name on PyPI. module: what is imported; register: a function of it, if needed.

    says: observations whose spaces leave open what they are, by key (empty: the only one).
    mask: whether info["action_mask"] is documented as the actions that do something.
    wrapper: what is put around its environments.
    """

    package: str = ""
    module: str = ""
    register: str = ""
    says: Mapping[str, Said] = field(default_factory=dict)
    mask: bool = False
    wrapper: Callable[[gymnasium.Env], gymnasium.Env] | None = None


class Afresh(gymnasium.Wrapper[Any, Any, Any, Any]):
    """MinAtar's games with no last action at a reset, as they have when they are made.

    A sticky action repeats the last one, which they keep from one episode to the next: an episode would not be a
    function of its seed and its actions.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        game = getattr(self.unwrapped, "game", None)
        if game is not None:
            game.last_action = 0
        return self.env.reset(seed=seed, options=options)


_GRID = {"image": Said("grid", "hwc", (11, 6, 4))}
_ONE_MISSION = (
    *("DistShift", "DoorKey", "Dynamic-Obstacles", "Empty", "FourRooms", "LavaCrossing", "LavaGap", "Memory"),
    *("MultiRoom", "RedBlueDoors", "SimpleCrossing", "Unlock-", "WFC-"),
)
_MINIGRID = Family("minigrid", "minigrid", says=_GRID)
FAMILIES: dict[str, Family] = {
    **{f"MiniGrid-{task}": replace(_MINIGRID, says={**_GRID, "mission": Said("drop")}) for task in _ONE_MISSION},
    "MiniGrid-": _MINIGRID,
    "BabyAI-": _MINIGRID,
    "MinAtar/": Family("MinAtar", "minatar.gym", "register_envs", {"": Said("image", "hwc")}, wrapper=Afresh),
    "popgym-": Family("popgym", "popgym"),
    "Taxi-": Family(mask=True),
}
"""By the prefix of their ids; the first that fits.

MiniGrid: object, colour, state (doors 0 to 2, the agent's direction 0 to 3). The text of the mission is dropped where
it is the same in every episode; elsewhere it is part of the task. Source: Chevalier-Boisvert et al. 2023, "Minigrid &
Miniworld", minigrid/core/constants.py and minigrid/envs. MinAtar: a plane for each kind of object. Source: Young & Tian
2019, "MinAtar", section 2. Taxi: Gymnasium's documentation.
"""


def family(id: str) -> Family:
    """The family of an id, with or without its module before a colon; an empty one if it is of none."""
    name = id.rpartition(":")[2]
    return next((known for prefix, known in FAMILIES.items() if name.startswith(prefix)), Family())


def register(id: str) -> None:
    """Have an id's package register it. Nothing is done for what is registered, or of no known family.

    Raises UserError if the package is not installed.
    """
    name, known = id.rpartition(":")[2], family(id)
    if not known.module or name in gymnasium.registry:
        return
    if importlib.util.find_spec(known.module.partition(".")[0]) is None:
        raise UserError(f"{id} is of the package {known.package}, which is not installed: pip install {known.package}")
    module = importlib.import_module(known.module)
    if known.register and name not in gymnasium.registry:
        getattr(module, known.register)()
