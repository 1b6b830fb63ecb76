"""Wrappers around a single environment that carry something from episode to episode, or change its rewards.

An episode is a function of its seed, its actions and what its wrappers carry: running means, as of Gymnasium's
`NormalizeObservation` and `NormalizeReward`, of the like (any attribute with ``mean``, ``var`` and ``count``), and what
a wrapper with ``state_dict`` and ``load_state_dict`` says itself. It is saved as of the beginning of the open episode,
from which that is played again; an evaluation, and whoever loads the policy, takes it over and keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import NormalizeReward

from reverie.errors import UserError, notice

Carried = Mapping[str, Mapping[str, Any]]
"""Place and class of a wrapper -> name -> arrays and numbers."""
_MOMENTS = ("mean", "var", "count")
_OWN, _SWITCH = "state_dict", "update_running_mean"


def layers(env: gymnasium.Env) -> Iterator[gymnasium.Wrapper]:
    """The wrappers of an environment, the outermost first."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env


def carried(env: gymnasium.Env) -> Carried | None:
    """Copy of what the wrappers of `env` carry; None if they carry nothing."""
    told = {name: state for name, wrapper in _named(env) if (state := _state(wrapper))}
    return told or None


def carry(env: gymnasium.Env, told: Carried, keep: bool = False) -> None:
    """Have the wrappers of `env` carry what was told of wrappers like them.

    keep: running means stay what they are from there on, where the wrapper has the switch ``update_running_mean``.
    Raises UserError if the wrappers are others.
    """
    wrappers = dict(_named(env))
    mine = {name for name, wrapper in wrappers.items() if _state(wrapper)}
    if mine != set(told):
        raise UserError(
            f"wrappers carry over episodes {', '.join(sorted(mine)) or 'nothing'}, but what was saved is of "
            f"{', '.join(sorted(told)) or 'none'}: make the environment with the wrappers of the run"
        )
    for name, state in told.items():
        _restore(wrappers[name], state)
        if keep and _SWITCH in state:
            setattr(wrappers[name], _SWITCH, False)


def _named(env: gymnasium.Env) -> list[tuple[str, gymnasium.Wrapper]]:
    return [(f"{depth} {type(wrapper).__name__}", wrapper) for depth, wrapper in enumerate(layers(env))]


def _own(wrapper: gymnasium.Wrapper) -> bool:
    # Of its own class: a wrapper hands on attributes of what it wraps.
    return all(callable(getattr(type(wrapper), name, None)) for name in (_OWN, "load_state_dict"))


def _running(wrapper: gymnasium.Wrapper) -> dict[str, Any]:
    """Attributes of a wrapper that are running means."""
    return {name: value for name, value in vars(wrapper).items() if all(hasattr(value, moment) for moment in _MOMENTS)}


def _state(wrapper: gymnasium.Wrapper) -> dict[str, Any]:
    if _own(wrapper):
        return {_OWN: wrapper.state_dict()}  # type: ignore[attr-defined]
    state: dict[str, Any] = {
        name: {moment: np.array(getattr(value, moment), np.float64) for moment in _MOMENTS}
        for name, value in _running(wrapper).items()
    }
    if isinstance(wrapper, NormalizeReward):  # the return that it measures goes on over the end of an episode
        state["discounted_reward"] = np.array(wrapper.discounted_reward, np.float64)
    if state and hasattr(type(wrapper), _SWITCH):
        state[_SWITCH] = bool(getattr(wrapper, _SWITCH))
    return state


def _restore(wrapper: gymnasium.Wrapper, state: Mapping[str, Any]) -> None:
    if _own(wrapper):
        return wrapper.load_state_dict(state[_OWN])  # type: ignore[attr-defined]
    for name, value in _running(wrapper).items():
        for moment in _MOMENTS:
            before, after = getattr(value, moment), np.array(state[name][moment])
            # In the type that it had: a mean in float32 goes on in float32.
            same = after.astype(before.dtype) if isinstance(before, np.ndarray) else type(before)(after)
            setattr(value, moment, same)
    if isinstance(wrapper, NormalizeReward):
        wrapper.discounted_reward = np.array(state["discounted_reward"])
    if _SWITCH in state:
        setattr(wrapper, _SWITCH, state[_SWITCH])


class Tally:
    """Rewards that come to a wrapper which changes them, added up. earned: since `take`.

    It looks on while the wrapper steps what it wraps, and leaves both as they are otherwise: what they read and write
    of each other, calls of their own, and copies.
    """

    def __init__(self, wrapper: gymnasium.Wrapper) -> None:
        self.earned = 0.0
        self._wrapper, self._step = wrapper, wrapper.step
        wrapper.step = self.step  # type: ignore[method-assign]

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Step the wrapper, and count what it is paid."""
        inner = self._wrapper.env
        own = vars(inner)
        usual = own.get("step")

        def put(step: Any) -> None:
            own.pop("step", None)
            if step is not None:
                own["step"] = step

        def counted(*given: Any, **named: Any) -> Any:
            nonlocal usual
            put(usual)  # within its step the environment has its own
            try:
                out: Any = inner.step(*given, **named)
            finally:
                usual = own.get("step")
                put(counted)
            if isinstance(out, tuple) and len(out) > 1 and np.size(out[1]) == 1:
                self.earned += float(np.reshape(np.asarray(out[1], np.float64), ()))
            return out

        put(counted)
        try:
            return self._step(*args, **kwargs)
        finally:
            put(usual)

    def take(self) -> float:
        """What was earned since the last call."""
        earned, self.earned = self.earned, 0.0
        return earned


def tally(env: gymnasium.Env) -> Tally | None:
    """A tally at the innermost wrapper of `env` that changes rewards; None if there is no such wrapper.

    Such wrappers are those that Gymnasium calls so: `gymnasium.RewardWrapper`, its children, and `NormalizeReward`.
    """
    changing = [wrapper for wrapper in layers(env) if isinstance(wrapper, gymnasium.RewardWrapper | NormalizeReward)]
    if not changing:
        return None
    there = getattr(vars(changing[-1]).get("step"), "__self__", None)
    return there if isinstance(there, Tally) else Tally(changing[-1])


def check_vector(id: str, env: gymnasium.vector.VectorEnv) -> None:
    """Raise UserError where the wrappers of a vector environment carry something, which nothing saves or hands on.

    Scores are told to be of changed rewards, where wrappers of all streams change them.
    """
    single = "let the factory return one gymnasium.Env in its wrappers"
    while isinstance(env, gymnasium.vector.VectorWrapper):
        name = type(env).__name__
        if any(all(hasattr(value, moment) for moment in _MOMENTS) for value in vars(env).values()):
            raise UserError(
                f"{id}: {name} carries running means over episodes, which are not saved with a vector environment, nor "
                f"known to its evaluations: {single}"
            )
        if isinstance(env, gymnasium.vector.VectorRewardWrapper):
            notice(f"{id}: scores are sums of the rewards that {name} makes; for the environment's own, {single}")
        env = env.env
    inner = [each for each in getattr(env, "envs", ()) if isinstance(each, gymnasium.Env)]
    if any(carried(each) for each in inner):
        raise UserError(
            f"{id}: wrappers of its environments carry something over episodes, which is not saved with a vector "
            f"environment, nor known to its evaluations: {single}"
        )
