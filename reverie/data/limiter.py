"""The one pacing: how many rows are trained per row inserted."""

from __future__ import annotations

from fractions import Fraction
from typing import Any


class Limiter:
    """Keeps trained rows at `samples_per_insert` times the env_steps inserted since training began.

    With debt = samples_per_insert (inserted - min_size) - sampled, in trained rows::

        may_sample   inserted >= min_size  and  debt >= 0
        may_insert   inserted <  min_size  or   debt < slack      (slack 0: exactly when may_sample says no)

    So the first batch is trained as soon as `min_size` rows are there, and with batches of b rows there have been
    floor(debt before sampling / b) + 1 of them afterwards; the rows of the start earn none. Ask `may_sample` in a loop
    after every insert. It paces only: whether a replay *can* give a batch is the replay's to say.

    samples_per_insert: trained rows per env_step, >= 1e-6 (None: no pacing, as with a queue that is used once).
    min_size: rows. slack: trained rows by which actors may run ahead of the learner, >= 0.
    Sums are exact: the ratio is the nearest fraction whose denominator is at most a million (0.1 is one tenth).
    Raises ValueError for arguments out of range.
    """

    def __init__(self, samples_per_insert: float | None, min_size: int, slack: int = 0) -> None:
        if samples_per_insert is not None and not 1e-6 <= samples_per_insert < float("inf"):
            raise ValueError(f"samples_per_insert must be finite and >= 1e-6, or None, got {samples_per_insert}")
        if min_size < 0 or slack < 0:
            raise ValueError(f"expected min_size >= 0 and slack >= 0, got {min_size} and {slack}")
        self.ratio = None if samples_per_insert is None else Fraction(samples_per_insert).limit_denominator(10**6)
        self.min_size, self.slack = min_size, slack
        self._inserted = 0
        self._sampled = 0

    def inserted(self, n: int) -> None:
        """n rows (env_steps) were inserted."""
        self._inserted += int(n)

    def sampled(self, n: int) -> None:
        """A batch with n trained rows was sampled."""
        self._sampled += int(n)

    def may_insert(self) -> bool:
        """Whether actors may go on."""
        return self._inserted < self.min_size or self.ratio is None or self.debt() < self.slack or self.debt() < 0

    def may_sample(self) -> bool:
        """Whether the learner may take a batch."""
        return self._inserted >= self.min_size and (self.ratio is None or self.debt() >= 0)

    def debt(self) -> Fraction:
        """Trained rows that the learner owes (negative: is ahead by); 0 without pacing."""
        return Fraction(0) if self.ratio is None else self.ratio * (self._inserted - self.min_size) - self._sampled

    def state_dict(self) -> dict[str, Any]:
        """Both counters."""
        return {"inserted": self._inserted, "sampled": self._sampled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to both counters."""
        self._inserted, self._sampled = int(state["inserted"]), int(state["sampled"])
