"""The part of `check_env` for sources that have no single environment beneath: what their rows say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK, OBS, Rows, observations
from reverie.envs.env import ResumeError, VectorEnv
from reverie.envs.faults import EnvFault
from reverie.envs.findings import Findings


def check_rows(env: VectorEnv, make: Callable[[], Any], findings: Findings, env_steps: int, seed: int) -> str:
    """Kind of resume, after `env_steps` random actions whose rows are looked at. make: makes another such source."""
    try:
        _play(env, findings, env_steps, seed)
    except EnvFault as fault:
        findings.problem("step()", str(fault))
        return "unknown"
    return _resume(env, make, findings)


def _play(env: VectorEnv, findings: Findings, env_steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, count = env.reset(seed), 0
    findings.observe({k: v[0] for k, v in observations(rows).items()}, is_first=True)
    is_last = False
    while count < env_steps:
        step = env.step(_sample(env, rng, rows))
        for rows in [step.rows] if step.ends is None else [step.ends, step.rows]:
            first = bool(rows["is_first"][0])
            findings.observe({k: v[0] for k, v in observations(rows).items()}, is_first=first)
            if not first:
                is_last = bool(rows["is_last"][0])
                findings.reward(rows["reward"][0], is_last, bool(rows["is_terminal"][0]))
                count += 1


def _sample(env: VectorEnv, rng: np.random.Generator, rows: Rows) -> np.ndarray:
    """Random actions for rows, of those that a mask allows."""
    space = env.spec.action
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return rng.uniform(-1.0, 1.0, (env.num_envs, *(space.shape or ()))).astype(np.float32)
    factors = [int(space.n)] if isinstance(space, spaces.Discrete) else [int(n) for n in space.nvec]
    ones = np.ones((env.num_envs, sum(factors)))
    mask = np.split(rows[OBS + ACTION_MASK] if env.spec.action_mask else ones, np.cumsum(factors)[:-1], -1)
    draws = [np.where(part > 0.5, rng.random(part.shape), -1.0).argmax(-1) for part in mask]
    return draws[0] if isinstance(space, spaces.Discrete) else np.stack(draws, -1)


def _resume(env: VectorEnv, make: Callable[[], Any], findings: Findings) -> str:
    if env.spec.resume == "truncate":
        return "truncate"
    other = make()
    try:
        other.load_state_dict(env.state_dict())
    except ResumeError as error:
        findings.problem("resume", str(error))
        return "truncate"
    finally:
        other.close()
    return str(env.spec.resume)
