"""Each selector draws with the probabilities that its equation gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counting import SPEC, Source, stack

from reverie.data.keys import split_keys
from reverie.data.replay import Replay
from reverie.data.selectors import Drawn, EpisodeEnds, Fifo, Layout, Online, Prioritised, Recency, Selector, Uniform
from reverie.data.sequences import Chunk, Feedback, SequenceSpec
from reverie.errors import UserError


def filled(selector: Selector, counts: tuple[int, ...], rows: int = 20, length: int = 3, period: int = 1) -> Selector:
    """A selector whose streams have seen counts[i] rows."""
    selector.bind(Layout(len(counts), rows, length, period))
    for stream, count in enumerate(counts):
        for index in range(count):
            one = np.array([stream])
            if index >= rows and (index - rows) % period == 0:
                selector.evict(one, np.array([index - rows]))
            start = index + 1 - length
            if start >= 0 and start % period == 0:
                selector.appear(one, np.array([start]))
    return selector


def frequencies(drawn: Drawn) -> dict[tuple[int, int], tuple[float, float]]:
    """Window -> how often it was drawn, and the probability that was reported."""
    n = len(drawn.starts)
    places = list(zip(drawn.streams.tolist(), drawn.starts.tolist(), strict=True))
    table: dict[tuple[int, int], list[float]] = {}
    for place, probability in zip(places, drawn.probabilities.tolist(), strict=True):
        table.setdefault(place, [0.0, probability])[0] += 1 / n
        assert table[place][1] == probability
    return {place: (often, probability) for place, (often, probability) in table.items()}


def agrees(drawn: Drawn, want: dict[tuple[int, int], float]) -> None:
    """Reported probabilities equal `want`, observed frequencies are within five standard deviations."""
    n, found = len(drawn.starts), frequencies(drawn)
    assert set(found) <= {place for place, p in want.items() if p > 0}
    assert abs(sum(want.values()) - 1) < 1e-9
    for place, p in want.items():
        often, reported = found.get(place, (0.0, p))
        assert reported == pytest.approx(p, rel=1e-9)
        assert abs(often - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-9


N = 40_000


def test_uniform() -> None:
    selector = filled(Uniform(), (25, 3, 2, 7), period=2)
    want = [(0, s) for s in range(6, 23, 2)] + [(1, 0)] + [(3, 0), (3, 2), (3, 4)]
    agrees(selector.sample(N, np.random.default_rng(0)), {place: 1 / len(want) for place in want})


def test_online_draws_every_row_once_and_then_uniformly() -> None:
    """Windows of 3 rows: those at 0, 3, 6 and so on wait, in the order in which they became complete."""
    selector = filled(Online(), (10, 4, 2))
    drawn = selector.draw(3, np.random.default_rng(0))
    assert list(zip(drawn.streams.tolist(), drawn.starts.tolist(), strict=True)) == [(0, 0), (0, 3), (0, 6)]
    want = {(0, s): 1 / 10 for s in range(8)} | {(1, s): 1 / 10 for s in range(2)}
    drawn = selector.draw(N + 1, np.random.default_rng(0))
    assert (drawn.streams[0], drawn.starts[0]) == (1, 0)
    assert selector.metrics() == {"online_queue": 0}
    agrees(Drawn(drawn.streams[1:], drawn.starts[1:], drawn.probabilities[1:]), want)
    selector.appear(np.array([0, 1]), np.array([8, 2]))
    assert selector.metrics() == {"online_queue": 0}
    selector.appear(np.array([0]), np.array([9]))
    assert selector.draw(1, np.random.default_rng(0)).starts.tolist() == [9]


def test_online_leaves_out_what_was_overwritten() -> None:
    selector = filled(Online(), (25,), rows=10, length=3, period=3)
    assert selector.low.tolist() == [5]
    drawn = selector.draw(3, np.random.default_rng(0))
    assert drawn.starts.tolist() == [15, 18, 21]


def test_recency_exponential() -> None:
    selector = filled(Recency(0.25, 2, "exponential"), (8, 4))
    weight = np.exp(-np.arange(6) / 2)
    want = {(0, 5 - a): 6 / 8 * (0.75 / 6 + 0.25 * weight[a] / weight.sum()) for a in range(6)}
    want |= {(1, 1 - a): 2 / 8 * (0.75 / 2 + 0.25 * weight[a] / weight[:2].sum()) for a in range(2)}
    agrees(selector.sample(N, np.random.default_rng(0)), want)


def test_recency_linear() -> None:
    selector = filled(Recency(1.0, 3, "linear"), (8, 4))
    want = {
        (0, 5): 6 / 8 * 3 / 6,
        (0, 4): 6 / 8 * 2 / 6,
        (0, 3): 6 / 8 * 1 / 6,
        (1, 1): 2 / 8 * 2 / 3,
        (1, 0): 2 / 8 / 3,
    }
    agrees(selector.sample(N, np.random.default_rng(0)), want)


@pytest.mark.parametrize("decay", ["exponential", "linear"])
def test_recency_stays_in_range_at_the_edges(decay: str) -> None:
    selector = Recency(1.0, 50, decay)  # type: ignore[arg-type]
    for count in (1, 2, 49, 50, 51, 10_000_000):
        age = selector._age(np.array([0.0, 0.5, 1 - 1e-16, np.nextafter(1, 0)]), np.full(4, count))
        assert age[0] == 0
        assert (age >= 0).all()
        assert (age < (min(count, 50) if decay == "linear" else count)).all()


def test_prioritised_by_hand() -> None:
    selector = filled(Prioritised(alpha=0.5), (5, 4))
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    selector.update(np.array([0, 0, 1]), np.array([0, 2, 1]), np.array([4.0, 0.25, 9.0]))
    agrees(
        selector.sample(N, np.random.default_rng(0)),
        dict(zip(places, np.array([2, 1, 0.5, 1, 3]) / 7.5, strict=True)),
    )
    # The next window gets the largest priority so far, 9; one with the actor's priority 16 raises that.
    selector.appear(np.array([0]), np.array([3]))
    selector.appear(np.array([0]), np.array([4]), np.array([16.0]))
    selector.appear(np.array([1]), np.array([2]), np.array([np.nan]))
    assert selector.tree.get(np.array([3, 4, 22])).tolist() == [3.0, 4.0, 4.0]


def test_prioritised_alpha_zero_is_uniform() -> None:
    selector = filled(Prioritised(alpha=0.0), (9,))
    selector.update(np.zeros(2, int), np.array([1, 4]), np.array([0.0, 50.0]))
    agrees(selector.sample(N, np.random.default_rng(0)), {(0, s): 1 / 7 for s in range(7)})


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_prioritised_refuses_bad_priorities(bad: float) -> None:
    selector = filled(Prioritised(), (9,))
    with pytest.raises(UserError, match="finite and at least 0"):
        selector.update(np.array([0]), np.array([1]), np.array([bad]))


def test_fifo_gives_each_window_once_in_order() -> None:
    rng = np.random.default_rng(0)
    sequence = SequenceSpec(learn=4, lookahead=1, period=4)
    selector = Fifo()
    replay = Replay(SPEC, sequence, 2, None, selector, 0, capacity=2 * 12)
    source = Source(2)
    given = []
    for _ in range(60):
        replay.add(source.batch([0, 1]))
        if rng.random() < 0.6:
            while replay.can_sample(2):
                streams, starts = split_keys(replay.sample(2).keys.numpy())
                given += list(zip(starts.tolist(), streams.tolist(), strict=True))
    assert given == sorted((start, stream) for start in range(0, 56, 4) for stream in (0, 1))
    assert selector.dropped == 0
    for _ in range(40):
        replay.add(source.batch([1]), np.array([1]))
    # Stream 1 completed windows 56, ..., 92 (row 60 completes 56); 12 rows hold windows 88 and 92.
    assert selector.dropped == 8
    assert replay.can_sample(2)
    assert not replay.can_sample(3)
    assert split_keys(replay.sample(2).keys.numpy())[1].tolist() == [88, 92]


def episodes_replay(selector: Selector, lengths: list[int], open_rows: int, capacity: int = 100) -> Replay:
    """One stream with episodes of these lengths and an open one; windows of 4 rows."""
    replay = Replay(SPEC, SequenceSpec(learn=4), 1, None, selector, 0, capacity=capacity)
    source = Source(1)
    for number, length in enumerate([*lengths, open_rows]):
        if length:
            rows = stack([source.next(0) for _ in range(length)])
            rows["is_first"] = np.arange(length) == 0
            rows["is_last"] = (np.arange(length) == length - 1) & (number < len(lengths))
            replay.add_chunk(Chunk(0, int(replay.counts[0]), rows))
    return replay


def episode_probabilities(begin: int, n: int, length: int = 4) -> dict[tuple[int, int], float]:
    """The official sampler, enumerated: every u of the enlarged range, clamped."""
    table: dict[tuple[int, int], float] = {}
    upper = n - length + 1 + length
    for u in range(upper):
        place = (0, begin + min(u, n - length))
        table[place] = table.get(place, 0.0) + 1 / upper
    return table


def test_the_last_window_of_an_episode_is_favoured() -> None:
    selector = EpisodeEnds()
    episodes_replay(selector, [9, 6], 0)
    first, second = episode_probabilities(0, 9), episode_probabilities(9, 6)
    assert first[0, 5] == pytest.approx(5 * first[0, 4])
    want = {place: p / 2 for place, p in (first | second).items()}
    agrees(selector.sample(N, np.random.default_rng(0)), want)


def test_without_favour_starts_are_uniform_within_an_episode() -> None:
    selector = EpisodeEnds(favour_ends=False)
    episodes_replay(selector, [9, 4], 0)
    agrees(selector.sample(N, np.random.default_rng(0)), {(0, s): 1 / 12 for s in range(6)} | {(0, 9): 1 / 2})


@pytest.mark.parametrize("ongoing", [False, True])
def test_open_and_short_episodes(ongoing: bool) -> None:
    # Rows 0-5, then a short episode 6-7, then the open episode 8-14.
    selector = EpisodeEnds(ongoing=ongoing)
    episodes_replay(selector, [6, 2], 7)
    tables = [episode_probabilities(0, 6), {(0, 6): 1.0}]
    if ongoing:
        tables.append(episode_probabilities(8, 7))
    want = {place: p / len(tables) for table in tables for place, p in table.items()}
    agrees(selector.sample(N, np.random.default_rng(0)), want)


@pytest.mark.parametrize("ongoing", [False, True])
def test_the_first_rows_of_an_episode_are_learned_after_a_context_that_lies_before_it(ongoing: bool) -> None:
    """Windows of two rows of context, a learned one and one ahead; rows 0-5, 6-8 and the open ones 9-13."""
    selector = EpisodeEnds(favour_ends=False, ongoing=ongoing)
    replay = Replay(SPEC, SequenceSpec(context=2, learn=1, lookahead=1), 1, None, selector, 0, capacity=100)
    rows = stack([source.next(0) for source in [Source(1)] for _ in range(14)])
    rows["is_first"] = np.isin(np.arange(14), [0, 6, 9])
    rows["is_last"] = np.isin(np.arange(14), [5, 8])
    replay.add_chunk(Chunk(0, 0, rows))
    drawn = selector.sample(N, np.random.default_rng(0))
    # Nothing lies before the first episode of a stream. Every other begins with its first row.
    episodes = [[2, 3, 4], [6, 7], *([[9, 10, 11, 12]] if ongoing else [])]
    want = {(0, row): 1 / len(each) / len(episodes) for each in episodes for row in each}
    agrees(Drawn(drawn.streams, drawn.starts + 2, drawn.probabilities), want)


def test_a_short_episode_waits_for_the_rows_after_it() -> None:
    assert not episodes_replay(EpisodeEnds(), [2], 1).can_sample()
    assert episodes_replay(EpisodeEnds(), [2], 2).can_sample()
    assert not episodes_replay(EpisodeEnds(), [], 30).can_sample()


def test_overwritten_rows_shorten_an_episode() -> None:
    # 21 rows in a ring of 12: rows 9 to 20 are stored; of the first episode (0-13) rows 9-13, of the second 14-20.
    selector = EpisodeEnds()
    episodes_replay(selector, [14, 7], 0, capacity=12)
    want = episode_probabilities(9, 5) | episode_probabilities(14, 7)
    agrees(selector.sample(N, np.random.default_rng(0)), {place: p / 2 for place, p in want.items()})


def test_episode_ends_are_saved_and_truncation_closes() -> None:
    replay = episodes_replay(EpisodeEnds(), [6, 2, 3], 6)
    replay.truncate(0)
    twin = EpisodeEnds()
    twin.bind(replay.selector.layout)
    twin.load_state_dict(replay.selector.state_dict())
    left, right = (s.sample(500, np.random.default_rng(4)) for s in (replay.selector, twin))
    assert left.starts.tolist() == right.starts.tolist()
    assert max(left.starts) == 13
    with pytest.raises(ValueError, match="period must be 1, got 2"):
        EpisodeEnds().bind(Layout(1, 10, 2, 2))
    other = Uniform()
    other.bind(Layout(2, 10, 2, 1))
    with pytest.raises(UserError, match="1 streams, this run has 2"):
        other.load_state_dict(replay.selector.state_dict())


def test_every_legal_window_of_an_episode_stays_inside_it() -> None:
    replay = Replay(SPEC, SequenceSpec(learn=3), 3, None, EpisodeEnds(ongoing=True), 0, capacity=3 * 30)
    source = Source(3, longest=12)
    for _ in range(120):
        replay.add(source.batch([0, 1, 2]))
        if not replay.can_sample():
            continue
        batch = replay.sample(16)
        count, first = batch.rows["obs.count"][..., 1], batch.rows["is_first"]
        assert (count[1:] - count[:-1] == 1).all()
        crossing = first[1:].any(0)
        # A crossing window begins with the first row of a short episode.
        assert first[0][crossing].all()
        replay.feedback(Feedback(batch.keys, torch.ones(16)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Recency(1.5, 3), "fraction"),
        (lambda: Recency(0.5, 0), "horizon"),
        (lambda: Recency(0.5, 3, "cubic"), "decay"),  # type: ignore[arg-type]
        (lambda: Prioritised(-1.0), "alpha"),
        (lambda: Prioritised(60.0), "alpha <= 10"),
        (lambda: Prioritised(10.0, floor=1e-30), "too small to be drawn; raise floor"),
        (lambda: Prioritised(0.5, 0.0), "floor"),
    ],
)
def test_bad_arguments(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()  # type: ignore[operator]


def test_a_priority_that_is_nan_leaves_the_one_before() -> None:
    """What is wrong with a loss is said by whoever learns; the replay stays as it was."""
    replay = Replay(SPEC, SequenceSpec(), 1, None, Prioritised(alpha=1.0), 0, capacity=10)
    source = Source(1)
    for _ in range(4):
        replay.add(source.batch([0]))
    keys = torch.arange(4)
    replay.feedback(Feedback(keys, torch.tensor([1.0, 2.0, 3.0, 4.0])))
    replay.feedback(Feedback(keys, torch.tensor([float("nan"), 5.0, float("nan"), 6.0])))
    selector = replay.selector
    assert isinstance(selector, Prioritised)
    leaves = selector._leaves(np.zeros(4, np.int64), np.arange(4))
    legal = ~selector.is_void(np.zeros(4, np.int64), np.arange(4))
    np.testing.assert_array_equal(selector.tree.get(leaves)[legal], np.array([1.0, 5.0, 3.0, 6.0])[legal])
    assert legal[[0, 1]].any()
    assert legal[[2, 3]].any()
    assert replay.stale_keys == 0


def test_a_state_holds_no_more_than_the_windows_that_are_held() -> None:
    layout, rng = Layout(streams=2, rows=100, length=4, period=2), np.random.default_rng(0)
    one = Prioritised()
    one.bind(layout)
    for number in range(120):  # of stream 0 the ring of 50 windows goes round twice, stream 1 holds three
        streams = np.array([0, 1] if number < 3 else [0])
        one.appear(streams, np.full(len(streams), 2 * number), rng.random(len(streams)))
        if number >= 50:
            one.evict(np.array([0]), np.array([2 * (number - 50)]))
    state = one.state_dict()
    assert len(state["weights"]) == 50 + 3
    every = np.arange(one.tree.size)
    earlier = {name: value for name, value in state.items() if name != "weights"} | {"leaves": one.tree.get(every)}
    for saved in (state, earlier):  # checkpoints that were written before held the whole tree
        twin = Prioritised()
        twin.bind(layout)
        twin.load_state_dict(saved)
        assert np.array_equal(twin.tree.get(every), one.tree.get(every))
        assert twin.tree.total() == one.tree.total()
        assert twin.max_priority == one.max_priority
