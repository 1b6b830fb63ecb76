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
    states: RowSpec | None,
    selector_bytes: float,
    sequence: SequenceSpec,
    streams: int,
    budget: int | None,
    capacity: int | None = None,
) -> int:
    """Rows per stream that a budget (bytes of all streams) or a capacity (rows of all streams) allows: one of them.

    states: of a recurrent state, of which there is one a window if the sequence keeps them. selector_bytes: what a
    selector keeps of a window, such as its priority.
    Raises ValueError unless exactly one is given, UserError if it cannot hold a window per stream.
    """
    if (budget is None) == (capacity is None):
        raise ValueError(f"give exactly one of budget (bytes) and capacity (rows), got {budget} and {capacity}")
    row, length = bytes_of(spec), sequence.length
    window = selector_bytes + (bytes_of(states) if states and sequence.keeps_states else 0)
    if capacity is not None:
        rows, limit = capacity // streams, f"capacity of {capacity} rows"
    else:
        assert budget is not None
        # One window more than rows / period may be begun, hence the subtraction.
        rows = int((budget / streams - window) // (row + window / sequence.period))
        limit = f"budget of {budget} bytes"
    if rows < length:
        needs = length * streams if capacity is not None else int((length + 1) * (row + window) * streams)
        raise UserError(
            f"a replay {limit} holds {max(rows, 0)} rows in each of {streams} streams, but a window has "
            f"{length}: raise it to at least {needs}"
        )
    return rows
