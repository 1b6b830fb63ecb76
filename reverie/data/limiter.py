"""The one pacing: how many rows are trained per env_step."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any


class Limiter:
    """Pacing of trained rows at `samples_per_insert` times the env_steps inserted since training began.

    With debt = samples_per_insert (env_steps - min_size) + extra - sampled_rows, in trained rows::

        may_sample   env_steps >= min_size  and  debt >= 0
        may_insert   env_steps <  min_size  or   debt < slack      (slack 0: exactly when may_sample says no)

    So the first batch is trained as soon as `min_size` rows are there, and with batches of b rows there have been
    floor(debt before sampling / b) + 1 of them afterwards; the rows of the start earn none but `extra`. Ask
    `may_sample` in a loop after every insert. It paces only, and counts nothing: both counts are the store's, which
    also knows whether a replay *can* give a batch.

    samples_per_insert: trained rows per env_step, >= 1e-6 (None: no pacing, as with a queue that is used once).
    min_size: env_steps. slack: trained rows by which actors may run ahead of the learner, >= 0. extra: trained rows
    that are owed at once when training begins.
    Sums are exact: the ratio is the nearest fraction whose denominator is at most a million (0.1 is one tenth).
    Another ratio in the middle of a run paces from there on only, see `rebase`.
    Raises ValueError for arguments out of range.
    """

    def __init__(self, samples_per_insert: float | None, min_size: int, slack: int = 0, extra: int = 0) -> None:
        if samples_per_insert is not None and not 1e-6 <= samples_per_insert < float("inf"):
            raise ValueError(f"samples_per_insert must be finite and >= 1e-6, or None, got {samples_per_insert}")
        if min_size < 0 or slack < 0 or extra < 0:
            raise ValueError(f"expected min_size, slack and extra >= 0, got {min_size}, {slack} and {extra}")
        self.ratio = None if samples_per_insert is None else Fraction(samples_per_insert).limit_denominator(10**6)
        self.min_size, self.slack, self.extra = min_size, slack, Fraction(extra)
        self.origin = min_size
        """env_steps from which on the ratio is owed: `min_size`, or where this pacing took over"""
        self.took_over = False

    def may_insert(self, env_steps: int, sampled_rows: int) -> bool:
        """Whether actors may go on, after so many env_steps inserted and so many trained rows sampled."""
        debt = self.debt(env_steps, sampled_rows)
        return env_steps < self.min_size or self.ratio is None or debt < self.slack or debt < 0

    def may_sample(self, env_steps: int, sampled_rows: int) -> bool:
        """Whether the learner may take a batch."""
        return env_steps >= self.min_size and (self.ratio is None or self.debt(env_steps, sampled_rows) >= 0)

    def debt(self, env_steps: int, sampled_rows: int) -> Fraction:
        """Trained rows that the learner owes (negative: is ahead by); 0 without pacing."""
        if self.ratio is None:
            return Fraction(0)
        return self.ratio * (env_steps - self.origin) + self.extra - sampled_rows

    def achieved(self, env_steps: int, sampled_rows: int) -> float:
        """Trained rows per env_step since training began, the extra ones left out: what the ratio asks for."""
        trained_env_steps = env_steps - self.origin
        return max(float(sampled_rows - self.extra), 0.0) / trained_env_steps if trained_env_steps > 0 else 0.0

    def rebase(self, env_steps: int, sampled_rows: int, debt: Fraction) -> None:
        """Take over from another pacing, under which that debt is open at these counts.

        ::

            debt
              |   /  old ratio     the new ratio is owed from here on; without it everything before would be owed (or
              |  /____ new ratio   have been paid) at the new ratio too, at once
              | /
              +---|--------------> env_steps
        """
        self.origin = max(env_steps, self.min_size)
        self.extra = debt + sampled_rows
        self.took_over = True

    def state_dict(self) -> dict[str, Any] | None:
        """Where this pacing took over from another; None if it has been in force since the run began."""
        if not self.took_over:
            return None
        return {"origin": self.origin, "extra": [self.extra.numerator, self.extra.denominator]}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Inverse of `state_dict`."""
        if state is not None:
            self.origin, self.extra = int(state["origin"]), Fraction(*map(int, state["extra"]))
            self.took_over = True
