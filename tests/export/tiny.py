"""Networks at their least with random parameters, ready to be exported, and streams of environments to run them in."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from reverie import overrides
from reverie.envs.single import single
from reverie.export.graphs import Parts, fresh
from reverie.presets import make_config
from reverie.run.build import build_env

SIZES: dict[str, Any] = {
    **{
        f"agent.{part}.{key}": value
        for part in ("encoder", "decoder")
        for key, value in {"depth": 2, "layers": 1, "units": 8}.items()
    },
    **{f"agent.rssm.{key}": value for key, value in {"deter": 8, "hidden": 8, "stoch": 3, "classes": 4}.items()},
    **{
        f"agent.{head}.{key}": value
        for head in ("actor", "critic", "reward", "discount")
        for key, value in {"layers": 1, "units": 8}.items()
    },
    **{f"agent.size.{key}": value for key, value in {"deter": 8, "hidden": 8, "stoch": 3, "classes": 4}.items()},
    **{f"agent.size.{key}": value for key, value in {"depth": 4, "units": 8, "blocks": 4, "layers": 1}.items()},
    **{f"agent.size.{key}": value for key, value in {"vector_layers": 1, "vector_units": 8}.items()},
    **{f"agent.torso.{key}": value for key, value in {"units": 8, "channels": [4, 4], "dense": 8}.items()},
    **{
        f"agent.plan.{key}": value
        for key, value in {"candidates": 12, "elites": 3, "iterations": 2, "horizon": 2}.items()
    },
    "agent.hidden": 8,
    "agent.units": 8,
    "agent.samples": 4,
}


CATCH: dict[str, Any] = {"size": 16, "cells": 4}
"""options of a board with few pixels"""


def tiny(agent: str, env: str, options: dict[str, Any] | None = None, spread: float = 0.2, **changes: Any) -> Parts:
    """Parts of an agent in an environment, always the same. changes: ``agent__stack=3`` for ``agent.stack``.

    spread: of the noise on weights.
    """
    options = CATCH if env == "toy/catch" and options is None else options
    config = make_config(agent, "cpu", env, options=options)
    keys = overrides.flatten(config)
    given = {key: value for key, value in SIZES.items() if key in keys}
    config = overrides.apply(config, given | {key.replace("__", "."): value for key, value in changes.items()})
    torch.manual_seed(0)
    parts = fresh(config)
    for part in (parts.policy, parts.model):
        if part is not None:
            shake(part, spread)
    return parts


def shake(part: nn.Module, spread: float) -> None:
    """Give a network weights that make it do various things, and normalisers other statistics than at first."""
    generator = torch.Generator().manual_seed(2)
    for parameter in part.parameters():
        if parameter.dim() > 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    for name, buffer in part.named_buffers():
        if name.endswith(("statistics.0.mean", "statistics.0.variance", "statistics.0.weight")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.1)


class Streams:
    """Plain environments side by side, whose episodes end by themselves or after `length` env_steps and a few more.

    Observations are as they give them, by the keys of rows, stacked: ``obs.<key>``.
    """

    def __init__(self, parts: Parts, count: int = 3, length: int = 23) -> None:
        env = parts.config.env
        self.parts, self.length = parts.adapter.observation.parts, length
        self.masked = parts.adapter.masks is not None and parts.adapter.masks.source == "info"
        self.envs: list[gymnasium.Env[Any, Any]] = [single(build_env(parts.config, 1)) for _ in range(count)]
        self.id = env.id
        self.info: list[dict[str, Any]] = []
        self.obs: list[Any] = []
        self.reward = np.zeros(count, np.float32)
        self.is_first = np.ones(count, bool)
        self.age = np.zeros(count, np.int64)
        for i, each in enumerate(self.envs):
            obs, info = each.reset(seed=i)
            self.obs.append(obs)
            self.info.append(info)

    def given(self) -> dict[str, np.ndarray]:
        """What all streams show now: observations, rewards, and where episodes begin."""
        seen = {f"obs.{part.key}": np.stack([np.asarray(_at(o, part.path)) for o in self.obs]) for part in self.parts}
        seen = {f"obs.{part.key}": seen[f"obs.{part.key}"].astype(part.own.dtype) for part in self.parts}
        masks = {"action_mask": np.stack([info["action_mask"] for info in self.info])} if self.masked else {}
        return seen | masks | {"reward": self.reward.copy(), "is_first": self.is_first.copy()}

    def step(self, actions: np.ndarray) -> None:
        """Step all streams; those that end begin anew."""
        for i, each in enumerate(self.envs):
            assert each.action_space.contains(actions[i]), actions[i]
            obs, reward, terminated, truncated, info = each.step(actions[i])
            self.age[i] += 1
            over = terminated or truncated or self.age[i] >= self.length + i
            if over:
                obs, info = each.reset()
                self.age[i] = 0
            self.obs[i], self.info[i] = obs, info
            self.reward[i], self.is_first[i] = 0.0 if over else reward, over


def _at(observation: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        observation = observation[name]
    return observation
