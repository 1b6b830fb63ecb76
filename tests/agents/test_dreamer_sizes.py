"""Sizes of DreamerV3 have the published numbers of parameters; networks are made without memory (device meta)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from reverie import overrides
from reverie.agents.dreamer_sizes import SIZES, SIZES_2023
from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023, DreamerV3Of2023Config
from reverie.envs.env import EnvSpec
from reverie.presets import make_config

RGB = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}
JOYSTICK = spaces.Discrete(18)
TORQUES = spaces.Box(-1, 1, (6,), np.float32)


def parameters(recipe: Any) -> dict[str, int]:
    """Parameters by part, and in all; without the slow critic."""
    with torch.device("meta"):
        policy = recipe.policy()
        model = recipe.model(policy)
        critic = recipe.critic(policy.rssm.features)

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    parts = (policy.encoder, policy.rssm, model.objective, model.reward, model.discount, policy.actor, critic)
    counts = dict(zip(("enc", "dyn", "dec", "rew", "con", "pol", "val"), map(count, parts), strict=True))
    assert sum(counts.values()) == count(model) + count(policy.actor) + count(critic)
    return counts | {"total": sum(counts.values())}


PUBLISHED = {
    "1M": (14_304, 377_472, 80_595, 57_663, 41_153, 50_706, 66_111, 688_004),
    "12M": (220_416, 5_982_720, 1_272_003, 721_407, 656_129, 792_594, 853_503, 10_498_772),
    "25M": (493_824, 13_446_912, 2_857_635, 1_573_503, 1_475_713, 1_778_706, 1_869_951, 23_496_244),
    "50M": (876_032, 23_892_992, 5_076_355, 2_753_279, 2_622_977, 3_158_034, 3_279_615, 41_659_284),
    "100M": (1_966_848, 53_730_816, 11_413_059, 6_095_871, 5_900_545, 7_096_338, 7_278_591, 93_482_068),
    "200M": (3_492_864, 95_496_192, 20_282_115, 10_749_183, 10_488_833, 12_607_506, 12_850_431, 165_967_124),
    "400M": (7_850_496, 214_809_600, 45_617_283, 23_987_967, 23_597_569, 28_348_434, 28_712_703, 372_924_052),
}
"""Encoder, dynamics, decoder, reward, continuation, policy, value, total: counted in the official code, for 64x64 RGB
pictures and 18 actions."""


@pytest.mark.parametrize("size", list(PUBLISHED))
def test_parameters_of_the_official_sizes(size: str) -> None:
    recipe = DreamerV3(DreamerV3Config(size=SIZES[size]()), EnvSpec("test", RGB, JOYSTICK))
    assert tuple(parameters(recipe).values()) == PUBLISHED[size]


def test_parameters_for_other_observations_and_actions() -> None:
    """96x96 grayscale at 200M, 24 numbers and 6 torques at 1M, pictures and 6 torques at 12M."""
    gray = {"image": spaces.Box(0, 255, (96, 96, 1), np.uint8)}
    atari = parameters(DreamerV3(DreamerV3Config(), EnvSpec("test", gray, JOYSTICK)))
    assert (atari["enc"], atari["dyn"], atari["dec"]) == (3_486_464, 100_739_072, 36_014_593)
    assert atari["total"] == 186_936_082
    state = {"state": spaces.Box(-1, 1, (24,), np.float32)}
    small, middle = DreamerV3Config(size=SIZES["1M"]()), DreamerV3Config(size=SIZES["12M"]())
    assert parameters(DreamerV3(small, EnvSpec("test", state, TORQUES)))["total"] == 640_867
    assert parameters(DreamerV3(middle, EnvSpec("test", RGB, TORQUES)))["total"] == 10_494_158


@pytest.mark.parametrize(("size", "millions"), [("S", 18), ("M", 37), ("L", 77), ("XL", 200)])
def test_parameters_of_2023(size: str, millions: int) -> None:
    """As the paper's table of sizes rounds them. Source: arXiv 2301.04104v1, appendix B."""
    config = DreamerV3Of2023Config(size=SIZES_2023[size]())
    total = parameters(DreamerV3Of2023(config, EnvSpec("test", RGB, JOYSTICK)))["total"]
    assert total / 1e6 == pytest.approx(millions, rel=0.01)


def test_sizes_are_chosen_by_name_and_then_changed() -> None:
    config = make_config("dreamerv3", "atari100k", "toy/catch")
    assert overrides.flatten(config)["agent.size.kind"] == "200M"
    changed = overrides.apply(config, {"agent.size": "12M", "agent.size.units": "300"}).agent.size
    assert (changed.deter, changed.hidden, changed.units) == (2048, 256, 300)
    document = overrides.to_dict(overrides.apply(config, {"agent.size": "12M"}))
    assert overrides.from_dict(config, document).agent.size == SIZES["12M"]()
