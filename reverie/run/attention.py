"""For how long somebody has listened: silence counts only while there is anybody to hear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Attention:
    """A clock for silence. Between two `listening` contexts pass at most `pause` seconds of it.

    ::

        listening   evaluation, checkpoint, updates   listening
        ---------|....................................|---------      the dotted part counts as `pause` s, or as less

    What was said meanwhile is heard, and counted, only afterwards. Whoever listens for a moment now and then, between
    long updates, still comes to the end of its patience.
    """

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self._away = 0.0
        self._left: float | None = None

    def now(self) -> float:
        """Seconds of this clock."""
        return time.monotonic() - self._away

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which somebody listens."""
        if self._left is not None:
            self._away += max(0.0, time.monotonic() - self._left - self.pause)
        try:
            yield
        finally:
            self._left = time.monotonic()
