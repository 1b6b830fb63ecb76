"""An array sum tree: set n leaves, draw n leaves in proportion to their values, both vectorised over n.

Every node has `FANOUT` children, stored side by side, so a level is an array [nodes, FANOUT] and one numpy call
handles all n items of a level. A million leaves need five levels.
"""

from __future__ import annotations

import numpy as np

FANOUT = 16
UNSETTLED = 4096
"""calls of `set` at most whose sums wait to be asked for"""


class SumTree:
    """`size` non-negative float64 leaves, all zero at first.

    A node is always recomputed from its children (never adjusted by a difference), so sums do not drift: they depend on
    the leaves alone, not on the order in which they were set. Recomputation waits until a sum is asked for.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        widths = [-(-max(size, 1) // FANOUT) * FANOUT]
        while widths[-1] > FANOUT:
            widths.append(-(-(widths[-1] // FANOUT) // FANOUT) * FANOUT)
        self._levels = [np.zeros(width) for width in widths]
        self._blocks = [level.reshape(-1, FANOUT) for level in self._levels]
        self._dirty: list[np.ndarray] = []
        self._total = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(level.nbytes for level in self._levels)

    def get(self, leaves: np.ndarray) -> np.ndarray:
        """Values float64 [n] of leaves int64 [n]."""
        return self._levels[0][leaves]

    def set(self, leaves: np.ndarray, values: np.ndarray | float) -> None:
        """Set leaves int64 [n] to finite values >= 0; where a leaf occurs twice its last value counts."""
        self._levels[0][leaves] = values
        self._dirty.append(leaves)
        if len(self._dirty) >= UNSETTLED:
            self._settle()

    def total(self) -> float:
        """Sum of all leaves."""
        self._settle()
        return self._total

    def find(self, masses: np.ndarray) -> np.ndarray:
        """The leaves int64 [n] in which prefix masses float64 [n], 0 <= mass < total, fall.

        Leaf i is found for  sum_{j<i} value_j <= mass < sum_{j<=i} value_j;  a leaf of value zero is never found.
        """
        self._settle()
        node = np.zeros(len(masses), np.int64)
        rest = np.minimum(masses, np.nextafter(self._total, 0.0))
        items = np.arange(len(masses))
        for level in reversed(self._blocks):
            ends = np.cumsum(level[node], axis=1)
            child = (ends <= rest[:, None]).sum(axis=1)
            begins = np.where(child > 0, ends[items, child - 1], 0.0)
            node = node * FANOUT + child
            # The subtraction rounds: keep the mass strictly inside the child, so that a child with mass always exists.
            rest = np.minimum(rest - begins, np.nextafter(level.reshape(-1)[node], 0.0))
        return node

    def load(self, values: np.ndarray) -> None:
        """Set all leaves at once: float64 [size]."""
        self._levels[0][: self.size] = values
        self._dirty = [np.arange(len(self._levels[0]))]

    def _settle(self) -> None:
        """Recompute the ancestors of every leaf set since the last time."""
        if not self._dirty:
            return
        nodes = np.concatenate(self._dirty) if len(self._dirty) > 1 else self._dirty[0]
        self._dirty = []
        for block, above in zip(self._blocks[:-1], self._levels[1:], strict=True):
            nodes = nodes // FANOUT
            if len(nodes) > len(block) // 4:
                nodes = np.arange(len(block))
            elif len(nodes) > 64:
                nodes = np.unique(nodes)
            above[nodes] = _sums(block[nodes])
        self._total = float(_sums(self._blocks[-1])[0])


def _sums(block: np.ndarray) -> np.ndarray:
    """Row sums [n] of [n, FANOUT], added in the order of cumsum: a child found by cumsum is then never out of range."""
    return np.cumsum(block, axis=1)[:, -1]
