"""What agents with a memory ask of a replay: episode starts, states at probed rows, windows that are just complete."""

from __future__ import annotations

import numpy as np
import pytest
from counting import SPEC, STATES, Source, stack_states

from reverie.data.episode_starts import EpisodeStarts
from reverie.data.keys import split_keys
from reverie.data.replay import Replay
from reverie.data.selectors import Selector, Uniform
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError

STREAMS = 3


def fill(replay: Replay, source: Source, rows: int) -> None:
    """Rows of all streams; now and then only of some, as closing rows come."""
    rng = np.random.default_rng(1)
    for _ in range(rows):
        some = [0, 1, 2] if rng.integers(3) else [int(rng.integers(3))]
        counts = replay.counts
        states = stack_states([(s, int(counts[s])) for s in some]) if replay.state_spec else None
        replay.add(source.batch(some), np.array(some), states)


def replay(selector: Selector, sequence: SequenceSpec, capacity: int = 150) -> Replay:
    return Replay(SPEC, sequence, STREAMS, None, selector, 0, STATES, capacity=capacity)


@pytest.mark.parametrize("rows", [30, 60, 2500])
def test_episode_starts_are_all_complete_windows_that_begin_an_episode(rows: int) -> None:
    made, source = replay(EpisodeStarts(), SequenceSpec(learn=6)), Source(STREAMS)
    fill(made, source, rows)
    want = {
        (stream, start)
        for stream in range(STREAMS)
        for start in range(int(made.oldest[stream]), int(made.counts[stream]) - 5)
        if source.first[stream][start]
    }
    drawn = made.selector.sample(4000, np.random.default_rng(0))
    found = list(zip(drawn.streams.tolist(), drawn.starts.tolist(), strict=True))
    assert set(found) == want
    assert set(drawn.probabilities.tolist()) == {1 / len(want)}
    counts = np.unique(np.array(found), axis=0, return_counts=True)[1]
    assert abs(counts / 4000 - 1 / len(want)).max() < 5 * (1 / len(want) / 4000) ** 0.5


def test_episode_starts_go_on_where_they_were_saved() -> None:
    made, source = replay(EpisodeStarts(), SequenceSpec(learn=6)), Source(STREAMS)
    fill(made, source, 1500)
    again = EpisodeStarts()
    again.bind(made.selector.layout)
    again.load_state_dict(made.selector.state_dict())
    one, two = (s.sample(50, np.random.default_rng(0)) for s in (made.selector, again))
    assert one.starts.tolist() == two.starts.tolist()
    counts = made.counts
    for index in range(40):
        for selector in (made.selector, again):
            at = np.array([0]), np.array([int(counts[0]) + index])
            selector.evict(at[0], at[1] - 50)
            selector.observe(*at, {"is_first": np.array([index % 7 == 0])})
            selector.appear(at[0], at[1] - 5)
    one, two = (s.sample(50, np.random.default_rng(1)) for s in (made.selector, again))
    assert one.starts.tolist() == two.starts.tolist()
    with pytest.raises(UserError, match=r"needs replay.window.period = 1, got 2"):
        replay(EpisodeStarts(), SequenceSpec(learn=6, period=2))


@pytest.mark.parametrize(
    ("sequence", "probes"),
    [
        (SequenceSpec(40, 80, 5, 40, "stored", True), (40, 120)),
        (SequenceSpec(40, 80, 5, 40, "zero", True), (40, 120)),
        (SequenceSpec(0, 80, 5, 40, "stored", True), (0, 80)),
        (SequenceSpec(3, 10, 1, 1, "stored", True), (3, 12)),
        (SequenceSpec(43, 80, 5, 40, "zero", True), (80, 120)),
        (SequenceSpec(4, 8, 0, 4, "stored", True), (4, 8)),
        (SequenceSpec(40, 80, 5, 40, "stored"), ()),
    ],
)
def test_probes(sequence: SequenceSpec, probes: tuple[int, ...]) -> None:
    assert sequence.probes == probes


@pytest.mark.parametrize("state", ["zero", "stored"])
def test_batches_carry_the_states_at_probes(state: str) -> None:
    sequence = SequenceSpec(4, 8, 3, 4, state, True)  # type: ignore[arg-type]
    made = replay(Uniform(), sequence)
    fill(made, Source(STREAMS), 400)
    batch = made.sample(30)
    assert (batch.start is None) == (state == "zero")
    assert batch.probes is not None
    streams, starts = split_keys(batch.keys.numpy())
    for k, row in enumerate((4, 12)):
        want = stack_states([(int(s), int(t) + row) for s, t in zip(streams, starts, strict=True)])
        for name, value in want.items():
            assert batch.probes[name][k].numpy().tolist() == value.tolist()
