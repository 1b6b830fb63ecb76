"""IMPALA's four corrections with actors that are 0, 1, 10 or 100 updates behind the learner.

    python -m benchmarks.lag                       # 4 corrections x 4 lags x 5 seeds, 80 runs one after another

::

    learner   v-k  ...  v-1   v         the newest parameters
    actor      v-k                      act: those of exactly k updates before (of the first, while there are fewer)

Everything but `agent.correction` and the lag is equal: IMPALA's small preset for vectors, without memory, on CartPole,
so that rows of a window differ from those of the learner's own policy by the lag alone. A score is the mean return of
greedy episodes after the last update; `acting_score` that of the last 100 episodes that were learned from. Runs that
are in <out>.json are not repeated; it is written after each.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.timing import surroundings
from reverie import overrides
from reverie.agents.agent import Policy
from reverie.config import Config
from reverie.presets import make_config
from reverie.report.curves import COLOURS, DASHES
from reverie.report.document import write_document
from reverie.report.record import read_metrics
from reverie.run.local import Local
from reverie.run.lock import interruptible
from reverie.run.params import Follower, Params, Published, install

CORRECTIONS = ("vtrace", "one-step", "epsilon", "none")
LAGS = (0, 1, 10, 100)
SEEDS = (100, 101, 102, 103, 104)
PAPER = {
    "vtrace": [46.8, 32.9, 31.3, 229.2, 43.8],
    "one-step": [51.8, 35.9, 25.4, 215.8, 43.7],
    "epsilon": [44.2, 27.3, 4.3, 107.7, 41.5],
    "none": [40.3, 29.1, 5.0, 94.9, 16.1],
}
"""Espeholt et al. 2018, table 2, without replay: final returns on rat maze (water maze), keys and doors, laser tag with
three opponents, goals, seek and avoid of DMLab, where some hundred actors lag by themselves."""


class Behind(Follower):
    """A policy whose parameters are those of exactly so many updates before."""

    def __init__(self, policy: Policy, lag: int) -> None:
        super().__init__(policy, 1)
        self.lag, self.params = lag, Params()
        self.kept: dict[int, Published] = {}

    def follow(self, version: int, leader: Policy) -> None:
        """Keep the leader's parameters, and take over those of `lag` learner_steps before."""
        if version not in self.kept:
            if self.kept and max(self.kept) != version - 1:
                raise RuntimeError(f"no parameters of between {max(self.kept)} and {version} learner_steps were kept")
            self.params.publish(version, 0, leader)
            newest = self.params.newer(-1)
            assert newest is not None
            self.kept[version] = newest
        wanted = max(version - self.lag, 0)
        if wanted != self.version:
            install(self.kept[wanted], self.policy)
            self.version = wanted
        self.kept = {each: published for each, published in self.kept.items() if each >= wanted}


def configure(correction: str, seed: int, env_steps: int) -> Config:
    """One run. Parameters are published at each update, so that the actor has a policy of its own."""
    own = {
        "agent.correction": correction,
        "agent.core": "none",
        "agent.entropy": 0.01,
        "agent.value": 1.0,
        "agent.opt.lr": 3e-3,
        "replay.window.state": "zero",
        "run.publish_every": 1,
        "run.seed": seed,
        "run.env_steps": env_steps,
        "run.eval_every": 0,
        "run.eval_episodes": 50,
        "run.checkpoint_every": 0,
        "run.log_every": max(1, env_steps // 50),
        "run.threads": 1,
        "log.writers": [],
    }
    return overrides.apply(make_config("impala", "cpu-vectors", "CartPole-v1"), own)


def played(config: Config, lag: int) -> dict[str, Any]:
    """A run's score, its last 100 episodes' mean, and how far its second half's rows were from the learner's policy."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, interruptible() as stop:
        run_dir = Path(place) / "run"
        local = Local(config, run_dir)
        assert local.follower is not None
        local.follower = local.parts["follower"] = Behind(local.follower.policy, lag)
        local.begin()
        result = local.train(stop)
        if not result["finished"]:
            raise SystemExit("stopped; the same command goes on")
        records = read_metrics(run_dir)
    lines = [record for record in records if "train/log_ratio" in record]
    late = lines[len(lines) // 2 :]
    ended = [record["episode/score"] for record in records if record.get("episode/score") is not None]
    return {
        "score": result["eval_score"],
        "acting_score": float(np.mean(ended[-100:])),
        "parameter_age": float(np.mean([record["actor/parameter_age"] for record in late])),
        "log_ratio": float(np.mean([record["train/log_ratio"] for record in late])),
        "learner_steps": int(lines[-1]["learner_steps"]),
        "minutes": round((time.perf_counter() - began) / 60, 2),
    }


def markdown(document: Mapping[str, Any]) -> list[str]:
    """A row for each correction: medians and all seeds by lag, and the paper's returns."""
    lags = document["lags"]
    head = ["correction", *(f"{lag} updates behind" for lag in lags), "paper, five levels of DMLab"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for correction, by_lag in document["runs"].items():
        cells = [_cell(by_lag.get(str(lag), [])) for lag in lags]
        lines.append(f"| `{correction}` | {' | '.join(cells)} | {', '.join(map(str, PAPER[correction]))} |")
    return lines


def _cell(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return "not measured"
    scores = [run["score"] for run in runs]
    return f"**{np.median(scores):.0f}** ({', '.join(f'{score:.0f}' for score in scores)})"


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Scores over the lag: medians as lines, each seed as a point."""
    figure = Figure(figsize=(7, 4), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lags = document["lags"]
    for number, (correction, by_lag) in enumerate(document["runs"].items()):
        there = [(place, by_lag[str(lag)]) for place, lag in enumerate(lags) if by_lag.get(str(lag))]
        shift = 0.06 * (number - 1.5)
        colour, dash = COLOURS[number], DASHES[number % 2]
        for place, runs in there:
            axes.scatter([place + shift] * len(runs), [run["score"] for run in runs], 12, color=colour, alpha=0.5)
        medians = [float(np.median([run["score"] for run in runs])) for _, runs in there]
        axes.plot([place + shift for place, _ in there], medians, dash, color=colour, linewidth=2, label=correction)
    axes.set_xticks(range(len(lags)), [str(lag) for lag in lags])
    axes.set_xlabel("updates that actors are behind")
    axes.set_ylabel("score on CartPole-v1")
    axes.set_title(document["title"], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out)


def main() -> None:
    """Run what is missing; write after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corrections", nargs="+", choices=CORRECTIONS, default=list(CORRECTIONS))
    parser.add_argument("--lags", nargs="+", type=int, default=list(LAGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--env_steps", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("results/lag/lag"), help="path without ending")
    asked = parser.parse_args()
    file = asked.out.with_name(f"{asked.out.name}.json")
    old = json.loads(file.read_text()) if file.exists() else None
    if old is not None and old["env_steps"] != asked.env_steps:
        raise SystemExit(f"{file} is of {old['env_steps']} env_steps; name another --out")
    runs: dict[str, dict[str, list[Any]]] = old["runs"] if old is not None else {name: {} for name in CORRECTIONS}
    for seed in asked.seeds:
        for lag in asked.lags:
            for correction in asked.corrections:
                found = runs[correction].setdefault(str(lag), [])
                if any(run["seed"] == seed for run in found):
                    continue
                found.append({"seed": seed} | played(configure(correction, seed, asked.env_steps), lag))
                found.sort(key=lambda run: run["seed"])
                print(f"{correction}, {lag} behind, seed {seed}: {found[-1]['score']:.1f}", flush=True)
                document = {
                    "command": shlex.join(["python", "-m", "benchmarks.lag", *sys.argv[1:]]),
                    "title": "IMPALA with actors that lag: medians and all seeds",
                    "env": "CartPole-v1",
                    "env_steps": asked.env_steps,
                    "lags": sorted({int(each) for by_lag in runs.values() for each in by_lag}),
                    "settings": overrides.to_dict(configure("vtrace", seed, asked.env_steps)),
                    "paper": PAPER,
                    "runs": runs,
                }
                write_document(document | surroundings(), asked.out, markdown(document), draw, indent=1)
    if file.exists():
        print("\n".join(markdown(json.loads(file.read_text()))))


if __name__ == "__main__":
    main()
