"""R2-Dreamer: DreamerV3's presets with redundancy reduction in place of a decoder.

The weights of its loss, 0.05 and 5e-4, are those of its code for all benchmarks, whose other numbers are DreamerV3's
(on Control its ``*-paper`` presets: action repeat 2). The code has 12M unless another size is asked for; presets here
have that on Control from the paper's table and DreamerV3's elsewhere, 200M on Atari: ``--agent.size 12M``.
"""

from __future__ import annotations

from reverie.agents.r2dreamer import R2DreamerConfig
from reverie.config import Config
from reverie.presets import dreamerv3
from reverie.presets.parts import built_on, inherited
from reverie.presets.task import Preset


def settings(preset: str, config: Config) -> R2DreamerConfig:
    """The settings of a preset of DreamerV3, but for the weight of observations."""
    return R2DreamerConfig(**inherited(config.agent, "observation_scale"))


PRESETS: dict[str, Preset] = built_on(dreamerv3.PRESETS, "r2dreamer", "R2-Dreamer", settings)
