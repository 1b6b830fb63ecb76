"""Outbox: rows leave once, in order, with the priorities of the windows that they complete; alone or in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack_states

from reverie.data.outbox import Outbox
from reverie.data.replay import Replay
from reverie.data.selectors import Prioritised
from reverie.data.sequences import Chunk, SequenceSpec
from reverie.data.store import Limiter, Store

WINDOWS = SequenceSpec(2, 4, 1, 3, "stored")
STREAMS = 3


def score(rows: dict[str, torch.Tensor]) -> torch.Tensor:
    """A number that every row of a window has a part in: [n]."""
    weights = torch.arange(1.0, 8.0)[:, None]
    return (weights * rows["action"].float() % 97).sum(0) + rows["extra.logits"][:, :, 0].sum(0).abs() / 1000


def store() -> Store:
    return Store(Replay(SPEC, WINDOWS, STREAMS, None, Prioritised(1.0), 0, STATES, capacity=90), Limiter(None, 0))


def feed(outbox: Outbox, source: Source, counts: np.ndarray, rounds: int, seed: int) -> None:
    """Rows of some streams at a time, each with its state."""
    rng = np.random.default_rng(seed)
    for number in range(rounds):
        some = [0, 1, 2] if rng.integers(3) else [int(rng.integers(3))]
        states = stack_states([(stream, int(counts[stream])) for stream in some])
        state = {name: torch.from_numpy(value) for name, value in states.items()}
        outbox.put(source.batch(some), np.array(some), state, version=number)
        counts[some] += 1


@pytest.mark.parametrize("length", [0, 3, 6])
def test_priorities_arrive_with_their_windows(length: int) -> None:
    """Against the windows themselves, read row by row from the source."""
    place, source, counts = store(), Source(STREAMS), np.zeros(STREAMS, int)
    outbox = Outbox(place, SPEC, WINDOWS, STREAMS, ("action", "extra.logits"), score, length=length)
    feed(outbox, source, counts, 120, seed=1)
    outbox.flush()
    selector: Any = place.replay.selector
    checked = 0
    for stream in range(STREAMS):
        assert place.replay.counts[stream] == counts[stream]
        for start in range(0, int(counts[stream]) - 6, 3):
            if start < place.replay.oldest[stream]:
                continue
            rows = [source.row(stream, start + k) for k in range(7)]
            window = {
                "action": torch.tensor([int(row["action"]) for row in rows])[:, None],
                "extra.logits": torch.tensor(np.stack([row["extra.logits"] for row in rows]))[:, None],
            }
            leaf = selector._leaves(np.array([stream]), np.array([start]))
            assert selector.tree.get(leaf)[0] == pytest.approx(float(score(window)), rel=1e-6)
            checked += 1
    assert checked > 15


def test_one_by_one_and_in_chunks_the_store_is_the_same() -> None:
    places = [store() for _ in range(2)]
    for place, length in zip(places, (0, 3), strict=True):
        outbox = Outbox(place, SPEC, WINDOWS, STREAMS, ("action", "extra.logits"), score, length=length)
        feed(outbox, Source(STREAMS), np.zeros(STREAMS, int), 50, seed=2)
        outbox.flush()
    one, other = (place.state_dict() for place in places)
    assert one["env_steps"] == other["env_steps"] > 0
    assert np.array_equal(one["replay"]["counts"], other["replay"]["counts"])
    assert np.array_equal(one["replay"]["selector"]["weights"], other["replay"]["selector"]["weights"])
    for stream in range(STREAMS):
        first, stop = int(places[0].replay.oldest[stream]), int(places[0].replay.counts[stream])
        left, right = (place.replay.chunk(stream, first, stop) for place in places)
        for name, value in left.rows.items():
            np.testing.assert_array_equal(value, right.rows[name])
        for name, value in (left.states or {}).items():
            np.testing.assert_array_equal(value, (right.states or {})[name])


class Noted:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def add(self, *row: Any) -> None:
        raise AssertionError("chunks were asked for")

    def add_chunk(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)


def test_a_chunk_leaves_with_the_row_after_it() -> None:
    noted, source = Noted(), Source(1)
    outbox = Outbox(noted, SPEC, SequenceSpec(0, 2, state="stored"), 1, length=4)
    for number in range(10):
        state = {name: torch.from_numpy(value) for name, value in stack_states([(0, number)]).items()}
        outbox.put(source.batch([0]), None, state, version=number)
    assert [(chunk.start, len(chunk), chunk.version) for chunk in noted.chunks] == [(0, 4, 3), (4, 4, 7)]
    assert noted.chunks[0].peek is not None
    assert noted.chunks[0].peek["action"] == 4
    assert noted.chunks[0].priorities is None
    assert noted.chunks[1].states is not None
    assert noted.chunks[1].states["h"][:, 1].tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="flush an outbox"):
        outbox.state_dict()
    outbox.flush()
    assert (noted.chunks[2].start, len(noted.chunks[2]), noted.chunks[2].peek) == (8, 2, None)
    assert noted.chunks[2].version == 9


def test_an_outbox_goes_on_from_its_state() -> None:
    """Windows that were begun before it was taken are scored with all their rows."""
    leaves = []
    for restarted in (False, True, None):
        place, source, counts = store(), Source(STREAMS), np.zeros(STREAMS, int)
        outbox = Outbox(place, SPEC, WINDOWS, STREAMS, ("action", "extra.logits"), score)
        feed(outbox, source, counts, 23, seed=3)
        if restarted is not False:
            state = outbox.state_dict()
            outbox = Outbox(place, SPEC, WINDOWS, STREAMS, ("action", "extra.logits"), score)
            if restarted is None:  # the negative control: without the rows
                state["recent"] = {name: np.zeros_like(value) for name, value in state["recent"].items()}
            outbox.load_state_dict(state)
        feed(outbox, source, counts, 5, seed=4)
        leaves.append(place.replay.selector.state_dict()["weights"])
    assert np.array_equal(leaves[0], leaves[1])
    assert not np.array_equal(leaves[0], leaves[2])


def test_chunks_fit_the_period() -> None:
    with pytest.raises(ValueError, match="chunks of 4 rows do not fit a period of 3"):
        Outbox(store(), SPEC, WINDOWS, STREAMS, length=4)
