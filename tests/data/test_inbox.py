"""Inbox: deliveries of actors elsewhere are taken once and in order; a lost actor's episodes are closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack_states

from reverie.data.inbox import Delivery, Inbox
from reverie.data.limiter import Limiter
from reverie.data.outbox import Outbox
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.selectors import Uniform
from reverie.data.sequences import Chunk, SequenceSpec
from reverie.data.store import Store
from reverie.errors import UserError

WINDOWS = SequenceSpec(2, 4, 1, 3, "stored")
ACTORS, STREAMS, LENGTH = 2, 3, 6


def read_only(chunk: Chunk) -> Chunk:
    """The chunk as an engine hands it over: nothing in it can be written to."""
    groups: list[dict[str, Any] | None] = [chunk.rows, chunk.peek, chunk.states, chunk.after]
    for group in groups:
        for value in (group or {}).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
    return chunk


class Sender:
    """A life of an actor: rows from a source of its own, sent in deliveries."""

    def __init__(self, inbox: Inbox, actor: int, seed: int) -> None:
        self.actor = actor
        self.incarnation, starts = inbox.begin(actor)
        self.sequence = 0
        self.source, self.chunks = Source(STREAMS, seed), list[Chunk]()
        self.first = starts.copy()
        self.outbox = Outbox(self, SPEC, WINDOWS, STREAMS, length=LENGTH)
        self.outbox.begin(starts)
        self.counts = starts.copy()

    def add(self, *row: Any) -> None:
        raise AssertionError("single rows do not travel")

    def add_chunk(self, chunk: Chunk) -> None:
        self.chunks.append(read_only(chunk))

    def act(self, rounds: int) -> Delivery:
        every = np.arange(STREAMS)
        for _ in range(rounds):
            states = stack_states([(stream, int(self.counts[stream])) for stream in range(STREAMS)])
            state = {name: torch.from_numpy(value) for name, value in states.items()}
            self.outbox.put(self.source.batch(every.tolist()), every, state)
            self.counts += 1
        delivery = Delivery(self.actor, self.incarnation, self.sequence, self.chunks)
        self.sequence, self.chunks = self.sequence + 1, []
        return delivery


def place(capacity: int = 600) -> Store:
    streams = ACTORS * STREAMS
    return Store(Replay(SPEC, WINDOWS, streams, None, Uniform(), 0, STATES, capacity=capacity), Limiter(None, 0))


def stored(store: Store, stream: int) -> Chunk:
    return store.replay.chunk(stream, int(store.replay.oldest[stream]), int(store.replay.counts[stream]))


def test_rows_arrive_at_the_streams_of_their_actor() -> None:
    store = place()
    inbox = Inbox(store, ACTORS, STREAMS)
    senders = [Sender(inbox, actor, seed=actor) for actor in range(ACTORS)]
    for _ in range(3):
        for sender in senders:
            assert inbox.take(sender.act(7))
    for actor, sender in enumerate(senders):
        for stream in range(STREAMS):
            chunk = stored(store, actor * STREAMS + stream)
            assert len(chunk) == 18
            for index in range(18):
                for name, value in sender.source.row(stream, index).items():
                    np.testing.assert_array_equal(chunk.rows[name][index], value)


def test_a_delivery_counts_once_and_one_of_an_earlier_life_not_at_all() -> None:
    store = place()
    inbox = Inbox(store, ACTORS, STREAMS)
    sender = Sender(inbox, 0, 0)
    first, second = sender.act(8), sender.act(8)
    assert inbox.take(first)
    before = store.replay.counts.copy()
    assert not inbox.take(first)
    np.testing.assert_array_equal(store.replay.counts, before)
    inbox.begin(0)
    assert not inbox.take(second)
    assert inbox.dropped == 2
    assert store.env_steps == sum(int((~stored(store, s).rows["is_last"]).sum()) for s in range(STREAMS))


def test_a_missing_delivery_is_an_error() -> None:
    inbox = Inbox(place(), ACTORS, STREAMS)
    sender = Sender(inbox, 0, 0)
    sender.act(8)
    with pytest.raises(ValueError, match="delivers 1, but 0 was not received"):
        inbox.take(sender.act(8))


@pytest.mark.parametrize("saved", [False, True], ids=["actor lost", "learner lost"])
def test_lives_follow_one_another_without_a_splice(saved: bool) -> None:
    """Twenty lives; what the stream holds between two is the row that was seen last, closed, with its own state."""
    store, checked = place(capacity=3000), 0
    inbox = Inbox(store, ACTORS, STREAMS)
    for life in range(20):
        before = store.replay.counts[:STREAMS].copy()
        sender = Sender(inbox, 0, seed=life)
        for rounds in (7, 5 + life % 4, 6):
            assert inbox.take(sender.act(rounds))
        received = store.replay.counts[:STREAMS].copy()
        if saved:
            again = Inbox(store, ACTORS, STREAMS)
            again.load_state_dict(inbox.state_dict())
            inbox = again
        inbox.begin(0)
        for stream in range(STREAMS):
            chunk = stored(store, stream)
            rows = chunk.rows
            np.testing.assert_array_equal(rows["is_first"][1:], rows["is_last"][:-1])
            assert rows["is_last"][-1]
            at = int(received[stream])
            peek = sender.source.row(stream, at - int(sender.first[stream]))
            if peek["is_first"]:
                assert int(store.replay.counts[stream]) == at
                continue
            assert int(store.replay.counts[stream]) == at + 1
            checked += 1
            for name in ("obs.image", "obs.count", "reward", "prev_action", "is_terminal"):
                np.testing.assert_array_equal(rows[name][at], peek[name])
            assert not rows["action"][at]
            assert not rows["extra.logits"][at].any()
            if at % WINDOWS.period == 0:
                assert chunk.states is not None
                index = chunk.grid(WINDOWS.period).tolist().index(at)
                np.testing.assert_array_equal(chunk.states["n"][index], stream * 10_000 + at)
            assert before[stream] < at
    assert checked > 20


@pytest.mark.parametrize("rounds", range(1, 13))
def test_a_disk_that_fills_in_the_middle_of_a_delivery_splices_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """A file that cannot be written leaves the rows before it; the episode ends with the row after those."""

    store = place()
    store.record = Record(tmp_path, store.replay, 9)  # no multiple of an actor's chunks
    inbox = Inbox(store, ACTORS, STREAMS)
    sender = Sender(inbox, 0, 0)
    assert inbox.take(sender.act(rounds))
    more = sender.act(20)
    with monkeypatch.context() as patch:
        patch.setattr("reverie.data.record.write_chunk", fails)
        with pytest.raises(UserError, match="on purpose"):
            inbox.take(more)
    again = Inbox(store, ACTORS, STREAMS)
    again.load_state_dict(inbox.state_dict())
    received = store.replay.counts[:STREAMS].copy()
    again.begin(0)
    for stream in range(STREAMS):
        chunk, at = stored(store, stream), int(received[stream])
        np.testing.assert_array_equal(chunk.rows["is_first"][1:], chunk.rows["is_last"][:-1])
        assert chunk.rows["is_last"][-1] or not at
        if len(chunk) > at:
            for name in ("obs.image", "obs.count", "reward", "prev_action", "is_terminal"):
                np.testing.assert_array_equal(chunk.rows[name][at], sender.source.row(stream, at)[name])
    assert again.take(Sender(again, 0, 1).act(8))  # another life goes on


def test_an_episode_that_could_not_be_closed_is_closed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place()
    inbox = Inbox(store, ACTORS, STREAMS)
    sender = Sender(inbox, 0, 0)
    assert inbox.take(sender.act(8))
    with monkeypatch.context() as patch:
        patch.setattr(store, "add", fails)
        with pytest.raises(UserError, match="on purpose"):
            inbox.begin(0)
    inbox.begin(0)
    assert all(stored(store, stream).rows["is_last"][-1] for stream in range(STREAMS))


def fails(*_: Any) -> None:
    raise UserError("on purpose")


def test_windows_that_began_before_a_life_get_no_priority_of_it() -> None:
    """Rows of an earlier life are none of this outbox's, so it cannot know what such a window is worth."""
    seen: list[np.ndarray] = []

    def score(rows: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(rows["action"].numpy().copy())
        return torch.ones(rows["action"].shape[1])

    chunks: list[Chunk] = []

    class Deliver:
        def add(self, *row: Any) -> None:
            raise AssertionError

        def add_chunk(self, chunk: Chunk) -> None:
            chunks.append(chunk)

    outbox = Outbox(Deliver(), SPEC, WINDOWS, 1, ("action",), score, length=LENGTH)
    outbox.begin(np.array([4]))
    source = Source(1)
    for index in range(4, 30):
        state = {name: torch.from_numpy(value) for name, value in stack_states([(0, index)]).items()}
        outbox.put(source.batch([0]), np.array([0]), state)
    priorities = np.concatenate([chunk.priorities for chunk in chunks if chunk.priorities is not None])
    # The first whole window of its own begins at row 6 and is complete with row 12, the ninth.
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(priorities)) + 4, [12, 15, 18, 21, 24, 27])
