"""`check_env`: plays an environment at random and says in plain lines whether it keeps the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK
from reverie.envs.calls import RESET, STEP, complaint
from reverie.envs.check_rows import check_rows
from reverie.envs.env import VectorEnv
from reverie.envs.faults import RAISED, EnvFault
from reverie.envs.findings import Findings, leaves
from reverie.envs.gym import make_single, tell
from reverie.envs.make import GYM, family_of, make_env
from reverie.envs.masks import UNSAID, Masks
from reverie.envs.partial import RESERVED
from reverie.envs.reading import Reading, taken
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.envs.tasks import tasks_of
from reverie.envs.vector import SyncVector
from reverie.errors import UserError

REPLAYED, SEEDS = 50, 5
"""env_steps that are played twice of each of so many seeds, to see whether seed and actions determine them."""


@dataclass(frozen=True)
class Report:
    """Report of `check_env`.

    observation: key -> (adapted space, encoder it leads to); empty if the space cannot be adapted.
    action: the adapted action space. env_steps: how many were played. reward_min, reward_max, reward_mean: of one
    env_step. episode_lengths: of finished episodes (env_steps). terminal_ends, limit_ends: how many of them were true
    ends and time limits. resume: ``replay`` if playing the same seed and actions twice gave the same rows, else
    ``truncate``.
    problems: broken rules, which must be mended before training. warnings: probably not meant, or good to know.
    """

    id: str
    observation: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    action: str = ""
    env_steps: int = 0
    reward_min: float = 0.0
    reward_max: float = 0.0
    reward_mean: float = 0.0
    episode_lengths: tuple[int, ...] = ()
    terminal_ends: int = 0
    limit_ends: int = 0
    resume: str = "unknown"
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no rule was broken."""
        return not self.problems

    def lines(self) -> list[str]:
        """Text of the report, one finding a line."""
        out = [self.id]
        out += [f"  observation {key}: {space} -> {encoder}" for key, (space, encoder) in self.observation.items()]
        if self.action:
            out.append(f"  action: {self.action}")
        out.append(f"  reward: {self.reward_min:g} .. {self.reward_max:g}, mean {self.reward_mean:.4g} per env_step")
        lengths = self.episode_lengths
        span = f" of {min(lengths)} .. {max(lengths)} env_steps, mean {np.mean(lengths):.4g}" if lengths else ""
        out.append(f"  {self.env_steps} env_steps, {len(lengths)} finished episodes{span}")
        out.append(f"  ends: {self.terminal_ends} terminal, {self.limit_ends} at a time limit")
        out.append(f"  resume: {self.resume}")
        out += [f"  problem: {line}" for line in self.problems]
        out += [f"  warning: {line}" for line in self.warnings]
        out.append("  ok" if self.ok else f"  {len(self.problems)} problem{'s' * (len(self.problems) > 1)}")
        return out


def check_env(id: str | Callable[[], gymnasium.Env], env_steps: int = 1000, seed: int = 0, **options: Any) -> Report:
    """Report of what an environment is and which rules it breaks, after `env_steps` random actions.

    id: anything `make_env` takes, or a callable that returns a gymnasium.Env. options: as for `make_env`.
    What the environment itself raises becomes a problem in the report. Raises UserError if there is no such id.
    """
    if seed < 0 or env_steps < 1:
        raise UserError(f"check-env: seed {seed} must be at least 0 and env_steps {env_steps} at least 1")
    findings = Findings()
    if callable(id):
        name = getattr(id, "__name__", type(id).__name__)
        make: Callable[[], Any] = id
    else:
        name, make = id, lambda: _source(id, options)
    try:
        env = make()
    except UserError as error:
        if not isinstance(error.__cause__, RAISED) or not isinstance(error, EnvFault):
            raise
        findings.problem("make", f"it cannot be made: {_one_line(error.__cause__)}")
        return Report(name, problems=tuple(findings.problems))
    except RAISED as error:  # Whatever a user's constructor raises is what this report is for.
        findings.problem("make", f"it cannot be made: {_one_line(error)}")
        return Report(name, problems=tuple(findings.problems))
    try:
        if isinstance(env, VectorEnv) and not isinstance(env, SyncVector):
            description = _describe(env.spec.observation, env.spec.action)
            resume = check_rows(env, make, findings, env_steps, seed)
        else:
            if isinstance(env, SyncVector):  # its single environment, read as it reads it
                single, reading = env.envs[0], env.reading or Reading()
            else:
                single, reading = env, tell(id, options).reading if isinstance(id, str) else taken(options)[0]
            description, resume = _check_single(single, findings, env_steps, seed, reading)
    finally:
        with suppress(Exception):  # what it does when it is closed is not what was asked
            env.close()
    findings.conclude()
    rewards = findings.rewards or [0.0]
    return Report(
        name,
        **description,
        env_steps=len(findings.rewards),
        reward_min=float(np.min(rewards)),
        reward_max=float(np.max(rewards)),
        reward_mean=float(np.mean(rewards)),
        episode_lengths=tuple(findings.lengths),
        terminal_ends=findings.terminal_ends,
        limit_ends=findings.limit_ends,
        resume=resume,
        problems=tuple(findings.problems),
        warnings=tuple(findings.warnings),
    )


def _source(id: str, options: Mapping[str, Any]) -> gymnasium.Env | VectorEnv:
    """The environment as its author wrote it, where there is a single one beneath; else its rows."""
    plain = not any(name in options for name in ("native", "protocol", *RESERVED))
    if plain and not tasks_of(id) and family_of(id) == GYM:
        return make_single(id, options)
    return make_env(id, num_envs=1, **options)


def _describe(observation: Mapping[str, spaces.Space], action: spaces.Space) -> dict[str, Any]:
    return {"observation": {k: (str(s), _encoder(s)) for k, s in observation.items()}, "action": str(action)}


def _encoder(space: spaces.Space) -> str:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return "one-hot, MLP"
    return "CNN" if isinstance(space, spaces.Box) and space.dtype == np.uint8 else "MLP"


def _check_single(
    env: gymnasium.Env, findings: Findings, env_steps: int, seed: int, reading: Reading
) -> tuple[dict[str, Any], str]:
    declared = [getattr(env, name, None) for name in ("observation_space", "action_space")]
    for name, space in zip(("observation_space", "action_space"), declared, strict=True):
        if not isinstance(space, spaces.Space):
            findings.problem(name, f"{name} is {space!r}; set it to a gymnasium space in the constructor")
    if findings.problems:
        return {}, "unknown"
    description: dict[str, Any] = {}
    adapted: dict[str, spaces.Space] = {}
    masks: Masks | None = None
    try:
        adapted = ObservationAdapter(env.observation_space, reading).spaces
        description = _describe(adapted, env.action_space)
    except UserError as error:
        findings.problem("observation space", str(error))
    try:
        action = ActionAdapter(env.action_space).space
        description["action"] = str(action)
        masks = Masks(type(env.unwrapped).__name__, adapted, action, reading.action_mask)
    except UserError as error:
        findings.problem("action space", str(error))
    for key, (_, encoder) in description.get("observation", {}).items():
        sides = adapted[key].shape
        if encoder == "CNN" and sides is not None and min(sides[:2]) < 16:
            findings.warning(f"observation {key!r} is an image of only {sides[0]}x{sides[1]} pixels")
    _check_action_bounds(env.action_space, findings)
    env.action_space.seed(seed)
    try:
        _play(env, findings, env_steps, seed, masks)
        return description, _replay(env, findings, seed, masks)
    except _RuleBroken:
        return description, "unknown"


def _check_action_bounds(space: spaces.Space, findings: Findings) -> None:
    if isinstance(space, spaces.Box) and np.all(np.isfinite(space.low)) and np.all(np.isfinite(space.high)):
        if (space.low >= space.high).any():
            findings.problem("action bounds", f"action space {space} has a dimension whose low is not below its high")
        elif (space.low != -1).any() or (space.high != 1).any():
            findings.warning(f"action bounds {space} are normalised: agents act in [-1, 1]")


class _RuleBroken(Exception):
    """The environment cannot be played on; the reason is in the findings."""


def _call(findings: Findings, name: str, function: Callable[..., Any], size: int, *args: Any, **kwargs: Any) -> Any:
    try:
        out = function(*args, **kwargs)
    except RAISED as error:  # Whatever the user's environment raises is what this report is for.
        findings.problem(name, f"{name} raised {_one_line(error)}")
        raise _RuleBroken from error
    if wrong := complaint(name, out, RESET if size == 2 else STEP):
        findings.problem(name, wrong)
        raise _RuleBroken
    return out


def _play(env: gymnasium.Env, findings: Findings, env_steps: int, seed: int, masks: Masks | None) -> None:
    observation, info = _call(findings, "reset()", env.reset, 2, seed=seed)
    findings.observe(dict(leaves(env.observation_space, observation, findings)), is_first=True)
    for _ in range(env_steps):
        action = _allowed(env, findings, masks, observation, info)
        observation, reward, terminated, truncated, info = _call(findings, "step()", env.step, 5, action)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                findings.problem(name, f"{name} is {flag!r}; return a bool")
        findings.observe(dict(leaves(env.observation_space, observation, findings)), is_first=False)
        findings.reward(reward, bool(terminated or truncated), bool(terminated))
        if terminated or truncated:
            observation, info = _call(findings, "reset()", env.reset, 2)
            findings.observe(dict(leaves(env.observation_space, observation, findings)), is_first=True)


def _allowed(env: gymnasium.Env, findings: Findings, masks: Masks | None, observation: Any, info: Any) -> Any:
    """A random action, of those that a mask allows."""
    space = env.action_space
    if masks is not None and masks.unsaid(info):
        findings.problem("action mask", UNSAID.format("it"))
        masks.source = "info"  # or it would be played against its rules
    if masks is None or masks.source is None:
        return space.sample()
    found = info.get(ACTION_MASK, np.ones(masks.size))
    if masks.source == "obs":
        if not isinstance(observation, Mapping) or ACTION_MASK not in observation:
            return space.sample()  # which is a problem of its own, found by `leaves`
        found = observation[ACTION_MASK]
    try:
        flat = (masks.flat(found) > 0.5).astype(np.int8)
    except UserError as error:
        findings.problem("action mask", str(error))
        raise _RuleBroken from error
    if isinstance(space, spaces.MultiBinary):  # which draws by no mask: a factor of two for each
        pairs = flat.reshape(-1, 2)
        drawn = np.where(pairs.all(-1), space.sample().reshape(-1), pairs.argmax(-1))
        return drawn.reshape(space.shape).astype(np.int8)
    if not isinstance(space, spaces.MultiDiscrete):
        return space.sample(flat)
    return space.sample(tuple(np.split(flat, np.cumsum(masks.factors)[:-1])))


def _replay(env: gymnasium.Env, findings: Findings, seed: int, masks: Masks | None) -> str:
    """Kind of resume, after episodes are played twice from the same seeds with the same actions, others between."""
    options = {"options": {"episode": 0}} if getattr(env.unwrapped, "counts_episodes", False) else {}
    played: list[list[Any]] = [[] for _ in range(SEEDS)]

    def episode(number: int, again: bool) -> list[Any]:
        observation, info = _call(findings, "reset()", env.reset, 2, seed=seed + number, **options)
        out, actions = [_copy(observation)], played[number]
        for i in range(len(actions) if again else REPLAYED):
            if not again:
                actions.append(_allowed(env, findings, masks, observation, info))
            observation, reward, terminated, truncated, info = _call(findings, "step()", env.step, 5, actions[i])
            out.append((_copy(observation), reward))
            if terminated or truncated:
                break
        return out

    first = [episode(number, again=False) for number in range(SEEDS)]
    # Backwards, so that each comes after another than before: what goes from one to the next is seen.
    second = [episode(number, again=True) for number in reversed(range(SEEDS))][::-1]
    if not all(_equal(one[0], other[0]) for one, other in zip(first, second, strict=True)):
        findings.problem(
            "seed",
            "two resets with the same seed gave different observations; draw all randomness from self.np_random after "
            "super().reset(seed=seed)",
        )
        return "truncate"
    if not all(
        len(one) == len(other) and all(map(_equal, one, other)) for one, other in zip(first, second, strict=True)
    ):
        findings.warning(
            "the same seed and actions gave different episodes: runs cannot be repeated, and interrupted episodes are "
            "closed as truncated"
        )
        return "truncate"
    return "replay"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return isinstance(b, tuple | list) and len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def _copy(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _copy(value) for key, value in observation.items()}
    if isinstance(observation, tuple | list):
        return tuple(_copy(value) for value in observation)
    return np.array(observation)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
