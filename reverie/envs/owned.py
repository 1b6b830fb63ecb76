"""Whose an environment is: no object is stepped by two streams, or by a run and its evaluation.

A factory that hands out one shared object would have all of them step one episode, and who is done first would close it
for the others. Objects are compared below their wrappers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from reverie.envs.faults import EnvFault

_OPEN: WeakKeyDictionary[Any, Sequence[Any]] = WeakKeyDictionary()
"""Adapters that are not closed -> the environments that they step, below their wrappers."""


def claim(owner: object, id: str, envs: Sequence[Any]) -> None:
    """Note that `owner` steps these environments. Raises EnvFault if one of them is stepped by somebody already."""
    bare = [env.unwrapped for env in envs]
    others = [env for other, theirs in list(_OPEN.items()) if other is not owner for env in theirs]
    for i, env in enumerate(bare):
        if any(env is before for before in bare[:i]):
            raise EnvFault(
                f"{id}: its factory returned the same object for streams {next(k for k in range(i) if bare[k] is env)} "
                f"and {i}, which would step one episode; let it make a new environment at every call, or set "
                "env.num_envs 1"
            )
        if any(env is other for other in others):
            raise EnvFault(
                f"{id}: its factory returned an object that is in use already (by training, if this is an evaluation); "
                "let it make a new environment at every call, or train without evaluations: run.eval_episodes 0"
            )
    _OPEN[owner] = bare


def release(owner: object) -> None:
    """Note that `owner` is closed."""
    _OPEN.pop(owner, None)
