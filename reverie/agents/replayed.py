"""What learners from a prioritised replay with a target network share, whatever they learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.agents.bellman import BellmanConfig
from reverie.agents.inputs import Stacks
from reverie.data.sequences import SequenceSpec
from reverie.nets.schedule import schedule, share
from reverie.ops import world
from reverie.ops.host import at_hand
from reverie.values import Share


@dataclass(frozen=True)
class ReplayedConfig(BellmanConfig):
    """Settings of targets and of importance weights.

    target_every: learner_steps between copies to the target network.
    actor_priorities: new windows get the error of the actor's own values, which are stored with every row;
        otherwise the largest priority so far. For heads whose outputs are action values.
    beta, beta_end, beta_over: exponent of the importance weights, annealed linearly over that share of the run or that
        many learner_steps (0: constant). Where all windows are equally likely all weights are 1 whatever it is.
    """

    target_every: int = 2500
    actor_priorities: bool = False
    beta: float = 0.4
    beta_end: Share = 1.0
    beta_over: float = schedule("learner_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_every < 1:
            raise ValueError(f"target_every must be at least 1, got {self.target_every}")
        if not 0.0 <= min(self.beta, self.beta_end) <= max(self.beta, self.beta_end) <= 1.0:
            raise ValueError(f"expected beta and beta_end in [0, 1], got {self.beta} and {self.beta_end}")

    def exponent(self, version: Tensor) -> Tensor | float:
        """Exponent of the importance weights in the update after so many learner_steps."""
        if not self.beta_over:
            return self.beta
        return self.beta + (self.beta_end - self.beta) * share(version, self.beta_over)


def windows_ahead(asked: SequenceSpec, stacks: Stacks, n_step: int, memory: bool = False) -> SequenceSpec:
    """Windows with n rows to bootstrap from, and k - 1 before the burn-in for a stack that no stored state has.

    memory: whether there is one. Raises ValueError where its drift is to be measured and there is none.
    """
    if asked.drift and not memory:
        raise ValueError("there is no memory whose states could drift: set replay.window.drift to false")
    lookback = 0 if asked.state == "stored" else stacks.lookback
    return replace(asked, context=asked.context + lookback, lookahead=n_step)


def importance(probabilities: Tensor, exponent: Tensor | float) -> Tensor:
    """w_i = (N P(i))^-exponent, divided by the largest of the batch, [B].

    Source: Schaul et al. 2016, section 3.4 (which divides by the largest of the whole replay).
    """
    log = probabilities.log()
    return torch.exp(-exponent * (log - world.minimum(log.min())))


def average(loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over windows of the sum over their valid rows; loss, valid: [learn, B], weights: [B]."""
    return (weights * torch.where(valid, loss, 0.0).sum(0)).mean()


@torch.no_grad()
def copy_if_due(pairs: Iterable[tuple[Tensor, Tensor]], version: Tensor, every: int, tau: float = 1.0) -> None:
    """Copy the second of each pair to the first after every `every`-th update.

    tau: how far the first goes, 1: all the way.
    version: learner_steps before this update, int64 []. Nothing waits for the device, where a lerp by 0 stands for all
    other updates.
    """
    if at_hand(version) and (int(version) + 1) % every:
        return
    due = tau * torch.eq((version + 1) % every, 0).float()
    older, newer = (list(column) for column in zip(*pairs, strict=True))
    torch._foreach_lerp_(older, newer, [due] * len(older))
