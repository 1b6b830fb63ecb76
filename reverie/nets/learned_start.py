"""The memory of DreamerV3 as of 2023: DreamerV2's, with a learned state before each episode and bounded actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.data.rows import State
from reverie.nets.layers import truncated_normal_
from reverie.nets.rssm import RSSM, RSSMConfig


class LearnedStartRSSM(RSSM):
    """RSSM whose episodes begin from h = tanh(w) and the likeliest z of the prior there, w learned from 0.

    Source: Hafner et al. 2023 (DreamerV3), arXiv 2301.04104v1, and its code (``initial: learned``, ``action_clip``).
    """

    def __init__(self, embed: int, action: int, config: RSSMConfig) -> None:
        super().__init__(embed, action, config)
        self.start = nn.Parameter(torch.zeros(config.deter))

    def reset_parameters(self) -> None:
        """Initialise the split posterior layer as the single layer [h; e] -> hidden that it is."""
        inputs = self.post_deter.in_features + self.post_embed.in_features
        for half in (self.post_deter, self.post_embed):
            truncated_normal_(half.weight, inputs, self.config.hidden, "avg")

    def first_state(self) -> State:
        """The learned state, [1, ...]. No gradient passes through z."""
        deter = torch.tanh(self.start).unsqueeze(0)
        return {"deter": deter, "stoch": self.latent.mode(self.prior(deter)).detach()}

    def feature(self, state: State) -> Tensor:
        """Features [h; z], in this order since DreamerV3."""
        return torch.cat([state["deter"], state["stoch"]], -1)

    def taken(self, action: Tensor) -> Tensor:
        """The bounded action."""
        return bounded(action)


def bounded(action: Tensor) -> Tensor:
    """a / sg(max(1, |a|)), elementwise: within [-1, 1], and never without a gradient. Source: DreamerV3's code."""
    return action / action.detach().abs().clamp(min=1.0)
