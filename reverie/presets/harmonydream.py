"""HarmonyDream: its base's presets with the harmonious loss in place of fixed weights.

The paper keeps every other number of its base, and so do all presets but `cpu` over DreamerV3 (`OWN`). Weights that a
base's preset fixes (KL, reward, observation) are not used; the discount keeps its own.
Source: Ma et al. 2024 (arXiv 2310.00344), appendix on implementation.
"""

from __future__ import annotations

from collections.abc import Mapping

from reverie.agents.harmonydream import HarmonyDream
from reverie.config import Config
from reverie.presets import denoised, dreamerpro, dreamerv2, dreamerv3, dreamerv3_2023
from reverie.presets.parts import built_on, inherited
from reverie.presets.task import Preset

TABLES: Mapping[str, Mapping[str, Preset]] = {
    "dreamerv2": dreamerv2.PRESETS,
    "dreamerv3-2023": dreamerv3_2023.PRESETS,
    "dreamerv3": dreamerv3.PRESETS,
    "dreamerpro": dreamerpro.PRESETS,
    "denoised": denoised.PRESETS,
}

OWN: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("dreamerv3", "cpu"): {"entropy": 0.06, "entropy_end": 0.003, "entropy_over": 0.6},
}
"""settings by base and preset that are not the base's: there one run of five never tried what it needed
(docs/dreamerv3.md)"""


def presets_over(base: str) -> dict[str, Preset]:
    """The presets over a base, the default first. Raises UserError for another base."""
    settings = HarmonyDream.base_of(base).config

    def harmonised(preset: str, config: Config) -> object:
        return settings(**{**inherited(config.agent, "balance"), **OWN.get((base, preset), {})})

    return built_on(TABLES[base], "harmonydream", "HarmonyDream", harmonised)


PRESETS: dict[str, Preset] = presets_over(next(iter(HarmonyDream.bases)))
