"""A run on the terminal: one live panel, or now and then a plain line where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reverie.report.record import Record
from reverie.report.words import number
from reverie.report.writer import Opening, Writer

PINNED = {
    "episode/score": "score",
    "episode/length": "episode length",
    "eval/score": "eval score",
    "speed/env_steps_per_s": "env_steps/s",
    "speed/learner_steps_per_s": "learner_steps/s",
    "replay/ratio": "replay ratio",
    "replay/bytes": "replay",
}
"""Metrics shown by these names, in this order; after them come all ``train/*loss``."""
WINDOW = 120.0
"""Seconds over which the speed is taken that tells the time left."""
RECENT = 100
"""Episodes whose mean score is shown."""


class Output(Terminal):
    """Standard output, whose reader may go away: an OSError then, as of any other file."""

    def on_broken_pipe(self) -> None:
        """Raise what rich has caught; by itself it ends the process."""
        raise


class Console(Writer):
    """Terminal with the latest value of the main metrics, progress in frames and the time left.

    total: frames at which the run ends. prefill: frames of random actions before anything is learned, whose speed tells
    nothing about the time left. title: of the panel. every: seconds between plain lines, where the output is
    not a terminal. terminal: where to show it (default: standard output). clock: seconds. closed: is told, once, why
    nothing can be shown any more, because whoever read the output is gone; what follows is then lost.
    """

    def __init__(
        self,
        total: int,
        title: str = "reverie",
        *,
        prefill: int = 0,
        every: float = 30.0,
        terminal: Terminal | None = None,
        clock: Callable[[], float] = time.monotonic,
        closed: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self._total, self._prefill = total, prefill
        self._title = title
        self._every = every
        self._clock = clock
        self._terminal = terminal or Output()
        self._closed, self._open = closed, True
        self._latest: Record = {"frames": 0}
        self._scores: deque[float] = deque(maxlen=RECENT)
        self._past: deque[tuple[float, int]] = deque()  # (seconds, frames) of the records of the last minutes
        self._shown_at: float | None = None
        self._stale = False
        self._live: Live | None = None
        if self._terminal.is_terminal:
            # Refreshed by hand: a refreshing thread would wake up in the middle of training for nothing.
            self._live = Live(console=self._terminal, auto_refresh=False)

    def begin(self, opening: Opening) -> None:
        """Show, where there is a terminal, that the run has begun: the first record may be a while in coming."""
        self._latest["frames"] = opening.resumed_at or 0
        if self._live:
            self._show(self._clock())

    def write(self, record: Record) -> None:
        """Take the record in, and show it if the last one has been shown long enough."""
        now = self._clock()
        self._latest |= record
        if "episode/score" in record:
            self._scores.append(float(record["episode/score"]))
        if self._past and self._past[0][1] < self._prefill <= int(record["frames"]):
            self._past.clear()  # what follows is trained, and slower
        self._past.append((now, int(record["frames"])))
        while len(self._past) > 2 and now - self._past[1][0] >= WINDOW:
            self._past.popleft()
        self._stale = True
        if self._shown_at is None or now - self._shown_at >= (0.2 if self._live else self._every):
            self._show(now)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        with self._reader():
            self._terminal.print(line, soft_wrap=True, highlight=False, markup=False)

    def sync(self) -> None:
        """Do nothing: no record waits here."""

    def close(self) -> None:
        """Show the last record and give the terminal back."""
        if self._stale:
            self._show(self._clock())
        if self._live:
            with self._reader():
                self._live.stop()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        """Context for output, which goes nowhere from the moment on when its reader is gone."""
        try:
            yield
        except OSError as error:
            if self._open:
                self._open = False
                _to_nowhere(self._terminal.file)
                self._closed(f"the output was closed ({error.strerror})")

    def _show(self, now: float) -> None:
        with self._reader():
            self._draw(now)

    def _draw(self, now: float) -> None:
        self._shown_at, self._stale = now, False
        time_left = self._time_left(now)
        if self._live:
            self._live.start()  # the first time; afterwards it does nothing
            self._live.update(self._panel(time_left), refresh=True)
        else:
            values = "  ".join(f"{name} {value}" for name, value in self._values())
            self._terminal.print(
                f"{self._progress()}  {values}  left {time_left}", soft_wrap=True, highlight=False, markup=False
            )

    def _panel(self, time_left: str) -> RenderableType:
        frames = int(self._latest["frames"])
        table = Table.grid(padding=(0, 2))
        values = self._values()
        for row in range(0, len(values), 3):
            table.add_row(*(f"{name} [bold]{value}[/]" for name, value in values[row : row + 3]))
        bar = ProgressBar(total=max(self._total, 1), completed=min(frames, self._total), width=None)
        # The bar must come last: it does not end its line, and whatever followed would be cropped with it.
        return Panel(Group(Text(f"{self._progress()}  left {time_left}"), table, bar), title=self._title)

    def _progress(self) -> str:
        frames = int(self._latest["frames"])
        filling = ", random actions fill the replay" if frames < self._prefill else ""
        return f"frames {frames:,} of {self._total:,} ({frames / max(self._total, 1):.1%}{filling})"

    def _time_left(self, now: float) -> str:
        """Time to the last frame at the speed of the last minutes; unknown until something is learned."""
        if not self._past or self._past[0][1] < self._prefill:
            return "?"
        seconds, frames = now - self._past[0][0], self._past[-1][1] - self._past[0][1]
        if frames <= 0 or seconds <= 0:
            return "?"
        return duration((self._total - self._past[-1][1]) * seconds / frames)

    def _values(self) -> list[tuple[str, str]]:
        losses = [name for name in self._latest if name.startswith("train/") and name.endswith("loss")]
        names = PINNED | {name: name.removeprefix("train/") for name in losses}
        shown = {label: amount(name, self._latest[name]) for name, label in names.items() if name in self._latest}
        values: list[tuple[str, str]] = []
        for label, value in shown.items():
            values.append((label, value))
            if label == PINNED["episode/score"] and len(self._scores) > 1:
                mean = sum(self._scores) / len(self._scores)
                values.append(("mean", f"{mean:.4g} of {len(self._scores)}"))
        return values


def _to_nowhere(file: IO[str]) -> None:
    """Let what is still to be written to a file vanish: Python writes what it has buffered when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def amount(name: str, value: int | float) -> str:
    """A metric for people: bytes in MB or GB, other numbers with four digits."""
    if name.endswith("bytes"):
        return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
    return number(value)
