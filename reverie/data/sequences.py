"""Things that travel between actor, replay and learner: sequence specification, chunks, batches, feedback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from reverie.data.rows import Rows, State

StateKind = Literal["zero", "stored"]


@dataclass(frozen=True)
class SequenceSpec:
    """Windows of a stream that a learner trains on.

    ::

        | context rows | learn rows | lookahead rows |      T = context + learn + lookahead rows in a batch
        ^ start state   ^ losses     ^ bootstraps only

    context: rows that warm the state up without a loss (burn-in, frame stack).
    learn: rows with a loss.
    lookahead: further rows that only targets read (n for n-step returns).
    period: windows start at stream rows that are multiples of this (1: at every row).
    state: ``zero`` starts each window from the policy's initial state, ``stored`` from the state the actor had.
    drift: batches also carry the states that the actor had at the rows `probes`, to be compared with the learner's.

    Raises ValueError if a length is negative, learn or period is not positive.
    """

    context: int = 0
    learn: int = 1
    lookahead: int = 0
    period: int = 1
    state: StateKind = "zero"
    drift: bool = False

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

    @property
    def keeps_states(self) -> bool:
        """Whether the replay holds recurrent states."""
        return self.state == "stored" or self.drift

    @property
    def probes(self) -> tuple[int, ...]:
        """First and last of the rows before which states are kept that are trained, or follow the last one.

        States are kept before every period-th row. A window of 40 + 80 + 5 rows with period 40 trains rows 40 to 119:
        its probes are 40, exactly, and 120, one row late. With period 1 they are exactly the first and the last.
        """
        if not self.drift:
            return ()
        first = -(-self.context // self.period) * self.period
        end = self.context + self.learn
        last = (end - 1 if self.period == 1 else min(end, self.length - 1)) // self.period * self.period
        return (first, last) if first <= last else ()


@dataclass(frozen=True)
class Chunk:
    """L consecutive rows of one stream, as they travel to replay and to disk.

    rows: field -> [L, ...]; start: index of the first row in its stream (env rows since the stream began).
    peek: field -> [...], the row that follows (seen, not acted on yet), or None if it is not known.
    states: name -> [S, ...] recurrent states *before* the rows `grid` of this chunk; empty if none.
    version: of the parameters that chose its last action.
    priorities: float [L], of the window that each row completes (NaN: none, or the selector's own), or None.
    after: name -> [...], the recurrent state before the row `peek`, if that row is one that a state is kept of.
    """

    stream: int
    start: int
    rows: Rows
    peek: Rows | None = None
    states: dict[str, np.ndarray] | None = None
    version: int = 0
    priorities: np.ndarray | None = None
    after: dict[str, np.ndarray] | None = None

    def grid(self, period: int) -> np.ndarray:
        """Absolute indices of its rows that are multiples of the period, int64 [S]: those that states precede."""
        return np.arange(-(-self.start // period) * period, self.start + len(self), period)

    def part(self, first: int, stop: int, period: int) -> Chunk:
        """Rows first <= k < stop of this chunk, counted from its own first one, as a chunk."""
        grid = self.grid(period) - self.start
        inside = (grid >= first) & (grid < stop)
        states = None if self.states is None else {name: value[inside] for name, value in self.states.items()}
        rows = {name: value[first:stop] for name, value in self.rows.items()}
        peek = self.peek if stop == len(self) else {name: value[stop] for name, value in self.rows.items()}
        priorities = None if self.priorities is None else self.priorities[first:stop]
        return Chunk(self.stream, self.start + first, rows, peek, states, self.version, priorities)

    def __len__(self) -> int:
        return len(self.rows["reward"])


@dataclass(frozen=True)
class Batch:
    """B windows, time first.

    rows: field -> tensor [T, B, ...] in storage dtype (images uint8).
    start: state before row 0, name -> [B, ...], or None where the spec says ``zero``.
    probes: states that the actor had before the rows `SequenceSpec.probes`, name -> [probes, B, ...], or None.
    keys: int64 [B], name the windows in `Feedback`; probabilities: float32 [B], of having drawn each window.
    ages: int64 [B], rows inserted into the replay since the window's last row.
    """

    rows: dict[str, torch.Tensor]
    start: State | None
    keys: torch.Tensor
    probabilities: torch.Tensor
    ages: torch.Tensor
    probes: State | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy of the batch on another device; towards a GPU without waiting where the replay's memory is pinned."""
        there = device.type == "cuda"  # a copy from a GPU could be read before it is there
        return self.map(lambda tensor: tensor.to(device, non_blocking=there))

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """Batch of changed tensors."""

        def each(tensors: State | None) -> State | None:
            return None if tensors is None else {name: change(value) for name, value in tensors.items()}

        return Batch(
            {name: change(value) for name, value in self.rows.items()},
            each(self.start),
            change(self.keys),
            change(self.probabilities),
            change(self.ages),
            each(self.probes),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name: ``rows.<field>``, ``start.<name>``, ``probes.<name>``, ``keys`` and so on."""
        groups = {"rows": self.rows, "start": self.start or {}, "probes": self.probes or {}}
        flat = {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}
        return flat | {"keys": self.keys, "probabilities": self.probabilities, "ages": self.ages}


@dataclass(frozen=True)
class Feedback:
    """Feedback of a learner on the windows of a batch: priorities [B] and/or refreshed states [B, ...]."""

    keys: torch.Tensor
    priorities: torch.Tensor | None = None
    states: State | None = None
