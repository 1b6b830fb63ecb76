"""Gymnasium environments by id, and a user's own environments by ``package.module:factory``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from reverie.envs import atari, toys
from reverie.envs.env import VectorEnv
from reverie.envs.native import NativeVector
from reverie.envs.options import annotated, check_options, parameters, takes_any
from reverie.envs.partial import RESERVED
from reverie.envs.vector import SyncVector
from reverie.errors import UserError, suggest
from reverie.outside import import_outside


def names() -> list[str]:
    """Ids in Gymnasium's registry, except those that have a family of their own."""
    return sorted(id for id in gymnasium.registry if not id.startswith(("ALE/", "GymV")))


def protocols(id: str) -> tuple[str, ...]:
    """One: the environment as it is."""
    return ("default",)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N streams of a Gymnasium id or of what a factory returns.

    options: keyword arguments of the environment or factory. For a Gymnasium id, ``native=True`` uses the vector
    environment that it registers, which is faster and cannot be resumed in mid-episode.

    Raises UserError where the id, the module, the factory or a package is not there, and on what else the environment
    itself refuses.
    """
    factory = _factory(id) if ":" in id else None
    if factory is not None:
        return _from_factory(id, factory, num_envs, options)
    options = dict(options)
    native = bool(options.pop("native", False))
    if native:
        vector = _registered(
            id,
            lambda: gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point", **options),
        )
        return NativeVector(id, vector, flags={"native": True, **options})
    envs = [_registered(id, lambda: gymnasium.make(id, disable_env_checker=True, **options)) for _ in range(num_envs)]
    return SyncVector(id, envs, flags=options)


def make_single(id: str, options: Mapping[str, Any] | None = None) -> gymnasium.Env | VectorEnv:
    """One stream as its author wrote it, before any adaptation; a `VectorEnv` where there is no such thing."""
    if ":" in id and (factory := _factory(id)) is not None:
        single = {"num_envs": 1} if "num_envs" in parameters(factory) else {}
        source = _call(id, factory, {**single, **(options or {})})
        return source if isinstance(source, gymnasium.Env) else _adapt(id, source, 1, options or {})
    env: gymnasium.Env = _registered(id, lambda: gymnasium.make(id, disable_env_checker=True, **(options or {})))
    return env


def _from_factory(id: str, factory: Callable[..., Any], num_envs: int, options: Mapping[str, Any]) -> VectorEnv:
    for name in RESERVED:
        if name in parameters(factory):
            raise UserError(f"{id} takes {name!r}, which hides parts of any environment's observations; rename it")
    if "num_envs" in parameters(factory):
        return _adapt(id, _call(id, factory, {"num_envs": num_envs, **options}), num_envs, options)
    source = _call(id, factory, options)
    if isinstance(source, gymnasium.Env):
        others = [_call(id, factory, options) for _ in range(num_envs - 1)]
        return SyncVector(id, [source, *others], flags=dict(options))
    return _adapt(id, source, num_envs, options)


def _adapt(id: str, source: Any, num_envs: int, options: Mapping[str, Any]) -> VectorEnv:
    if isinstance(source, gymnasium.Env):
        raise UserError(f"{id} takes num_envs but returned a single environment; return {num_envs} of them as a vector")
    if not isinstance(source, VectorEnv | gymnasium.vector.VectorEnv):
        raise UserError(
            f"{id} returned a {type(source).__name__}; it must return a gymnasium.Env, a gymnasium.vector.VectorEnv or "
            "a reverie.envs.env.VectorEnv"
        )
    if source.num_envs != num_envs:
        raise UserError(f"{id} returned {source.num_envs} streams where {num_envs} were asked for; take num_envs")
    return source if isinstance(source, VectorEnv) else NativeVector(id, source, flags=dict(options))


def _factory(id: str) -> Callable[..., Any] | None:
    """The callable that `id` names, or None if ``module:Name-v0`` names a registered id instead."""
    path, _, attribute = id.partition(":")
    module = import_outside(id, path)
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
    return factory(**(options or {}))


def _registered(id: str, make: Callable[[], Any]) -> Any:
    """A registered environment; what Gymnasium refuses is one line."""
    try:
        with warnings.catch_warnings():
            # Gymnasium warns of newer versions of an id; a run is reproduced with the version it names.
            warnings.simplefilter("ignore", DeprecationWarning)
            return make()
    except gymnasium.error.UnregisteredEnv:
        raise UserError(f"unknown environment {id!r}{_near(id)}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id} needs a package that is not installed: {error}") from None
    except (gymnasium.error.Error, TypeError) as error:
        raise UserError(f"{id} cannot be made: {' '.join(str(error).split())}") from None


def _near(id: str) -> str:
    # Only families whose listing is cheap: a mistyped id should not import a simulator.
    return suggest(id, [*names(), *toys.names(), *atari.names()])
