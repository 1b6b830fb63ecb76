"""`make_env`: the one factory of environments, by name.

A family is a module with three functions, imported when one of its names is used::

    names() -> list[str]                        every id it knows (for listings and near names)
    protocols(id) -> tuple[str, ...]            the named protocols of an id, the default first
    make(id, num_envs, protocol, options) -> VectorEnv

and, where training ends episodes that a score does not end with, ``whole(options) -> options``, those for evaluations.
Other packages bring families of their own by an entry point of the group ``reverie.envs``, whose name is the prefix of
the ids without its slash, and whose value is the module: ``mine = "my_package.reverie_envs"`` is for ``mine/...``.
"""

from __future__ import annotations

import importlib
from functools import cache, partial
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from reverie.envs.env import VectorEnv
from reverie.envs.native import NativeVector
from reverie.envs.options import check_options, check_protocol
from reverie.envs.partial import Mask, Partial
from reverie.envs.stepping import Stepping
from reverie.envs.tasks import Tasks, ids
from reverie.envs.vector import SyncVector
from reverie.envs.workers import open_workers
from reverie.errors import UserError
from reverie.outside import import_outside

FAMILIES = {
    "toy/": "reverie.envs.toys",
    "ALE/": "reverie.envs.atari",
    "dmc/": "reverie.envs.control",
    "dmc-background/": "reverie.envs.filmed",
    "metaworld/": "reverie.envs.metaworld",
    "fetch/": "reverie.envs.fetch",
    "crafter/": "reverie.envs.crafter",
}
"""Prefix of an id -> the module of its family. Every other id belongs to `GYM`."""
GYM = "reverie.envs.gym"
GROUP = "reverie.envs"
"""entry points under which other packages register families"""


def make_env(
    id: str,
    *,
    num_envs: int = 1,
    protocol: str = "auto",
    flicker: float = 0.0,
    mask: Mask = (),
    stepping: Stepping | None = None,
    **options: Any,
) -> VectorEnv:
    """Make `num_envs` streams of the environment `id`.

    id: ``toy/catch``, ``ALE/Pong-v5``, ``dmc/walker-walk``, ``crafter/reward``, ``package.module:factory`` (a callable
    that returns a gymnasium.Env, a Gymnasium vector environment, or a `VectorEnv`), or any Gymnasium id. Several
    with commas between them share the streams (`reverie.envs.tasks.Tasks`); what else is said here is then for each.
    protocol: one of `protocols(id)`, or ``auto`` for the first of them.
    flicker, mask: hide whole observations at random, or entries of a vector; see `reverie.envs.partial.Partial`.
    stepping: how streams are stepped: held to their spaces, made anew if they fail, in how many processes.
    options: of the environment; each family says which it takes.

    Raises UserError on an unknown id, protocol or option, on a value of a type that the option does not have, and where
    a package of an optional group is missing.
    """
    return _make(id, num_envs, protocol, flicker, mask, stepping, options, "make")


def make_drawn(
    id: str,
    *,
    num_envs: int = 1,
    protocol: str = "auto",
    flicker: float = 0.0,
    mask: Mask = (),
    stepping: Stepping | None = None,
    **options: Any,
) -> VectorEnv:
    """The environment that `make_env` makes, such that its `VectorEnv.render` has pictures if there can be some.

    A family whose environments draw only if they are asked to from the start has a function ``make_drawn`` too.
    """
    return _make(id, num_envs, protocol, flicker, mask, stepping, options, "make_drawn")


def _make(
    id: str,
    num_envs: int,
    protocol: str,
    flicker: float,
    mask: Mask,
    stepping: Stepping | None,
    options: dict[str, Any],
    maker: str,
) -> VectorEnv:
    check_options(id, {"flicker": flicker, "mask": mask}, {"flicker": float, "mask": Mask})
    if num_envs < 1:
        raise UserError(f"num_envs is {num_envs}; it must be at least 1")
    if len(named := ids(id)) > 1:
        if stepping is not None and stepping.workers:
            raise UserError(f"{id}: the streams of several environments are stepped here: env.workers must be 0")
        return Tasks(named, num_envs, lambda one, n: _make(one, n, protocol, flicker, mask, stepping, options, maker))
    family = _family(id)
    known = family.protocols(id)
    if protocol == "auto":
        protocol = known[0]
    check_protocol(id, protocol, known)
    stepping = stepping or Stepping()
    if stepping.whole and hasattr(family, "whole"):
        options = dict(family.whole(options))
    env: VectorEnv
    if stepping.workers and maker == "make_drawn":
        raise UserError(f"{id}: what is drawn is stepped here: env.workers must be 0")
    if stepping.workers:
        env = open_workers(id, partial(make_env, id, protocol=protocol, **options), num_envs, stepping)
        return Partial(env, flicker, mask) if flicker or mask else env
    env = getattr(family, maker, family.make)(id, num_envs, protocol, options)
    if isinstance(env, SyncVector | NativeVector):
        env.settle(stepping)
    elif stepping.restarts:
        raise UserError(f"{id} is not made of single environments that can be made anew: env.restarts must be 0")
    return Partial(env, flicker, mask) if flicker or mask else env


def protocols(id: str) -> tuple[str, ...]:
    """The named protocols of an environment, the default first; of several, those that all of them have."""
    each: list[tuple[str, ...]] = [_family(one).protocols(one) for one in ids(id)]
    return tuple(name for name in each[0] if all(name in known for known in each))


def env_names() -> dict[str, list[str]]:
    """Family -> its ids, as far as their packages are installed; families of any length give a pattern too.

    The last entry lists the options with which every environment is seen in part.
    """
    listing = {prefix.rstrip("/"): _family(prefix).names() for prefix in families()}
    listing["gymnasium"] = _family("").names()
    listing["your own"] = ["package.module:factory"]
    listing["any, in part"] = ["--env.options.flicker P", "--env.options.mask [I,J]"]
    return listing


@cache
def families() -> dict[str, str]:
    """All families, prefix -> module: ours, then those of other packages; ours keep their prefixes."""
    theirs = {f"{point.name}/": point.value for point in entry_points(group=GROUP)}
    return {**FAMILIES, **{prefix: module for prefix, module in theirs.items() if prefix not in FAMILIES}}


def family_of(id: str) -> str:
    """The module of the family that an id belongs to."""
    return next((module for prefix, module in families().items() if id.startswith(prefix)), GYM)


def _family(id: str) -> ModuleType:
    """The module itself. Raises UserError if another package's cannot be imported."""
    name = family_of(id)
    ours = name in (*FAMILIES.values(), GYM)
    return importlib.import_module(name) if ours else import_outside(id, name)
