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

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.agents.agent import Mode
from reverie.agents.dqn import DQN, DQNConfig, Evaluated
from reverie.agents.exploration import Exploration
from reverie.agents.q_policy import QNetwork, QPolicy, Stacks
from reverie.data.rows import State
from reverie.nets.distributional_heads import RainbowQ
from reverie.nets.noisy import MEAN
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import QHead, gather_actions
from reverie.ops.n_step import NStep
from reverie.ops.projection import atoms, categorical_projection

GREEDY = Exploration(start=0.0, end=0.0, over=0, evaluation=0.0)


@dataclass(frozen=True)
class RainbowConfig(DQNConfig):
    """Defaults are the paper's (table 1), but for beta, whose annealing depends on the length of a run (`beta_over`).

    distributional: learn the distribution of returns on `atoms` values from v_min to v_max, which returns must fit.
    noisy: noisy layers in the head in place of epsilon-greedy; sigma: their sigma_0.
    explore: for `noisy = false`, and on top of the noise with `explore_too`, which the paper does not have; epsilon is
        0.01 after 250 000 frames.
    """

    n_step: int = 3
    double: bool = True
    dueling: bool = True
    distributional: bool = True
    atoms: int = 51
    v_min: float = -10.0
    v_max: float = 10.0
    noisy: bool = True
    sigma: float = 0.5
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


class Rainbow(DQN):
    """DQN with another head, other noise, and `bootstrap`, `targets` and `td_loss` of distributions."""

    config: RainbowConfig

    def make_head(self, inputs: int, actions: int) -> QHead:
        """Any combination of dueling, distributional and noisy."""
        config = self.config
        support = atoms(config.v_min, config.v_max, config.atoms) if config.distributional else None
        sigma = config.sigma if config.noisy else None
        return RainbowQ(inputs, actions, config.hidden, config.dueling, support, sigma)

    def make_policy(self, network: QNetwork, stacks: Stacks) -> QPolicy:
        """Greedy where noise explores, unless `explore_too`."""
        config = self.config
        if not config.noisy:
            return super().make_policy(network, stacks)
        explore = config.explore if config.explore_too else GREEDY
        return NoisyPolicy(network, stacks, explore, keep_q=config.actor_priorities)

    def head_noise(self, windows: int) -> tuple[Tensor, Tensor, Tensor]:
        """One sample for all rows of a batch, three independent ones: [1, 1, noise] each.

        Source: Fortunato et al. 2018, section 3.1 ("held fixed across the batch"), and its equation for Double DQN.
        """
        one, two, three = self.uniform(3, 1, 1, self.policy.network.head.noise)
        return one, two, three

    def bootstrap(self, outputs: Evaluated) -> Tensor:
        """Probabilities of the atoms for the chosen action, [learn, B, K]."""
        chosen = super().bootstrap(outputs)
        return chosen.softmax(-1) if self.config.distributional else chosen

    def targets(self, steps: NStep, bootstrap: Tensor) -> Tensor:
        """The distribution of earned + discount * z, projected onto the atoms, [learn, B, K]."""
        if not self.config.distributional:
            return super().targets(steps, bootstrap)
        support = self.support
        values = steps.earned.unsqueeze(-1) + steps.discount.unsqueeze(-1) * support
        return categorical_projection(bootstrap, values, support)

    def td_loss(self, outputs: Tensor, action: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """KL(target || predicted) as loss and as error."""
        if not self.config.distributional:
            return super().td_loss(outputs, action, targets)
        log_probs = gather_actions(outputs, action).log_softmax(-1)
        kl = (torch.xlogy(targets, targets) - targets * log_probs).sum(-1)
        return kl, kl

    @property
    def support(self) -> Tensor:
        """The atoms, float32 [K]."""
        head = self.policy.network.head
        assert isinstance(head, RainbowQ)
        assert head.support is not None
        return head.support


class NoisyPolicy(QPolicy):
    """Draws the noise of its layers for every decision of every stream; mode ``mode`` plays with the mean weights."""

    def step(
        self, state: State, rows: Mapping[str, Tensor], u: Tensor, mode: Mode
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """See `Policy.step`."""
        if mode == "mode":
            u = torch.cat([u[..., :2], torch.full_like(u[..., 2:], MEAN)], -1)
        return super().step(state, rows, u, mode)
