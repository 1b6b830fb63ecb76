"""DreamerPro: DreamerV2 whose model tells no pixels, but to which prototypes they belong.

::

    DreamerV2     L = -log p(o | s) + reward + discount + KL
    DreamerPro    L = swav + temporal + norm + reward_scale reward + discount + KL        (`reverie.agents.prototypes`)

Every batch stands twice side by side, each copy moved by a few pixels of its own, so that behaviour begins its dreams
from both. There is no decoder: nothing can be looked at in its dreams.

Source: Deng, Jang, Ahn, "DreamerPro: Reconstruction-Free Model-Based Reinforcement Learning with Prototypical
Representations", ICML 2022 (arXiv 2110.14565), and its code. Parent: DreamerV2. Hook: `ModelAgent.objective_of`.
Differs from its code in: the parent is DreamerV2 as released, there an older state of it (see docs/dreamerpro.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.objective import Objective
from reverie.agents.prototypes import Prototypes, PrototypesConfig


@dataclass(frozen=True)
class DreamerProConfig(DreamerV2Config):
    """DreamerV2's settings with prototypes; `decoder` is not used, and ``decoder`` in grad_heads stands for them.

    prototypes: of the objective.
    """

    prototypes: PrototypesConfig = field(default_factory=PrototypesConfig)


class DreamerPro(DreamerV2):
    """Recipe of DreamerV2 with prototypes."""

    config: DreamerProConfig
    Config: ClassVar[type] = DreamerProConfig
    masks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError where there is no picture, or a mask of actions, which dreams would have to be told."""
        super().__post_init__()
        if self.env.action_mask:
            raise ValueError("its dreams cannot tell which actions a mask allows; say --env.options.action_mask ignore")
        if not self.encoder().images:
            raise ValueError("DreamerPro learns from pictures that are moved: there is no image among the observations")

    @property
    def least_learned(self) -> int:
        """The first row of a window is given to no prototype."""
        return 2

    def objective_of(self, policy: FilterPolicy) -> Objective:
        """Prototypes of what the policy's encoder sees."""
        return Prototypes(policy.encoder, policy.rssm.features, self.config.prototypes)
