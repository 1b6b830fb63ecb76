"""Both DreamerV3s at their least, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from reverie.agents.dreamer import DreamerLearner
from reverie.agents.dreamer_sizes import Size, Size2023
from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config, DreamerV3Learner
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023, DreamerV3Of2023Config, DreamerV3Of2023Learner
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec

LEAST = Size(deter=8, hidden=6, classes=4, depth=2, units=8, stoch=3, blocks=4)
LEAST_2023 = Size2023(deter=6, units=8, depth=2, layers=1, stoch=3, classes=4, vector_layers=1, vector_units=8)
NOW = DreamerV3Config(size=LEAST, horizon=4)
THEN = DreamerV3Of2023Config(size=LEAST_2023, horizon=4)
MIXED = EnvSpec(
    "test",
    {
        "image": spaces.Box(0, 255, (8, 8, 1), np.uint8),
        "vector": spaces.Box(-10, 10, (4,), np.float32),
        "index": spaces.Discrete(3),
    },
    spaces.Discrete(3),
)


def now(
    env: EnvSpec, config: DreamerV3Config = NOW, device: torch.device | None = None, **spec: Any
) -> DreamerV3Learner:
    torch.manual_seed(0)
    recipe = DreamerV3(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(**{"learn": 5, **spec}), 3, device)
    assert isinstance(made, DreamerV3Learner)
    return made


def then(
    env: EnvSpec, config: DreamerV3Of2023Config = THEN, device: torch.device | None = None, **spec: Any
) -> DreamerV3Of2023Learner:
    torch.manual_seed(0)
    recipe = DreamerV3Of2023(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(**{"learn": 5, **spec}), 3, device)
    assert isinstance(made, DreamerV3Of2023Learner)
    return made


def warm(config: DreamerV3Config = NOW) -> DreamerV3Config:
    """The configuration without a warm-up, and a rate at which few updates move something."""
    return replace(config, opt=replace(config.opt, warmup=0, lr=1e-3))


def versions() -> dict[str, Any]:
    """Ways to make a learner, by the names of the agents."""
    return {"dreamerv3-2023": then, "dreamerv3": now}


def shuffle_outputs(agent: DreamerLearner) -> None:
    """Give heads that begin with zeros something to say."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for head in (agent.model.reward.head, agent.critic.head, agent.slow_critic.head):
            head.out.weight.copy_(torch.randn(head.out.weight.shape, generator=generator) * 0.3)
            head.out.bias.copy_(torch.randn(head.out.bias.shape, generator=generator) * 0.3)
