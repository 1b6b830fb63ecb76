"""Plan2Explore: its base's presets with an explorer; published numbers are those of the code of DreamerV2.

There: 10 members of 4 x 400, latents predicted, the standard deviation as reward, Adam at 3e-4. Numbers of the small
sizes are ours: 5 members as wide as the base's heads, the variance, divided by its running mean so that it suits the
base's entropy whatever its size; over DreamerV2 a tenth of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.agents.plan2explore import Plan2Explore
from reverie.config import Config, StoreConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.presets import dreamerv2, dreamerv3, dreamerv3_2023
from reverie.presets.parts import built_on, inherited
from reverie.presets.task import Preset, Task

TABLES: Mapping[str, Mapping[str, Preset]] = {
    "dreamerv2": dreamerv2.PRESETS,
    "dreamerv3-2023": dreamerv3_2023.PRESETS,
    "dreamerv3": dreamerv3.PRESETS,
}


def small(agent: Any) -> dict[str, Any]:
    """Settings of an explorer for the small sizes. DreamerV3 divides returns by their range, DreamerV2 does not."""
    heads = getattr(agent, "reward", None) or HeadConfig(2, agent.size.units, "silu")
    scale = 0.1 if isinstance(agent, DreamerV2Config) else 1.0
    ensemble = {
        "ensemble": replace(heads, layers=2),
        "members": 5,
        "intrinsic_momentum": 0.95,
        "intrinsic_scale": scale,
    }
    return ensemble | ({"ensemble_opt": agent.model_opt} if hasattr(agent, "model_opt") else {})


def presets_over(base: str) -> dict[str, Preset]:
    """The presets over a base, the default first. Raises UserError for another base."""
    settings = Plan2Explore.base_of(base).config

    def exploring(preset: str, config: Config) -> object:
        blind = tuple(head for head in config.agent.grad_heads if head != "reward")
        own = small(config.agent) if preset.startswith("cpu") else {"spread": "std"}
        return settings(**inherited(config.agent, "grad_heads"), grad_heads=blind, **own)

    made = built_on(TABLES[base], "plan2explore", "Plan2Explore", exploring)
    return made | ({"dmc-vision-paper": dmc_vision_paper} if base == "dreamerv2" else {})


def dmc_vision_paper(task: Task) -> Config:
    """Plan2Explore on the control suite by its paper's own numbers, but over DreamerV2: 4M frames without rewards.

    5 members of 2 x 1024 that predict the embedding, the variance times 10 000; all rows are kept, 25 GB. Source:
    arXiv 2005.05960 and github.com/ramanans1/plan2explore (2M env_steps of exploration).
    """
    config = presets_over("dreamerv2")["dmc-vision"](task)
    agent = replace(
        config.agent,
        ensemble=HeadConfig(2, 1024, "relu"),
        members=5,
        predicts="embed",
        spread="variance",
        intrinsic_scale=10_000.0,
        ensemble_opt=OptimConfig(lr=config.agent.model_opt.lr),
    )
    replay = replace(config.replay, store=StoreConfig(25_000_000_000))
    return replace(config, agent=agent, replay=replay, run=replace(config.run, frames=4_000_000))


PRESETS: dict[str, Preset] = presets_over(next(iter(Plan2Explore.bases)))
