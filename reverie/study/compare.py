"""``reverie compare``: variants over seeds, each trained, evaluated and counted alike, as one figure and tables.

::

    <work>/<variant>-<seed>/    run directories        <work>/<variant>-<seed>.log    what the commands said
    <out>.json                  everything below, as numbers; .png .csv .md are made from it

A run is trained if it is missing, resumed if it is incomplete, and left alone if it is complete. A directory that holds
another run is refused, before anything is started.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import overrides
from reverie.config import Config
from reverie.envs.tasks import tasks_of
from reverie.errors import UserError
from reverie.report.comparison import summary, write_comparison
from reverie.report.prediction import check_threshold
from reverie.report.record import FILE, read_metrics
from reverie.run.checkpoint import Checkpoints
from reverie.run.configure import check_same, configure
from reverie.run.offline import for_dataset
from reverie.study.about import EVALUATIONS, phases
from reverie.study.jobs import Failed, Jobs
from reverie.study.sharing import together

POINTS = 60
"""of a curve in the JSON"""
BROKEN = (OSError, ValueError, KeyError, TypeError)
"""what a file raises that is not there, or not what its command leaves"""
SET_BY = {
    "run.seed": "--seeds",
    "run.frames": "--frames",
    "run.env_steps": "--frames",
    "run.threads": "--threads",
    "env.id": "--env",
}
"""keys that are the comparison's own, and the option for each: an override would silently win over it"""


@dataclass(frozen=True)
class Variant:
    """An agent with overrides of its own; ``preset=NAME`` among them is its preset. name: of directories, in tables."""

    name: str
    agent: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Runs to make, and where to write.

    overrides: words for all variants. frames: length of each run (None: the preset's). episodes: of the evaluation.
    jobs: runs at once. threads: torch threads of each run. work: folder of run directories. out: path without ending.
    context: also `reverie report` of each run, on sequences of random play, after as many rows (None: no report).
    threshold: of a reward in that report (None: its own choice for each run).
    command: as it is to be quoted.
    """

    env: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    work: Path
    out: Path
    preset: str | None = None
    frames: int | None = None
    overrides: tuple[str, ...] = field(default=())
    episodes: int = 100
    jobs: int = 1
    threads: int = 1
    context: int | None = None
    threshold: float | None = None
    command: str = ""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in names:
            if not name or any(not (letter.isalnum() or letter in "._+=-") for letter in name) or name[0] in ".-":
                raise UserError(f"variant {name!r} names a directory; use letters, digits, . _ + = -")
            if names.count(name) > 1:
                raise UserError(f"two variants are called {name!r}; give each its own name")
        if not names or not self.seeds:
            raise UserError("nothing to compare; name agents (or variants) and seeds")
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds {list(self.seeds)} repeat; name each once")
        for words in (self.overrides, *(variant.overrides for variant in self.variants)):
            for key in overrides.parse(words):
                if key in SET_BY:
                    raise UserError(f"{key} is the same for the whole comparison; set it by {SET_BY[key]}")
        check_threshold(self.threshold)
        if self.threshold is not None and self.context is None:
            raise UserError(f"--threshold {self.threshold:g} is of the report; add --report ROWS")
        for folder in (self.work, self.out.parent):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is a file; name a folder for --out and --work")

    def words(self, variant: Variant) -> list[str]:
        """Overrides of one variant; its own come last and count."""
        return [f"run.threads={self.threads}", *self.overrides, *own_preset(variant.overrides)[1]]

    def preset_of(self, variant: Variant) -> str | None:
        """The preset that is asked of a variant: its own, or that of all."""
        return own_preset(variant.overrides)[0] or self.preset

    def run_dir(self, variant: Variant, seed: int) -> Path:
        """Directory of that run."""
        return self.work / f"{variant.name}-{seed}"


def own_preset(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The preset that a variant's words name (None: none), and the other words."""
    named = [word for word in words if word.lstrip("-").startswith("preset=")]
    rest = [word for word in words if word not in named]
    return (named[-1].partition("=")[2] if named else None), rest


def compare(request: Comparison, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Contents of the comparison's JSON, after what is missing has been run. say: takes a line per finished run.

    Raises UserError for what cannot be run, or if a run failed or was stopped (the others are finished first).
    """
    tasks: list[tuple[Variant, int]] = [(variant, seed) for seed in request.seeds for variant in request.variants]
    configs, pending = {}, []
    for variant, seed in tasks:
        run_dir = request.run_dir(variant, seed)
        config = _config(request, variant, seed)
        if config.population.size:
            raise UserError(f"{variant.name} is a population, which compares its members itself: population.size=0")
        if (run_dir / "config.json").exists():
            check_same(config, run_dir)
        configs[variant.name] = config
        if not _complete(run_dir):
            pending.append(config)
    if line := together(pending, request.jobs):
        say(line)
    request.work.mkdir(parents=True, exist_ok=True)
    jobs = Jobs(request.jobs, request.threads)
    measures: dict[tuple[str, int], dict[str, Any]] = {}
    problems = []
    for result in jobs.each(partial(_run, request, jobs, variant, seed) for variant, seed in tasks):
        if isinstance(result, Failed):
            problems.append(str(result))
            say(f"failed: {result}")
            continue
        name, row = result
        if not math.isfinite(float(row["score"])):
            problems.append(f"the score of {name} seed {row['seed']} is not finite")
            say(f"failed: {problems[-1]}")
            continue
        measures[name, row["seed"]] = row
        say(f"{name} seed {row['seed']}: {row['score']:.3f} after {row['minutes']:.1f} minutes")
    if problems:
        raise UserError(
            f"{len(problems)} of {len(tasks)} runs failed, the first: {problems[0]}; mend it and run the same command "
            "again: what is complete is not repeated"
        )
    runs = {variant.name: [measures[variant.name, seed] for seed in request.seeds] for variant in request.variants}
    presets = {name: config.preset for name, config in configs.items()}
    document = {
        "command": request.command,
        "env": request.env,
        "preset": next(iter(presets.values())),
        **({"presets": presets} if len(set(presets.values())) > 1 else {}),
        "frames": request.frames,
        "overrides": list(request.overrides),
        "variants": {variant.name: list(variant.overrides) for variant in request.variants},
        "agents": {variant.name: variant.agent for variant in request.variants},
        "episodes": request.episodes,
        "report": None if request.context is None else {"context": request.context, "threshold": request.threshold},
        "jobs_at_a_time": request.jobs,
        "threads_each": request.threads,
        "machine": _machine(),
        "median_score": {name: float(np.median([run["score"] for run in each])) for name, each in runs.items()},
        "median_minutes": {name: float(np.median([run["minutes"] for run in each])) for name, each in runs.items()},
        "summary": {name: summary(each) for name, each in runs.items()},
        "runs": runs,
    }
    write_comparison(document, request.out)
    return document


def _machine() -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} x {platform.machine()}{gpu}"


def _config(request: Comparison, variant: Variant, seed: int) -> Config:
    length = None if request.frames is None else str(request.frames)
    short = {"seed": str(seed), "frames": length}
    return for_dataset(configure(variant.agent, request.preset_of(variant), request.env, request.words(variant), short))


def _run(request: Comparison, jobs: Jobs, variant: Variant, seed: int) -> tuple[str, dict[str, Any]]:
    """Bring one run to its end, evaluate it, and read its numbers. Raises Failed, so that the others go on."""
    run_dir = request.run_dir(variant, seed)
    try:
        return variant.name, _measured(request, jobs, variant, seed, run_dir)
    except UserError as error:
        raise Failed(f"{run_dir}: {error}") from error


def _measured(request: Comparison, jobs: Jobs, variant: Variant, seed: int, run_dir: Path) -> dict[str, Any]:
    log = request.work / f"{variant.name}-{seed}.log"
    if not (run_dir / "config.json").exists():
        jobs.call(_train(request, variant, seed), log)
    elif not finished(run_dir):
        jobs.call(["resume", str(run_dir)], log)
    if not finished(run_dir):
        raise Failed(f"{run_dir} was stopped before its end (see {log})")
    if not _evaluated(request, run_dir):
        jobs.call(["eval", str(run_dir), "--episodes", str(request.episodes)], log)
        if not _evaluated(request, run_dir):
            raise Failed(f"{run_dir} was evaluated, but that is not in its evaluation.json (see {log})")
    measured = measure(run_dir, seed)
    if request.context is not None:
        measured["prediction"] = _predicted(request, jobs, run_dir, measured["env_steps"], log)
    return measured


def _predicted(request: Comparison, jobs: Jobs, run_dir: Path, env_steps: int, log: Path) -> dict[str, float | None]:
    """The numbers of the run's report after so many env_steps, which is made unless it is there and whole."""
    context = request.context
    name, words = f"random-play-{context}", ["report", str(run_dir), "--random-play", "--context", str(context)]
    if request.threshold is not None:
        name, words = f"{name}-threshold-{request.threshold}", [*words, "--threshold", str(request.threshold)]
    out = run_dir / "report" / name
    if (found := _foreseen(out, env_steps)) is None:
        jobs.call([*words, "--out", str(out)], log)
        found = _foreseen(out, env_steps)
    if found is None:
        raise Failed(f"the report of {run_dir} is not in {out} (see {log})")
    return found


def _foreseen(out: Path, env_steps: int) -> dict[str, float | None] | None:
    """The numbers of a report after so many env_steps; None if it is not there, of another length, or not whole."""
    try:
        report = json.loads((out / "prediction.json").read_text())
        return foreseen(report) if report["env_steps"] == env_steps else None
    except BROKEN:
        return None


def _train(request: Comparison, variant: Variant, seed: int) -> list[str]:
    words = ["train", variant.agent, "--env", request.env, "--seed", str(seed)]
    words += [] if (preset := request.preset_of(variant)) is None else ["--preset", preset]
    words += [] if request.frames is None else ["--frames", str(request.frames)]
    return [*words, "--logdir", str(request.run_dir(variant, seed)), *request.words(variant)]


def finished(run_dir: Path) -> bool:
    """Whether a run's newest checkpoint is the one at its end. Raises Failed if it is damaged."""
    latest = Checkpoints(run_dir).latest()
    if latest is None:
        return False
    try:
        tree = json.loads((latest / "state.json").read_text())["tree"]
        return bool(tree["finished_at"] == tree["env_steps"])
    except BROKEN as error:
        raise Failed(
            f"checkpoint {latest} is unreadable ({type(error).__name__}); `reverie resume` says more"
        ) from error


def _complete(run_dir: Path) -> bool:
    try:
        return finished(run_dir)
    except Failed:  # said when it is this run's turn
        return False


def _evaluated(request: Comparison, run_dir: Path) -> bool:
    """Whether the finished run was evaluated over as many episodes of each task, with the seed that all share."""
    records = read_metrics(run_dir)
    if not records:
        raise Failed(f"{run_dir} is finished but its {FILE} is empty; remove the directory to train it anew")
    last = max(record["env_steps"] for record in records)
    try:
        evaluation = json.loads((run_dir / "evaluation.json").read_text())
        complete = {"score", "score_std"} <= set(evaluation)
        episodes = request.episodes * max(1, len(tasks_of(request.env)))
        alike = evaluation["episodes"] == episodes and evaluation["seed"] == 0
        return bool(complete and alike and evaluation["env_steps"] >= last)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, or not what an evaluation leaves
        return False


def measure(run_dir: Path, seed: int) -> dict[str, Any]:
    """Measures that a comparison keeps of a run that is finished and evaluated."""
    evaluation = json.loads((run_dir / "evaluation.json").read_text())
    records = read_metrics(run_dir)
    scores = [(record["frames"], record["episode/score"]) for record in records if "episode/score" in record]
    seconds = max(record["time/elapsed_s"] for record in records)
    trained = seconds - phases(records).get(EVALUATIONS, 0.0)  # a better policy is evaluated for longer
    speed = evaluation["env_steps"] / (trained or seconds)
    return {
        "seed": seed,
        "score": evaluation["score"],
        "score_std": evaluation["score_std"],
        "minutes": round(seconds / 60, 2),
        "env_steps": evaluation["env_steps"],
        "env_steps_per_s": round(speed, 1),
        "learner_steps": max(record["learner_steps"] for record in records),
        "curve": curve(scores),
    }


def foreseen(report: dict[str, Any]) -> dict[str, float | None]:
    """The few numbers of a prediction report that a comparison keeps."""
    rates = report["hallucination"] or {}
    numbers = {name: rates.get(name) for name in ("hallucinated_rate", "missed_rate", "reversed_rate", "false_rate")}
    return numbers | {
        "reward_error": report["reward"]["mean_error"],
        "reward_calibration": report["reward"]["calibration"]["error"],
    }


def curve(scores: Sequence[tuple[float, float]], points: int = POINTS) -> dict[str, list[float]]:
    """Mean episode score in `points` equal parts of the run, at their middles; parts without an end are left out."""
    if not scores:
        return {"frames": [], "score": []}
    frames, values = np.array(scores, float).T
    edges = np.linspace(0, frames[-1], points + 1)
    parts = [values[(frames > a) & (frames <= b)] for a, b in pairwise(edges)]
    middles = (edges[:-1] + edges[1:]) / 2
    means = [(float(at), float(part.mean())) for at, part in zip(middles, parts, strict=True) if len(part)]
    return {"frames": [round(f, 1) for f, _ in means], "score": [round(s, 4) for _, s in means]}
