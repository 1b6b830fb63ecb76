"""How many rows a replay has room for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reverie.data.rows import RowSpec, bytes_of
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError

Place = Literal["host", "device"]


@dataclass(frozen=True)
class Room:
    """rows: of all streams together, that there is room for. nbytes: what they take. place: in whose memory."""

    rows: int
    nbytes: int
    place: Place


def rows_per_stream(
    spec: RowSpec,
    window_bytes: float,
    sequence: SequenceSpec,
    streams: int,
    budget: int | None,
    capacity: int | None = None,
) -> int:
    """Rows per stream that a budget (bytes of all streams) or a capacity (rows of all streams) allows: one of them.

    window_bytes: of what is kept once a window, such as its recurrent state and its priority.
    Raises ValueError unless exactly one is given, UserError if it cannot hold a window per stream.
    """
    if (budget is None) == (capacity is None):
        raise ValueError(f"give exactly one of budget (bytes) and capacity (rows), got {budget} and {capacity}")
    row, length = bytes_of(spec), sequence.length
    if capacity is not None:
        rows, limit = capacity // streams, f"capacity of {capacity} rows"
    else:
        assert budget is not None
        # One window more than rows / period may be begun, hence the subtraction.
        rows = int((budget / streams - window_bytes) // (row + window_bytes / sequence.period))
        limit = f"budget of {budget} bytes"
    if rows < length:
        needs = length * streams if capacity is not None else int((length + 1) * (row + window_bytes) * streams)
        raise UserError(
            f"a replay {limit} holds {max(rows, 0)} rows in each of {streams} streams, but a window has "
            f"{length}: raise it to at least {needs}"
        )
    return rows
