"""One store for the rows of a run: replay in memory, record on disk, pacing, and the counts of what went in and out.

::

    add(rows) ----+                          +---> sample(n)
                  +---> replay ---> record --+
    add_chunk() --+       |        (disk)    +<--- feedback(keys: priorities, states)
                     one limiter: may_insert, may_sample

Rows enter once, by `add` from an actor beside it or by `add_chunk` from one elsewhere, and their priorities arrive with
them. env_steps are counted here and nowhere else: rows with a decision, that is, all but those that are is_last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.data.limiter import Limiter
from reverie.data.paced import Paced
from reverie.data.pool import Pool
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.room import Place, Room
from reverie.data.rows import Rows, bytes_of
from reverie.data.sequences import Batch, Chunk, Feedback


class Store(Paced):
    """Replay, record and limiter. record: None keeps nothing on disk."""

    def __init__(self, replay: Replay, limiter: Limiter, record: Record | None = None) -> None:
        super().__init__(limiter)
        self.replay, self.record = replay, record
        self._needed, self._saved_rows = replay.oldest, replay.inserted

    def add(
        self,
        rows: Rows,
        streams: np.ndarray | None = None,
        states: dict[str, np.ndarray] | None = None,
        priorities: np.ndarray | None = None,
        version: int = 0,
    ) -> None:
        """Append one row to each listed stream (None: to every one); arguments as in `Replay.add`.

        version: of the parameters that acted. Raises UserError if the disk is full; the rows are then not added.
        """
        ids, indices = self.replay.place(rows, streams)
        if self.record is not None:
            self.record.seal(ids, indices, rows)
            self.record.version = version
        self.replay.append(ids, indices, rows, states, priorities)
        self.env_steps += int((~rows["is_last"]).sum())

    def add_chunk(self, chunk: Chunk) -> None:
        """Append the rows of a chunk; its start must be the next index of its stream.

        Raises ValueError as `Replay.check_chunk` does, and then nothing is added; UserError if the disk is full: rows
        before the file that could not be written are then added.
        """
        self.replay.check_chunk(chunk)
        added = 0
        while added < len(chunk):
            room = len(chunk) - added
            if self.record is not None:
                if self.record.room(chunk.stream) == 0:
                    at = chunk.start + added
                    next_row = {name: value[added : added + 1] for name, value in chunk.rows.items()}
                    self.record.seal(np.array([chunk.stream]), np.array([at]), next_row)
                room = min(room, self.record.room(chunk.stream))
                self.record.version = chunk.version
            part = chunk.part(added, added + room, self.replay.sequence.period)
            self.replay.append_chunk(part)
            self.env_steps += int((~part.rows["is_last"]).sum())
            added += room

    @property
    def sampled_rows(self) -> int:
        """Trained rows that were drawn so far."""
        return self.replay.sampled_rows

    @property
    def room(self) -> Room:
        """That of the replay, with states and selector."""
        replay = self.replay
        place: Place = "host" if replay.device.type == "cpu" else "device"
        return Room(replay.rows_per_stream * replay.streams, replay.nbytes, place)

    @property
    def rows(self) -> int:
        """Rows stored now."""
        return len(self.replay)

    @property
    def pool(self) -> Pool:
        """The buffers that batches lie in."""
        return self.replay.pool

    def can_sample(self, batch: int) -> bool:
        """Whether there are windows for a batch of so many."""
        return self.replay.can_sample(batch)

    def sample(self, batch: int) -> Batch:
        """A batch, see `Replay.sample`. Ask `may_sample` before each."""
        return self.replay.sample(batch)

    def feedback(self, feedback: Feedback) -> None:
        """Take feedback, see `Replay.feedback`."""
        self.replay.feedback(feedback)

    def reseed(self, seed: int) -> None:
        """Begin the generator of draws anew."""
        self.replay.reseed(seed)

    def metrics(self) -> dict[str, float]:
        """Counts to be logged: ``ratio`` of trained rows per env_step since training began, ``rows``, ``bytes``.

        And keys of feedback that came too late (``stale_keys``), and what the selector counts.
        """
        return {
            "ratio": self.limiter.achieved(self.env_steps, self.replay.sampled_rows),
            "rows": len(self.replay),
            "bytes": len(self.replay) * bytes_of(self.replay.spec),
            "stale_keys": self.replay.stale_keys,
            **self.replay.selector.metrics(),
        }

    def state_dict(self) -> dict[str, Any]:
        """State of everything but the rows in sealed files: nested dicts of arrays, numbers and strings."""
        return {
            "env_steps": self.env_steps,
            "replay": self.replay.state_dict(),
            "record": None if self.record is None else self.record.state_dict(),
        } | ({} if (pacing := self.limiter.state_dict()) is None else {"pacing": pacing})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to where `state_dict` was taken, rows included; files that are newer stay until `Record.trim`."""
        self.replay.load_state_dict(state["replay"])
        if self.record is not None:
            self.record.load_state_dict(state["record"])
        self.env_steps = int(state["env_steps"])
        self.limiter.load_state_dict(state.get("pacing"))
        self._needed, self._saved_rows = self.replay.oldest, self.replay.inserted

    def resumed(self) -> None:
        """Delete the files that are newer than the state that was loaded: a run goes on from there."""
        if self.record is not None:
            self.record.trim()

    def complete(self) -> None:
        """Write the rows that are in no file yet, so that the folder is a dataset of all that are stored."""
        if self.record is not None:
            self.record.flush()

    def outdated(self) -> None:
        """Note that no checkpoint needs rows that are not stored any more: the next one deletes their files."""
        self._needed = self.replay.oldest

    def saved(self) -> None:
        """Delete the files that nobody needs, now that a checkpoint of the present state is durable.

        The checkpoint before it stays usable: only what neither of the two needs is removed. A checkpoint that replaces
        one of the same rows has that one's predecessor before it.
        """
        if self.record is not None and self.replay.inserted != self._saved_rows:
            self.record.evict(self._needed)
        self._needed, self._saved_rows = self.replay.oldest, self.replay.inserted
