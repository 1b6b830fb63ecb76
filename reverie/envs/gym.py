"""Gymnasium environments by id, and a user's own environments by ``package.module:factory``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from reverie.envs import atari, near, toys
from reverie.envs.env import VectorEnv
from reverie.envs.families import family, register
from reverie.envs.faults import RAISED, fault
from reverie.envs.native import SAYABLE, Conventions, NativeVector
from reverie.envs.options import annotated, check_options, parameters, takes_any
from reverie.envs.partial import RESERVED
from reverie.envs.reading import ANNOTATIONS, Reading, taken
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest
from reverie.outside import import_outside


def names() -> list[str]:
    """Ids in Gymnasium's registry, except those that have a family of their own."""
    return sorted(id for id in gymnasium.registry if not id.startswith(("ALE/", "GymV")) and not _is_emulator(id))


def protocols(id: str) -> tuple[str, ...]:
    """One: the environment as it is."""
    return ("default",)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N streams of a Gymnasium id or of what a factory returns.

    options: keyword arguments of the environment or factory, and what is said of its observations
    (`reverie.envs.reading`) and of a vector environment (`reverie.envs.native.Conventions`). For a Gymnasium id,
    ``native=True`` uses the vector environment that it registers, which is faster and cannot be resumed in mid-episode.

    Raises UserError where the id, the module, the factory or a package is not there, and on what else the environment
    itself refuses.
    """
    factory = _factory(id) if ":" in id else None
    told = tell(id, options)
    if factory is not None:
        return _from_factory(id, factory, num_envs, told)
    own = dict(told.own)
    if own.pop("native", False):
        vector = _registered(
            id,
            lambda: gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point", **own),
        )
        return NativeVector(id, vector, told.reading, told.conventions, flags={"native": True, **options})

    def one() -> gymnasium.Env:
        return _single(id, own)

    return _singles(id, [one() for _ in range(num_envs)], one, told)


def make_drawn(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """As `make`, with the render mode ``rgb_array`` where the environment or the factory takes it."""
    return make(id, num_envs, protocol, {**_mode(id), **options})


def _mode(id: str) -> dict[str, Any]:
    """The render mode as an option, if it can be one."""
    creator = _creator(id)
    if creator is None or not ("render_mode" in parameters(creator) or takes_any(creator)):
        return {}
    metadata = getattr(creator, "metadata", None)
    if metadata is None:  # a function
        return {"render_mode": "rgb_array"} if "render_mode" in parameters(creator) else {}
    return {"render_mode": "rgb_array"} if "rgb_array" in (metadata or {}).get("render_modes", ()) else {}


@dataclass(frozen=True)
class Told:
    """Options of an environment, by what they are for. own: for whoever makes it. flags: all of them."""

    reading: Reading
    conventions: Conventions
    own: dict[str, Any]
    flags: dict[str, Any]


def tell(id: str, options: Mapping[str, Any]) -> Told:
    """The options by what they are for, with what is known of `id`.

    Raises UserError on values of a wrong type, and where the environment has an option of the same name.
    """
    known = family(id)
    reading, rest = taken(options, known.says, "follow" if known.mask else None)
    conventions = {name: value for name, value in rest.items() if name in SAYABLE}
    said = {name: value for name, value in options.items() if name in ANNOTATIONS} | conventions
    check_options(id, said, {**ANNOTATIONS, **SAYABLE})
    theirs = parameters(creator) if said and (creator := _creator(id)) is not None else {}
    for name in said:
        if name in theirs:
            raise UserError(f"{id} takes {name!r}, which says how any environment is to be read; rename it")
    own = {name: value for name, value in rest.items() if name not in SAYABLE}
    return Told(reading, Conventions(**conventions), own, dict(options))


def make_single(id: str, options: Mapping[str, Any] | None = None) -> gymnasium.Env | VectorEnv:
    """One stream as its author wrote it, before any adaptation; a `VectorEnv` where there is no such thing."""
    told = tell(id, options or {})
    if ":" in id and (factory := _factory(id)) is not None:
        single = {"num_envs": 1} if "num_envs" in parameters(factory) else {}
        source = _call(id, factory, {**single, **told.own})
        return source if isinstance(source, gymnasium.Env) else _adapt(id, source, 1, told)
    return _single(id, told.own)


def _single(id: str, own: Mapping[str, Any]) -> gymnasium.Env:
    """One environment of a registered id, with what its family puts around it."""
    env: gymnasium.Env = _registered(id, lambda: gymnasium.make(id, disable_env_checker=True, **own))
    wrapper = family(id).wrapper
    return env if wrapper is None else wrapper(env)


def _singles(id: str, envs: list[gymnasium.Env], make: Callable[[], gymnasium.Env], told: Told) -> VectorEnv:
    if told.conventions != Conventions():
        raise UserError(f"{id} is no vector environment: {' and '.join(SAYABLE)} are not for it")
    return SyncVector(id, envs, told.reading, make=make, flags=told.flags)


def _creator(id: str) -> Callable[..., Any] | None:
    """What makes a single environment, as far as its parameters can be looked at."""
    if ":" in id and (factory := _factory(id)) is not None:
        return factory
    entry: Any = getattr(gymnasium.registry.get(id.rpartition(":")[2]), "entry_point", None)
    try:
        return gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
    except ImportError:
        return None  # making it says what is missing


def _from_factory(id: str, factory: Callable[..., Any], num_envs: int, told: Told) -> VectorEnv:
    for name in RESERVED:
        if name in parameters(factory):
            raise UserError(f"{id} takes {name!r}, which hides parts of any environment's observations; rename it")
    if "num_envs" in parameters(factory):
        return _adapt(id, _call(id, factory, {"num_envs": num_envs, **told.own}), num_envs, told)
    source = _call(id, factory, told.own)
    if isinstance(source, gymnasium.Env):

        def one() -> gymnasium.Env:
            env: gymnasium.Env = _call(id, factory, told.own)
            return env

        return _singles(id, [source, *(one() for _ in range(num_envs - 1))], one, told)
    return _adapt(id, source, num_envs, told)


def _adapt(id: str, source: Any, num_envs: int, told: Told) -> VectorEnv:
    if isinstance(source, gymnasium.Env):
        raise UserError(f"{id} takes num_envs but returned a single environment; return {num_envs} of them as a vector")
    if not isinstance(source, VectorEnv | gymnasium.vector.VectorEnv):
        raise UserError(
            f"{id} returned a {type(source).__name__}; it must return a gymnasium.Env, a gymnasium.vector.VectorEnv or "
            "a reverie.envs.env.VectorEnv"
        )
    if source.num_envs != num_envs:
        raise UserError(f"{id} returned {source.num_envs} streams where {num_envs} were asked for; take num_envs")
    if not isinstance(source, VectorEnv):
        return NativeVector(id, source, told.reading, told.conventions, flags=told.flags)
    if told.reading != Reading() or told.conventions != Conventions():
        said = ", ".join({**ANNOTATIONS, **SAYABLE})
        raise UserError(f"{id} returns a VectorEnv, whose rows say themselves what they are; {said} are not for it")
    return source


def _factory(id: str) -> Callable[..., Any] | None:
    """The callable that `id` names, or None if ``module:Name-v0`` names a registered id instead."""
    path, _, attribute = id.partition(":")
    module = import_outside(id, path)
    register(id)
    factory = getattr(module, attribute, None)
    if factory is None and attribute in gymnasium.registry:
        return None
    if not callable(factory):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"{id}: module {path} has no callable {attribute!r}{suggest(attribute, public)}")
    return factory


def _call(id: str, factory: Callable[..., Any], options: Mapping[str, Any] | None) -> Any:
    if not takes_any(factory):
        check_options(id, options or {}, annotated(factory))
    try:
        return factory(**(options or {}))
    except UserError:
        raise
    except RAISED as error:  # Whatever somebody else's factory raises is its fault.
        raise fault(f"{id}: its factory", error) from error


def _registered(id: str, make: Callable[[], Any]) -> Any:
    """A registered environment; what Gymnasium refuses is one line."""
    _check_ours(id)
    register(id)
    try:
        with warnings.catch_warnings():
            # Gymnasium warns of newer versions of an id; a run is reproduced with the version it names.
            warnings.simplefilter("ignore", DeprecationWarning)
            return make()
    except gymnasium.error.UnregisteredEnv:
        raise UserError(f"unknown environment {id!r}{_hint(id)}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id} needs a package that is not installed: {error}") from None
    except (gymnasium.error.Error, TypeError) as error:
        raise UserError(f"{id} cannot be made: {' '.join(str(error).split())}") from None
    except UserError:
        raise
    except RAISED as error:  # Whatever somebody else's environment raises is its fault.
        raise fault(f"{id}: its constructor", error) from error


def _check_ours(id: str) -> None:
    """Raise UserError for Atari ids of old, which are emulators whose every flag is left to the user."""
    if _is_emulator(id):
        raise UserError(f"{id} is an emulator without a protocol{_hint(id)}")


def _is_emulator(id: str) -> bool:
    spec = gymnasium.registry.get(id)
    return spec is not None and str(spec.entry_point).startswith(("ale_py", "shimmy.atari"))


def _hint(id: str) -> str:
    # Of the other families only those whose listing is cheap: a mistyped id should not import a simulator.
    return near.hint(id, [*toys.names(), *atari.names(), *names()])
