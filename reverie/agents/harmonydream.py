"""HarmonyDream on DreamerV2: observation, reward and dynamics losses are weighed by learned scales.

DreamerV2's model minimises fixed multiples of its losses. Here each of three groups has a learned scale sigma = e^s::

    L = L_observation / sigma_o + L_reward / sigma_r + L_dynamics / sigma_d + sum of log(1 + sigma) + scale * L_discount

s starts at 0 (all weights 1) and is learned by the model's optimiser, so the weighted losses drift to one scale at a
pace of about a learning rate per learner_step. L_observation is the sum over *all* decoded keys, L_dynamics the
balanced and clipped KL. Constants of the likelihoods are dropped: kept, 0.919 nats per pixel would rule sigma_o.

Source: Ma et al. 2024, "HarmonyDream: Task Harmonization Inside World Models", ICML (arXiv 2310.00344), section 3, and
its released code. Parent: DreamerV2. Hook: ``balance`` (`WorldModel.balance`, `reverie.nets.balance.Harmony`).
Differs from the released code in: vectors and further cameras stay in the loss (there they are dropped silently); the
parent's decoupled weight shrink instead of Adam's L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config
from reverie.nets.balance import BalanceKind


@dataclass(frozen=True)
class HarmonyDreamConfig(DreamerV2Config):
    """DreamerV2's settings with another balance; observation_scale, reward_scale and kl_scale are not used with it."""

    balance: BalanceKind = "harmony"


class HarmonyDream(DreamerV2):
    """DreamerV2 whose world model balances itself."""

    Config: ClassVar[type] = HarmonyDreamConfig
