"""Run directories as the seeds of a picture: where they are, what they ran, and which belong to one curve.

A curve stands for runs that agree in some keys: `agent`, `env` (the id) and `config` (every other setting but the
seed, the length, and what is logged, evaluated or kept). What they ran is read from ``config.json`` as it is, so that
runs of earlier versions, which `reverie.run` would refuse to go on with, can still be drawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from reverie.errors import UserError
from reverie.overrides import is_below
from reverie.report.curves import Points, XAxis, series
from reverie.report.record import FILE

Key = Literal["agent", "env", "config"]

CONFIG = "config.json"
SEED = "run.seed"
NOT_LEARNING = (
    *("run.frames", "run.env_steps", "run.log_every", "run.checkpoint_every", "run.keep_checkpoints"),
    *("run.eval_every", "run.eval_episodes", "run.eval_envs", "run.eval_limit", "run.keep_best"),
    "log",
)
"""Settings that do not change what has been learned by a given frame, and all that begins with them."""
MACHINE = ("run.device", "run.threads", "run.compile")
"""Settings that change how fast it is learned, and so belong to a configuration when x is minutes."""


@dataclass(frozen=True)
class Run:
    """A run directory: what it ran, by its ``config.json``, and the metric.

    settings: dotted key -> value, without agent, environment, seed and `NOT_LEARNING`.
    """

    path: Path
    agent: str
    env: str
    seed: int
    settings: Mapping[str, Any]
    points: Points

    def fingerprint(self) -> str:
        """The settings as text: equal for runs of one configuration."""
        return json.dumps({key: _as_text(value) for key, value in self.settings.items()}, sort_keys=True)


def find_runs(paths: Sequence[str | Path]) -> list[tuple[Path, bool]]:
    """Run directories among `paths` and below them: (directory, whether it was named itself), each once.

    Raises UserError for a path that is not there, or without a run.
    """
    if not paths:
        raise UserError("nothing to plot; name run directories or folders of them: reverie plot runs/a runs/b")
    directories: dict[Path, tuple[Path, bool]] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path} is not a directory; name run directories or folders of them")
        below = [path] if (path / CONFIG).exists() else _runs_below(path)
        if not below:
            has = f"a {FILE} but no {CONFIG}" if (path / FILE).exists() else f"no run (a directory with {CONFIG}) in it"
            raise UserError(f"{path} has {has}; name a directory that `reverie train` wrote, or a folder of them")
        for directory in below:
            directories.setdefault(directory.resolve(), (directory, directory == path))
    return list(directories.values())


def _runs_below(folder: Path) -> list[Path]:
    runs, visited = [], set()
    for directory, below, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(directory)) in visited:  # by another link, or a link to what it lies in
            below.clear()
            continue
        visited.add(real)
        below.sort(key=lambda name: os.path.islink(os.path.join(directory, name)))  # a run by its own name first
        if CONFIG in files:
            runs.append(Path(directory))
            below.clear()  # a run's own folders hold thousands of files, and no runs
    return sorted(runs)


def read_runs(directories: Sequence[tuple[Path, bool]], metric: str, x: XAxis) -> tuple[list[Run], list[str]]:
    """The runs that have the metric, and a note on each that has not. Raises UserError if one was named, or all."""
    runs, notes = [], []
    for path, named in directories:
        try:
            runs.append(described(path, series(path, metric, x), x))
        except UserError as error:
            if named:
                raise
            notes.append(f"left out: {error}")
    if not runs:
        first = notes[0].removeprefix("left out: ")
        raise UserError(f"none of {len(directories)} runs has {metric!r}; the first: {first}")
    return runs, notes


def described(path: Path, points: Points, x: XAxis) -> Run:
    """The run in a directory with these points. Raises UserError if its ``config.json`` is damaged."""
    try:
        config = json.loads((path / CONFIG).read_text())["config"]
        agent, env = str(config.pop("name")), str(config["env"].pop("id"))
        settings = _leaves(config)
        seed = int(settings.pop(SEED))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path / CONFIG} is damaged ({type(error).__name__}: {error}); restore it") from error
    besides = (*NOT_LEARNING, *(() if x == "minutes" else MACHINE))
    settings = {key: value for key, value in settings.items() if not is_below(key, besides)}
    return Run(path, agent, env, seed, settings, points)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings as dotted key -> value."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def grouped(runs: Sequence[Run], keys: Sequence[Key]) -> dict[str, list[Run]]:
    """Label -> runs of one curve, in order of appearance. Labels name agent, environment and settings as needed."""
    groups: dict[tuple[tuple[str, ...], str], list[Run]] = {}
    for run in runs:
        kind = tuple(name for key, name in (("agent", run.agent), ("env", run.env)) if key in keys)
        groups.setdefault((kind, run.fingerprint() if "config" in keys else ""), []).append(run)
    labels: dict[str, list[Run]] = {}
    several_envs = len({run.env for run in runs}) > 1
    for (kind, _), members in groups.items():
        first = members[0]
        names = kind if several_envs or kind == (first.env,) else tuple(name for name in kind if name != first.env)
        telling = telling_settings([other[0].settings for (rival, _), other in groups.items() if rival == kind])
        details = [f"{name} {_as_text(first.settings[key])}" for key, name in telling.items() if key in first.settings]
        labels[", ".join((*names, *details)) or "all runs"] = members
    return labels


def telling_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A few settings that tell all of these different configurations apart: dotted key -> its shortest clear name.

    One after the other, each is the setting that tells most of the pairs apart which are still alike; the first of
    equals. So there are fewer of them than configurations, however many settings differ. Raises ValueError if two
    configurations are the same.
    """
    keys = list(dict.fromkeys(key for config in configs for key in config))
    values = {key: [_as_text(config[key]) if key in config else None for config in configs] for key in keys}
    alike = list(combinations(range(len(configs)), 2))
    telling = []
    while alike:
        best = max(keys, key=lambda key: sum(values[key][one] != values[key][other] for one, other in alike))
        if best in telling:
            raise ValueError("expected different configurations, got one of them twice")
        telling.append(best)
        alike = [(one, other) for one, other in alike if values[best][one] == values[best][other]]
    return {key: _shortest(key, keys) for key in sorted(telling, key=keys.index)}


def _shortest(key: str, keys: Sequence[str]) -> str:
    """The last parts of a dotted key, as many as no other key ends with: kl_balance, encoder.depth."""
    parts = key.split(".")
    ends = [".".join(parts[first:]) for first in reversed(range(len(parts)))]
    return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
