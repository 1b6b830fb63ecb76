"""RePo: Dreamer V1 whose memory keeps what rewards need and what can be predicted, and no pictures.

::

    Dreamer V1   L = -log p(o | s) - log p(r | s) + max(KL, free)
    RePo         L =               - log p(r | s) + beta (KL - target)      s.t. KL(q || p) <= target, by beta
                     - log p(o | sg s)                                      a probe: shows dreams, shapes nothing
                 beta <- grows by beta_opt where KL > target, shrinks where KL < target

    KL           5/6 KL(sg q || p) + 1/6 KL(q || sg p): what cannot be predicted from the past is not taken in

Source: Zhu, Simchowitz, Gadipudi, Gupta, "RePo: Resilient Model-Based Reinforcement Learning by Regularizing Posterior
Predictability", NeurIPS 2023 (arXiv 2309.00082), section 3, and its code. Parent: Dreamer V1. Hook:
`ModelLearner.weigh`. Differs from the code in: pictures are read in [-0.5, 0.5]; see docs/repo.md for the whole list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, log
from typing import ClassVar

import torch
from torch import Tensor, nn

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import DreamerLearner
from reverie.agents.dreamerv1 import DreamerV1, DreamerV1Behaviour, DreamerV1Config, DreamerV1Learner
from reverie.agents.exploration import ActionNoise
from reverie.agents.model_learner import ModelAgent
from reverie.agents.model_losses import Losses
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import GradHeads
from reverie.data.sequences import Batch
from reverie.nets.constraint import Constraint
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.ops.returns import trajectory_weights
from reverie.values import Positive, Scale, Several, Share


def adam(lr: float, clip: float = 100.0) -> OptimConfig:
    """Adam as the code has it: PyTorch's eps, gradients clipped, no decay."""
    return OptimConfig(lr=lr, eps=1e-8, clip=clip, shrink=0.0)


LN2 = log(2)


@dataclass(frozen=True)
class RePoConfig(DreamerV1Config):
    """Dreamer V1's settings under a constraint; defaults are those of RePo's code.

    target_kl: nats per row that the KL is held to. beta_start: first weight of the KL, which is learned from there.
    beta_opt: optimiser of that weight's logarithm. kl_scale: multiplies that weight. kl_free: must be 0.
    balance: must be ``fixed``, the constraint is what weighs the KL. observation_scale: of the probe, which shapes
    nothing unless ``decoder`` is in grad_heads.
    """

    target_kl: Positive = 3.0
    beta_start: float = 1e-5
    beta_opt: OptimConfig = field(default_factory=lambda: adam(1e-4, inf))
    kl_balance: Share | None = 5 / 6
    kl_free: Scale = 0.0
    grad_heads: GradHeads = ("reward", "discount")
    reward: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3, units=200))
    discount: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3, units=200))
    actor: HeadConfig = field(default_factory=lambda: HeadConfig(layers=4, units=200))
    critic: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3, units=200))
    horizon: Several = 14
    entropy: Scale = 3e-4
    init_std: Scale = LN2
    min_std: Scale = 0.1
    explore: ActionNoise = field(default_factory=lambda: ActionNoise(0.0))
    model_opt: OptimConfig = field(default_factory=lambda: adam(3e-4))
    actor_opt: OptimConfig = field(default_factory=lambda: adam(8e-5))
    critic_opt: OptimConfig = field(default_factory=lambda: adam(8e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.balance != "fixed":
            raise ValueError(
                f"balance must be 'fixed', got {self.balance!r}: RePo's constraint is what weighs the KL, and the "
                "probe's loss shapes nothing"
            )
        if self.kl_free != 0.0:
            raise ValueError(f"kl_free must be 0, got {self.kl_free}: target_kl is what the KL may cost")
        if not 0.0 < self.target_kl < inf:
            raise ValueError(f"target_kl must be positive and finite, got {self.target_kl}")
        if not 0.0 < self.beta_start < inf:
            raise ValueError(f"beta_start must be positive and finite, got {self.beta_start}")


class RePoLearner(DreamerV1Learner):
    """Dreamer V1's learner whose KL is under a constraint, with an optimiser for the constraint's weight."""

    config: RePoConfig

    def build(self, agent: ModelAgent) -> None:
        """Make the constraint too."""
        super().build(agent)
        self.constraint = Constraint(self.config.target_kl, self.config.beta_start)

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each group of losses."""
        return super().trained() | {"beta": list(self.constraint.parameters())}

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Losses of the model and of beta, then of the behaviour, which dreams in the updated model."""
        model_loss, seen, rows = self.world_model_loss(batch, metrics)
        yield {"model": model_loss, "beta": self.constraint.loss(self.kl(seen))}
        self.model.objective.after_update()
        yield self.behaviour_losses(seen, rows, metrics)

    @torch.no_grad()
    def kl(self, seen: Seen) -> Tensor:
        """Mean KL(q || p) over rows, a scalar in nats: what the constraint is about."""
        return self.model.rssm.latent.kl(*seen.posterior, *seen.prior).mean()

    def weigh(self, losses: Losses, metrics: dict[str, Tensor]) -> Tensor:
        """One loss of the model, in which beta (KL - target) stands for the KL; beta is that before this update."""
        metrics["kl_weight"] = self.constraint.weight
        constrained = losses | {("dynamics", "kl"): self.constraint.penalty(losses["dynamics", "kl"])}
        return super().weigh(constrained, metrics)


class RePoBehaviour(DreamerV1Behaviour):
    """Dreamer V1's, in which all states of a dream weigh the same."""

    def weights(self, dream: Dream) -> Tensor:
        """Chance of still being in the episode at s_i, [H+1, N], without gamma^(i-1): 1 without a discount head."""
        gamma = self.learner.model.gamma
        return trajectory_weights(torch.cat([dream.discount[:1], (dream.discount[1:] / gamma).clamp(max=1.0)]))


class RePo(DreamerV1):
    """Recipe of Dreamer V1 under RePo's constraint."""

    config: RePoConfig
    Config: ClassVar[type] = RePoConfig
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = RePoLearner
    Behaviour: ClassVar[type[Behaviour]] = RePoBehaviour
