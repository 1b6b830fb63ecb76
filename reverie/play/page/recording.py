"""Recording: a person's play as chunk files, which `reverie.open_dataset` and whatever trains from them reads.

::

    DIR/00000-000000000000.chunk   rows of stream 0, an episode or a part of one in each file
        00001-000000000000.chunk   another visitor, or what was played after going back into rows that were written
        recording.json             what wrote it: run, agent, environment, who was at the wheel

An episode is written when it ends, so that going back in it costs nothing; of long ones, parts are written before.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie import __version__
from reverie.data.chunks import SUFFIX, chunk_path, write_chunk
from reverie.data.rows import Rows, row_spec
from reverie.data.sequences import Chunk
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.report.document import write_whole
from reverie.report.record import to_json
from reverie.run.lock import alone

if TYPE_CHECKING:
    from reverie.play.page.moments import Moment

PART = 512
"""rows of an open episode that are written before it ends"""
DOCUMENT = "recording.json"
SAME = ("env", "protocol", "options", "action", "fields")
"""entries of the document in which all that is recorded into one folder is the same"""


class Recording:
    """Folder that visitors record into, each in streams of their own. about: what wrote it.

    Nobody else records into it until it is closed, or the process ends. Raises UserError if somebody does, if it cannot
    be written, or holds rows that were not recorded here or are of another environment.
    """

    def __init__(self, folder: Path, spec: EnvSpec, about: dict[str, Any]) -> None:
        self.folder, self.fields = Path(folder), row_spec(spec.observation, spec.action)
        self._lock = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        fields = {name: f"{field.dtype} {list(field.shape)}" for name, field in self.fields.items()}
        wrote = {"wrote": f"reverie play, reverie {__version__}", **about, "action": str(spec.action)}
        self.document = json.loads(to_json(wrote, 0)) | {"fields": fields, "streams": {}}
        self._alone = ExitStack()
        try:
            self._alone.enter_context(alone(self.folder))
        except UserError as error:
            raise UserError(f"another process records into {folder}; name another folder with --record") from error
        try:
            self._go_on(spec)
        except UserError:
            self.close()
            raise

    def _go_on(self, spec: EnvSpec) -> None:
        """Take over what is in the folder."""
        path, there = self.folder / DOCUMENT, sorted(self.folder.glob(f"*{SUFFIX}"))
        if path.exists():
            try:
                before = dict(json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                raise UserError(f"{path} is damaged ({error}); restore it, or name another --record") from error
            differ = [name for name in SAME if name in before and before[name] != self.document.get(name)]
            if differ:
                where = before.get("env")
                other = spec.id if where != spec.id else f"the same {differ[0]} as here"
                raise UserError(f"{self.folder} has rows of {where}, not of {other}; name another --record")
            self.document["streams"] = before.get("streams", {})
        elif there:
            raise UserError(f"{self.folder} has rows that were not recorded here; name another folder with --record")
        self._next = 1 + max((int(file.name.split("-")[0]) for file in there), default=-1)

    def close(self) -> None:
        """Let others record into the folder."""
        self._alone.close()

    def stream(self) -> int:
        """A stream that nobody has written to."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def write(self, stream: int, start: int, rows: Rows, by: Counter[str]) -> None:
        """Write rows [T, ...] of a stream from its row `start` on. by: who chose their actions, name -> rows."""
        write_chunk(chunk_path(self.folder, stream, start), Chunk(stream, start, rows))
        with self._lock:
            entry = self.document["streams"].setdefault(str(stream), {"rows": 0, "episodes": 0, "scores": [], "by": {}})
            entry["rows"] += len(rows["reward"])
            entry["episodes"] += int(rows["is_last"].sum())
            entry["by"] = dict(Counter(entry["by"]) + by)
            entry["written"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            write_whole(self.folder / DOCUMENT, to_json(self.document, 2) + "\n")

    def score(self, stream: int, score: float) -> None:
        """Note the score of an episode that was recorded to its end."""
        with self._lock:
            self.document["streams"][str(stream)]["scores"].append(score)
            write_whole(self.folder / DOCUMENT, to_json(self.document, 2) + "\n")


class Recorder:
    """One visitor's recording; it writes while `on`."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.on = False
        self.rows = 0
        """rows written so far"""
        self._stream: int | None = None
        self._start = 0
        self._written: list[Moment] = []
        """moments of the open episode that are in files"""
        self._open: list[Moment] = []
        self._cut = False
        """whether the open episode was cut: its beginning is written, and what follows in it is not recorded"""

    def add(self, episode: list[Moment]) -> None:
        """Take in the moments of the open episode, the newest last, see `Path.episode`.

        Raises UserError if they cannot be written.
        """
        if episode and episode[-1].rows["is_first"][0]:
            self._cut = False
        if not self.on or self._cut:
            return
        episode = self._take(episode)
        if episode and episode[-1].rows["is_last"][0]:
            self._write(episode)
            assert self._stream is not None
            self.recording.score(self._stream, episode[-1].score)
            self._written, self._open = [], []
        elif len(episode) > PART:
            self._write(episode[:-1], after=episode[-1])
            self._written += episode[:-1]
            self._open = episode[-1:]

    def finish(self, episode: list[Moment]) -> None:
        """Write what is open, its last row cut as by a time limit. episode: as of now, without what was taken back."""
        if episode and (self._open or self._written):
            self._take(episode)
        if self.on and len(self._written) + len(self._open) > 1:
            if self._open:
                self._write(self._open, cut=True)
            self._cut = True
        if self._open or self._written:
            self._leave()

    def _take(self, episode: list[Moment]) -> list[Moment]:
        """What of the open episode is in no file yet, which is noted as open."""
        if self._written:
            first = episode[0].place.count
            kept = [moment for moment in self._written if moment.place.count >= first]
            if any(a is not b for a, b in zip(kept, episode, strict=False)) or len(kept) > len(episode):
                self._leave()  # somebody went back behind what is written
            else:
                episode = episode[len(kept) :]
        self._open = episode
        return episode

    def _leave(self) -> None:
        """Go on in another stream."""
        self._stream, self._start, self._written, self._open = None, 0, [], []

    def _write(self, moments: list[Moment], after: Moment | None = None, cut: bool = False) -> None:
        if self._stream is None:
            self._stream = self.recording.stream()
        fields = self.recording.fields
        following = [*moments[1:], *([after] if after is not None else [])]
        rows = {name: np.concatenate([m.rows[name] for m in moments]) for name in fields if name != "action"}
        actions = [moment.action for moment in following]
        blank = np.zeros((1, *fields["action"].shape), fields["action"].dtype)
        actions += [None] * (len(moments) - len(actions))
        rows["action"] = np.concatenate([blank if a is None else np.asarray(a, blank.dtype) for a in actions])
        if cut:
            rows["is_last"][-1] = True
        by = Counter(moment.by for moment in following if moment.by)
        self.recording.write(self._stream, self._start, {name: rows[name] for name in fields}, by)
        self._start += len(moments)
        self.rows += len(moments)
