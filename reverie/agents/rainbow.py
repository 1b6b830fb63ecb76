"""Rainbow: DQN with six extensions at once, each of which can be left out.

    DQN       target = r + gamma max_a Q'(o', a),                      loss = huber(target - Q(o_t, a_t))
    Rainbow   target = Phi(R_n + gamma^n z, p'(o_{t+n}, a*)),          loss = w_t KL(target || p(o_t, a_t))
              a* = arg max_a sum_i z_i p_i(o_{t+n}, a),                priority = KL

R_n are n discounted rewards, p and p' the distributions over the atoms z of the online and of the target network, Phi
the projection onto the atoms (`reverie.ops.projection`). The bootstrap is gamma^m z with m < n where a time limit comes
first, and vanishes where the episode ends: then the target is all mass at R_m.

| part | paper | switch it off with |
|---|---|---|
| double | van Hasselt et al. 2016 | `agent.double = false` |
| prioritised replay | Schaul et al. 2016 | ``replay.selector = uniform`` |
| dueling, joined per atom before the softmax | Wang et al. 2016 | `agent.dueling = false` |
| n-step | Sutton 1988 | `agent.n_step = 1` |
| distributional | Bellemare et al. 2017 (C51) | `agent.distributional = false` |
| noisy layers | Fortunato et al. 2018 | `agent.noisy = false` |

Without all six it is `reverie.agents.dqn`. What other libraries call Rainbow may be less: Dopamine's has n-step,
prioritised replay and C51 only.

Priorities are the KL that is minimised, as in the paper. Its gradient is the cross-entropy's, but as priorities the two
are different: they differ by the entropy of the target, so that a cross-entropy would go on preferring transitions
whose return is random, however well it is known.

Noise is drawn afresh for every update, from the learner's generator: one sample for the whole batch, and independent
ones for the learned rows, for choosing a*, and for the target network. The policy draws for every decision of every
stream, acts greedily (epsilon 0), and in evaluation plays with the mean weights.

Source: Hessel et al., "Rainbow: Combining Improvements in Deep Reinforcement Learning", AAAI 2018 (arXiv 1710.02298).

Differs from the paper in: importance weights are divided by the largest of the batch, not of the replay; the first
env_steps (`run.prefill`) are uniformly random; `explore_too`, off by default, adds epsilon to the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from reverie.agents.dqn import DQN, DQNConfig
from reverie.agents.exploration import Exploration
from reverie.agents.inputs import Stacks
from reverie.agents.policy import Seat
from reverie.agents.q_policy import QNetwork, QPolicy
from reverie.nets.distributional_heads import RainbowQ
from reverie.nets.noisy import MEAN
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import QHead
from reverie.nets.values import Atoms
from reverie.ops.projection import atoms
from reverie.values import Finite, Scale, Several

GREEDY = Exploration(start=0.0, end=0.0, over=0, evaluation=0.0)


@dataclass(frozen=True)
class RainbowConfig(DQNConfig):
    """Defaults are the paper's (table 1), but for beta, whose annealing depends on the length of a run (`beta_over`).

    distributional: learn the distribution of returns on values from v_min to v_max.
    atoms: how many values. v_min, v_max: the smallest and the largest; returns must fit between them.
    noisy: noisy layers in the head in place of epsilon-greedy; sigma: their sigma_0.
    explore: for `noisy = false`; epsilon is 0.01 after 250 000 frames.
    explore_too: explore by epsilon on top of the noise too, which the paper does not have.
    """

    n_step: int = 3
    double: bool = True
    dueling: bool = True
    distributional: bool = True
    atoms: Several = 51
    v_min: Finite = -10.0
    v_max: Finite = 10.0
    noisy: bool = True
    sigma: Scale = 0.5
    explore_too: bool = False
    target_every: int = 2000
    explore: Exploration = field(
        default_factory=lambda: Exploration(start=1.0, end=0.01, over=62_500, evaluation=0.001)
    )
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=6.25e-5, eps=1.5e-4, clip=10.0, shrink=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        atoms(self.v_min, self.v_max, self.atoms)
        if self.sigma < 0.0:
            raise ValueError(f"sigma must be at least 0, got {self.sigma}")
        if self.distributional and self.actor_priorities:
            raise ValueError("actor_priorities need action values as outputs: set distributional or them to false")
        if self.distributional and self.loss != "huber":
            raise ValueError(f"loss {self.loss} is of action values: set distributional to false, or loss to huber")

    @property
    def unused_schedules(self) -> tuple[str, ...]:
        """Groups of schedules that are not used: those of epsilon, beside noise alone."""
        return ("explore",) if self.noisy and not self.explore_too else ()


class Rainbow(DQN):
    """DQN's recipe with another head (`reverie.nets.distributional_heads.RainbowQ`) and other noise in acting."""

    config: RainbowConfig
    Config: ClassVar[type] = RainbowConfig
    learners: ClassVar[bool] = True

    def head(self, inputs: int) -> QHead:
        """Head of any combination of dueling, distributional and noisy."""
        config = self.config
        values = Atoms(atoms(config.v_min, config.v_max, config.atoms)) if config.distributional else self.values()
        sigma = config.sigma if config.noisy else None
        return RainbowQ(inputs, self.actions, config.hidden, config.dueling, values, sigma)

    def policy_of(self, network: QNetwork) -> QPolicy:
        """Policy that is greedy where noise explores, unless `explore_too`."""
        config = self.config
        if not config.noisy:
            return super().policy_of(network)
        explore = config.explore if config.explore_too else GREEDY
        stacks = Stacks(self.env.observation, config.stack)
        return NoisyPolicy(
            network, stacks, explore, self.bellman(), config.actor_priorities, masked=self.env.action_mask
        )


class NoisyPolicy(QPolicy):
    """Policy with fresh noise in its layers for every decision of every stream; mean weights in evaluation."""

    def head_noise(self, u: Tensor, seat: Seat) -> Tensor:
        """Fresh numbers, or in evaluation those that stand for no noise."""
        return torch.full_like(u, MEAN) if seat.play == "greedy" else u
