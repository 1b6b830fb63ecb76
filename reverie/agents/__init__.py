"""Agents: one file each, inheriting along published lineage; and how one is found by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from reverie.errors import UserError, suggest
from reverie.outside import import_outside

if TYPE_CHECKING:
    from reverie.agents.agent import Agent

GROUP = "reverie.agents"
"""entry points under which other packages register agents: ``name = "package.module:Class"``"""


@dataclass(frozen=True)
class Entry:
    """Place of an agent and what it is. path: ``package.module:Class`` of its `reverie.agents.agent.Agent`."""

    path: str
    paper: str = ""
    summary: str = ""

    def load(self) -> type[Agent]:
        """The agent's class. Raises UserError if the path does not lead to one."""
        from reverie.agents.agent import Agent

        module, _, name = self.path.partition(":")
        if not (module and name) or module.startswith("."):
            raise UserError(f"{self.path!r} does not lead to an agent: expected package.module:Class")
        home = import_outside(self.path, module)
        agent = getattr(home, name, None)
        if agent is None:
            classes = [other for other, value in vars(home).items() if isinstance(value, type)]
            raise UserError(f"{self.path}: module {module} has no class {name!r}{suggest(name, classes)}")
        if not (isinstance(agent, type) and issubclass(agent, Agent)):
            raise UserError(f"{self.path} is not an agent: expected a class that inherits reverie.Agent")
        _check_settings(self.path, agent)
        return agent


def _check_settings(path: str, agent: type[Agent]) -> None:
    """Raise UserError if an agent's `Config` is not what `reverie.Agent.Config` asks for."""
    config = getattr(agent, "Config", None)
    parameters = getattr(config, "__dataclass_params__", None)
    if config is None or parameters is None or not parameters.frozen:
        raise UserError(f"{path} has no settings: its Config must be a frozen dataclass, every field with a default")


AGENTS: dict[str, Entry] = {
    "dqn": Entry(
        path="reverie.agents.dqn:DQN",
        paper="Mnih et al. 2015, Nature 518",
        summary="action values from replayed transitions; double, dueling, n-step and prioritised are settings",
    ),
    "rainbow": Entry(
        path="reverie.agents.rainbow:Rainbow",
        paper="Hessel et al. 2018, arXiv 1710.02298",
        summary="DQN with six extensions: double, prioritised, dueling, n-step, distributional (C51), noisy layers",
    ),
    "iqn": Entry(
        path="reverie.agents.iqn:IQN",
        paper="Dabney et al. 2018, arXiv 1806.06923",
        summary="DQN that learns quantiles of the return at random levels",
    ),
    "apex": Entry(
        path="reverie.agents.apex:ApeX",
        paper="Horgan et al. 2018, arXiv 1803.00933",
        summary="double dueling DQN fed by many actors, each exploring in its own way and scoring its own rows",
    ),
    "apex-dpg": Entry(
        path="reverie.agents.apex_dpg:ApeXDPG",
        paper="Horgan et al. 2018, arXiv 1803.00933",
        summary="Ape-X for continuous actions: deterministic policy gradients from prioritised replay",
    ),
    "drqn": Entry(
        path="reverie.agents.drqn:DRQN",
        paper="Hausknecht & Stone 2015, arXiv 1507.06527",
        summary="DQN that sees one frame and remembers the rest in an LSTM",
    ),
    "r2d2": Entry(
        path="reverie.agents.r2d2:R2D2",
        paper="Kapturowski et al. 2019, ICLR",
        summary="recurrent double dueling DQN on prioritised sequences, with stored states and burn-in",
    ),
    "a2c": Entry(
        path="reverie.agents.a2c:A2C",
        paper="Mnih et al. 2016, arXiv 1602.01783",
        summary="synchronous actor-critic: n-step returns of many environments in step, each row learned once",
    ),
    "a3c": Entry(
        path="reverie.agents.a3c:A3C",
        paper="Mnih et al. 2016, arXiv 1602.01783",
        summary="A2C whose workers send gradients, stale by then, to one owner of parameters and RMSProp's squares",
    ),
    "impala": Entry(
        path="reverie.agents.impala:IMPALA",
        paper="Espeholt et al. 2018, arXiv 1802.01561",
        summary="actor-critic that corrects for what older parameters did (V-trace), with deep networks and memory",
    ),
    "planet": Entry(
        path="reverie.agents.planet:PlaNet",
        paper="Hafner et al. 2019, arXiv 1811.04551",
        summary="world model with Gaussian latents, planned in at every decision; no actor, no critic",
    ),
    "tdmpc": Entry(
        path="reverie.agents.tdmpc:TDMPC",
        paper="Hansen et al. 2022, arXiv 2203.04955",
        summary="latent model of rewards and values alone, planned in by MPPI at every decision; prioritised windows",
    ),
    "tdmpc2": Entry(
        path="reverie.agents.tdmpc2:TDMPC2",
        paper="Hansen et al. 2024, arXiv 2310.16828",
        summary="latent model without pictures, planned in by MPPI at every decision, with values after the horizon",
    ),
    "dreamerv1": Entry(
        path="reverie.agents.dreamerv1:DreamerV1",
        paper="Hafner et al. 2020, arXiv 1912.01603",
        summary="world model with Gaussian latents; an actor learns from gradients through its dreams",
    ),
    "dreamerv2": Entry(
        path="reverie.agents.dreamerv2:DreamerV2",
        paper="Hafner et al. 2021, arXiv 2010.02193",
        summary="world model with categorical latents; actor and critic learn in its dreams",
    ),
    "dreamerv3-2023": Entry(
        path="reverie.agents.dreamerv3_2023:DreamerV3Of2023",
        paper="Hafner et al. 2023, arXiv 2301.04104v1",
        summary="DreamerV2 with one set of settings for all tasks, as first published",
    ),
    "dreamerv3": Entry(
        path="reverie.agents.dreamerv3:DreamerV3",
        paper="Hafner et al. 2025, Nature 640",
        summary="DreamerV3 as it is now: block GRU, one LaProp, replayed values, states written back",
    ),
    "dreamerpro": Entry(
        path="reverie.agents.dreamerpro:DreamerPro",
        paper="Deng et al. 2022, arXiv 2110.14565",
        summary="DreamerV2 without a decoder: prototypes, Sinkhorn, a slow encoder, pictures moved by a few pixels",
    ),
    "repo": Entry(
        path="reverie.agents.repo:RePo",
        paper="Zhu et al. 2023, arXiv 2309.00082",
        summary="Dreamer V1 that keeps what rewards need and the past foretells: a KL under a constraint, no pictures",
    ),
    "denoised": Entry(
        path="reverie.agents.denoised:DenoisedMDP",
        paper="Wang et al. 2022, arXiv 2206.15477",
        summary="Dreamer V1 with a factored memory: it dreams of what actions reach, noise has chains of its own",
    ),
    "r2dreamer": Entry(
        path="reverie.agents.r2dreamer:R2Dreamer",
        paper="R2-Dreamer, ICLR 2026",
        summary="DreamerV3 without a decoder: states correlate with what is seen, entry by entry, and not otherwise",
    ),
    "harmonydream": Entry(
        path="reverie.agents.harmonydream:HarmonyDream",
        paper="Ma et al. 2024, arXiv 2310.00344",
        summary="a Dreamer (agent.base) whose observation, reward and dynamics losses are balanced by learned scales",
    ),
    "plan2explore": Entry(
        path="reverie.agents.plan2explore:Plan2Explore",
        paper="Sekar et al. 2020, arXiv 2005.05960",
        summary="a Dreamer (agent.base) that explores where an ensemble disagrees; rewards do not shape its model",
    ),
}


@cache
def registered() -> Mapping[str, Entry]:
    """Agents of other installed packages, by the name of their entry point; ours keep their names."""
    return {
        point.name: Entry(point.value, summary=f"of {point.dist.name if point.dist else 'another package'}")
        for point in entry_points(group=GROUP)
        if point.name not in AGENTS
    }


def agents() -> dict[str, Entry]:
    """All agents that have a name: ours, then those of other packages."""
    return {**AGENTS, **registered()}


def find(name: str) -> Entry:
    """The entry of an agent, by name or as ``package.module:Class``. Raises UserError for an unknown name."""
    if ":" in name:
        return Entry(name)
    entries = agents()
    if name not in entries:
        raise UserError(f"unknown agent {name!r}{suggest(name, entries)}, or package.module:Class of your own")
    return entries[name]
