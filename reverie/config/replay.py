"""Settings of the replay: windows, what draws them, and where rows are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import PlainValidator

from reverie.config.bounds import at_least
from reverie.data.selectors import SELECTORS, SelectorConfig, UniformConfig
from reverie.data.sequences import SequenceSpec, StateKind
from reverie.machine import memory_of, read_size, share_of
from reverie.overrides import Choice


@dataclass(frozen=True)
class WindowConfig:
    """Windows that are trained on; lengths in rows, see `reverie.data.sequences.SequenceSpec`.

    context: rows of burn-in; what an agent needs beside them (frames of a stack, rows to bootstrap from) it adds
    itself, see `reverie.Agent.windows`. learn: rows with a loss. period: windows begin at every so many rows.
    state: before the first row of a window: zero, or the one that was stored when it was played.
    drift: measure how far recurrent states drift (``train/drift_first``, ``train/drift_last``); keeps the actor's.
    """

    context: int = 0
    learn: int = 50
    period: int = 1
    state: StateKind = "zero"
    drift: bool = False

    def __post_init__(self) -> None:
        self.asked()

    def asked(self) -> SequenceSpec:
        """The windows that are asked for, without lookahead. Raises ValueError as `SequenceSpec` does."""
        return SequenceSpec(self.context, self.learn, 0, self.period, self.state, self.drift)


@dataclass(frozen=True)
class StoreConfig:
    """Size of the store. budget: bytes of rows in memory (8GB, or 50% of what there is). chunk: rows of one stream per
    sealed file on disk.

    place: where the rows are, ``host`` for the machine's memory, or ``device`` for that of the learner's GPU: batches
    are then gathered there, and no row travels more than once.
    """

    budget: Annotated[int, PlainValidator(read_size)] = 2_000_000_000
    place: Literal["host", "device"] = "host"
    chunk: int = 1024

    def __post_init__(self) -> None:
        if isinstance(self.budget, str):
            object.__setattr__(self, "budget", share_of(read_size(self.budget), memory_of(self.place).total))
        at_least(1, budget=self.budget, chunk=self.chunk)


@dataclass(frozen=True)
class ReplayConfig:
    """Contents of the replay and of a batch. batch: windows per learner_step.

    selector: which windows are drawn, chosen by name (``replay.selector = prioritised``) and then set up
    (``replay.selector.alpha = 0.9``); names and their settings: `reverie.data.selectors.SELECTORS`.
    """

    batch: int = 16
    window: WindowConfig = field(default_factory=WindowConfig)
    selector: Annotated[SelectorConfig, Choice(SELECTORS)] = field(default_factory=UniformConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        at_least(1, batch=self.batch)
        if self.selector.any_start and self.window.period != 1:
            name = Choice(SELECTORS).name(self.selector)
            raise ValueError(f"the selector {name!r} needs period = 1, got {self.window.period}")
