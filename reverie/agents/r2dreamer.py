"""R2-Dreamer: DreamerV3 whose states say what is seen without a decoder, by redundancy reduction.

::

    DreamerV3      L = |o - o^|^2 + reward + continuation + dynamics + 0.1 representation
    R2-Dreamer     L = 0.05 redundancy(W s, sg e) + reward + continuation + dynamics + 0.1 representation

The encoder learns by what posteriors need, not by this loss: its embedding is the target. Nothing can be looked at in
its dreams.

Source: R2-Dreamer, ICLR 2026, and its code (github.com/NM512/r2dreamer). Parent: DreamerV3. Hook:
`ModelAgent.objective_of` (`reverie.agents.redundancy`). Differs from its code in: the parent, which is DreamerV3 as its
official code has it; see docs/r2dreamer.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.objective import Objective
from reverie.agents.redundancy import Redundancy
from reverie.values import Scale


@dataclass(frozen=True)
class R2DreamerConfig(DreamerV3Config):
    """DreamerV3's settings. observation_scale: of the redundancy loss.

    others: weight in it of correlations between different entries. ``decoder`` in grad_heads stands for it.
    """

    observation_scale: Scale = 0.05
    others: Scale = 5e-4


class R2Dreamer(DreamerV3):
    """Recipe of DreamerV3 with redundancy reduction."""

    config: R2DreamerConfig
    Config: ClassVar[type] = R2DreamerConfig
    masks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError for a mask of actions, which dreams would have to be told."""
        super().__post_init__()
        if self.env.action_mask:
            raise ValueError("its dreams cannot tell which actions a mask allows; say --env.options.action_mask ignore")

    def objective_of(self, policy: FilterPolicy) -> Objective:
        """Redundancy reduction between the features and the embeddings of the policy's encoder."""
        return Redundancy(policy.rssm.features, policy.encoder.outputs, self.config.others)
