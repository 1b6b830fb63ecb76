"""Store and Feed: one count of env_steps, limiter and selector asked before each batch, batches drawn ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack_states

from reverie.data.dataset import open_dataset
from reverie.data.feed import Feed
from reverie.data.limiter import Limiter
from reverie.data.pool import Pool
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.selectors import Fifo, Selector, Uniform
from reverie.data.sequences import Feedback, SequenceSpec
from reverie.data.store import Store
from reverie.overrides import apply
from reverie.presets import make_config
from reverie.run import room
from reverie.run.build import build_agent, build_env, build_learner, build_store

WINDOWS = SequenceSpec(0, 4, 0, 2, "stored")
CPU = torch.device("cpu")


def make(limiter: Limiter, selector: Selector | None = None, folder: Path | None = None, streams: int = 2) -> Store:
    replay = Replay(SPEC, WINDOWS, streams, None, selector or Uniform(), 0, STATES, capacity=40 * streams)
    return Store(replay, limiter, None if folder is None else Record(folder, replay, 6))


def add(store: Store, source: Source, rounds: int) -> int:
    """Rows of every stream; returns how many of them have a decision."""
    decisions = 0
    for _ in range(rounds):
        ids = list(range(store.replay.streams))
        states = stack_states([(stream, int(store.replay.counts[stream])) for stream in ids])
        rows = source.batch(ids)
        decisions += int((~rows["is_last"]).sum())
        store.add(rows, None, states)
    return decisions


def test_env_steps_are_rows_with_a_decision() -> None:
    store = make(Limiter(None, 0))
    decisions = add(store, Source(2), 60)
    assert store.env_steps == decisions < store.replay.inserted == 120


def test_a_batch_is_asked_for_each_time() -> None:
    """A queue of six windows gives three batches of two, though the limiter alone would go on."""
    store = make(Limiter(None, 0), Fifo())
    add(store, Source(2), 8)
    feed = Feed(store, 2, CPU)
    batches = 0
    while feed.next() is not None:
        batches += 1
    assert batches == 3
    assert store.limiter.may_sample(store.env_steps, store.replay.sampled_rows)
    assert not store.may_sample(2)
    with pytest.raises(RuntimeError, match="cannot give 2 windows yet"):
        store.sample(2)
    assert store.may_insert()


def test_actors_go_on_while_the_learner_waits_for_rows() -> None:
    """By the limiter alone both would wait for each other: the learner owes rows, and has no window to learn from."""
    store = make(Limiter(1000.0, 0))
    add(store, Source(2), 2)
    assert not store.limiter.may_insert(store.env_steps, 0)
    assert not store.may_sample(1)
    assert store.may_insert()


def test_chunks_and_rows_leave_the_same_files(tmp_path: Path) -> None:
    one, other = make(Limiter(None, 0), folder=tmp_path / "rows"), make(Limiter(None, 0), folder=tmp_path / "chunks")
    source = Source(2)
    add(one, source, 31)
    for stream in range(2):
        whole = one.replay.chunk(stream, 0, 31)
        for first in range(0, 31, 8):
            other.add_chunk(whole.part(first, min(first + 8, 31), WINDOWS.period))
    assert one.env_steps == other.env_steps
    for store in (one, other):
        assert store.record is not None
        store.record.flush()
    names = sorted(path.name for path in (tmp_path / "rows").iterdir())
    assert len(names) == 12
    for name in names:
        assert (tmp_path / "rows" / name).read_bytes() == (tmp_path / "chunks" / name).read_bytes()
    np.testing.assert_array_equal(open_dataset(tmp_path / "chunks").rows(1)["action"], 10_000 + np.arange(31))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("start", "expects row 6 next, the chunk starts at 7"),
        ("is_first", "has is_first="),
        ("field", "obs.count"),
        ("state", "stores states"),
    ],
)
def test_a_chunk_that_does_not_follow_damages_nothing(tmp_path: Path, wrong: str, message: str) -> None:
    """It would have closed the open file before it was refused; nothing on disk or in memory may move."""
    whole, store = make(Limiter(None, 0)), make(Limiter(None, 0), folder=tmp_path)
    add(whole, Source(2), 20)
    parts = [whole.replay.chunk(0, first, first + 6).part(0, 6, WINDOWS.period) for first in (0, 6)]
    store.add_chunk(parts[0])
    bad = {
        "start": replace(parts[1], start=7),
        "is_first": replace(parts[1], rows=parts[1].rows | {"is_first": ~parts[1].rows["is_first"]}),
        "field": replace(parts[1], rows={name: x for name, x in parts[1].rows.items() if name != "obs.count"}),
        "state": replace(parts[1], states=None),
    }[wrong]
    assert store.record is not None
    before = (list(tmp_path.iterdir()), store.record.room(0), store.env_steps, store.replay.counts.tolist())
    with pytest.raises(ValueError, match=message):
        store.add_chunk(bad)
    assert (list(tmp_path.iterdir()), store.record.room(0), store.env_steps, store.replay.counts.tolist()) == before
    store.add_chunk(parts[1])
    assert store.replay.counts.tolist() == [12, 0]


def test_a_chunk_between_two_states_needs_none() -> None:
    sequence = SequenceSpec(0, 4, 0, 4, "stored")
    one, other = (
        Store(Replay(SPEC, sequence, 1, None, Uniform(), 0, STATES, capacity=40), Limiter(None, 0)) for _ in range(2)
    )
    add(one, Source(1), 8)
    for first, last in ((0, 1), (1, 3), (3, 8)):
        part = one.replay.chunk(0, 0, 8).part(first, last, 4)
        other.add_chunk(replace(part, states=None) if first == 1 else part)
    batch, same = one.sample(6), other.sample(6)
    assert torch.equal(batch.keys, same.keys)
    assert batch.start is not None
    assert same.start is not None
    assert torch.equal(batch.start["h"], same.start["h"])


def test_actors_go_on_while_a_batch_is_larger_than_what_is_queued() -> None:
    store = make(Limiter(1000.0, 0), Fifo(), streams=1)
    add(store, Source(1), 6)
    assert store.replay.can_sample(1)
    assert not store.may_sample(4)
    assert store.may_insert()
    add(store, Source(1), 0)
    assert store.may_sample(2)
    assert not store.may_insert()


def test_without_pacing_actors_fill_the_prefill_though_there_is_a_batch() -> None:
    """The learner may not take it before, so that actors that waited for it would wait for ever."""
    store, source = make(Limiter(None, 30), Fifo(), streams=1), Source(1)
    batches = 0
    while store.env_steps < 30:
        assert not store.may_sample(1)
        assert store.may_insert()
        add(store, source, 1)
        batches += store.replay.can_sample(1)
    assert batches > 3
    assert store.may_sample(1)
    assert not store.may_insert()


def test_a_saved_store_counts_on(tmp_path: Path) -> None:
    store = make(Limiter(2.0, 10, extra=8), folder=tmp_path)
    source = Source(2)
    add(store, source, 25)
    while store.may_sample(2):
        store.sample(2)
    twin = make(Limiter(2.0, 10, extra=8), folder=tmp_path)
    twin.load_state_dict(store.state_dict())
    assert (twin.env_steps, twin.metrics()) == (store.env_steps, store.metrics())
    assert twin.metrics()["ratio"] == (store.replay.sampled_rows - 8) / (store.env_steps - 10)
    assert not twin.may_sample(2)
    assert torch.equal(twin.replay.sample(3).keys, store.replay.sample(3).keys)


def test_a_record_has_no_longer_files_than_a_ring(tmp_path: Path) -> None:
    replay = Replay(SPEC, WINDOWS, 1, None, Uniform(), 0, STATES, capacity=9)
    record = Record(tmp_path, replay, 1000)
    assert record.length == 8
    store, source = Store(replay, Limiter(None, 0), record), Source(1)
    add(store, source, 30)
    record.flush()
    assert open_dataset(tmp_path).rows(0)["action"].tolist() == list(range(30))


def test_the_place_of_rows_reaches_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine's one device they are the same place; what is asked for is handed on all the same."""
    asked: list[Any] = []
    real = Replay.__init__

    def noting(self: Replay, *rows: Any, device: Any, **more: Any) -> None:
        asked.append(device)
        real(self, *rows, device="cpu", **more)

    monkeypatch.setattr(Replay, "__init__", noting)
    monkeypatch.setattr(room, "gpu_memory", lambda name: room.memory())
    for place in ("host", "device"):
        config = apply(
            make_config("dqn", "cpu", "CartPole-v1"), {"replay.store.place": place, "replay.selector": "uniform"}
        )
        env = build_env(config, 1).spec
        learner = build_learner(config, build_agent(config, env), CPU)
        learner.device = torch.device("cuda:0")
        build_store(config, learner, env, tmp_path / place)
    assert asked == ["cpu", torch.device("cuda:0")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="keeps rows in the memory of a GPU")
def test_a_store_on_a_gpu_keeps_the_same_rows_and_files(tmp_path: Path) -> None:
    stores = []
    for place in ("cpu", "cuda"):
        replay = Replay(SPEC, WINDOWS, 2, None, Uniform(), 0, STATES, capacity=80, device=place)
        stores.append(Store(replay, Limiter(None, 0), Record(tmp_path / place, replay, 6)))
        add(stores[-1], Source(2), 33)
    one, other = (store.sample(8) for store in stores)
    assert all(torch.equal(value, other.rows[name].cpu()) for name, value in one.rows.items())
    for path in (tmp_path / "cpu").iterdir():
        assert path.read_bytes() == (tmp_path / "cuda" / path.name).read_bytes()


# Feed


def drawn(ahead: int, rounds: int) -> tuple[list[list[int]], list[list[int]], int]:
    """Keys of batches in the order of learning, of feedback in the order of arrival, and what was drawn in the end."""
    store = make(Limiter(4.0, 10))
    source, feed = Source(2), Feed(store, 2, CPU, ahead)
    learned, heard = [], []
    store.feedback = lambda feedback: heard.append(feedback.keys.tolist())  # type: ignore[method-assign]
    for _ in range(rounds):
        add(store, source, 1)
        while (batch := feed.next()) is not None:
            learned.append(batch.keys.tolist())
            assert batch.rows["action"][0].tolist() == [key // 2**40 * 10_000 + key % 2**40 for key in learned[-1]]
            feed.give(Feedback(batch.keys, torch.ones(2)))
    return learned, heard, store.replay.sampled_rows


def test_ahead_learns_the_same_later() -> None:
    exact, at_once, rows = drawn(0, 30)
    assert exact == at_once
    for ahead in (1, 3, 7):
        learned, heard, same_rows = drawn(ahead, 30)
        assert same_rows == rows
        assert learned == exact[: len(exact) - ahead]
        assert heard == learned[: len(learned) - ahead]


def test_draining_leaves_nothing_under_way() -> None:
    store = make(Limiter(4.0, 10))
    feed = Feed(store, 2, CPU, ahead=2)
    heard: list[Feedback] = []
    store.feedback = heard.append  # type: ignore[method-assign]
    add(store, Source(2), 20)
    count = 0
    while (batch := feed.next()) is not None:
        feed.give(Feedback(batch.keys))
        count += 1
    sampled = store.replay.sampled_rows
    while (batch := feed.next(drain=True)) is not None:
        feed.give(Feedback(batch.keys))
        count += 1
    feed.settle()
    assert store.replay.sampled_rows == sampled
    assert len(heard) == count == sampled // 8


# Pool


class Copy:
    """A copy out of a buffer that is made when somebody waits for it, as a GPU makes it some time later."""

    def __init__(self, source: torch.Tensor) -> None:
        self.source, self.result = source, torch.empty_like(source)

    def synchronize(self) -> None:
        self.result.copy_(self.source)


def copies(guarded: bool) -> list[float]:
    """What five copies hold, if each buffer is written with its number."""
    pool = Pool(lambda batch: {"x": torch.zeros(batch)}, 2)
    made: list[Any] = []
    for number in range(5):
        buffer = pool.next(3)["x"]
        buffer.fill_(number)
        made.append(Copy(buffer))
        if guarded:
            pool.guard(made[-1])
    for copy in made[-2:] if guarded else made:
        copy.synchronize()
    return [float(copy.result[0]) for copy in made]


def test_a_buffer_is_not_written_while_it_is_read() -> None:
    assert copies(guarded=True) == [0, 1, 2, 3, 4]
    assert copies(guarded=False) == [4, 3, 4, 3, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies without waiting need a GPU")
def test_batches_on_a_gpu_are_whole_however_late_the_copies_are() -> None:
    store = make(Limiter(None, 0))
    store.replay._pin = True
    add(store, Source(2), 30)
    feed = Feed(store, 16, torch.device("cuda"))
    busy = torch.randn(4096, 4096, device="cuda")
    batches = []
    for _ in range(8):
        for _ in range(20):
            busy = busy @ busy * 1e-4
        batches.append(feed.next())
    for batch in batches:
        assert batch is not None
        streams, starts = batch.keys.cpu() >> 40, batch.keys.cpu() & ((1 << 40) - 1)
        assert torch.equal(batch.rows["action"][0].cpu(), streams * 10_000 + starts)
