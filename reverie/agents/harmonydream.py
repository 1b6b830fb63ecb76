"""HarmonyDream over a Dreamer: observation, reward and dynamics losses are weighed by learned scales.

A Dreamer's model minimises fixed multiples of its losses. Here each of three groups has a learned scale sigma = e^s::

    L = L_observation / sigma_o + L_reward / sigma_r + L_dynamics / sigma_d + sum of log(1 + sigma) + scale * L_discount

s starts at 0 (all weights 1) and is learned by the model's optimiser, so the weighted losses drift to one scale at a
pace of about a learning rate per learner_step. L_observation is the sum over *all* decoded keys, L_dynamics the
balanced and clipped KL. Constants of the likelihoods are dropped: kept, 0.919 nats per pixel would rule sigma_o.

Which Dreamer is harmonised is said by ``agent.base``. Nothing else of it changes, so that HarmonyDream is that recipe
with settings whose ``balance`` is ``harmony``. Another base is one entry of `BASES` and one class of settings.

Source: Ma et al. 2024, "HarmonyDream: Task Harmonization Inside World Models", ICML (arXiv 2310.00344), section 3, and
its released code. Hook: ``balance`` (`WorldModel.balance`, `reverie.nets.balance.Harmony`).
Differs from the released code in: vectors and further cameras stay in the loss (there they are dropped silently); the
parent's decoupled weight shrink instead of Adam's L2; over DreamerV3 log(1 + sigma_d) counts wholly, there 0.5 / 0.6 of
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from reverie.agents.based import Base, BasedAgent
from reverie.agents.denoised import DenoisedConfig, DenoisedMDP
from reverie.agents.dreamerpro import DreamerPro, DreamerProConfig
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config
from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023, DreamerV3Of2023Config
from reverie.nets.balance import BalanceKind


@dataclass(frozen=True)
class HarmonyDreamConfig(DreamerV2Config):
    """The base's settings with another balance; observation_scale, reward_scale and kl_scale are not used with it.

    base: the agent that is harmonised. Its settings are those of that agent, so that it cannot be changed afterwards.
    """

    balance: BalanceKind = "harmony"
    base: Literal["dreamerv2"] = "dreamerv2"


@dataclass(frozen=True)
class HarmonyDreamV3Of2023Config(DreamerV3Of2023Config):
    """The same over DreamerV3 of 2023. base: see `HarmonyDreamConfig`."""

    balance: BalanceKind = "harmony"
    base: Literal["dreamerv3-2023"] = "dreamerv3-2023"


@dataclass(frozen=True)
class HarmonyDreamV3Config(DreamerV3Config):
    """The same over DreamerV3. base: see `HarmonyDreamConfig`."""

    balance: BalanceKind = "harmony"
    base: Literal["dreamerv3"] = "dreamerv3"


@dataclass(frozen=True)
class HarmonyDreamProConfig(DreamerProConfig):
    """The same over DreamerPro, whose observation group is all of its objective. base: see `HarmonyDreamConfig`."""

    balance: BalanceKind = "harmony"
    base: Literal["dreamerpro"] = "dreamerpro"


@dataclass(frozen=True)
class HarmonyDenoisedConfig(DenoisedConfig):
    """The same over Denoised MDP, whose dynamics are the sum of its weighted KLs. base: see `HarmonyDreamConfig`."""

    balance: BalanceKind = "harmony"
    base: Literal["denoised"] = "denoised"


BASES: dict[str, Base] = {
    "dreamerv2": Base(DreamerV2, HarmonyDreamConfig),
    "dreamerv3-2023": Base(DreamerV3Of2023, HarmonyDreamV3Of2023Config),
    "dreamerv3": Base(DreamerV3, HarmonyDreamV3Config),
    "dreamerpro": Base(DreamerPro, HarmonyDreamProConfig),
    "denoised": Base(DenoisedMDP, HarmonyDenoisedConfig),
}
"""what ``agent.base`` may be, the default first"""


class HarmonyDream(BasedAgent):
    """Recipe of a Dreamer whose world model balances itself."""

    Config: ClassVar[type] = HarmonyDreamConfig
    learners: ClassVar[bool] = True
    bases: ClassVar[Mapping[str, Base]] = BASES
    refusal: ClassVar[str] = "cannot be harmonised"
