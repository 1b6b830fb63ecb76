"""The objective of R2-Dreamer: what is remembered shall tell what is seen, entry by entry and without repeating itself.

::

    picture --encoder--> e (no gradient)   \\
                                             >  correlations over all rows of a batch: 1 on the diagonal, 0 elsewhere
    state   --W------->  W s               /

No pixel is told, nothing is augmented, nothing follows slowly.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reverie.agents.objective import Objective
from reverie.agents.seen import Seen
from reverie.ops.redundancy import redundancy


class Redundancy(Objective):
    """Redundancy reduction between projected features of states and embeddings of observations.

    features, embed: their sizes. others: weight of correlations between different entries.
    Source: R2-Dreamer, ICLR 2026, and its code (NM512/r2dreamer).
    """

    def __init__(self, features: int, embed: int, others: float) -> None:
        super().__init__()
        self.others = others
        self.project = nn.Linear(features, embed, bias=False)  # a bias would cancel

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss redundancy over all rows; the embeddings get no gradient from it."""
        told = self.project(seen.features).float().flatten(0, 1)
        return {"redundancy": redundancy(told, seen.embed.detach().float().flatten(0, 1), self.others)}
