"""HarmonyDream: its base's presets with the harmonious loss in place of fixed weights.

The paper keeps every other number of its base. Weights that a base's preset fixes (KL, reward, observation) are not
used; the discount keeps its own. Source: Ma et al. 2024 (arXiv 2310.00344), appendix on implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reverie.agents.harmonydream import BASES, base_of
from reverie.config import Config
from reverie.presets import dreamerv2, dreamerv3, dreamerv3_2023
from reverie.presets.parts import inherited
from reverie.presets.task import Preset, Task

TABLES: Mapping[str, Mapping[str, Preset]] = {
    "dreamerv2": dreamerv2.PRESETS,
    "dreamerv3-2023": dreamerv3_2023.PRESETS,
    "dreamerv3": dreamerv3.PRESETS,
}


def harmonised(make_base: Preset, base: str) -> Preset:
    """The preset of a base, for HarmonyDream."""

    def make(task: Task) -> Config:
        config = make_base(task)
        agent = base_of(base).config(**inherited(config.agent, "balance"))
        return replace(config, name="harmonydream", agent=agent)

    make.__doc__ = f"HarmonyDream, otherwise as: {(make_base.__doc__ or '').strip().splitlines()[0]}"
    return make


def presets_over(base: str) -> dict[str, Preset]:
    """The presets over a base, the default first. Raises UserError for another base."""
    base_of(base)
    return {name: harmonised(make, base) for name, make in TABLES[base].items()}


PRESETS: dict[str, Preset] = presets_over(next(iter(BASES)))
