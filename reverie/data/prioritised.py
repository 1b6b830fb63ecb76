"""Draws by priority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.data.selector import Drawn, Layout, Mass, Selector, SelectorConfig
from reverie.data.sum_tree import SumTree
from reverie.errors import UserError


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

    @property
    def by_priority(self) -> bool:
        """Unless priorities do not count."""
        return self.alpha > 0.0

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
    Raises ValueError for alpha outside 0..10, floor <= 0, or priorities that are negative or not finite.
    """

    takes_priorities = True

    def __init__(self, alpha: float = 0.6, floor: float = 1e-6, whole: bool = False) -> None:
        if not 0.0 <= alpha <= 10.0 or not 0.0 < floor < float("inf"):  # beyond, powers are 0 or infinite
            raise ValueError(f"expected 0 <= alpha <= 10 and a finite floor > 0, got {alpha} and {floor}")
        if floor**alpha < 1e-100:
            raise ValueError(f"floor {floor} to the power of alpha {alpha} is too small to be drawn; raise floor")
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
            raise UserError(
                f"priorities must be finite and at least 0, got {priorities.min()} to {priorities.max()}: lower the "
                "learning rate, or clip rewards and gradients"
            )
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
