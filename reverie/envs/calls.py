"""Calls of a single Gymnasium environment: what `reset` and `step` must take and return, said in one line otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from reverie.envs.faults import EnvFault
from reverie.errors import UserError

RESET = "(observation, info)"
STEP = "(observation, reward, terminated, truncated, info)"


def check_signature(id: str, env: gymnasium.Env) -> None:
    """Raise UserError if `reset` takes no seed: without one, no episode can be repeated."""
    try:
        parameters = inspect.signature(env.reset).parameters
    except (TypeError, ValueError):
        return  # nothing can be known of it before it is called
    if "seed" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise UserError(
            f"{id}: reset() takes no seed; write it as reset(self, *, seed=None, options=None), which begins with "
            "super().reset(seed=seed), and draw from self.np_random"
        )


def reset(id: object, env: gymnasium.Env, seed: int, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """First observation and info; id: what names it in messages. Raises EnvFault if it returns anything else."""
    # Environments that know no options need not take any.
    out = env.reset(seed=seed) if options is None else env.reset(seed=seed, options=options)
    _refuse(id, "reset()", out, RESET)
    return out


def step(id: object, env: gymnasium.Env, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Observation, reward, terminated, truncated, info. Raises EnvFault if it returns anything else."""
    out: Any = env.step(action)
    _refuse(id, "step()", out, STEP)
    observation, reward, terminated, truncated, info = out
    value = number(reward)
    if value is None:
        raise EnvFault(f"{id}: reward {' '.join(repr(reward).split())} is not a number; return a float")
    return observation, value, _flag(id, "terminated", terminated), _flag(id, "truncated", truncated), info


def _flag(id: object, name: str, flag: Any) -> bool:
    """A flag as a bool, one in an array too. Raises EnvFault if it is neither true nor false."""
    if type(flag) is bool:  # nearly always, at every step
        return flag
    if (value := number(flag)) not in (0.0, 1.0):
        raise EnvFault(f"{id}: {name} {' '.join(repr(flag).split())} is not a bool; return True or False")
    return value == 1.0


def action_names(env: gymnasium.Env) -> tuple[str, ...]:
    """What its discrete actions are called: its ``action_names``, or its ``get_action_meanings()``; () if it is silent.

    Names of another number than its actions are no help and are left out.
    """
    inner, count = env.unwrapped, getattr(env.action_space, "n", None)
    said = getattr(inner, "action_names", None)
    if said is None and callable(meanings := getattr(inner, "get_action_meanings", None)):
        said = meanings()
    names = tuple(str(name) for name in said or ())
    return names if len(names) == count else ()


def number(reward: Any) -> float | None:
    """A reward as a number, one in an array too; None if it is none."""
    array = np.asarray(reward)
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "biuf" else None


EPISODE_INFO = "episode_info"
"""key of ``info`` under which an environment says what it measured over an episode"""


def numbers(said: Any) -> dict[str, float]:
    """What an environment says of an episode, as far as it is numbers by name; else nothing."""
    if not isinstance(said, Mapping):  # somebody else's word for something else
        return {}
    return {str(name): value for name, each in said.items() if (value := number(each)) is not None}


def complaint(name: str, out: Any, expected: str) -> str | None:
    """What is wrong with what a call returned, if anything."""
    size = expected.count(",") + 1
    if not isinstance(out, tuple) or len(out) != size:
        actual = f"{len(out)} values" if isinstance(out, tuple) else f"a {type(out).__name__}"
    elif not isinstance(out[-1], dict):
        actual = f"a {type(out[-1]).__name__} as info"
    else:
        return None
    return f"{name} returned {actual}; it must return {expected}, as in Gymnasium 1.0"


def _refuse(id: object, name: str, out: Any, expected: str) -> None:
    if wrong := complaint(name, out, expected):
        raise EnvFault(f"{id}: {wrong}")


def drawn(id: str, render: Callable[[], Any]) -> np.ndarray:
    """What `render` draws. Raises UserError where a package that it needs is missing."""
    try:
        return np.asarray(render())
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id} cannot draw itself: {' '.join(str(error).split())}") from None
