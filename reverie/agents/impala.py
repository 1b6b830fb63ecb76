"""IMPALA: an actor-critic whose learner corrects for actions that older parameters chose.

Against A2C, the returns: with ratios pi / mu of the learner's to the actor's probability of the action taken,

              values aim at                                                  advantages
    A2C       v_t = V_t + sum_k gamma^k delta_{t+k}                               r_{t+1} + gamma v_{t+1} - V_t
    IMPALA    v_t = V_t + sum_k gamma^k c_t ... c_{t+k-1} rho_{t+k} delta_{t+k}   rho_t (r_{t+1} + gamma v_{t+1} - V_t)

    delta_t = r_{t+1} + gamma V_{t+1} - V_t,   rho_t = min(rho_bar, pi/mu),   c_t = lam min(c_bar, pi/mu)

V-trace (`reverie.ops.returns.vtrace`). On rows of the learner's own policy all ratios are 1, and both lines are the
same. mu travels with each row as the log-probability of what was done. Losses are summed over rows and windows, which
the paper's learning rate, entropy cost and gradient clip (40) go with; a batch of other size wants other numbers.

- `correction` sets V-trace beside the paper's three alternatives of section 5.2.2: ``one-step`` importance sampling
  (n-step returns, each advantage times rho_t), ``epsilon`` (no ratios, log(pi + 1e-6) as in GA3C), ``none``.
- `popart`: values are normalised per task as in PopArt-IMPALA (Hessel et al. 2019), see `reverie.nets.critics.PopArt`.
- ``replay.selector.share`` mixes windows that were learned before into every batch (section 5.2.2: one half).
- `torso` has the deep residual network (``cnn = residual``) or a shallow one; `feed` gives the core the last action and
  the last reward, clipped to [-1, 1]; `core` an LSTM whose stored states windows start from (``window.state stored``).

Source: Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures",
ICML 2018, equations 1 and 2, sections 4 and 5, appendix D; its released code where the text is silent.

Differs from the paper in: actors are streams of this process, which act with the learner's newest parameters
(``run.publish_every`` makes them lag); the LSTM has PyTorch's two biases for one; rows of a new episode feed the core
zeros as the previous action and reward, where the released code feeds those of the episode before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.a2c import A2C, A2CConfig, A2CLearner
from reverie.nets.critics import Critic, PopArt
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.ops.losses import masked_mean
from reverie.ops.returns import vtrace
from reverie.values import Share

GA3C_EPSILON = 1e-6
"""added to a probability before its logarithm. Source: Espeholt et al. 2018, section 5.2.2, of GA3C's"""

Correction = Literal["vtrace", "one-step", "epsilon", "none"]


@dataclass(frozen=True)
class IMPALAConfig(A2CConfig):
    """Defaults are the paper's for Atari (appendix D), with its deep network.

    correction: for what older parameters did: ``vtrace``, ``one-step`` importance sampling, ``epsilon`` (1e-6 added to
        probabilities, as in GA3C) or ``none``.
    rho_bar: where ratios that weigh errors are cut off; decides what is estimated.
    c_bar: where ratios that pass errors back are cut off, at most rho_bar; decides how fast.
    popart: normalise values by running statistics. popart_step: share of these that one target has.
    """

    reward: str = "clip"
    value: float = 0.5
    average: Literal["mean", "sum"] = "sum"
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(cnn="residual", channels=(16, 32, 32), dense=256))
    feed: bool = True
    init: Literal["torch", "sonnet", "orthogonal"] = "sonnet"
    opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(kind="rmsprop-tf", lr=6e-4, eps=0.01, clip=40.0, shrink=0.0)
    )
    correction: Correction = "vtrace"
    rho_bar: float = 1.0
    c_bar: float = 1.0
    popart: bool = False
    popart_step: Share = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho_bar >= self.c_bar > 0.0:
            raise ValueError(f"expected rho_bar >= c_bar > 0, got {self.rho_bar} and {self.c_bar}")


class IMPALALearner(A2CLearner):
    """A2C's learner with another `estimate`; the twin ``epsilon`` also has another `policy_term`."""

    config: IMPALAConfig

    def estimate(
        self,
        rows: Mapping[str, Tensor],
        value: Tensor,
        behaviour: Tensor,
        log_prob: Tensor,
        metrics: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """V-trace targets and advantages, or what takes their place."""
        config, acted = self.config, ~rows["is_last"][:-1]
        ratio = torch.where(acted, log_prob - behaviour, 0.0).exp()
        metrics["rho"] = masked_mean(ratio.clamp(max=config.rho_bar), acted)
        metrics["rho_clipped"] = masked_mean((ratio > config.rho_bar).float(), acted)
        if config.correction == "vtrace":
            ends = self.reward(rows), rows["is_last"], rows["is_terminal"]
            return vtrace(behaviour, log_prob, *ends, value, config.gamma, config.rho_bar, config.c_bar, config.lam)
        target, advantage = super().estimate(rows, value, behaviour, log_prob, metrics)
        return target, advantage * ratio.clamp(max=config.rho_bar) if config.correction == "one-step" else advantage

    def policy_term(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        """Loss [T, B] whose gradient is the policy's."""
        if self.config.correction == "epsilon":
            log_prob = (log_prob.exp() + GA3C_EPSILON).log()
        return super().policy_term(log_prob, advantage)


class IMPALA(A2C):
    """A2C's recipe with another learner, and PopArt if asked for."""

    config: IMPALAConfig
    Config: ClassVar[type] = IMPALAConfig
    learners: ClassVar[bool] = True
    reuses: ClassVar[bool] = True
    Learner: ClassVar[type[A2CLearner]] = IMPALALearner

    def critic(self, inputs: int) -> Critic:
        """A linear value for each task, normalised if asked for."""
        if not self.config.popart:
            return super().critic(inputs)
        return PopArt(inputs, max(1, len(self.env.tasks)), step=self.config.popart_step)
