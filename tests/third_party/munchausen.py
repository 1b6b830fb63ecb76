"""Munchausen-DQN, as somebody writes it who uses the package: DQN's target, made soft, plus the log-policy.

    DQN          target_t = r_{t+1} + gamma max_a Q'(o_{t+1}, a)
    Munchausen   target_t = r_{t+1} + alpha clip(tau log pi(a_t | o_t), low, 0)
                                    + gamma sum_a pi(a | o_{t+1}) (Q'(o_{t+1}, a) - tau log pi(a | o_{t+1}))

with pi = softmax(Q' / tau). It has one step: of more, every reward on the way would want the log-policy of its action.
Source: Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", NeurIPS 2020 (arXiv 2007.14430), equation 2.
"""

from dataclasses import dataclass

from torch import Tensor

from reverie.agents.dqn import DQN, DQNConfig
from reverie.nets.q_heads import PlainQ, Reads, gather_actions
from reverie.ops.n_step import NStep


@dataclass(frozen=True)
class MunchausenConfig(DQNConfig):
    """alpha: of the log-policy, whose least is `low`. tau: temperature of the policy, in units of values."""

    alpha: float = 0.9
    tau: float = 0.03
    low: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_step > 1 or self.double or self.dueling:
            raise ValueError("Munchausen-DQN has n_step = 1, and is neither double nor dueling")


class MunchausenQ(PlainQ):
    reads_here = True
    config: MunchausenConfig

    def target(self, reads: Reads, steps: NStep) -> Tensor:
        tau = self.config.tau
        ahead, here = (tau * (q / tau).log_softmax(-1) for q in (reads.target, reads.here))
        bonus = self.config.alpha * gather_actions(here, reads.action).clamp(self.config.low, 0.0)
        soft = ((ahead / tau).exp() * (reads.target - ahead)).sum(-1)
        return self.values.backup(soft, steps.earned + bonus, steps.discount)


class MunchausenDQN(DQN):
    Config = MunchausenConfig

    def head(self, inputs: int) -> MunchausenQ:
        head = MunchausenQ(inputs, self.actions, self.config.hidden, self.values())
        head.config = self.config
        return head
