"""A world model with random networks and an environment of its dreams, for tests."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config
from reverie.agents.worldmodel import WorldModel
from reverie.data.rows import State
from reverie.envs.env import EnvSpec
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.play.dream_env import DreamEnv, Ends

HEAD = HeadConfig(layers=1, units=8)
CODE = EncoderConfig(depth=2, layers=1, units=8)
CONFIG = DreamerV2Config(
    encoder=CODE,
    decoder=CODE,
    rssm=RSSMConfig(deter=6, hidden=6, stoch=3, classes=4),
    reward=HEAD,
    discount=HEAD,
    actor=HEAD,
    critic=HEAD,
    reward_transform="symlog",
)
SPEC = EnvSpec(
    "everything",
    {
        "image": spaces.Box(0, 255, (8, 12, 3), np.uint8),
        "vector": spaces.Box(-0.1, 0.1, (2, 2), np.float32),
        "index": spaces.Discrete(5),
        "indices": spaces.MultiDiscrete([2, 3]),
    },
    spaces.Discrete(3),
)


def model(config: DreamerV2Config = CONFIG, env: EnvSpec = SPEC) -> WorldModel:
    """The same one every time."""
    torch.manual_seed(0)
    recipe = DreamerV2(config, env)
    return recipe.model(recipe.policy())


def starts(of: WorldModel, count: int = 5) -> State:
    """States that nothing was seen in."""
    drawn = torch.Generator().manual_seed(1)
    return {name: torch.randn(v.shape, generator=drawn) for name, v in of.initial_state(count).items()}


def dream(num_envs: int = 3, ends: Ends | None = None, config: DreamerV2Config = CONFIG) -> DreamEnv:
    """Dreams that mostly end by themselves after a few env_steps."""
    made = model(config)
    return DreamEnv(made, SPEC, starts(made), num_envs, ends or Ends(threshold=None, length=9))
