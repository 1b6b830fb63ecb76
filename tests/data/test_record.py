"""Chunk files: exact resume, damage, a full disk, datasets."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack, stack_states
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.data import chunks
from reverie.data.chunks import read_chunk, read_header, write_chunk
from reverie.data.dataset import open_dataset
from reverie.data.limiter import Limiter
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.selectors import EpisodeEnds, Fifo, Online, Prioritised, Recency, Selector, Uniform
from reverie.data.sequences import Batch, Chunk, Feedback, SequenceSpec
from reverie.data.store import Store
from reverie.errors import UserError

SEQUENCE = SequenceSpec(context=1, learn=3, lookahead=1, period=2, state="stored")
EVERY_ROW = replace(SEQUENCE, period=1)


def make_selector(kind: str) -> Selector:
    return {
        "uniform": Uniform(),
        "prioritised": Prioritised(0.7),
        "recency": Recency(0.5, 4),
        "online": Online(),
        "fifo": Fifo(),
        "ends": EpisodeEnds(),
    }[kind]


class Run:
    """A store that is fed by a source."""

    def __init__(
        self, folder: Path, kind: str = "uniform", streams: int = 2, length: int = 6, capacity: int = 40
    ) -> None:
        self.streams = streams
        self.source = Source(streams, seed=1)
        sequence = EVERY_ROW if kind == "ends" else SEQUENCE
        self.replay = Replay(SPEC, sequence, streams, None, make_selector(kind), 5, STATES, capacity=capacity * streams)
        self.record = Record(folder, self.replay, length)
        self.store = Store(self.replay, Limiter(None, 0), self.record)

    def add(self, chosen: list[int] | None = None) -> None:
        ids = list(range(self.streams)) if chosen is None else chosen
        places = [(stream, int(self.replay.counts[stream])) for stream in ids]
        rows, states = self.source.batch(ids), stack_states(places)
        streams = None if chosen is None else np.array(ids)
        self.store.add(rows, streams, states)

    def train(self) -> list[Batch]:
        """Sample, change priorities and states, and return a copy of what was drawn."""
        if not self.replay.can_sample(3):
            return []
        batch = self.replay.sample(3)
        assert batch.start is not None
        copy = Batch(
            {k: v.clone() for k, v in batch.rows.items()},
            dict(batch.start),
            batch.keys,
            batch.probabilities,
            batch.ages,
        )
        fresh = {"h": batch.start["h"] + 1.0, "n": batch.start["n"] - 3}
        self.replay.feedback(Feedback(batch.keys, (batch.keys % 7).float() / 3, fresh))
        return [copy]

    def truncate(self, stream: int) -> None:
        self.source.truncate(stream)
        self.replay.truncate(stream)

    def save(self) -> dict[str, Any]:
        return self.store.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        self.store.load_state_dict(state)
        self.store.resumed()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def same(left: Batch, right: Batch) -> None:
    assert torch.equal(left.keys, right.keys)
    assert torch.equal(left.probabilities, right.probabilities)
    assert torch.equal(left.ages, right.ages)
    assert left.start is not None
    assert right.start is not None
    for name, value in left.rows.items():
        assert torch.equal(value, right.rows[name]), name
    for name, value in left.start.items():
        assert torch.equal(value, right.start[name]), name


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["uniform", "prioritised", "recency", "online", "fifo", "ends"]),
    length=st.integers(1, 12),
    capacity=st.integers(5, 25),
    before=st.lists(st.sampled_from(["add", "add", "one", "train", "truncate", "evict"]), min_size=10, max_size=60),
    after=st.lists(st.sampled_from(["add", "add", "one", "train", "truncate"]), min_size=5, max_size=40),
    fixed=st.integers(0, 2**32),
)
def test_a_resumed_run_draws_what_the_uninterrupted_run_draws(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    length: int,
    capacity: int,
    before: list[str],
    after: list[str],
    fixed: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    run = Run(folder, kind, length=length, capacity=capacity)

    def play(one: Run, operations: list[str], rng: np.random.Generator) -> list[Batch]:
        drawn = []
        for operation in operations:
            if operation == "add":
                one.add()
            elif operation == "one":
                one.add([int(rng.integers(one.streams))])
            elif operation == "train":
                drawn += one.train()
            elif operation == "truncate":
                one.truncate(int(rng.integers(one.streams)))
            else:
                one.record.evict(one.replay.oldest)
        return drawn

    play(run, before, np.random.default_rng(fixed))
    state, sealed_before = run.save(), list(files(folder))
    source = Source(run.streams)
    for name, value in vars(run.source).items():
        setattr(source, name, value if not isinstance(value, list | np.ndarray) else _copy(value))
    source.rng = np.random.default_rng(fixed + 2)
    run.source.rng = np.random.default_rng(fixed + 2)
    straight = play(run, after, np.random.default_rng(fixed + 1))
    run.record.flush()
    expected = files(folder)

    twin = Run(folder, kind, length=length, capacity=capacity)
    twin.load(state)
    assert equal(twin.save(), state)
    assert list(files(folder)) == sealed_before
    twin.source = source
    resumed = play(twin, after, np.random.default_rng(fixed + 1))
    assert len(straight) == len(resumed)
    for left, right in zip(straight, resumed, strict=True):
        same(left, right)
    twin.record.flush()
    assert files(folder) == expected


def equal(left: Any, right: Any) -> bool:
    """Whether two trees of arrays and plain values are the same."""
    if isinstance(left, dict):
        return set(left) == set(right) and all(equal(left[name], right[name]) for name in left)
    return bool(np.array_equal(left, right))


def _copy(value: Any) -> Any:
    return (
        value.copy()
        if isinstance(value, np.ndarray)
        else [_copy(one) if isinstance(one, list) else one for one in value]
    )


def test_the_files_hold_every_row_with_its_peek_and_states(tmp_path: Path) -> None:
    run = Run(tmp_path, length=6)
    for _ in range(29):
        run.add()
    run.record.flush()
    for stream in (0, 1):
        expected = 0
        found = list(open_dataset(tmp_path).chunks(stream))
        for chunk in found:
            assert (chunk.stream, chunk.start) == (stream, expected)
            want = stack([run.source.row(stream, expected + i) for i in range(len(chunk))])
            for name, value in chunk.rows.items():
                np.testing.assert_array_equal(value, want[name])
                assert value.dtype == want[name].dtype
            states = stack_states([(stream, expected + i) for i in range(0, len(chunk), SEQUENCE.period)])
            assert chunk.states is not None
            for name, value in chunk.states.items():
                np.testing.assert_array_equal(value, states[name])
            expected += len(chunk)
            if chunk is found[-1]:
                assert chunk.peek is None
            else:
                assert chunk.peek is not None
                assert chunk.peek["action"] == stream * 10_000 + expected
                assert chunk.peek["obs.image"].shape == (2, 3, 1)
        assert expected == 29
    assert [len(chunk) for chunk in open_dataset(tmp_path).chunks(1)] == [4, 6, 6, 6, 6, 1]


def test_a_dataset_gives_rows_and_whole_episodes(tmp_path: Path) -> None:
    run = Run(tmp_path, length=5)
    for _ in range(50):
        run.add()
    run.record.flush()
    run.record.evict(np.array([9, 9]))
    data = open_dataset(tmp_path)
    assert data.streams == [0, 1]
    for stream in (0, 1):
        rows = data.rows(stream)
        begin = int(rows["obs.count"][0, 1])
        assert begin == 6 if stream == 0 else 8
        np.testing.assert_array_equal(rows["action"] - stream * 10_000, np.arange(begin, 50))
        first, last = np.array(run.source.first[stream]), np.array(run.source.last[stream])
        begins = [i for i in np.flatnonzero(first) if i >= begin and last[i:].any()]
        episodes = list(data.episodes(stream))
        assert [int(e["obs.count"][0, 1]) for e in episodes] == begins
        assert all(e["is_first"][0] and e["is_last"][-1] and e["is_last"].sum() == 1 for e in episodes)
    assert len(data) == sum(len(data.rows(stream)["reward"]) for stream in (0, 1))
    with pytest.raises(UserError, match=r"has no rows of stream 2; it has \[0, 1\]"):
        data.rows(2)


def test_missing_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chunk files"):
        open_dataset(tmp_path)
    run = Run(tmp_path, length=4, streams=1)
    for _ in range(20):
        run.add()
    state = run.save()
    (tmp_path / "notes.chunk").write_text("x")
    with pytest.raises(UserError, match=r"notes.chunk is not named like a chunk file"):
        Run(tmp_path, length=4, streams=1).load(state)
    (tmp_path / "notes.chunk").unlink()
    twice = tmp_path / "00000-000000000005.chunk"
    twice.write_bytes((tmp_path / "00000-000000000004.chunk").read_bytes())
    with pytest.raises(UserError, match=r"005.chunk has rows of stream 0 from 4 on, which .*004.chunk has too"):
        open_dataset(tmp_path)
    twice.unlink()
    (tmp_path / "00000-000000000008.chunk").unlink()
    with pytest.raises(UserError, match="lacks rows 8 to 12 of stream 0"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match=r"00000-000000000008.chunk is missing"):
        Run(tmp_path, length=4, streams=1).load(state)
    (tmp_path / "00000-000000000000.chunk").unlink()
    (tmp_path / "00000-000000000004.chunk").unlink()
    with pytest.raises(UserError, match="lacks 12 rows of stream 0"):
        Run(tmp_path, length=4, streams=1).load(state)


def test_restoring_rows_that_were_overwritten_changes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, length=6, streams=1, capacity=10)
    for _ in range(40):
        run.add()
    twin = Run(tmp_path, length=6, streams=1, capacity=10)
    twin.load(run.save())
    twin.replay.restore_rows(read_chunk(tmp_path / "00000-000000000024.chunk"))
    twin.replay.restore_rows(read_chunk(tmp_path / "00000-000000000018.chunk"))
    for left, right in zip([run.train() for _ in range(9)], [twin.train() for _ in range(9)], strict=True):
        same(left[0], right[0])


def test_a_run_and_its_files_must_belong_together(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for _ in range(9):
        run.add()
    state = run.save()
    with pytest.raises(UserError, match="the saved chunks have 6 rows, those of this run 8"):
        Run(tmp_path, length=8).load(state)
    run.add()
    with pytest.raises(UserError, match="not saved together"):
        Run(tmp_path).load({**run.save(), "record": state["record"]})


def test_eviction_removes_whole_files_only(tmp_path: Path) -> None:
    run = Run(tmp_path, streams=1, length=4)
    for _ in range(18):
        run.add()
    run.record.evict(np.array([11]))
    assert list(files(tmp_path)) == ["00000-000000000008.chunk", "00000-000000000012.chunk"]


@pytest.fixture
def chunk_file(tmp_path: Path) -> Path:
    rows = Source(1).batch([0] * 9)
    path = tmp_path / "00000-000000000000.chunk"
    write_chunk(path, Chunk(0, 0, rows, None, None, version=12))
    return path


def test_a_chunk_comes_back(chunk_file: Path) -> None:
    chunk = read_chunk(chunk_file)
    assert (len(chunk), chunk.version, chunk.peek, chunk.states) == (9, 12, None, None)
    assert chunk.rows["obs.image"].flags.writeable
    assert read_header(chunk_file)["length"] == 9


def test_every_damaged_byte_and_every_cut_is_noticed(chunk_file: Path) -> None:
    good = chunk_file.read_bytes()
    for at in [*range(0, len(good), 37), len(good) - 1]:
        chunk_file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(UserError, match=r"000.chunk is damaged: .*; restore it from a copy"):
            read_chunk(chunk_file)
        chunk_file.write_bytes(good[:at])
        with pytest.raises(UserError, match=r"000.chunk is damaged"):
            read_chunk(chunk_file)
    chunk_file.unlink()
    with pytest.raises(UserError, match=r"cannot read .*000.chunk: No such file"):
        read_chunk(chunk_file)


def test_another_format_is_refused(chunk_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "FORMAT", 2)
    with pytest.raises(UserError, match=r"000.chunk has chunk format 1, this version reads 2"):
        read_chunk(chunk_file)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_earlier_files_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run = Run(tmp_path, streams=1, length=4)
    for _ in range(8):
        run.add()
    before = files(tmp_path)
    rows = run.source.batch([0])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match=r"cannot write .*0004.chunk \(\d+ bytes\): No space left on device"):
            run.store.add(rows, None, stack_states([(0, 8)]))
    assert files(tmp_path) == before
    assert run.replay.counts.tolist() == [8]
    run.store.add(rows, None, stack_states([(0, 8)]))
    assert len(files(tmp_path)) == len(before) + 1
    assert read_chunk(tmp_path / "00000-000000000004.chunk").rows["action"].tolist() == [4, 5, 6, 7]


def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    big = {"reward": rng.random(50_000).astype(np.float32)}
    path = tmp_path / "00000-000000000000.chunk"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*\(1\d\d\d\d\d bytes\): File too large"):
            write_chunk(path, Chunk(0, 0, big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert write_chunk(path, Chunk(0, 0, big)) == path.stat().st_size
