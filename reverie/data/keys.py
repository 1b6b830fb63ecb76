"""Keys of rows and windows: one number for a stream and an absolute index in it.

::

    key    stream << 40 | index        key + k is the row k rows later in its stream
"""

from __future__ import annotations

import numpy as np

KEY_BITS = 40
"""bits of the index: a stream of 1e12 rows"""


def window_keys(streams: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Keys int64 [n] of the windows (or rows) that begin at absolute index starts[i] of streams[i]."""
    return (streams << KEY_BITS) | starts


def split_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Streams and absolute starts, int64 [n] each, that `window_keys` joined."""
    return keys >> KEY_BITS, keys & ((1 << KEY_BITS) - 1)
