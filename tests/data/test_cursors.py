"""Cursors of a ring of 4 rows in each of 2 streams, windows of 3 rows that begin at every second one, by hand."""

import numpy as np
import pytest

from reverie.data.cursors import Cursors
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError


def cursors(capacity: int = 4) -> Cursors:
    there = Cursors(2, capacity, SequenceSpec(learn=3, period=2))
    there.count[:] = [7, 2]
    there.ended[:] = [True, False]
    return there


def test_rows_and_where_they_lie() -> None:
    there = cursors()
    assert len(there) == 4 + 2
    assert there.oldest.tolist() == [3, 0]
    streams, indices = np.array([0, 0, 0, 1, 1]), np.array([2, 3, 7, 1, 2])
    assert there.has_rows(streams, indices).tolist() == [False, True, False, True, False]
    assert there.slots(streams, indices).tolist() == [2, 3, 3, 5, 6]
    assert there.slots(1, np.array([5])).tolist() == [5]


def test_windows() -> None:
    there = cursors()
    assert there.has_windows(np.array([0, 0, 0, 1]), np.array([2, 4, 6, 0])).tolist() == [False, True, False, False]
    streams, starts, score = np.array([0, 0, 1, 1]), np.array([-2, 4, 3, 0]), np.array([1.0, 2.0, 3.0, 4.0])
    begun = there.windows(streams, starts, score)
    assert begun is not None
    assert [column.tolist() for column in begun] == [[0, 1], [4, 0], [2.0, 4.0]]
    assert there.windows(streams[:1], starts[:1]) is None


def test_rows_that_do_not_follow_are_refused() -> None:
    there = cursors()
    one = np.array([True]), np.array([False])
    for stream, first in ((0, one[1]), (1, one[0])):
        with pytest.raises(ValueError, match=f"row {there.count[stream]} of stream {stream} has is_first={first[0]}"):
            there.check(np.array([stream]), there.count[[stream]], {"is_first": first, "is_last": one[1]})
    rows = {"is_first": np.array([False, False, True]), "is_last": np.array([False, True, False])}
    there.check(np.array([1, 1, 1]), np.array([2, 3, 4]), rows)
    rows["is_last"][1] = False
    with pytest.raises(ValueError, match=r"row 4 of stream 1 has is_first=True, but .* has is_last=False"):
        there.check(np.array([1, 1, 1]), np.array([2, 3, 4]), rows)


def test_saved_and_of_another_shape() -> None:
    there, other = cursors(), Cursors(2, 4, SequenceSpec(learn=3, period=2))
    other.load_state_dict(there.state_dict())
    assert other.count.tolist() == [7, 2]
    assert other.ended.tolist() == [True, False]
    with pytest.raises(UserError, match="rows_per_stream = 4, this run 5"):
        cursors(5).load_state_dict(there.state_dict())
