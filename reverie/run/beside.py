"""One call at a time in a thread of its own, beside whatever the caller does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Told(Generic[T]):
    """What a call came to: its result, or what it raised."""

    result: T | None = None
    error: BaseException | None = None
    done: torch.cuda.Event | None = None
    """on a GPU: of everything that was asked of it by then"""


class Beside(Generic[T]):
    """A thread that makes the calls it is given, one after another.

    On a GPU it works in a stream of its own, after what had been asked of the caller's stream when a call was started.
    The thread ends with `close`, or with the process: what hangs in it keeps nobody from ending.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.under_way = False
        """whether a call was started whose result was not taken"""
        self._told: Told[T] | None = None
        self._calls: SimpleQueue[tuple[Callable[[], T], torch.cuda.Event | None] | None] = SimpleQueue()
        self._results: SimpleQueue[Told[T]] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, call: Callable[[], T]) -> None:
        """Start a call. Raises RuntimeError if the result of the one before was not taken."""
        if self.under_way:
            raise RuntimeError("a call is under way, whose result was not taken")
        if self._thread is None:
            self._thread = Thread(target=self._work, name="beside", daemon=True)
            self._thread.start()
        before = None
        if self.device.type == "cuda":
            before = torch.cuda.Event()
            before.record(torch.cuda.current_stream(self.device))
        self.under_way = True
        self._calls.put((call, before))

    def wait(self, seconds: float | None = None) -> bool:
        """Whether nothing is at work, after waiting for so long (None: until it is so)."""
        if self.under_way and self._told is None:
            try:
                self._told = self._results.get(timeout=seconds)
            except Empty:
                return False
        return True

    def take(self) -> T:
        """Result of the call that was started last, once it is there; or what it raised, is raised here."""
        if not self.under_way:
            raise RuntimeError("no call was started")
        self.wait()
        told, self._told, self.under_way = self._told, None, False
        assert told is not None
        if told.done is not None:
            told.done.wait(torch.cuda.current_stream(self.device))
        if told.error is not None:
            raise told.error
        return told.result  # type: ignore[return-value]

    def close(self) -> None:
        """Have the thread end after what it is at."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _work(self) -> None:
        # torch.cuda.stream(None) would look for an accelerator, also in a run on the CPU.
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            while (asked := self._calls.get()) is not None:
                self._results.put(self._made(*asked, stream))
                del asked  # what is not needed any more is not kept until the next call

    def _made(
        self, call: Callable[[], T], before: torch.cuda.Event | None, stream: torch.cuda.Stream | None
    ) -> Told[T]:
        """What a call comes to, after an event, in a stream."""
        try:
            if before is not None:
                before.wait(stream)
            result, error = call(), None
        except BaseException as raised:
            result, error = None, raised
        done = None
        if stream is not None:
            done = torch.cuda.Event()
            done.record(stream)
        return Told(result, error, done)
