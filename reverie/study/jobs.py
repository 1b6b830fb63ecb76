"""Commands of ours as subprocesses, a few at a time; when the caller ends early, they are asked to save and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


REVERIE = (sys.executable, "-m", "reverie.cli")
"""the command line of this installation"""


class Failed(Exception):
    """A command did not end well; the message names its log and its last line."""


class Jobs:
    """Pool of `limit` threads for tasks, each of which may `call` the ``reverie`` command, one at a time.

    threads: CPU threads of each subprocess (OMP_NUM_THREADS); 0: as the environment says. program: what is called.
    """

    def __init__(self, limit: int, threads: int = 0, program: Sequence[str] = REVERIE) -> None:
        self.limit = limit
        self.program = program
        self.environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.ending = False

    def call(self, words: Sequence[str], log: Path) -> None:
        """Run the program with `words`, its output appended to `log`. Raises Failed unless it ends with code 0."""
        with log.open("ab") as out:
            start = out.tell()
            with self.lock:
                if self.ending:
                    raise Failed("not begun, because the others were ended")
                process = subprocess.Popen(
                    [*self.program, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=self.environment,
                )
                self.running.add(process)
            code = process.wait()
            with self.lock:
                self.running.discard(process)
        if code:
            output = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
            raise Failed(
                f"`reverie {words[0]}` ended with code {code}: {output[-1] if output else 'no output'} (see {log})"
            )

    def each(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T | Failed]:
        """Results of the tasks as they come; Failed where a task raised it.

        On Ctrl-C or SIGTERM, and on any error of the caller, no task begins any more, and the commands that run get
        SIGTERM, on which training saves and ends; then the error goes on (SIGTERM as KeyboardInterrupt).
        """
        with terminable(), ThreadPoolExecutor(self.limit) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                for future in as_completed(futures):
                    try:
                        yield future.result()
                    except Failed as error:
                        yield error
            except BaseException:
                with _undisturbed():  # a terminal's Ctrl-C and whoever passes it on may both ask
                    self._end()
                    pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _end(self) -> None:
        with self.lock:
            self.ending = True
            for process in self.running:
                process.terminate()


def terminable() -> AbstractContextManager[None]:
    """Context in which SIGTERM raises KeyboardInterrupt, as SIGINT does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    return _handled(interrupt, signal.SIGTERM)


def _undisturbed() -> AbstractContextManager[None]:
    """Context in which SIGINT and SIGTERM are left unheard."""
    return _handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None] | signal.Handlers, *numbers: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # signals belong to whoever owns that
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
