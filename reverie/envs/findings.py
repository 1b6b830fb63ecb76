"""Findings of a check of an environment: problems, warnings and statistics of observations, rewards and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.calls import number


class Findings:
    """Lines found while an environment is played, each kind once, and what its episodes looked like."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.rewards: list[float] = []
        self.lengths: list[int] = []
        self.terminal_ends = self.limit_ends = 0
        self._kinds: set[str] = set()
        self._previous: dict[str, np.ndarray] = {}
        self._changed: dict[str, set[str]] = {}
        self._length = 0

    def problem(self, kind: str, line: str) -> None:
        """Record something that breaks the rules; further lines of the same kind are dropped."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.problems.append(line)

    def warning(self, line: str) -> None:
        """Record something that is allowed and probably not meant."""
        self.warnings.append(line)

    def observe(self, leaves: dict[str, np.ndarray], is_first: bool) -> None:
        """Note which observations change, within episodes and at resets."""
        for name, value in leaves.items():
            changed = self._changed.setdefault(name, set())
            before = self._previous.get(name)
            if before is not None and not np.array_equal(before, value):
                changed.add("reset" if is_first else "env_step")
            # A copy: an environment that returns the same array each time would always equal itself.
            self._previous[name] = np.array(value)

    def reward(self, reward: Any, is_last: bool, is_terminal: bool) -> None:
        """Count one env_step."""
        self._length += 1
        value = number(reward)
        if value is None:
            self.problem("reward type", f"reward {reward!r} is not a number; return a float")
            value = 0.0
        if not np.isfinite(value):
            self.problem("reward", f"reward is {value} at env_step {len(self.rewards)}; rewards must be finite")
        self.rewards.append(value)
        if is_last:
            self.lengths.append(self._length)
            self._length = 0
            self.terminal_ends += is_terminal
            self.limit_ends += not is_terminal

    def conclude(self) -> None:
        """Add the warnings that only a whole run of env_steps can show."""
        for name, changed in self._changed.items():
            what = f"observation {name!r}" if name else "the observation"
            if not changed:
                self.warning(f"{what} never changed")
            elif changed == {"reset"} and len(self.rewards) > len(self.lengths):
                self.warning(f"{what} changed at resets only; is it drawn anew at every env_step?")
        if self.rewards and not any(self.rewards):
            self.warning(f"no reward other than 0 in {len(self.rewards)} env_steps of random actions")
        if not self.lengths:
            self.warning(
                f"no episode ended in {len(self.rewards)} env_steps; if none ever does, wrap the environment in "
                "gymnasium.wrappers.TimeLimit"
            )
        elif len(self.lengths) >= 3 and len(set(self.lengths)) == 1 and not self.limit_ends:
            self.warning(
                f"all {len(self.lengths)} episodes ended as terminated after exactly {self.lengths[0]} env_steps; if "
                "that is a time limit, return truncated=True instead, or values will be learned as if the world ended"
            )


def leaves(
    space: spaces.Space, observation: Any, findings: Findings, name: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an observation by name, with every departure from its declared space added to `findings`."""
    what = f"observation {name!r}" if name else "the observation"
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or set(observation) != set(space.spaces):
            actual = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            keys = sorted(space.spaces)
            findings.problem(f"keys {name}", f"{what} has {actual} where its space declares keys {keys}")
            return
        for key, child in space.spaces.items():
            yield from leaves(child, observation[key], findings, f"{name}/{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
            findings.problem(f"keys {name}", f"{what} is not a tuple of {len(space.spaces)} as its space declares")
            return
        for index, child in enumerate(space.spaces):
            yield from leaves(child, observation[index], findings, f"{name}/{index}" if name else str(index))
    elif isinstance(space, spaces.Box):
        yield from _box(space, observation, findings, name, what)
    else:
        if not space.contains(observation):
            findings.problem(f"value {name}", f"{what} is {_short(observation)}, outside its declared space {space}")
        elif not isinstance(space, spaces.Text | spaces.Graph | spaces.Sequence):
            yield name, np.asarray(observation)


def _box(
    space: spaces.Box, observation: Any, findings: Findings, name: str, what: str
) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(observation, np.generic):  # a number of numpy's where the space has no axes
        observation = np.asarray(observation)
    if not isinstance(observation, np.ndarray):
        findings.problem(
            f"type {name}", f"{what} is a {type(observation).__name__}; return a numpy array of {space.dtype}"
        )
        return
    if observation.dtype != space.dtype:
        findings.problem(f"dtype {name}", f"{what} has dtype {observation.dtype}, its space declares {space.dtype}")
    if observation.shape != space.shape:
        findings.problem(f"shape {name}", f"{what} has shape {observation.shape}, its space declares {space.shape}")
    elif observation.dtype.kind not in "biuf":
        findings.problem(f"dtype {name}", f"{what} has dtype {observation.dtype}, which holds no numbers")
        return
    elif np.isnan(observation).any():
        findings.problem(f"nan {name}", f"{what} contains NaN")
    elif (observation < space.low).any() or (observation > space.high).any():
        low, high = float(space.low.min()), float(space.high.max())
        findings.problem(
            f"bounds {name}",
            f"{what} has values {observation.min():g} .. {observation.max():g} outside its bounds [{low:g}, {high:g}]",
        )
    yield name, observation


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
