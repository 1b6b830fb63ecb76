"""The share of a first-in first-out batch that is drawn again, from windows of before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from reverie.data.fifo import repeated
from reverie.data.keys import split_keys
from reverie.data.replay import Replay
from reverie.data.selectors import Fifo, FifoConfig
from reverie.data.sequences import SequenceSpec
from tests.data.counting import SPEC, Source

Place = tuple[int, int]


def replay_of(share: float, capacity: int = 40, learn: int = 4, seed: int = 0) -> tuple[Replay, Source]:
    """Two streams of so many rows each; windows of `learn` rows and one to bootstrap from."""
    sequence = SequenceSpec(learn=learn, lookahead=1, period=learn)
    return Replay(SPEC, sequence, 2, None, Fifo(share), seed, capacity=2 * capacity), Source(2)


def draw(replay: Replay, n: int) -> list[Place]:
    """(start, stream) of the windows of one batch."""
    streams, starts = split_keys(replay.sample(n).keys.numpy())
    return list(zip(starts.tolist(), streams.tolist(), strict=True))


def test_half_of_each_batch_is_new_and_in_order_and_half_was_drawn_before() -> None:
    replay, source = replay_of(0.5)
    fresh: list[Place] = []
    for row in range(60):
        replay.add(source.batch([0, 1]))
        while replay.can_sample(4):
            places = draw(replay, 4)
            fresh += places[:2]
            oldest = max(row + 1 - 40, 0)
            assert all(place in fresh and place[0] >= oldest for place in places[2:])
    assert fresh == sorted((start, stream) for start in range(0, 56, 4) for stream in (0, 1))


def test_windows_of_before_are_drawn_alike() -> None:
    replay, source = replay_of(0.9)
    for _ in range(33):
        replay.add(source.batch([0, 1]))
    counts = Counter[Place]()
    first = [draw(replay, 10)[0] for _ in range(15)]  # 15 of 16 windows have left the queue
    replay.selector._next[:] = 4  # type: ignore[attr-defined]  # now it is as if 4 of each stream had
    rng = np.random.default_rng(0)
    streams, numbers = replay.selector._again(8000, rng)  # type: ignore[attr-defined]
    counts.update(zip(streams.tolist(), numbers.tolist(), strict=True))
    assert len(first) == len(set(first)) == 15
    assert set(counts) == {(stream, number) for stream in (0, 1) for number in range(4)}
    assert max(abs(count - 1000) for count in counts.values()) < 150


def test_what_waits_is_never_drawn_early() -> None:
    replay, source = replay_of(0.75)
    for _ in range(33):
        replay.add(source.batch([0, 1]))
    used: set[Place] = set()
    while replay.can_sample(4):
        places = draw(replay, 4)
        used.add(places[0])
        assert set(places) <= used
    assert len(used) == 16


def test_a_batch_asks_the_queue_for_its_fresh_windows_only() -> None:
    for share, fresh in ((0.0, 10), (0.5, 5), (0.29, 8), (0.3, 7), (0.99, 1)):
        assert FifoConfig(share).fresh(10) == fresh
        replay, source = replay_of(share, capacity=100)
        while not replay.can_sample(10):
            replay.add(source.batch([0]), np.array([0]))
        assert replay.counts[0] == 4 * fresh + 1
    assert FifoConfig(0.29).fresh(100) == 71
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="share must be at least 0 and below 1"):
            FifoConfig(share)


def test_closing_rows_alone_are_never_drawn_again() -> None:
    """Windows of one row that closes an episode have no action."""
    replay, source = replay_of(0.5, learn=1)
    for _ in range(60):
        replay.add(source.batch([0, 1]))
        while replay.can_sample(8):
            assert not replay.sample(8).rows["is_last"][0].any()


def test_it_goes_on_where_it_was_saved() -> None:
    replay, source = replay_of(0.5)
    for _ in range(50):
        replay.add(source.batch([0, 1]))
    draw(replay, 4)
    other, _ = replay_of(0.5, seed=5)
    other.load_state_dict(replay.state_dict())
    other.restored()
    while replay.can_sample(4):
        assert draw(replay, 4) == draw(other, 4)
    assert not other.can_sample(4)


def test_without_a_share_no_number_is_drawn() -> None:
    replay, source = replay_of(0.0)
    before = replay.state_dict()["generator"]
    for _ in range(30):
        replay.add(source.batch([0, 1]))
    draw(replay, 4)
    assert replay.state_dict()["generator"] == before


def test_a_share_next_to_one_leaves_one_window_fresh() -> None:
    assert repeated(1 - 1e-12, 4) == 3
    assert repeated(0.75, 4) == 3
    assert repeated(0.74, 4) == 2
