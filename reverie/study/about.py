"""What is known of one run, for a document: everything its directory tells, and notes on what cannot be read.

A run that is being trained, was killed, or has damaged lines in its log is told about as far as it goes. What is no run
at all is the only thing that is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reverie.config import Config
from reverie.errors import UserError
from reverie.report.curves import Points
from reverie.report.record import FILE, Record, decode
from reverie.report.runs import CONFIG
from reverie.run.chain import Chain
from reverie.run.checkpoint import Checkpoints
from reverie.run.length import run_length
from reverie.run.lock import is_trained
from reverie.run.saved_config import load_chain
from reverie.run.zoo import as_named, model_name, resolve, results_folder

RANDOM, TRAINING, EVALUATIONS = "random actions, before training", "acting and learning", "evaluations"
PAUSE = 5.0
"""Seconds between two lines of a log, beyond those that the run was running, from which on it was away."""


@dataclass(frozen=True)
class About:
    """A run as its directory tells it.

    document: ``config.json`` as it is. chain: the same as configurations; None where this version cannot read them.
    records: of its log, without damaged lines. head: what the newest checkpoint counts. evaluations: by file name.
    prediction, dream: what `reverie report` and `reverie dream` left. notes: sentences on what could not be read.
    """

    path: Path
    document: Mapping[str, Any]
    chain: Chain | None
    records: list[Record]
    running: bool
    head: Mapping[str, Any] | None
    evaluations: Mapping[str, Mapping[str, Any]]
    prediction: Mapping[str, Any] | None
    dream: Mapping[str, Any] | None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run as one names it."""
        return as_named(self.path)

    @property
    def config(self) -> Config | None:
        """The configuration in force."""
        return None if self.chain is None else self.chain.config

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration as it is in the file."""
        return dict(self.document["config"])

    @property
    def agent(self) -> str:
        """Its agent."""
        return str(self.settings.get("name", "?"))

    @property
    def preset(self) -> str:
        """Its preset."""
        return str(self.settings.get("preset", "?"))

    @property
    def env(self) -> str:
        """Id of its environment."""
        return str(_group(self.settings, "env").get("id", "?"))

    @property
    def seed(self) -> int | None:
        """Its seed."""
        seed = _group(self.settings, "run").get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions that it ran with, and the machine; of earlier runs some only."""
        return _group(self.document, "versions")

    @cached_property
    def media(self) -> list[Path]:
        """Pictures and films that were made of it, oldest first."""
        home = results_folder(self.path)
        found = [path for folder in ("videos", "report") for path in (home / folder).glob("*.*")]
        return sorted((path for path in found if path.suffix in (".gif", ".mp4", ".png")), key=lambda p: (p.suffix, p))

    @property
    def env_steps(self) -> int:
        """env_steps of the last line of its log, or of its newest checkpoint."""
        last = [int(record["env_steps"]) for record in self.records[-1:]]
        return max([*last, int((self.head or {}).get("env_steps", 0))])

    @property
    def whole(self) -> bool:
        """Whether it has made all that its configuration asks for, under that one from its beginning."""
        if self.head is None or self.chain is None or self.chain.past:
            return False
        return bool(self.head.get("finished_at") == self.head["env_steps"])

    @property
    def learner_steps(self) -> int:
        """learner_steps likewise."""
        last = [int(record["learner_steps"]) for record in self.records[-1:] if "learner_steps" in record]
        return max([*last, int((self.head or {}).get("learner_steps", 0))])

    @property
    def elapsed(self) -> float:
        """Seconds that it has been running, over all its parts; 0 if no line says so."""
        return max((float(record.get("time/elapsed_s", 0.0)) for record in self.records), default=0.0)

    @property
    def total(self) -> int | None:
        """env_steps that it is to make."""
        if self.config is None:
            return None
        last = self.records[-1] if self.records else {}
        repeat = round(last["frames"] / last["env_steps"]) if last.get("env_steps") else 1
        return run_length(self.config, repeat).env_steps

    def points(self, metric: str, since_training: bool = False) -> Points | None:
        """Points (frames, value) of the lines with a finite number under `metric`; None if there are none.

        since_training: without those of the random actions before it, and the first after it, which is about both.
        """
        lines = self.records
        if since_training:
            lines = [r for r in lines if r.get("learner_steps") and metric in r][1:]
        pairs = [(r["frames"], r[metric]) for r in lines if np.isfinite(r.get(metric, np.nan))]
        if not pairs:
            return None
        xs, ys = np.array(sorted(pairs, key=lambda pair: pair[0]), float).T
        return xs, ys

    def score(self) -> tuple[float, str] | None:
        """Its score and what that is: of its last networks, the evaluation with the most episodes; None without one."""
        at = int((self.head or {}).get("env_steps", 0))
        played: list[tuple[Any, float, Any]] = []  # episodes, score, how many were cut
        file = self.evaluations.get("evaluation.json")
        if file is not None and int(file["env_steps"]) >= at:
            played.append((file["episodes"], float(file["score"]), file.get("cut", 0)))
        logged = next((record for record in reversed(self.records) if "eval/score" in record), None)
        if logged is not None and (not played or int(logged["env_steps"]) >= at):
            played.append((logged.get("eval/episodes"), float(logged["eval/score"]), logged.get("eval/cut", 0)))
        played = [each for each in played if math.isfinite(each[1])]
        if not played:
            return None
        episodes, score, cut = max(played, key=lambda each: each[0] or 0)
        return score, _of(episodes, cut)

    def ended(self) -> str:
        """Sentence on what ended it, or that it goes on."""
        of = "" if self.total is None else f" of {self.total:,}"
        if model_name(self.path) is not None:
            return f"A model of the zoo: networks after {self.env_steps:,} env_steps, and a log without most episodes."
        if self.running:
            return f"It is being trained now: {self.env_steps:,}{of} env_steps are in its log."
        if self.head is None:
            return f"It has no checkpoint; its log ends after {self.env_steps:,}{of} env_steps."
        saved = int(self.head["env_steps"])
        if self.head.get("finished_at") == saved:
            return f"All {saved:,} env_steps were made, and the last evaluation was played."
        if self.total is not None and saved >= self.total:
            return f"All {saved:,} env_steps were made; the last evaluation is still to be played."
        return (
            f"It was stopped or killed: {saved:,}{of} env_steps are saved; it goes on by `reverie resume {self.name}`."
        )

    def pauses(self) -> list[tuple[int, float]]:
        """(env_steps, seconds) of each time that it was away: stopped or killed, and resumed later."""
        away = []
        for before, after in pairwise(self.records):
            if "time/unix_s" in before and "time/unix_s" in after:
                passed = after["time/unix_s"] - before["time/unix_s"]
                gap = passed - (after.get("time/elapsed_s", 0.0) - before.get("time/elapsed_s", 0.0))
                if gap > PAUSE:
                    away.append((int(after["env_steps"]), float(gap)))
        return away

    def phases(self) -> dict[str, float]:
        """Seconds of the run by what it did: random actions before training, training, evaluations."""
        return phases(self.records)


def phases(records: Sequence[Record]) -> dict[str, float]:
    """Seconds between the lines of a log by what the run did, see `About.phases`."""
    spent = {RANDOM: 0.0, TRAINING: 0.0, EVALUATIONS: 0.0}
    before = 0.0
    for record in records:
        now = float(record.get("time/elapsed_s", before))
        passed = max(now - before, 0.0)
        evaluating = min(record.get("time/eval_s", passed), passed) if "eval/score" in record else 0.0
        spent[EVALUATIONS] += evaluating
        spent[TRAINING if record.get("learner_steps") else RANDOM] += passed - evaluating
        before = max(now, before)
    return {kind: seconds for kind, seconds in spent.items() if seconds}


def _of(episodes: float | None, cut: float) -> str:
    """What a score is the mean of."""
    if episodes is None:
        return "evaluation"
    return f"mean of {int(episodes)} episodes" + (f", {int(cut)} of them cut" if cut else "")


def read_about(run: str | Path) -> About:
    """What the directory of a run tells. Raises UserError if it is none, or its ``config.json`` is no configuration."""
    path = resolve(run)
    if not (path / CONFIG).exists():
        raise UserError(f"{run} is not a run directory: it has no {CONFIG}")
    try:
        document = json.loads((path / CONFIG).read_text())
        if not isinstance(document["config"]["env"]["id"], str):
            raise TypeError("env.id is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / CONFIG} is damaged ({type(error).__name__}: {error}); restore it") from error
    notes: list[str] = []
    try:
        chain = load_chain(path)
    except UserError as error:
        chain = None
        notes.append(f"Its configuration cannot be read by this version, and is shown as it is in the file: {error}")
    records = _records(path / FILE, notes)
    try:
        head = Checkpoints(path).head()
    except UserError as error:
        head = None
        notes.append(f"Its newest checkpoint cannot be read: {error}")
    home = results_folder(path)
    files = sorted(path.glob("evaluation*.json")) + (sorted(home.glob("evaluation*.json")) if home != path else [])
    evaluations: dict[str, Mapping[str, Any]] = {}
    for file in files:  # of a model of the zoo those in the package come first
        if (found := _evaluation(file, notes)) is not None:
            evaluations[f"{file.parent.name}/{file.name}" if file.name in evaluations else file.name] = found
    return About(
        path,
        document,
        chain,
        records,
        is_trained(path),
        head,
        evaluations,
        _json(home / "report" / "prediction.json", "reward", notes),
        _json(home / "videos" / "dream.json", "dream_error", notes),
        notes,
    )


def noted(about: About, note: str) -> About:
    """The same with one more note."""
    return replace(about, notes=[*about.notes, note])


def _records(path: Path, notes: list[str]) -> list[Record]:
    """Lines of a log that are records; notes on those that are not."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        notes.append(f"It has no {FILE} that could be read ({error.strerror}), so there is nothing to draw.")
        return []
    records, damaged = [], []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is a cut line, or nothing
        if not line.strip():
            continue
        try:
            record = decode(line, path, number)
        except UserError:
            damaged.append(number)
            continue
        if all(isinstance(value, int | float) for value in record.values()) and {"env_steps", "frames"} <= set(record):
            records.append(record)
        else:
            damaged.append(number)
    if damaged:
        which = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        notes.append(f"{len(damaged)} damaged lines of {FILE} are left out ({which}).")
    if not records and not damaged:
        notes.append(f"Its {FILE} is empty so far.")
    return records


def _evaluation(path: Path, notes: list[str]) -> Mapping[str, Any] | None:
    found = _json(path, "score", notes)
    if found is None:
        return None
    whole = isinstance(found.get("episodes"), int) and isinstance(found.get("env_steps"), int)
    if whole and isinstance(found["score"], int | float):
        return found
    if whole and found["score"] in ("nan", "inf", "-inf"):
        notes.append(f"The score in {path.name} is {found['score']}, and is left out.")
        return None
    notes.append(f"{path.name} is not what `reverie eval` writes, and is left out.")
    return None


def _json(path: Path, key: str, notes: list[str]) -> Mapping[str, Any] | None:
    """A JSON object with a key; None if there is no such file, or, with a note, another one."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}), and is left out.")
        return None
    if not isinstance(found, dict) or key not in found:
        notes.append(f"{path.name} has no {key}, and is left out.")
        return None
    return found


def _group(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = tree.get(name)
    return group if isinstance(group, Mapping) else {}
