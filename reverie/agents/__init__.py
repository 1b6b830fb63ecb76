"""Agents: one file each, inheriting along published lineage."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from reverie.errors import UserError, suggest


@dataclass(frozen=True)
class Entry:
    """Where an agent lives and what it is. module: its file; learner, config: class names in it."""

    module: str
    learner: str
    config: str
    paper: str
    summary: str

    def load(self) -> tuple[Any, Any]:
        """(learner class, config class)."""
        module = import_module(self.module)
        return getattr(module, self.learner), getattr(module, self.config)


AGENTS: dict[str, Entry] = {
    "dqn": Entry(
        module="reverie.agents.dqn",
        learner="DQN",
        config="DQNConfig",
        paper="Mnih et al. 2015, Nature 518",
        summary="action values from replayed transitions; double, dueling, n-step and prioritised are settings",
    ),
    "rainbow": Entry(
        module="reverie.agents.rainbow",
        learner="Rainbow",
        config="RainbowConfig",
        paper="Hessel et al. 2018, arXiv 1710.02298",
        summary="DQN with six extensions: double, prioritised, dueling, n-step, distributional (C51), noisy layers",
    ),
    "iqn": Entry(
        module="reverie.agents.iqn",
        learner="IQN",
        config="IQNConfig",
        paper="Dabney et al. 2018, arXiv 1806.06923",
        summary="DQN that learns quantiles of the return at random levels",
    ),
    "drqn": Entry(
        module="reverie.agents.drqn",
        learner="DRQN",
        config="DRQNConfig",
        paper="Hausknecht & Stone 2015, arXiv 1507.06527",
        summary="DQN that sees one frame and remembers the rest in an LSTM",
    ),
    "r2d2": Entry(
        module="reverie.agents.r2d2",
        learner="R2D2",
        config="R2D2Config",
        paper="Kapturowski et al. 2019, ICLR",
        summary="recurrent double dueling DQN on prioritised sequences, with stored states and burn-in",
    ),
    "dreamerv2": Entry(
        module="reverie.agents.dreamerv2",
        learner="DreamerV2",
        config="DreamerV2Config",
        paper="Hafner et al. 2021, arXiv 2010.02193",
        summary="world model with categorical latents; actor and critic learn in its dreams",
    ),
    "harmonydream": Entry(
        module="reverie.agents.harmonydream",
        learner="HarmonyDream",
        config="HarmonyDreamConfig",
        paper="Ma et al. 2024, arXiv 2310.00344",
        summary="DreamerV2 whose observation, reward and dynamics losses are balanced by learned scales",
    ),
}


def find(name: str) -> Entry:
    """The entry of an agent. Raises UserError for an unknown name."""
    if name not in AGENTS:
        raise UserError(f"unknown agent {name!r}{suggest(name, AGENTS)}")
    return AGENTS[name]
