"""Selectors: uniform, online, recency-weighted, prioritised, first-in first-out, episodes with favoured ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from reverie.data.episode_ends import EpisodeEnds, EpisodeEndsConfig
from reverie.data.episode_starts import EpisodeStarts, EpisodeStartsConfig
from reverie.data.fifo import Fifo, FifoConfig
from reverie.data.selector import Drawn, Layout, Mass, Selector, SelectorConfig
from reverie.data.sum_tree import SumTree

__all__ = [
    "SELECTORS",
    "Drawn",
    "EpisodeEnds",
    "EpisodeEndsConfig",
    "EpisodeStarts",
    "EpisodeStartsConfig",
    "Fifo",
    "FifoConfig",
    "Layout",
    "Online",
    "OnlineConfig",
    "Prioritised",
    "PrioritisedConfig",
    "Recency",
    "RecencyConfig",
    "Selector",
    "SelectorConfig",
    "Uniform",
    "UniformConfig",
]

Decay = Literal["exponential", "linear"]


@dataclass(frozen=True)
class UniformConfig(SelectorConfig):
    """Settings of `Uniform`."""

    parts: ClassVar[bool] = True

    def make(self) -> Selector:
        """A selector that has no settings."""
        return Uniform()


class Uniform(Selector):
    """Uniform draws of legal windows, with replacement; O(log streams) per window, stores nothing."""

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows drawn from those of all streams, laid end to end."""
        streams, numbers, total = self._draw(n, rng)
        return Drawn(streams, numbers * self.layout.period, np.full(n, 1.0 / (total - self.voids)))

    def mass(self) -> Mass:
        """Number of windows."""
        windows = float((self.high - self.low).sum() - self.voids)
        return Mass(windows, windows)

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """Streams, window numbers, and the number of all windows."""
        ends = np.cumsum(self.high - self.low)
        total = int(ends[-1])
        place = rng.integers(0, total, n)
        streams = np.searchsorted(ends, place, side="right")
        return streams, self.high[streams] - (ends[streams] - place), total


@dataclass(frozen=True)
class RecencyConfig(SelectorConfig):
    """Settings of `Recency`.

    fraction: of the windows, drawn among recent ones. horizon: age over which those fade, in windows of a stream.
    decay: how they fade.
    """

    fraction: float = 0.5
    horizon: int = 1000
    decay: Decay = "exponential"

    parts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Selector:
        """A selector with these settings. Raises ValueError as `Recency` does."""
        return Recency(self.fraction, self.horizon, self.decay)


class Recency(Uniform):
    """A mixture: with probability `fraction` a recent window, else a uniform one.

    A recent window is drawn by its age a = 0, 1, ... in windows of its own stream, of which n are stored::

        exponential   P(a) = r^a (1 - r) / (1 - r^n),     r = exp(-1 / horizon)
        linear        P(a) = 2 (m - a) / (m (m + 1)),     a < m = min(horizon, n)

    The stream is drawn in proportion to its number of windows in both parts. fraction in [0, 1]; horizon >= 1 in
    windows. Raises ValueError otherwise.
    """

    def __init__(self, fraction: float, horizon: int, decay: Decay = "exponential") -> None:
        if not 0.0 <= fraction <= 1.0 or horizon < 1:
            raise ValueError(f"expected 0 <= fraction <= 1 and horizon >= 1, got {fraction} and {horizon}")
        if decay not in ("exponential", "linear"):
            raise ValueError(f"decay must be 'exponential' or 'linear', got {decay!r}")
        self.fraction, self.horizon, self.decay = fraction, horizon, decay

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows drawn uniformly, the ages of a `fraction` drawn anew; probabilities are those of the mixture."""
        streams, numbers, total = self._draw(n, rng)
        counts = self.high[streams] - self.low[streams]
        recent, mass = rng.random(n) < self.fraction, rng.random(n)
        numbers = np.where(recent, self.high[streams] - 1 - self._age(mass, counts), numbers)
        return Drawn(streams, numbers * self.layout.period, self._weights(streams, numbers) / total)

    def _weights(self, streams: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Probability of each window, times the number of all windows."""
        counts = self.high[streams] - self.low[streams]
        density = self._density(self.high[streams] - 1 - numbers, counts)
        weights: np.ndarray = 1.0 - self.fraction + self.fraction * counts * density
        return weights

    def mass(self) -> Mass:
        """Number of windows, less the weights of those that are void."""
        windows = float((self.high - self.low).sum())
        if self._void is None:
            return Mass(windows, windows)
        streams, slots = np.nonzero(self._void)
        low = self.low[streams]
        numbers = low + (slots - low) % self.layout.windows
        return Mass(windows - float(self._weights(streams, numbers).sum()), windows)

    def _age(self, mass: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The inverse of the cumulative P(a) at mass in [0, 1)."""
        if self.decay == "exponential":
            whole = -np.expm1(-counts / self.horizon)
            age = np.floor(-self.horizon * np.log1p(-mass * whole))
            return np.clip(age, 0, counts - 1).astype(np.int64)
        # The k oldest of m linear weights sum to k (k + 1) / 2: count from the old end.
        m = np.minimum(self.horizon, counts)
        k = np.ceil((np.sqrt(1.0 + 4.0 * (1.0 - mass) * m * (m + 1)) - 1.0) / 2.0)
        return m - np.clip(k, 1, m).astype(np.int64)

    def _density(self, age: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if self.decay == "exponential":
            whole = np.expm1(-counts / self.horizon) / np.expm1(-1.0 / self.horizon)
            return np.exp(-age / self.horizon) / whole
        m = np.minimum(self.horizon, counts)
        return np.where(age < m, 2.0 * (m - age) / (m * (m + 1.0)), 0.0)


@dataclass(frozen=True)
class PrioritisedConfig(SelectorConfig):
    """Settings of `Prioritised`. alpha: exponent of priorities; 0 is uniform. floor: least priority of a window.

    whole: draw only windows of one episode, see `Prioritised`.
    """

    alpha: float = 0.6
    floor: float = 1e-6
    whole: bool = False

    parts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Selector:
        """A selector with these settings. Raises ValueError as `Prioritised` does."""
        return Prioritised(self.alpha, self.floor, self.whole)


class Prioritised(Selector):
    """Proportional prioritisation: P(i) = p_i^alpha / sum_j p_j^alpha over the legal windows, with replacement.

    alpha: 0 is uniform. floor: smallest priority, so that every window can be drawn. A new window gets the actor's
    priority if one is given, else the largest priority seen so far (1 before any), so that it is soon replayed.
    Importance weights are the learner's: (N P(i))^-beta up to a factor that normalising by the largest removes.
    whole: windows in which a learned row closes an episode have no priority and are never drawn; nothing is learned
    from an episode of fewer rows with an action than a window learns.

    Source: Schaul et al. 2016, "Prioritized Experience Replay", equation 1 and algorithm 1; whole: the code of Hansen
    et al. 2022 (TD-MPC), algorithm/helper.py, ``ReplayBuffer``.
    Differs from the paper in: draws are independent, not one per equal share of the total.
    Raises ValueError for alpha < 0, floor <= 0, or priorities that are negative or not finite.
    """

    takes_priorities = True

    def __init__(self, alpha: float = 0.6, floor: float = 1e-6, whole: bool = False) -> None:
        if alpha < 0.0 or floor <= 0.0:
            raise ValueError(f"expected alpha >= 0 and floor > 0, got {alpha} and {floor}")
        self.alpha, self.floor, self.whole = alpha, floor, whole

    def bind(self, layout: Layout) -> None:
        """One leaf per stream and window number modulo the windows that fit."""
        super().bind(layout)
        self.tree = SumTree(layout.streams * layout.windows)
        self.max_priority = 1.0

    def window_bytes(self) -> float:
        """A float64 leaf and its share of the levels above."""
        return 9.0

    @property
    def nbytes(self) -> int:
        """Bytes of the tree."""
        return self.tree.nbytes

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Give new windows the actor's priorities, or the largest seen."""
        super().appear(streams, starts)
        values = np.full(len(starts), np.nan) if priorities is None else np.asarray(priorities, np.float64)
        self._set(streams, starts, np.where(np.isnan(values), self.max_priority, values))

    def void(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Take them out of the sum."""
        super().void(streams, starts)
        self.tree.set(self._leaves(streams, starts), 0.0)

    def evict(self, streams: np.ndarray, starts: np.ndarray) -> None:
        """Take the windows out of the sum."""
        super().evict(streams, starts)
        self.tree.set(self._leaves(streams, starts), 0.0)

    def update(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray) -> None:
        """Set p_i of legal windows."""
        if self._void is not None:
            legal = ~self.is_void(streams, starts)
            streams, starts, priorities = streams[legal], starts[legal], priorities[legal]
        if len(starts):
            self._set(streams, starts, priorities)

    @property
    def largest(self) -> float:
        """Largest priority seen so far."""
        return self.max_priority

    def heed(self, largest: float) -> None:
        """New windows without a priority get this one, if it is larger."""
        self.max_priority = max(self.max_priority, largest)

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows whose leaves n drawn prefix masses fall in."""
        total = self.tree.total()
        leaves = self.tree.find(rng.random(n) * total)
        streams, slots = np.divmod(leaves, self.layout.windows)
        low = self.low[streams]
        numbers = low + (slots - low) % self.layout.windows
        return Drawn(streams, numbers * self.layout.period, self.tree.get(leaves) / total)

    def mass(self) -> Mass:
        """Sum of p^alpha."""
        total = self.tree.total()
        return Mass(total, total)

    def _set(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray) -> None:
        if not np.isfinite(priorities).all() or (priorities < 0.0).any():
            raise ValueError(f"priorities must be finite and >= 0, got {priorities.min()} to {priorities.max()}")
        self.max_priority = max(self.max_priority, float(priorities.max()))
        self.tree.set(self._leaves(streams, starts), np.maximum(priorities, self.floor) ** self.alpha)

    def _leaves(self, streams: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return streams * self.layout.windows + self._slots(starts)

    def state_dict(self) -> dict[str, Any]:
        """Weights p^alpha of the windows that are held, stream by stream, oldest first, and the largest priority seen.

        Not of all leaves: a replay that is hardly filled would write its whole tree into every checkpoint.
        """
        weights = self.tree.get(self._held())
        return super().state_dict() | {"weights": weights, "max_priority": self.max_priority}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all leaves; sums follow from them exactly. Checkpoints of before have all ``leaves``, not the weights."""
        super().load_state_dict(state)
        held = self._held()
        leaves = np.zeros(self.tree.size)
        leaves[held] = np.asarray(state["leaves"])[held] if "leaves" in state else state["weights"]
        self.tree.load(leaves)
        self.max_priority = float(state["max_priority"])

    def _held(self) -> np.ndarray:
        """Leaves of all windows that are held, int64, stream by stream and oldest first."""
        counts = self.high - self.low
        streams = np.repeat(np.arange(self.layout.streams), counts)
        numbers = np.arange(len(streams)) - np.repeat(np.cumsum(counts) - counts, counts) + self.low[streams]
        return self._leaves(streams, numbers * self.layout.period)


@dataclass(frozen=True)
class OnlineConfig(SelectorConfig):
    """Settings of `Online`."""

    def make(self) -> Selector:
        """A selector that has no settings."""
        return Online()


class Online(Uniform):
    """Uniform draws, but every row is in one window that is drawn soon: the newest go first.

    ::

        a stream's windows   |-- once, when complete --|-- once, when complete --| ...      they share no row
        a batch              those that wait, oldest first; the rest uniform over all windows

    Windows that were overwritten before their turn are left out. Probabilities are those of the uniform draws.
    Source: Hafner et al. 2025 (DreamerV3), "Methods", experience replay (the online queue).
    """

    def bind(self, layout: Layout) -> None:
        """Begin with an empty queue."""
        super().bind(layout)
        self._queue: deque[tuple[int, int]] = deque()
        self._free = np.zeros(layout.streams, np.int64)

    def appear(self, streams: np.ndarray, starts: np.ndarray, priorities: np.ndarray | None = None) -> None:
        """Queue windows that share no row with the one that was queued before them."""
        super().appear(streams, starts)
        for stream, start in zip(streams.tolist(), starts.tolist(), strict=True):
            if start >= self._free[stream]:
                self._queue.append((stream, start // self.layout.period))
                self._free[stream] = start + self.layout.length

    def sample(self, n: int, rng: np.random.Generator) -> Drawn:
        """Windows of the queue, then uniform ones."""
        drawn = super().sample(n, rng)
        places: list[tuple[int, int]] = []
        while self._queue and len(places) < n:
            stream, number = self._queue.popleft()
            if number >= self.low[stream] and not self.is_void(*np.array([[stream], [number * self.layout.period]])):
                places.append((stream, number))
        for at, (stream, number) in enumerate(places):
            drawn.streams[at], drawn.starts[at] = stream, number * self.layout.period
        return drawn

    def mass(self) -> Mass:
        """Raises NotImplementedError: what was there first, among the streams of all parts, is drawn first."""
        return Selector.mass(self)

    def metrics(self) -> dict[str, float]:
        """Windows that wait in the queue, those overwritten meanwhile included."""
        return {"online_queue": len(self._queue)}

    def state_dict(self) -> dict[str, Any]:
        """The queue int64 [windows, 2] of (stream, window number), and where each stream's next one may begin."""
        return super().state_dict() | {
            "queue": np.array(self._queue, np.int64).reshape(-1, 2),
            "free": self._free.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the queue that was saved."""
        super().load_state_dict(state)
        self._queue = deque((int(stream), int(number)) for stream, number in np.asarray(state["queue"]))
        self._free[:] = state["free"]


SELECTORS: dict[str, type[SelectorConfig]] = {
    "uniform": UniformConfig,
    "ends": EpisodeEndsConfig,
    "episodes": EpisodeStartsConfig,
    "recency": RecencyConfig,
    "prioritised": PrioritisedConfig,
    "fifo": FifoConfig,
    "online": OnlineConfig,
}
"""name -> settings of every selector: what ``replay.selector`` may be."""
