"""The selector interface: which stored windows a learner sees next (see `reverie.data.selectors`).

A window is named by its stream and by the absolute index of its first row (a multiple of the period). The replay
tells its selector when a window becomes complete (`appear`) and when its first row is overwritten (`evict`); both
happen in order of time within a stream, so the legal windows of a stream are always one range of window numbers::

    window number   start // period        low[stream] <= number < high[stream]

Some of these may be *void*: their one learned row is the closing row of an episode, which has no action and no loss;
or, of a selector that is `whole`, any of their learned rows is. They are never drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Shape of a replay, as its selector must know it: streams, rows per stream, window length and period in rows.

    context: rows of a window before the first learned one.
    """

    streams: int
    rows: int
    length: int
    period: int
    context: int = 0

    @property
    def windows(self) -> int:
        """Largest number of windows of one stream that can be legal at a time, rounded up."""
        return -(-self.rows // self.period)


@dataclass(frozen=True)
class Drawn:
    """Windows drawn: streams int64 [n], starts int64 [n], probabilities float64 [n] of each single draw."""

    streams: np.ndarray
    starts: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Mass:
    """Weight of the windows of one replay among those of several that are drawn from as if they were one.

    total: sum of the weights of all windows that may be drawn, void ones left out; float64.
    scale: what `Drawn.probabilities` were divided by: a probability times this is comparable between replays.
    """

    total: float
    scale: float


@dataclass(frozen=True)
class SelectorConfig(ABC):
    """Settings of a selector. The name by which each is chosen: `reverie.data.selectors.SELECTORS`.

    uses_up: every window is drawn once, so that there is an end to drawing without pacing.
    any_start: windows are drawn that begin at any row, so that the period must be 1.
    parts: replays of parts of the streams can be drawn from as if they were one, see `Selector.mass`.
    by_priority: what learners say of windows changes what is drawn.
    """

    uses_up: ClassVar[bool] = False
    any_start: ClassVar[bool] = False
    parts: ClassVar[bool] = False

    @property
    def by_priority(self) -> bool:
        """Where the selector takes priorities."""
        return self.make().takes_priorities

    @abstractmethod
    def make(self) -> Selector:
        """A new selector, not bound to a replay."""

    def fresh(self, batch: int) -> int:
        """Windows of a batch that were never drawn before, where every window is drawn once (`uses_up`): all."""
        return batch


class Selector(ABC):
    """Rule by which windows are chosen. One selector serves one replay, which calls `bind` first."""

    takes_priorities: ClassVar[bool] = False
    """whether priorities, those of actors included, change what is drawn"""
    whole: bool = False
    """whether only windows are drawn in which every learned row has an action, so that they lie within one episode"""
    layout: Layout
    low: np.ndarray
    high: np.ndarray

    def bind(self, layout: Layout) -> None:
        """Learn the layout; all windows are gone afterwards."""
        self.layout = layout
        self.low = np.zeros(layout.streams, np.int64)
        self.high = np.zeros(layout.streams, np.int64)
        self.voids = 0
        self._void: np.ndarray | None = None

    def window_bytes(self) -> float:
        """Bytes that this selector keeps per window, for the memory budget."""
        return 0.0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 0

    def observe(self, streams: np.ndarray, indices: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Take notice of written rows: streams int64 [n], absolute indices int64 [n], ascending within a stream."""

    def close(self, stream: int, index: int) -> None:
        """Take notice that the newest row of a stream, already written, was turned into the last of its episode."""

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Take in windows that became complete: int64 [n] each.

        priorities: float [n] from the actor (NaN: unknown), or None.
        """
        self.high[streams] = starts // self.layout.period + 1

    def void(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Mark complete windows that must never be drawn: int64 [n] each."""
        if self._void is None:
            self._void = np.zeros((self.layout.streams, self.layout.windows), bool)
        self._void[streams, self._slots(starts)] = True
        self.voids += len(streams)

    def evict(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Forget windows that lost their first row."""
        self.low[streams] = starts // self.layout.period + 1
        if self._void is not None:
            self.voids -= int(self.is_void(streams, starts).sum())
            self._void[streams, self._slots(starts)] = False

    def is_void(self, streams: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Mask of these windows that are void, bool [n]."""
        if self._void is None:
            return np.zeros(len(streams), bool)
        void: np.ndarray = self._void[streams, self._slots(starts)]
        return void

    def _slots(self, starts: np.ndarray) -> np.ndarray:
        return (starts // self.layout.period) % self.layout.windows

    def update(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray) -> None:
        """Set priorities [n] of windows that are legal now. Selectors without priorities ignore them."""

    @property
    def largest(self) -> float:
        """Largest priority seen so far, which new windows without one get; 0 without priorities."""
        return 0.0

    def heed(self, largest: float) -> None:
        """Take notice of a priority that another part of one replay has seen."""

    def ready(self, n: int) -> bool:
        """Whether `draw(n)` can be answered."""
        return int((self.high - self.low).sum()) > self.voids

    def draw(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows, n of them, as `sample` gives them, void ones replaced by others; call only if `ready(n)`.

        Raises UserError if void windows come again and again, as with a selector that draws none but the newest.
        """
        drawn = self.sample(n, rng)
        if self._void is None:
            return drawn
        void = self.is_void(drawn.streams, drawn.starts)
        for _ in range(1000):
            places = np.flatnonzero(void)
            if not len(places):
                return drawn
            redrawn = self.sample(len(places), rng)
            for target, replacement in ((drawn.streams, redrawn.streams), (drawn.starts, redrawn.starts)):
                target[places] = replacement
            drawn.probabilities[places] = redrawn.probabilities
            void = self.is_void(drawn.streams, drawn.starts)
        raise UserError(
            f"the selector {type(self).__name__} drew nothing but windows that close an episode and have no action to "
            f"learn from: let it draw more widely (a larger horizon, a smaller fraction), or learn from more rows "
            f"(replay.window.learn)"
        )

    def mass(self) -> Mass:
        """Weight of all windows, for draws from several replays as if they were one.

        ::

            one replay of all streams     P(i) = w_i / sum_j w_j
            parts                         P(part) = total_part / sum total,   P(i | part) = w_i / total_part

        Raises NotImplementedError where draws do not come apart so: those of a queue depend on the order of all
        streams' windows.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be drawn from in parts")

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows, n of them, void ones too. Probabilities are up to a factor that all of them share."""

    def metrics(self) -> dict[str, float]:
        """Counts to be logged; none by default."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State as a nested dict of arrays and numbers."""
        void = {} if self._void is None else {"void": np.packbits(self._void)}
        return {"low": self.low.copy(), "high": self.high.copy()} | void

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to where `state_dict` was taken, under the same layout."""
        if np.shape(state["low"]) != self.low.shape:
            raise UserError(f"replay state has {np.size(state['low'])} streams, this run has {self.low.size}")
        self.low[:] = state["low"]
        self.high[:] = state["high"]
        if "void" in state:
            shape = (self.layout.streams, self.layout.windows)
            bits = np.unpackbits(np.asarray(state["void"], np.uint8), count=shape[0] * shape[1])
            self._void = bits.astype(bool).reshape(shape)
            self.voids = int(self._void.sum())
