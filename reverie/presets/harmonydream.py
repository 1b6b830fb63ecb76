"""HarmonyDream: DreamerV2's presets with the harmonious loss in place of fixed weights.

The paper keeps every other number of its base. Weights that a DreamerV2 preset fixes (KL, reward, observation) are not
used; the discount keeps its own. Source: Ma et al. 2024 (arXiv 2310.00344), appendix on implementation.
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.harmonydream import HarmonyDreamConfig
from reverie.config import Config
from reverie.presets import dreamerv2
from reverie.presets.parts import inherited
from reverie.presets.task import Preset, Task


def harmonised(base: Preset) -> Preset:
    """The preset of DreamerV2, for HarmonyDream."""

    def make(task: Task) -> Config:
        config = base(task)
        agent = HarmonyDreamConfig(**inherited(config.agent, "balance"), balance="harmony")
        return replace(config, name="harmonydream", agent=agent)

    make.__doc__ = f"HarmonyDream, otherwise as: {(base.__doc__ or '').strip().splitlines()[0]}"
    return make


PRESETS: dict[str, Preset] = {name: harmonised(make) for name, make in dreamerv2.PRESETS.items()}
