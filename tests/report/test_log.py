"""Metric lines: what is written, what survives a crash or a full disk, and what a resumed run cuts."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reverie.errors import UserError
from reverie.report.log import Logger, Opening, Record, comparable, read_metrics
from reverie.report.record import FILE, as_name, check_name, numbers
from reverie.report.tensorboard import TensorBoard


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Record | str] = []

    def write(self, record: Record) -> None:
        self.seen.append(record)

    def sync(self) -> None:
        self.seen.append("sync")

    def close(self) -> None:
        self.seen.append("close")


def log(logger: Logger, score: float, frames: int) -> None:
    logger.log({"episode/score": score}, env_steps=frames // 4, frames=frames, learner_steps=frames // 8)


def test_a_record_is_one_line_with_units_and_clock(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder()
    with Logger(tmp_path / "new" / "run", [recorder], clock=clock, ticks=clock) as logger:
        clock.now += 2.5
        logger.log({"train/loss": torch.tensor(1.5)}, env_steps=3, frames=12, learner_steps=1)
        logger.sync()
    line = (tmp_path / "new" / "run" / FILE).read_text()
    expected = {"env_steps": 3, "frames": 12, "learner_steps": 1, "time/elapsed_s": 2.5, "time/unix_s": 1002.5}
    assert line.endswith("\n")
    assert json.loads(line) == expected | {"train/loss": 1.5}
    assert recorder.seen == [expected | {"train/loss": 1.5}, "sync", "close"]


@pytest.mark.parametrize(
    ("given", "name"),
    [("dist/goal", "dist/goal"), ("a//b", "a/_/b"), ("/x", "_/x"), ("x/", "x/_"), ("", "_"), ("so far", "so_far")],
)
def test_whatever_an_environment_calls_a_measure_it_can_be_logged(given: str, name: str) -> None:
    assert as_name(given) == name
    check_name(f"episode/{as_name(given)}")


def test_numbers_keep_kind_and_order() -> None:
    record = numbers(
        {
            "a/int": 3,
            "a/tensor": torch.tensor([0.1], requires_grad=True),
            "a/count": torch.tensor(2**53 - 1),
            "a/half": torch.tensor(0.5, dtype=torch.bfloat16),
            "a/bool": torch.tensor(True),
            "a/numpy": np.float32(0.5),
            "a/array": np.array([7]),
            "a/b/c.d": 1.0,
        }
    )
    assert list(record) == ["a/int", "a/tensor", "a/count", "a/half", "a/bool", "a/numpy", "a/array", "a/b/c.d"]
    assert record["a/tensor"] == pytest.approx(0.1)
    del record["a/tensor"]
    assert repr(list(record.values())) == repr([3, 2**53 - 1, 0.5, 1, 0.5, 7, 1.0])


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"loss": 1.0}, "group/name"),
        ({"train/": 1.0}, "group/name"),
        ({"train/x": torch.zeros(2)}, r"one number, got shape \(2,\)"),
        ({"train/x": np.zeros((2, 3))}, r"one number, got shape \(2, 3\)"),
    ],
)
def test_wrong_metrics_are_refused(metrics: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        numbers(metrics)


def test_every_line_is_valid_json_even_when_training_diverged(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    with Logger(tmp_path) as logger:
        logger.log({"a/x": math.nan, "a/y": math.inf, "a/z": -math.inf}, env_steps=0, frames=0, learner_steps=0)
    json.loads((tmp_path / FILE).read_text(), parse_constant=refuse)
    (record,) = read_metrics(tmp_path)
    assert math.isnan(record["a/x"])
    assert (record["a/y"], record["a/z"]) == (math.inf, -math.inf)


def test_reading_tolerates_a_cut_last_line_only(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        for frames in (4, 8):
            log(logger, 1.0, frames)
    whole = (tmp_path / FILE).read_bytes()
    for cut in range(1, len(whole) + 1):
        (tmp_path / FILE).write_bytes(whole[:cut])
        assert len(read_metrics(tmp_path)) == whole[:cut].count(b"\n")
    for damaged in (b'{"frames": 4\n' + whole, b"3\n" + whole, b'{"a": "b"}\n' + whole):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(UserError, match=r"line 1 is not a record .* write a space over each of its characters"):
            read_metrics(tmp_path)
        line, rest = damaged.split(b"\n", 1)
        (tmp_path / FILE).write_bytes(b" " * len(line) + b"\n" + rest)
        assert len(read_metrics(tmp_path)) == 2
        with Logger(tmp_path) as logger:
            logger.truncate_after(len(damaged))


def test_reading_something_else_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is it a run directory"):
        read_metrics(tmp_path)


def test_opening_cuts_a_half_written_last_line(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        log(logger, 1.0, 4)
        size = logger.offset()
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"env_steps": 2, "fra' + b"x" * 200_000)  # longer than one block of the backward search
    with Logger(tmp_path) as logger:
        assert logger.offset() == size
        log(logger, 2.0, 8)
    assert [record["frames"] for record in read_metrics(tmp_path)] == [4, 8]


def test_opening_a_file_that_is_one_cut_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"env_st')
    with Logger(tmp_path) as logger:
        assert logger.offset() == 0


def test_a_resumed_run_has_the_lines_and_the_elapsed_time_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(directory: Path, interrupt: bool) -> list[Record]:
        clock = Clock()
        logger = Logger(directory, clock=clock, ticks=clock)
        for frames in (4, 8):
            clock.now += 1
            log(logger, frames, frames)
        logger.sync()
        checkpoint = logger.offset()
        if interrupt:
            for frames in (12, 16):
                clock.now += 7
                log(logger, frames, frames)
            with (directory / FILE).open("ab") as file:
                file.write(b'{"env')
            clock.now += 3600
            logger = Logger(directory, clock=clock, ticks=clock)
            logger.truncate_after(checkpoint)
        for frames in (12, 16, 20):
            clock.now += 1
            log(logger, frames, frames)
        logger.close()
        return read_metrics(directory)

    straight, resumed = run(tmp_path / "a", False), run(tmp_path / "b", True)
    assert [comparable(record) for record in straight] == [comparable(record) for record in resumed]
    assert [r["time/elapsed_s"] for r in straight] == [r["time/elapsed_s"] for r in resumed] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("shift", [-1, 1, 10_000])
def test_an_offset_that_is_not_the_end_of_a_line_is_refused(tmp_path: Path, shift: int) -> None:
    with Logger(tmp_path) as logger:
        log(logger, 1.0, 4)
        before = (tmp_path / FILE).read_bytes()
        with pytest.raises(UserError, match="not what the checkpoint saw"):
            logger.truncate_after(logger.offset() + shift)
        assert (tmp_path / FILE).read_bytes() == before


def test_comparable_drops_the_clock_and_nothing_else() -> None:
    record: Record = {"frames": 1, "time/x": 1.0, "speed/x": 1.0, "timer/x": 1.0, "train/time": 2.0}
    assert comparable(record) == {"frames": 1, "train/time": 2.0}


def _full(cut: int) -> Callable[[int, bytes], int]:
    """A write that puts `cut` bytes on disk and then finds it full."""
    real, left = os.write, [cut]

    def write(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(file, data[: left[0]])
        left[0] = 0
        return written

    return write


@pytest.mark.parametrize("cut", [0, 10])
def test_a_full_disk_is_one_line_and_damages_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    logger = Logger(tmp_path)
    log(logger, 1.0, 4)
    before = (tmp_path / FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _full(cut))
        with pytest.raises(UserError, match=r"No space left.*reverie resume") as caught:
            log(logger, 2.0, 8)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No space left"):  # space again, but the line in the file is cut short
        log(logger, 3.0, 12)
    logger.close()
    assert (tmp_path / FILE).read_bytes()[: len(before)] == before
    assert [record["frames"] for record in read_metrics(tmp_path)] == [4]
    with Logger(tmp_path) as logger:
        log(logger, 4.0, 16)
    assert [record["frames"] for record in read_metrics(tmp_path)] == [4, 16]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with Logger(tmp_path) as logger:
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
        log(logger, 1.0, 4)
        monkeypatch.undo()
        assert logger.offset() == (tmp_path / FILE).stat().st_size
    assert len(read_metrics(tmp_path)) == 1


LIMITED = """
import resource, sys
from pathlib import Path
from reverie.errors import UserError
from reverie.report.log import Logger, Opening
from reverie.report.tensorboard import TensorBoard
run, limit = sys.argv[1], int(sys.argv[2])
writers = [TensorBoard()] if limit > 10_000 else []
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
logger = Logger(run, writers)
try:
    logger.begin(Opening(Path(run), "test", {}))
    for frames in range(100_000):
        logger.log({f"train/{i}": 1.0 for i in range(5)}, env_steps=frames, frames=frames, learner_steps=frames)
        logger.sync()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [5_000, 20_000])  # without TensorBoard, and with it: its larger file is refused first
def test_the_operating_system_refuses_to_grow_a_file(tmp_path: Path, limit: int) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path), str(limit)], capture_output=True, text=True)
    assert "File too large" in done.stdout, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    records = read_metrics(tmp_path)
    assert [record["frames"] for record in records] == list(range(len(records)))
    assert len(records) > 10


def test_a_failing_writer_does_not_keep_the_lines_open(tmp_path: Path) -> None:
    class Failing(Recorder):
        def close(self) -> None:
            raise OSError(errno.EIO, "broken")

    recorder = Recorder()
    logger = Logger(tmp_path, [recorder, Failing()])
    with pytest.raises(UserError, match="broken"):
        logger.close()
    assert recorder.seen == ["close"]
    with pytest.raises(UserError, match="Bad file descriptor"):
        log(logger, 1.0, 1)


def test_tensorboard_is_over_frames_and_hides_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    for resumed_at, frames in ((None, (4, 8, 12)), (8, (12, 16))):
        with Logger(tmp_path, [TensorBoard()]) as logger:
            logger.begin(Opening(tmp_path, "test", {"agent.gamma": 0.9}, resumed_at))
            for count in frames:
                log(logger, 1.0 if resumed_at is None else 2.0, count)
            logger.sync()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("episode/score")] == [(4, 1.0), (8, 1.0), (12, 2.0), (16, 2.0)]
    assert [e.value for e in events.Scalars("progress/learner_steps")] == [0, 1, 1, 2]
