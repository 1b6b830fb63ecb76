"""Exploration: how often each stream acts at random, and noise on actions that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.agents.policy import Seat
from reverie.nets.actions import Actions
from reverie.nets.schedule import check, counted, schedule
from reverie.ops.continuous import normal_sample
from reverie.values import Finite


@dataclass(frozen=True)
class Exploration:
    """Probability epsilon of a uniformly random action.

    kind: ``anneal``, all streams alike, from `start` down to `end` over `over` env_steps beginning at env_step `after`;
        or ``ladder``, fixed for all training and different for each stream.
    start, end: epsilon before and after annealing.
    over, after: how long it is annealed, and what precedes that; shares of the run or counts of env_steps, see
        `reverie.nets.schedule`.
    base, alpha: of the ladder, eps_i = base^(1 + alpha i / (N - 1)) for stream i of N; a single stream has base.
    evaluation: epsilon of greedy play, as in evaluations.

    Source: Mnih et al. 2015 (DQN), Extended Data Table 1; Horgan et al. 2018 (Ape-X), section 4.
    """

    kind: Literal["anneal", "ladder"] = "anneal"
    start: float = 1.0
    end: float = 0.1
    over: float = schedule("env_steps", 1_000_000, begins="after")
    after: float = schedule("env_steps")
    base: float = 0.4
    alpha: Finite = 7.0
    evaluation: float = 0.05

    def __post_init__(self) -> None:
        for name in ("start", "end", "base", "evaluation"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}")
        check(self)
        if self.alpha < 0.0:
            raise ValueError(f"alpha must be >= 0, got {self.alpha}")

    @property
    def unused_schedules(self) -> tuple[str, ...]:
        """Schedules that this kind does not have."""
        return ("over",) if self.kind == "ladder" else ()

    def epsilons(self, seat: Seat) -> Tensor:
        """Epsilon of each stream of the seat, float32 [streams]: that of evaluation where it plays greedily.

        Raises ValueError for a schedule that is still a share of a run.
        """
        count = len(seat.streams)
        if seat.play == "greedy":
            return torch.full((count,), self.evaluation)
        if self.kind == "ladder":
            places = torch.tensor(list(seat.streams), dtype=torch.float64) / max(seat.total - 1, 1)
            return (self.base ** (1.0 + self.alpha * places)).float()
        counted(self)
        progress = min(max((seat.env_steps - self.after) / self.over, 0.0), 1.0) if self.over else 1.0
        return torch.full((count,), self.start + (self.end - self.start) * progress)


@dataclass(frozen=True)
class ActionNoise:
    """Noise on actions in training, by an amount that may fall: max(least, amount 2^(-env_steps / half)).

    amount: of continuous actions the std of a Gaussian that is added, clip(a + N(0, amount^2), -1, 1); of discrete ones
        the probability of a uniformly random action in place of the chosen one.
    half: env_steps in which it halves, a share of the run or a count; 0: it stays.
    least: amount that it does not fall below.

    Source: Dreamer V1 code, ``additive_gaussian`` and ``epsilon_greedy`` with expl_amount, expl_decay (there in frames)
    and expl_min; PlaNet, appendix on exploration. Raises ValueError for amounts that are none.
    """

    amount: float = 0.3
    half: float = schedule("env_steps")
    least: float = 0.0

    unused_schedules = ("half",)  # it has no end to be told of

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= self.amount:
            raise ValueError(f"expected 0 <= least <= amount, got {self.least} and {self.amount}")
        check(self)

    def now(self, seat: Seat) -> float:
        """Amount at a seat, 0 where it plays greedily. Raises ValueError for a half that is still a share of a run."""
        if seat.play == "greedy":
            return 0.0
        counted(self)
        return max(self.least, self.amount * (0.5 ** (seat.env_steps / self.half) if self.half else 1.0))

    def numbers(self, actions: Actions) -> int:
        """Uniform numbers that `add` takes of one row."""
        return actions.noise + (1 if actions.discrete else 0)

    def add(self, action: Tensor, u: Tensor, seat: Seat, actions: Actions, mask: Tensor | None = None) -> Tensor:
        """Encoded actions [B, A] with noise, of those that the mask allows. u: uniform [B, `numbers`]."""
        amount = self.now(seat)
        if actions.discrete:
            return torch.where(u[..., -1:] < amount, actions.uniform(u[..., :-1], mask), action)
        return normal_sample(action, amount, u).clamp(-1.0, 1.0)
