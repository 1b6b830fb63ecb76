"""A visit: one tab's session in a thread of its own, fed by commands and paced by what the page has seen.

::

    socket --commands (bounded)--> thread: session --views, at most `AHEAD` that the page has not acknowledged--> socket

A page that is slow, or that reads nothing, is dreamed for no faster than it looks; nothing piles up.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reverie.errors import UserError, notice
from reverie.play.page.messages import failure, greeting, view
from reverie.play.page.recording import Recorder, Recording
from reverie.play.page.session import Session
from reverie.play.page.subject import Subject
from reverie.run.build import derive

QUEUE = 64
"""commands that wait, at most"""
AHEAD = 3
"""views under way, at most"""
FAILURES = 20
"""messages of failure a second, at most"""


class Visit(threading.Thread):
    """Thread of one visit. number: of the visit, which its seeds follow from. emit: takes messages, from this thread.

    begin: ``fresh`` or ``replay``. ended: called when the thread ends by itself.
    """

    def __init__(
        self,
        subject: Subject,
        number: int,
        emit: Callable[[bytes], None],
        recording: Recording | None = None,
        begin: str = "fresh",
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name=f"visit {number}", daemon=True)
        self.subject, self.number, self.emit = subject, number, emit
        self.recording, self.begin, self.ended = recording, begin, ended
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue(QUEUE)
        self._closing = threading.Event()
        self._frame = self._seen = 0
        self._dirty = True
        self._failures: list[float] = []
        self._session: Session | None = None

    def give(self, command: dict[str, Any]) -> None:
        """Take a command from another thread; where too many wait, it is dropped, and that is said."""
        try:
            self._commands.put_nowait(command)
        except queue.Full:
            self.fail("too many messages at once: some were dropped")

    def fail(self, text: str) -> None:
        """Send a message of failure, unless there were too many."""
        now = time.monotonic()
        self._failures = [each for each in self._failures if now - each < 1.0][-FAILURES:]
        if len(self._failures) < FAILURES:
            self._failures.append(now)
            self.emit(failure(text))

    def close(self) -> None:
        """Ask the thread to end."""
        self._closing.set()
        with suppress(queue.Full):  # it is awake then
            self._commands.put_nowait({"do": "pause"})

    def run(self) -> None:
        """Play until the visit is closed."""
        try:
            self._play()
        except UserError as error:
            self.fail(str(error))
        except Exception as error:  # one visit that fails takes no other down
            notice(f"{self.name} ended: {type(error).__name__}: {error}")
            self.fail("something went wrong here; load the page again")
        finally:
            try:
                if self._session is not None:
                    self._session.close()
            except Exception as error:
                notice(f"{self.name}: {type(error).__name__}: {error}")
            self._session = None
            self.ended()

    def _play(self) -> None:
        recorder = Recorder(self.recording) if self.recording is not None else None
        seed = derive(self.subject.seed, f"visit {self.number}")
        session = self._session = Session(self.subject, seed, recorder)
        if self.begin == "replay":
            session.replay()
        self.emit(greeting(session))
        due = time.monotonic()
        while not self._closing.is_set():
            now = time.monotonic()
            room = self._frame - self._seen < AHEAD
            goes = session.running and not session.waiting
            wait = 0.5 if not (goes and room) else min(max(due - now, 0.0), 0.5)
            if not (self._dirty and room):
                self._take(session, wait)
            if session.running and not session.waiting and room and time.monotonic() >= due:
                due = max(due + 1 / session.settings.speed, time.monotonic() - 0.1)
                self._step(session)
            if self._dirty and self._frame - self._seen < AHEAD:
                self._frame += 1
                self._dirty = False
                self.emit(view(session, self._frame))

    def _take(self, session: Session, wait: float) -> None:
        """Do what was asked for, waiting for that so many seconds at most."""
        with suppress(queue.Empty):
            for number in range(QUEUE):  # and not for ever, however fast they come
                waits = number == 0 and wait > 0
                command = self._commands.get(timeout=wait) if waits else self._commands.get_nowait()
                try:
                    self._do(session, command)
                except UserError as error:
                    session.running = False
                    self._dirty = True
                    self.fail(str(error))

    def _step(self, session: Session) -> None:
        try:
            went = session.step()
        except UserError as error:
            session.running, went = False, True
            self.fail(str(error))
        if not went and not session.waiting:
            session.running = False
        self._dirty = self._dirty or went or not session.running or session.said != ""

    def _do(self, session: Session, command: dict[str, Any]) -> None:
        name = command["do"]
        if name == "ack":
            self._seen = max(self._seen, min(command.get("frame", 0), self._frame))
            return
        self._dirty = True
        if name in ("pause", "step", "back", "to"):
            session.running = False
        if name == "play":
            session.running, session.said = True, ""
        elif name == "step":
            session.step()
        elif name == "back":
            session.back(command.get("by", 1))
        elif name == "to":
            session.to(command.get("position", 0))
        elif name == "fresh":
            session.fresh(command.get("seed"))
        elif name == "replay":
            session.replay(command.get("row"))
        elif name == "here":
            session.here()
        elif name == "hold":
            session.hold(command.get("action"))
            if command.get("step", False) and not session.running and session.settings.wheel == "person":
                session.step()
        elif name == "record":
            session.record(command.get("on", True))
        elif name == "set":
            session.change(**{key: value for key, value in command.items() if key != "do"})
