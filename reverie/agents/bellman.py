"""Common parts of a value learner and its actors: which rows have a loss, how far ahead, and priorities of windows.

Both hold one of these, so that an actor's first priorities are those that the learner would find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.data.rows import ACTION_MASK, OBS
from reverie.data.sequences import SequenceSpec
from reverie.nets.q_heads import QHead, Reads
from reverie.nets.schedule import check, counted, schedule, share
from reverie.ops.n_step import NStep, n_step
from reverie.ops.transforms import reward_transform
from reverie.values import Positive


@dataclass(frozen=True)
class BellmanConfig:
    """Settings of n-step targets.

    n_step: rows until the bootstrap. gamma: discount.
    n_step_end, n_step_over: n falls from n_step to n_step_end, by the same factor on each learner_step of that share of
        the run, or on as many (0: it stays), and is rounded. Many steps carry news far while all is new; few are less
        tied to what was done in old rows. Source: Schwarzer et al. 2023 (BBF, arXiv 2305.19452), section 3.
    reward: what the learner makes of rewards: sign (DQN's clipping), clip to [-1, 1], identity, tanh or symlog.
    reward_scale: rewards times this, so that values come to be of the size of 1 where their sums are large.
    """

    n_step: int = 1
    n_step_end: int = 1
    n_step_over: float = schedule("learner_steps")
    gamma: float = 0.99
    reward: str = "sign"
    reward_scale: Positive = 1.0

    def __post_init__(self) -> None:
        for name in ("n_step", "n_step_end"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check(self)
        if self.n_step_over and self.n_step_end > self.n_step:
            raise ValueError(f"expected n_step_end <= n_step {self.n_step}, got {self.n_step_end}")
        if self.reward_scale <= 0.0:
            raise ValueError(f"reward_scale must be positive, got {self.reward_scale}")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        reward_transform(self.reward)


class Bellman:
    """Hooks, in the order in which a learner calls them: `trained`, `target_parts`, `priorities`.

    Rows are those without the context, from the first learned one on: [learn + lookahead, B, ...].
    """

    def __init__(self, config: BellmanConfig) -> None:
        self.config = counted(config)
        self.transform = reward_transform(config.reward)

    def trained(self, rows: Mapping[str, Tensor], learn: int) -> Tensor:
        """Mask of the learned rows that have a loss, bool [learn, B]: those with an action."""
        return ~rows["is_last"][:learn]

    def target_parts(self, rows: Mapping[str, Tensor], learn: int, version: Tensor) -> NStep:
        """Parts of n-step targets: rewards until the bootstrap, and where it is.

        version: learner_steps so far, [], for `n_step_over`.
        """
        config = self.config
        reward = config.reward_scale * self.transform(rows["reward"])
        fewer = self.steps(version) if config.n_step_over else None
        last, terminal = rows["is_last"], rows["is_terminal"]
        return n_step(reward, last, terminal, config.gamma, config.n_step, learn, fewer)

    def steps(self, version: Tensor) -> Tensor:
        """Rows until the bootstrap in the update after so many learner_steps, int64 []."""
        config = self.config
        progress = share(version, config.n_step_over) if config.n_step_over else torch.zeros_like(version)
        return (config.n_step * (config.n_step_end / config.n_step) ** progress).round().long()

    def priorities(self, error: Tensor, valid: Tensor) -> Tensor:
        """Priorities of the windows, [B], from errors [learn, B] that are 0 where not valid: their mean size."""
        return error.abs().sum(0) / valid.sum(0).clamp(min=1)

    def first_priorities(
        self, head: QHead, rows: Mapping[str, Tensor], windows: SequenceSpec, version: Tensor
    ) -> Tensor:
        """`priorities` as they follow from the action values ``extra.q`` that the actor had at every row of a window.

        rows: whole windows [T, B, ...]. The actor's online network stands for the target network too. A closing row
        that the actor never saw has no values: a bootstrap from it (a time limit) counts as 0 here.
        Source: Horgan et al. 2018 (Ape-X), section 3; Kapturowski et al. 2019 (R2D2), section 2.3.
        """
        rows = {name: value[windows.context :] for name, value in rows.items()}
        learn, q = windows.learn, rows["extra.q"]
        parts, action = self.target_parts(rows, learn, version), rows["action"][:learn]
        ahead = parts.pick(q)
        mask = rows.get(OBS + ACTION_MASK)  # there if `QPolicy.scored` asks for it
        allowed = None if mask is None else parts.pick(mask)
        target = head.target(Reads(ahead, ahead, q[:learn] if head.reads_here else None, action, allowed), parts)
        error, valid = head.loss(q[:learn], action, target)[1], self.trained(rows, learn)
        return self.priorities(torch.where(valid, error, 0.0), valid)
