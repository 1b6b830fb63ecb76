"""R2D2's four ways to start a memory, on two T-mazes: what each learns, and how far its states drift.

    python benchmarks/r2d2_state_strategies.py            # 2 mazes x 4 strategies x 5 seeds, 40 runs one after another

::

    window       | burn-in 4 (or 0) | learn 4 | bootstrap 3 |
    far    cue <-------- 9 env_steps --------->  junction       cue and junction are never in one window
    near         cue <----- 4 env_steps ------> junction       of windows that learn the junction, burn-in sees the cue

Everything but `replay.window.state` and `replay.window.context` is equal, the number of updates and of trained rows
too. A run that is complete in --work is not repeated; one that was interrupted goes on. Writes <out>.json, .png, .md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reverie import overrides
from reverie.config import Config
from reverie.presets import make_config
from reverie.report.curves import COLOURS, DASHES, GRAY, LEVEL, X_LABELS, aggregate
from reverie.report.document import write_document
from reverie.report.record import Record, read_metrics
from reverie.report.statistics import bootstrap_interval, iqm
from reverie.run.configure import check_same
from reverie.run.train import resume, train
from reverie.study.compare import finished

BURN_IN, LEARN = 4, 4

SETTINGS: dict[str, Any] = {
    "env.num_envs": 8,
    # Its previous action would be a memory of its own, which no strategy starts anew.
    "agent.feed": False,
    "agent.torso.layers": 0,
    "agent.torso.dense": 0,
    "agent.units": 32,
    "agent.hidden": 0,
    # The junction is never learned together with a far cue: an untrained cell has to keep a trace of it.
    "agent.forget_bias": 3.0,
    "agent.n_step": 3,
    "agent.gamma": 0.97,
    "agent.target_every": 50,
    "agent.opt.lr": 2e-3,
    "replay.batch": 64,
    "replay.window.learn": LEARN,
    "replay.window.period": 1,
    # About 4000 rows, drawn uniformly: old states were written in a code that today's parameters do not read.
    "replay.store.budget": 1_600_000,
    "replay.selector": "uniform",
    "replay.window.drift": True,
    "run.prefill": 500,
    "run.train_ratio": 32.0,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 100,
    "run.eval_envs": 20,
    "run.threads": 1,
}
TASKS: dict[str, dict[str, Any]] = {
    # Half of the junctions ask for the other way: to lean one way by a trace that was never learned is no success.
    "far": {"length": 9, "noise": 2, "reverse": True},
    # Episodes begin a few rows before the cue, so that windows lie inside them and have states to measure.
    "near": {"length": 4, "noise": 2, "wait": 5, "reverse": True},
}
ENV_STEPS = {"far": 16_000, "near": 10_000}
"""Length of a run, the same for all strategies."""
STRATEGIES: dict[str, dict[str, Any]] = {
    "zero": {"replay.window.state": "zero", "replay.window.context": 0},
    "zero+burn-in": {"replay.window.state": "zero", "replay.window.context": BURN_IN},
    "stored": {"replay.window.state": "stored", "replay.window.context": 0},
    "stored+burn-in": {"replay.window.state": "stored", "replay.window.context": BURN_IN},
}
PAPER = {
    "drift_first": ["zero", "zero+burn-in", "stored+burn-in", "stored"],
    "drift_last": ["zero", "zero+burn-in", "stored", "stored+burn-in"],
    "success": ["zero", "zero+burn-in", "stored", "stored+burn-in"],
}
"""Kapturowski et al. 2019, section 3 and figure 1, DMLab: most drift first, lowest return first. Its zero and
zero+burn-in are about equal in drift_last; drift_first of `stored` is 0 by construction (where stored+burn-in lies in
drift_first the text does not say; it is put between the others)."""
MEASURES = {
    "success": "success of the greedy policy",
    "drift_first": "ΔQ, first trained row",
    "drift_last": "ΔQ, last trained row",
}
SETTLED = 0.5
"""The share of a run, at its end, over which a run's ΔQ is summed up (the median)."""


def configure(task: str, strategy: str, seed: int, env_steps: int) -> Config:
    """One run: the preset, what all have in common, the maze, the strategy."""
    updates = SETTINGS["run.train_ratio"] * (env_steps - SETTINGS["run.prefill"])
    own = {
        "env.options": TASKS[task],
        "agent.opt.lr_over": int(updates / (SETTINGS["replay.batch"] * LEARN)),  # of the run's updates: to 0 at its end
        "run.seed": seed,
        "run.env_steps": env_steps,
        "run.log_every": env_steps // 24,
        "run.eval_every": env_steps // 8,
    }
    return overrides.apply(make_config("r2d2", "cpu-toy", "toy/tmaze"), SETTINGS | own | STRATEGIES[strategy])


def bring(config: Config, run_dir: Path) -> None:
    """Train, or go on, unless the run is complete. Raises SystemExit if it was stopped."""
    if not (run_dir / "config.json").exists():
        train(config, run_dir)
    else:
        check_same(config, run_dir)
        if not finished(run_dir):
            resume(run_dir)
    if not finished(run_dir):
        raise SystemExit(f"{run_dir} was stopped; the same command goes on")


def measure(records: Sequence[Record], seed: int) -> dict[str, Any]:
    """What is kept of a run. Scores are +1 or -1 per episode, so that success is (score + 1) / 2."""
    evaluated = [record for record in records if "eval/score" in record]
    logged = [record for record in records if "train/drift_first" in record]
    curves = {"success": _curve(evaluated, "eval/score", lambda score: (score + 1.0) / 2.0)}
    for name in ("drift_first", "drift_last"):
        curves[name] = _curve(logged, f"train/{name}", float)
    settled = {}
    for name in ("drift_first", "drift_last"):
        value = curves[name]["value"]
        settled[name] = float(np.median(value[-max(1, round(SETTLED * len(value))) :]))
    return {
        "seed": seed,
        "success": curves["success"]["value"][-1],
        **settled,
        "env_steps": int(max(record["env_steps"] for record in records)),
        "learner_steps": int(max(record["learner_steps"] for record in records)),
        "minutes": round(max(record["time/elapsed_s"] for record in records) / 60, 2),
        "curves": curves,
    }


def _curve(records: Sequence[Record], key: str, convert: Any) -> dict[str, list[float]]:
    return {
        "env_steps": [int(record["env_steps"]) for record in records],
        "value": [round(convert(record[key]), 5) for record in records],
    }


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per measure: interquartile mean over seeds, its bootstrap interval, smallest and largest seed, mean."""
    found: dict[str, Any] = {}
    for name in MEASURES:
        values = np.array([run[name] for run in runs], float)
        low, high = bootstrap_interval(values[:, None], iqm, level=LEVEL) if len(runs) > 2 else (None, None)
        found[name] = {
            "iqm": float(iqm(values[:, None])),
            "interval": None if low is None else [float(low), float(high)],
            "mean": float(values.mean()),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return found


def ordering(summary: Mapping[str, Any], measure: str) -> list[str]:
    """Strategies of a task by a measure: most drift first, lowest success first."""
    sign = 1.0 if measure == "success" else -1.0
    return sorted(summary, key=lambda strategy: sign * summary[strategy][measure]["iqm"])


def markdown(document: Mapping[str, Any]) -> list[str]:
    """A table per maze, and the orderings beside the paper's."""
    lines: list[str] = []
    for task, summary in document["summary"].items():
        length = document["tasks"][task]["length"]
        lines += [f"**{task}**: cue {length} env_steps before the junction", ""]
        lines += ["| strategy | success (IQM, 95 %) | seeds | ΔQ first | ΔQ last |", "|---|---|---|---|---|"]
        for strategy, found in summary.items():
            seeds = ", ".join(f"{run['success']:.2f}" for run in document["runs"][task][strategy])
            cells = [_number(found["success"]), seeds, _number(found["drift_first"]), _number(found["drift_last"])]
            lines.append(f"| {strategy} | {' | '.join(cells)} |")
        lines.append("")
    head = " | ".join(["measure", "paper (DMLab)", *document["summary"]])
    lines += [f"| {head} |", f"|{'---|' * (2 + len(document['summary']))}"]
    for name, paper in document["paper"].items():
        than = " < " if name == "success" else " > "
        what = "success, lowest first" if name == "success" else f"{MEASURES[name]}, largest first"
        ours = [
            _chain(order[name], document["summary"][task], name, than) for task, order in document["ordering"].items()
        ]
        lines.append(f"| {what} | {than.join(paper)} | {' | '.join(ours)} |")
    return lines


def _chain(order: Sequence[str], summary: Mapping[str, Any], measure: str, than: str) -> str:
    """Strategies in their order, with = between those that do not differ."""
    text = order[0]
    for before, after in pairwise(order):
        same = summary[before][measure]["iqm"] == summary[after][measure]["iqm"]
        text += f"{' = ' if same else than}{after}"
    return text


def _number(found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    return f"{found['iqm']:.3g}" + ("" if interval is None else " ({:.3g} to {:.3g})".format(*interval))


def draw(document: Mapping[str, Any], out: Path) -> None:
    """A row of panels per maze: success, ΔQ at the first and at the last trained row, over env_steps."""
    runs = document["runs"]
    figure = Figure(figsize=(12, 3.3 * len(runs) + 0.5), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(runs), len(MEASURES), squeeze=False, sharex="row")
    for row, (task, strategies) in zip(grid, runs.items(), strict=True):
        for axes, (name, label) in zip(row, MEASURES.items(), strict=True):
            _panel(axes, name, strategies)
            axes.set_title(f"{task} cue: {label}", loc="left", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel(X_LABELS["env_steps"])
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(document["title"], x=0.01, ha="left", fontsize=10)
    figure.savefig(out)


def _panel(axes: Axes, name: str, strategies: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    floor = 1e-2
    for number, (strategy, runs) in enumerate(strategies.items()):
        colour, dash = COLOURS[number], DASHES[number % 2]
        points = [
            (np.array(run["curves"][name]["env_steps"], float), np.array(run["curves"][name]["value"], float))
            for run in runs
        ]
        if name != "success" and max(value.max() for _, value in points) < floor:
            axes.text(0.02, 0.03, f"{strategy}: 0, by construction", color=colour, transform=axes.transAxes)
            continue
        curve = aggregate(strategy, points, [""] * len(points))
        for x, value in points:
            axes.plot(x, value, dash, color=colour, linewidth=0.6, alpha=0.35)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(curve.x, curve.value, dash, color=colour, linewidth=2, label=strategy)
    if name == "success":
        axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=(0, (5, 4)))
        axes.set_ylim(0, 1.03)
    else:
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Run what is missing, sum up, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--env-steps", type=int, help=f"of each run {ENV_STEPS}")
    parser.add_argument("--work", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--out", type=Path, default=Path("results/strategies/strategies"), help="path without ending")
    asked = parser.parse_args()
    runs: dict[str, dict[str, list[Any]]] = {task: {name: [] for name in asked.strategies} for task in asked.tasks}
    for seed in asked.seeds:
        for task in asked.tasks:
            for strategy in asked.strategies:
                run_dir = asked.work / f"{task}-{strategy}-{seed}"
                bring(configure(task, strategy, seed, asked.env_steps or ENV_STEPS[task]), run_dir)
                runs[task][strategy].append(measure(read_metrics(run_dir), seed))
                print(f"{run_dir.name}: success {runs[task][strategy][-1]['success']:.2f}", flush=True)
    summary = {task: {name: summarise(each) for name, each in found.items()} for task, found in runs.items()}
    document = {
        "command": shlex.join(["python", "benchmarks/r2d2_state_strategies.py", *sys.argv[1:]]),
        "title": f"R2D2 on toy/tmaze: IQM of {len(asked.seeds)} seeds, {LEVEL * 100:g} % interval, each seed thin",
        "env": "toy/tmaze",
        "tasks": {task: TASKS[task] for task in asked.tasks},
        "strategies": {name: STRATEGIES[name] for name in asked.strategies},
        "env_steps": {task: asked.env_steps or ENV_STEPS[task] for task in asked.tasks},
        "settings": SETTINGS,
        "machine": f"{os.cpu_count()} x {platform.machine()}",
        "paper": PAPER,
        "ordering": {task: {name: ordering(found, name) for name in PAPER} for task, found in summary.items()},
        "summary": summary,
        "runs": runs,
    }
    table = markdown(document)
    write_document(document, asked.out, table, draw)
    print("\n".join(table))


if __name__ == "__main__":
    main()
