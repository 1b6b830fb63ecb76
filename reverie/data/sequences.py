"""What travels between actor, replay and learner: sequence specification, chunks, batches, feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from reverie.data.rows import Rows, State

StateKind = Literal["zero", "stored"]


@dataclass(frozen=True)
class SequenceSpec:
    """Which windows of a stream a learner trains on.

    ::

        | context rows | learn rows | lookahead rows |      T = context + learn + lookahead rows in a batch
        ^ start state   ^ losses     ^ bootstraps only

    context: rows that warm the state up without a loss (burn-in, frame stack).
    learn: rows with a loss.
    lookahead: further rows that only targets read (n for n-step returns).
    period: windows start at stream rows that are multiples of this (1: at every row).
    state: ``zero`` starts each window from the policy's initial state, ``stored`` from the state the actor had.

    Raises ValueError if a length is negative, learn or period is not positive.
    """

    context: int = 0
    learn: int = 1
    lookahead: int = 0
    period: int = 1
    state: StateKind = "zero"

    def __post_init__(self) -> None:
        if self.context < 0 or self.lookahead < 0:
            raise ValueError(f"context and lookahead must be >= 0, got {self.context} and {self.lookahead}")
        if self.learn < 1 or self.period < 1:
            raise ValueError(f"learn and period must be >= 1, got {self.learn} and {self.period}")
        if self.state not in ("zero", "stored"):
            raise ValueError(f"state must be 'zero' or 'stored', got {self.state!r}")

    @property
    def length(self) -> int:
        """Rows in a window."""
        return self.context + self.learn + self.lookahead


@dataclass(frozen=True)
class Chunk:
    """L consecutive rows of one stream, as they travel to replay and to disk.

    rows: field -> [L, ...]; start: index of the first row in its stream (env rows since the stream began).
    peek: field -> [...], the row that follows (seen, not acted on yet), or None if it is not known.
    states: name -> [ceil(L / period), ...] recurrent state *before* rows start, start + period, ...; empty if none.
    version: of the parameters that acted.
    """

    stream: int
    start: int
    rows: Rows
    peek: Rows | None = None
    states: dict[str, np.ndarray] | None = None
    version: int = 0

    def __len__(self) -> int:
        return len(self.rows["reward"])


@dataclass(frozen=True)
class Batch:
    """B windows, time first.

    rows: field -> tensor [T, B, ...] in storage dtype (images uint8).
    start: state before row 0, name -> [B, ...], or None where the spec says ``zero``.
    keys: int64 [B], name the windows in `Feedback`; probabilities: float32 [B], of having drawn each window.
    ages: int64 [B], rows inserted into the replay since the window's last row.
    """

    rows: dict[str, torch.Tensor]
    start: State | None
    keys: torch.Tensor
    probabilities: torch.Tensor
    ages: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; without waiting where the replay's memory is pinned."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            {name: move(value) for name, value in self.rows.items()},
            None if self.start is None else {name: move(value) for name, value in self.start.items()},
            move(self.keys),
            move(self.probabilities),
            move(self.ages),
        )


@dataclass(frozen=True)
class Feedback:
    """What the learner sends back for the windows of a batch: priorities [B] and/or refreshed states [B, ...]."""

    keys: torch.Tensor
    priorities: torch.Tensor | None = None
    states: State | None = None
