"""The one pacing: how many rows are trained per env_step."""

from __future__ import annotations

from fractions import Fraction


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
    Raises ValueError for arguments out of range.
    """

    def __init__(self, samples_per_insert: float | None, min_size: int, slack: int = 0, extra: int = 0) -> None:
        if samples_per_insert is not None and not 1e-6 <= samples_per_insert < float("inf"):
            raise ValueError(f"samples_per_insert must be finite and >= 1e-6, or None, got {samples_per_insert}")
        if min_size < 0 or slack < 0 or extra < 0:
            raise ValueError(f"expected min_size, slack and extra >= 0, got {min_size}, {slack} and {extra}")
        self.ratio = None if samples_per_insert is None else Fraction(samples_per_insert).limit_denominator(10**6)
        self.min_size, self.slack, self.extra = min_size, slack, extra

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
        return self.ratio * (env_steps - self.min_size) + self.extra - sampled_rows

    def achieved(self, env_steps: int, sampled_rows: int) -> float:
        """Trained rows per env_step since training began, the extra ones left out: what the ratio asks for."""
        trained_env_steps = env_steps - self.min_size
        return max(sampled_rows - self.extra, 0) / trained_env_steps if trained_env_steps > 0 else 0.0
