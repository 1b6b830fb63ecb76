"""Lock of a directory that somebody trains in, and signals that ask training to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType

from reverie.config import POPULATION
from reverie.data.chunks import SUFFIX
from reverie.errors import UserError, notice

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


ATTEMPTS = 8
"""to take a lock, which who only looks may hold just then"""


class Stop:
    """Request to a run to save and end, which it looks for after every move, learner_step and step of an evaluation.

    reason: who asked, or what happened; empty while nobody has.
    """

    def __init__(self) -> None:
        self.reason = ""

    def ask(self, reason: str) -> None:
        """Ask; the first reason is kept."""
        self.reason = self.reason or reason

    def __call__(self) -> bool:
        """Whether somebody has asked."""
        return bool(self.reason)


def check_platform() -> None:
    """Raise UserError where no run can be trained: without file locks and folders that can be synced (Windows)."""
    if fcntl is None:
        raise UserError(
            "training needs Linux or macOS (it locks and syncs its run directory); on Windows use WSL 2 or a container"
        )


def check_new(run_dir: Path) -> None:
    """Raise UserError if a directory holds a run, or what is left of one."""
    if any((run_dir / name).exists() for name in ("config.json", POPULATION)):
        raise UserError(
            f"{run_dir} already holds a run; go on with `reverie resume {run_dir}` or name another directory"
        )
    if (run_dir / "checkpoints").exists() or (run_dir / "metrics.jsonl").exists():
        raise UserError(
            f"{run_dir} holds what a run has recorded but no config.json; restore that file or name another directory"
        )
    if any((run_dir / "replay").rglob(f"*{SUFFIX}")):
        raise UserError(f"{run_dir}/replay holds rows, which a new run would write over; name another directory")


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Context in which nobody else trains in this directory; the lock ends with the process, however that ends."""
    _release_children()
    folder = os.open(run_dir, os.O_RDONLY)
    _held.add(folder)
    try:
        try:
            _lock(folder)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {run_dir}; wait for it, or end it (it saves on SIGTERM)"
            ) from error
        except OSError as error:
            # Some network file systems have no locks, and a run there must still be possible.
            notice(f"{run_dir} cannot be locked ({error.strerror}): let no other process train there")
        yield
    finally:
        _held.discard(folder)
        os.close(folder)


def _lock(folder: int) -> None:
    """Take the lock of an open folder; whoever only looks whether it is held has it for a moment."""
    for _ in range(ATTEMPTS - 1):
        with suppress(BlockingIOError):
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_trained(run_dir: Path) -> bool:
    """Whether a process trains in this directory now."""
    try:
        with alone(run_dir):
            return False
    except UserError:
        return True


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Context in which SIGTERM, SIGINT and SIGHUP ask the run to save and end; a second SIGINT interrupts at once.

    A process that was told to ignore SIGHUP, by nohup, goes on ignoring it. Processes that are forked meanwhile, an
    environment's workers, do not inherit that: they end on SIGTERM, and leave SIGINT and SIGHUP, which a terminal sends
    to them too, to this process.
    """
    stop = Stop()
    _release_children()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT and sys.stderr is not None and sys.stderr.isatty():
            # Not by print, which may be what was interrupted.
            os.write(sys.stderr.fileno(), b"\nreverie: saving what was trained; Ctrl-C again ends without\n")
        stop.ask(signal.Signals(number).name)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    try:
        before = {number: signal.signal(number, ask) for number in numbers}
    except ValueError:  # not the main thread: signals belong to whoever owns it
        yield stop
        return
    _asking.append(ask)
    try:
        yield stop
    finally:
        _asking.remove(ask)
        for number, handler in before.items():
            signal.signal(number, handler)


_asking: list[object] = []
"""handlers of `interruptible` that are in force"""
_held: set[int] = set()
"""descriptors of the folders that are locked"""


@cache
def _release_children() -> None:
    """Have children begin without the handlers and the locks, from now on, for as long as the process lives.

    A child that is forked shares its parent's lock, and one that outlives it would go on holding that.
    """

    def release() -> None:
        while _held:
            with suppress(OSError):
                os.close(_held.pop())
        if _asking:
            with suppress(ValueError):  # forked by another thread than the main one
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

    os.register_at_fork(after_in_child=release)
