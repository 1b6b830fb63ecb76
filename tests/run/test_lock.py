"""Processes that are forked while a run can be interrupted do not ask it to end: they end themselves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from reverie.errors import UserError
from reverie.run.lock import alone, interruptible, is_trained

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads


def serve(pipe: Connection) -> None:
    """A worker that answers for as long as its parent asks."""
    pipe.send("here")
    while True:
        pipe.send(pipe.recv())


def busy(pipe: Connection) -> None:
    """A worker that is in a long call of a library, where no Python runs."""
    pipe.send("here")
    sum(range(10**12))


@pytest.mark.parametrize("work", [serve, busy])
def test_a_worker_ends_when_it_is_terminated(work: Callable[[Connection], None]) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with interruptible() as stop:
        worker = context.Process(target=work, args=(theirs,), daemon=True)
        worker.start()
        assert ours.recv() == "here"
        worker.terminate()
        worker.join(5)
        alive = worker.is_alive()
        worker.kill()
        assert not alive
        assert worker.exitcode == -signal.SIGTERM
        assert not stop()


def test_an_interrupt_from_the_terminal_is_left_to_the_parent() -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with interruptible():
        worker = context.Process(target=serve, args=(theirs,), daemon=True)
        worker.start()
        assert ours.recv() == "here"
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        time.sleep(0.1)
        ours.send("still there?")
        answered = ours.poll(5)
        worker.kill()
        assert answered
        assert ours.recv() == "still there?"


def test_afterwards_children_get_what_the_process_has() -> None:
    context = multiprocessing.get_context("fork")
    with interruptible():
        pass
    ours, theirs = context.Pipe()
    worker = context.Process(target=lambda: theirs.send(signal.getsignal(signal.SIGINT) == signal.SIG_IGN))
    worker.start()
    assert ours.poll(5)
    assert ours.recv() is (signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    worker.join(5)


def test_who_outlives_the_process_that_forked_it_does_not_keep_its_lock(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=serve, args=(theirs,), daemon=True)
    with alone(tmp_path):
        worker.start()
        assert ours.recv() == "here"
        assert is_trained(tmp_path)
    try:
        assert worker.is_alive()
        assert not is_trained(tmp_path)
    finally:
        worker.kill()
        worker.join(5)


def test_who_only_looks_takes_nobodys_lock(tmp_path: Path) -> None:
    """A run begins while others look whether one is there."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            is_trained(tmp_path)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with alone(tmp_path):
                assert is_trained(tmp_path)
                with pytest.raises(UserError, match="another process is training"), alone(tmp_path):
                    pass
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
