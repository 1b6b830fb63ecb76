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
        return time.monotonic() - self._away - self._unheard()

    def _unheard(self) -> float:
        """Seconds since somebody listened that do not count; 0 while somebody does."""
        return 0.0 if self._left is None else max(0.0, time.monotonic() - self._left - self.pause)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which somebody listens."""
        self._away += self._unheard()
        self._left = None
        try:
            yield
        finally:
            self._left = time.monotonic()
