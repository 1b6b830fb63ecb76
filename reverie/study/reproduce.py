"""``reverie reproduce``: named claims, each with the commands that show it and the interval that its numbers fall in.

A claim is a small JSON file ``<name>.json`` in a folder of claims::

    {"claim": "one sentence",
     "commands": ["reverie compare --agents dreamerv2 --env toy/catch --seeds 3 --out {out}"],
     "result": "comparison.json",                         JSON that the commands write below {out}
     "committed": "learning/catch.json",                  the same numbers as committed, beside the folder of claims
     "checks": [{"value": "median_score.dreamerv2", "interval": [0.9, 1.0]}],
     "minutes": 15,                                       on two CPU cores
     "miniature": {"commands": [...], "result": ..., "checks": [...], "minutes": 1}}      optional

A check's ``value`` is the path of a number, or of a list of numbers, in the result; ``minus`` is another, which is
subtracted first. All of them must lie in the closed interval; null stands for no limit.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.errors import UserError, suggest
from reverie.study.jobs import REVERIE, terminable

CLAIMS = Path("results") / "claims"
"""where claims are, from the root of a copy of the repository; a wheel has them in the package, see setup.py"""
PROGRAMS = {"reverie": REVERIE, "python": (sys.executable,)}
"""what commands of a claim may begin with"""


@dataclass(frozen=True)
class Check:
    """Numbers at `value` (less those at `minus`) that must lie in [low, high]; None is no limit."""

    value: str
    minus: str | None
    low: float | None
    high: float | None

    def describe(self) -> str:
        """Words for what is checked, and against which interval."""
        what = self.value if self.minus is None else f"{self.value} - {self.minus}"
        return f"{what} in [{'-inf' if self.low is None else self.low}, {'inf' if self.high is None else self.high}]"

    def measure(self, document: Any, where: Path) -> list[float]:
        """The numbers. Raises UserError if they are not in the document."""
        values = _numbers(document, self.value, where)
        if self.minus is None:
            return values
        others = _numbers(document, self.minus, where)
        if len(others) != len(values):
            raise UserError(f"{where}: {self.value} has {len(values)} numbers, {self.minus} {len(others)}")
        return [value - other for value, other in zip(values, others, strict=True)]

    def holds(self, values: Sequence[float]) -> bool:
        """Whether all of them lie in the interval (NaN does not)."""
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return all(low <= value <= high for value in values)


@dataclass(frozen=True)
class Experiment:
    """Commands, the JSON below {out} that they write, and its checks."""

    commands: tuple[str, ...]
    result: str
    checks: tuple[Check, ...]
    minutes: float


@dataclass(frozen=True)
class Claim:
    """A claim; committed: the JSON with the numbers that it was made from."""

    name: str
    claim: str
    full: Experiment
    miniature: Experiment | None
    committed: Path


@dataclass(frozen=True)
class Verdict:
    """One check's numbers, where they came from, and whether they lie in its interval."""

    check: Check
    source: str
    values: list[float]
    passed: bool

    def line(self) -> str:
        """Verdict in one line: ``pass  median_score.dreamerv2 in [0.9, 1.0]: 1 (committed)``."""
        numbers = f"{self.values[0]:.4g}"
        if len(self.values) > 1:
            numbers = f"{min(self.values):.4g} to {max(self.values):.4g} ({len(self.values)} numbers)"
        return f"{'pass' if self.passed else 'FAIL'}  {self.check.describe()}: {numbers} ({self.source})"


def claims_folder() -> Path:
    """Folder of claims: of the copy of the repository that one stands in, that the package is used from, or its own."""
    package = Path(__file__).parents[1]
    places = (CLAIMS, package.parent / CLAIMS, package / CLAIMS)
    return next((place for place in places if place.is_dir()), CLAIMS)


def claims(folder: Path) -> dict[str, Claim]:
    """All claims in a folder by name. Raises UserError if there are none, or one is damaged."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError(
            f"{folder} holds no claims (*.json); go to the root of a copy of the repository, or name --claims"
        )
    return {path.stem: _read_claim(path) for path in files}


def find_claim(folder: Path, name: str) -> Claim:
    """The claim of that name. Raises UserError, with near names, if there is none."""
    all_claims = claims(folder)
    if name not in all_claims:
        raise UserError(f"unknown claim {name!r}{suggest(name, all_claims)}")
    return all_claims[name]


def reproduce(
    claim: Claim, out: Path, *, miniature: bool = False, committed: bool = False, say: Callable[[str], None] = print
) -> bool:
    """Whether all numbers pass: those committed, and those of a claim's commands, which are run into `out`.

    `reverie compare` leaves complete runs alone, so those that are in `out` count again, which is said.
    miniature: its small stand-in instead. committed: only the committed numbers, nothing is run. say: takes lines.
    Raises UserError if there is no miniature, a script is not here, or a command fails.
    """
    experiment = claim.full
    if miniature and not committed:
        if claim.miniature is None:
            raise UserError(
                f"{claim.name} has no miniature; leave out --miniature (about {claim.full.minutes:g} minutes)"
            )
        experiment = claim.miniature
    say(f"claim  {claim.claim}")
    verdicts = _check(claim.full, claim.committed, "committed")
    if not committed:
        _check_scripts(claim, experiment)
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            say(f"found  runs in {out}: those that are complete are used again; remove it to run anew")
        say(f"run    about {experiment.minutes:g} minutes on two CPU cores, in {out}")
        for command in experiment.commands:
            _call(command, out, say)
        verdicts += _check(experiment, out / experiment.result, "miniature" if miniature else "now")
    for verdict in verdicts:
        say(verdict.line())
    passed = all(verdict.passed for verdict in verdicts)
    say("passed" if passed else "failed")
    return passed


def _check(experiment: Experiment, path: Path, source: str) -> list[Verdict]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    measurements = [(check, check.measure(document, path)) for check in experiment.checks]
    return [Verdict(check, source, values, check.holds(values)) for check, values in measurements]


def _check_scripts(claim: Claim, experiment: Experiment) -> None:
    """Raise UserError if a command wants a script that is not here: benchmarks are in no wheel."""
    for program, *words in map(shlex.split, experiment.commands):
        if program == "python" and words and words[0].endswith(".py") and not Path(words[0]).exists():
            raise UserError(
                f"{claim.name} runs {words[0]}, which is not here: go to the root of a copy of the repository, "
                "or check its committed numbers with --committed"
            )


def _call(command: str, out: Path, say: Callable[[str], None]) -> None:
    words = [word.replace("{out}", str(out)) for word in shlex.split(command)]
    say(f"$ {shlex.join(words)}")
    with terminable():
        process = subprocess.Popen([*PROGRAMS[words[0]], *words[1:]], stdin=subprocess.DEVNULL)
        try:
            process.wait()
        except BaseException:
            process.terminate()  # on which training saves and ends
            process.wait()
            raise
    if process.returncode:
        raise UserError(f"`{shlex.join(words)}` ended with code {process.returncode}; what it said is above")


def _numbers(document: Any, path: str, where: Path) -> list[float]:
    """The number, or the numbers of the list, at a dotted path; variants may have dots in their names."""
    node = _follow(document, path)
    values = node if isinstance(node, list) else [node]
    if not values or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise UserError(f"{where} has no number, nor a list of numbers, at {path!r}")
    return [float(value) for value in values]


def _follow(node: Any, path: str) -> Any:
    """Node at a dotted path of objects and lists; None if there is nothing."""
    if isinstance(node, list):
        first, _, rest = path.partition(".")
        if not first.isdigit() or int(first) >= len(node):
            return None
        return _follow(node[int(first)], rest) if rest else node[int(first)]
    if not isinstance(node, dict):
        return None
    if path in node:
        return node[path]
    for key in sorted(node, key=len, reverse=True):
        if path.startswith(f"{key}."):
            return _follow(node[key], path.removeprefix(f"{key}."))
    return None


def _read_claim(path: Path) -> Claim:
    try:
        entry = json.loads(path.read_text())
        full = _experiment(entry)
        small = entry.get("miniature")
        committed = path.parent.parent / entry["committed"]
        return Claim(path.stem, str(entry["claim"]), full, _experiment(small) if small else None, committed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a claim ({type(error).__name__}: {error}); see docs/evidence.md") from error


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    commands = tuple(map(str, entry["commands"]))
    for command in commands:
        if shlex.split(command)[:1] not in [[name] for name in PROGRAMS]:
            raise ValueError(f"commands begin with {' or '.join(PROGRAMS)}, got {command!r}")
    checks = []
    for check in entry["checks"]:
        low, high = (None if end is None else float(end) for end in check["interval"])
        checks.append(Check(str(check["value"]), check.get("minus"), low, high))
    if not commands or not checks:
        raise ValueError("a claim needs commands and checks")
    return Experiment(commands, str(entry["result"]), tuple(checks), float(entry["minutes"]))
