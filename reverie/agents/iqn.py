"""IQN: DQN that learns the whole distribution of returns, as a function from levels to quantiles.

    DQN   target = r + gamma max_a Q'(o', a),             loss = huber(target - Q(o_t, a_t))
    IQN   target_j = r + gamma Z'_{tau'_j}(o', a*),       loss = sum_i mean_j rho_i(target_j - Z_{tau_i}(o_t, a_t))
          a* = arg max_a mean_k Z'_{tau"_k}(o', a),       rho_i(e) = |tau_i - 1[e < 0]| huber_kappa(e) / kappa
          i = 1..N,  j = 1..N',  k = 1..K

All levels tau, tau', tau" are uniform random numbers in [0, 1), others for every row and every network; see
`reverie.nets.distributional_heads` for Z and `reverie.ops.losses.quantile_huber` for the loss. The policy acts on the
mean over K levels drawn for the decision, epsilon-greedily.

`double`, `dueling`, `n_step` and prioritised replay combine with it as with DQN: with `double` the online network
chooses a*. The paper has n = 1 and none of them; what Dopamine calls IQN has n = 3. The error that becomes a priority
is the difference of means, mean_j target_j - mean_i Z_{tau_i}.

Source: Dabney, Ostrovski, Silver, Munos, "Implicit Quantile Networks for Distributional Reinforcement Learning", ICML
2018 (arXiv 1806.06923), section 3 and algorithm 1; the loss is that of QR-DQN (Dabney et al. 2018), equation 10.

Differs from the paper in: nothing that is not named in a preset. Its equations write no target network; here all of a
target is the target network's, as in DQN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from reverie.agents.dqn import DQN, DQNConfig
from reverie.agents.exploration import Exploration
from reverie.nets.distributional_heads import ImplicitQuantiles
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import QHead
from reverie.values import Positive


@dataclass(frozen=True)
class IQNConfig(DQNConfig):
    """Defaults are the paper's.

    levels, target_levels: N and N', quantiles per row that are learned, and that make up a target.
    acting_levels: K, levels whose mean is an action value, in acting and in a*.
    cosines: of the embedding of a level. kappa: where Huber's loss becomes linear.
    """

    levels: int = 64
    target_levels: int = 64
    acting_levels: int = 32
    cosines: int = 64
    kappa: Positive = 1.0
    explore: Exploration = field(
        default_factory=lambda: Exploration(start=1.0, end=0.01, over=1_000_000, after=50_000, evaluation=0.001)
    )
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-5, eps=0.01 / 32, clip=float("inf"), shrink=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("levels", "target_levels", "acting_levels", "cosines"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kappa <= 0.0:
            raise ValueError(f"kappa must be positive, got {self.kappa}")
        if self.actor_priorities:
            raise ValueError("actor_priorities need action values as outputs, which quantiles are not: set it to false")
        if self.loss != "huber":
            raise ValueError(f"loss {self.loss} is of action values, and quantiles have Huber's: set it to huber")


class IQN(DQN):
    """DQN's recipe with another head (`reverie.nets.distributional_heads.ImplicitQuantiles`)."""

    config: IQNConfig
    Config: ClassVar[type] = IQNConfig
    learners: ClassVar[bool] = True

    def head(self, inputs: int) -> QHead:
        """DQN's head, on features that are multiplied by the embedding of a level."""
        config = self.config
        levels = (config.levels, config.target_levels, config.acting_levels)
        return ImplicitQuantiles(super().head(inputs), inputs, config.cosines, *levels, config.kappa)
