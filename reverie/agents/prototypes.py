"""The objective of DreamerPro: what is seen and what is remembered shall belong to the same prototypes.

::

    picture --two views--> encoder ---> e --W---> u  \\
                              |                       >  log softmax of u . c_k / temperature   should say
                           memory ---> s --W'--> f  /
    picture --two views--> slow encoder, slow W --> u'   Sinkhorn of u' . c_k: which prototypes it belongs to

No pixel is ever told. u' of one view teaches u of the other (what pictures have in common that were moved apart), and f
of its own view (what the memory must hold). Slow parts follow the others by a fraction after each update.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.agents.objective import Objective
from reverie.agents.seen import Seen
from reverie.nets.encoders import Encoder
from reverie.ops.precision import product
from reverie.ops.sinkhorn import sinkhorn
from reverie.ops.translate import translated
from reverie.values import Count, Number, Positive, Scale, Share


@dataclass(frozen=True)
class PrototypesConfig:
    """Defaults are the paper's, but for ``eps`` on Control, which is 0.0125.

    count, size: of the prototypes. temperature: of the predictions. eps, iterations: of Sinkhorn's algorithm.
    frozen: learner_steps for which the prototypes stay as they were drawn. follow: fraction by which the slow encoder
    follows per learner_step. shift: pixels by which views are moved at most. norm_scale: weight of the norm loss.
    """

    count: Count = 2500
    size: Count = 32
    temperature: Positive = 0.1
    eps: Positive = 0.05
    iterations: Count = 3
    frozen: Number = 10_000
    follow: Share = 0.05
    shift: Scale = 3.0
    norm_scale: Scale = 1.0


class Prototypes(Objective):
    """Cross-entropies between soft assignments to prototypes, of two views of every sequence.

    encoder: the model's, that the slow one follows. features: size of what heads read. The first row of a window, whose
    state begins from zeros, has no assignment loss.
    Source: Deng, Jang, Ahn 2022 (DreamerPro), section 3, and its code.
    """

    views = 2
    noise = 2
    updates: Tensor
    """learner_steps so far, int64 []"""

    def __init__(self, encoder: Encoder, features: int, config: PrototypesConfig) -> None:
        super().__init__()
        self.config = config
        self.online = (encoder,)  # no part of this module: its parameters are the model's
        self.see = nn.Linear(encoder.outputs, config.size)
        self.remember = nn.Linear(features, config.size)
        self.prototypes = nn.Parameter(torch.randn(config.count, config.size))
        self.slow_encoder = deepcopy(encoder).requires_grad_(False)
        self.slow_see = deepcopy(self.see).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Slow parts begin as copies; prototypes have length 1."""
        self.slow_encoder.load_state_dict(self.online[0].state_dict())
        self.slow_see.load_state_dict(self.see.state_dict())
        self.prototypes.copy_(F.normalize(self.prototypes, dim=-1))

    def augment(self, observations: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        """Pictures moved by up to `shift` pixels each way, by the same for all rows of a sequence; vectors as they are.

        u: uniform [T, 2 B, 2], of which the first row's decide.
        """
        shift, moved = (2 * u[0] - 1) * self.config.shift, dict(observations)
        for key in self.online[0].images:
            x = observations[key]
            rows = shift.expand(len(x), -1, -1)
            moved[key] = translated(x.flatten(0, 1), rows.flatten(0, 1)).unflatten(0, x.shape[:2])
        return moved

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses swav, temporal and, if it weighs anything, norm.

        ::

            swav      -1/2 mean q(v2) . log p(u of v1) - 1/2 mean q(v1) . log p(u of v2)
            temporal  -mean q(v) . log p(f of v), both views
            norm      mean (|u| - 1)^2 + mean (|f| - 1)^2
        """
        config = self.config
        u, f = self.see(seen.embed).float(), self.remember(seen.features).float()
        live = (self.updates >= config.frozen).float()
        prototypes = torch.lerp(self.prototypes.detach(), self.prototypes, live).float()
        with torch.no_grad():
            slow = self.scores(self.slow_see(self.slow_encoder.encode(seen.observations)), prototypes)
            target = [sinkhorn(x.flatten(0, 1), config.eps, config.iterations) for x in slow.chunk(2, 1)]
        seen_as, kept_as = (
            [F.log_softmax(x.flatten(0, 1) / config.temperature, -1) for x in self.scores(y, prototypes).chunk(2, 1)]
            for y in (u, f)
        )

        def entropy(which: int, log_p: Tensor) -> Tensor:
            return -(target[which] * log_p).sum(-1).mean()

        losses = {
            "swav": 0.5 * (entropy(1, seen_as[0]) + entropy(0, seen_as[1])),
            "temporal": 0.5 * (entropy(0, kept_as[0]) + entropy(1, kept_as[1])),
        }
        if config.norm_scale:
            norms = sum((x.norm(dim=-1) - 1).square().mean() for x in (u, f))
            losses["norm"] = config.norm_scale * torch.as_tensor(norms)
        return losses

    def scores(self, projected: Tensor, prototypes: Tensor) -> Tensor:
        """Likenesses [T-1, 2 B, K] of projections [T, 2 B, n], but for the first row, to unit prototypes [K, n]."""
        return product(F.normalize(projected[1:].float(), dim=-1), prototypes.T)

    @torch.no_grad()
    def after_update(self) -> None:
        """Prototypes get their length back; slow parts follow, wholly after the first update."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=-1))
        fraction = torch.where(self.updates == 0, 1.0, self.config.follow)
        pairs = ((self.slow_encoder, self.online[0]), (self.slow_see, self.see))
        for slow, fast in pairs:
            for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
                mine.lerp_(theirs, fraction)
            for buffer, newest in zip(slow.buffers(), fast.buffers(), strict=True):
                buffer.copy_(newest)
        self.updates.add_(1)
