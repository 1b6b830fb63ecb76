"""Learning runs over seeds and variants, as committed evidence.

    python benchmarks/learning.py --env toy/catch --seeds 0 1 2 --out results/learning/catch
    python benchmarks/learning.py --env toy/catch --seeds 0 1 2 --out results/ablations/latents \\
        --variant categorical --variant "gaussian agent.rssm.latent=gaussian"

Each run is `reverie train` followed by `reverie eval` (mode of the policy, 100 fresh episodes). Runs that are complete
under --work are not repeated, so an interrupted call goes on. `--jobs` runs at a time share the cores. Writes
<out>.json (all seeds, medians, minutes, curves) and <out>.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from reverie.report.log import read_metrics

POINTS = 60
"""of a curve in the JSON"""


def command(options: argparse.Namespace, words: list[str], seed: int, run_dir: Path) -> list[str]:
    """The `reverie train` command of one run."""
    base = [sys.executable, "-m", "reverie.cli", "train", options.agent, "--preset", options.preset]
    base += ["--env", options.env, "--seed", str(seed), "--logdir", str(run_dir)]
    return [*base, f"run.threads={options.threads}", *options.set, *words]


def run(options: argparse.Namespace, name: str, words: list[str], seed: int) -> dict[str, Any]:
    """Train and evaluate one seed of one variant, or read what is there."""
    run_dir = options.work / f"{name}-{seed}"
    log = options.work / f"{name}-{seed}.log"
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    if not (run_dir / "evaluation.json").exists():
        with log.open("a") as out:
            subprocess.run(command(options, words, seed, run_dir), check=True, stdout=out, stderr=out, env=environment)
            play = [sys.executable, "-m", "reverie.cli", "eval", str(run_dir), "--episodes", str(options.episodes)]
            subprocess.run(play, check=True, stdout=out, stderr=out, env=environment)
    evaluation = json.loads((run_dir / "evaluation.json").read_text())
    records = read_metrics(run_dir)
    minutes = max(record["time/elapsed_s"] for record in records) / 60
    scores = [(r["frames"], r["episode/score"]) for r in records if "episode/score" in r]
    print(f"{name} seed {seed}: {evaluation['score']:.3f} after {minutes:.1f} minutes", flush=True)
    return {
        "seed": seed,
        "score": evaluation["score"],
        "score_std": evaluation["score_std"],
        "minutes": round(minutes, 2),
        "env_steps": evaluation["env_steps"],
        "learner_steps": max(r["learner_steps"] for r in records),
        "curve": curve(scores),
    }


def curve(scores: list[tuple[float, float]]) -> dict[str, list[float]]:
    """Mean episode score in POINTS equal parts of the run."""
    frames, values = np.array(scores).T
    edges = np.linspace(0, frames[-1], POINTS + 1)
    parts = [values[(frames > a) & (frames <= b)] for a, b in pairwise(edges)]
    kept = [(float(b), float(p.mean())) for b, p in zip(edges[1:], parts, strict=True) if len(p)]
    return {"frames": [round(f, 1) for f, _ in kept], "score": [round(s, 4) for _, s in kept]}


def draw(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Every seed thin, the median of the seeds thick, one colour per variant."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for index, (name, runs) in enumerate(results.items()):
        color = f"C{index}"
        for one in runs:
            axes.plot(one["curve"]["frames"], one["curve"]["score"], color=color, alpha=0.3, linewidth=0.8)
        grid = np.linspace(0, min(r["curve"]["frames"][-1] for r in runs), POINTS)
        median = np.median([np.interp(grid, r["curve"]["frames"], r["curve"]["score"]) for r in runs], axis=0)
        axes.plot(grid, median, color=color, linewidth=2, label=name)
    axes.set(
        xlabel="frames", ylabel="episode score", title=f"{options.agent} on {options.env}, preset {options.preset}"
    )
    axes.spines[["top", "right"]].set_visible(False)
    if len(results) > 1:
        axes.legend(frameon=False)
    figure.savefig(options.out.with_suffix(".png"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="dreamerv2")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--env", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variant", action="append", default=[], help="name followed by overrides key=value")
    parser.add_argument("--set", nargs="*", default=[], help="overrides for all variants")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.work = options.work or Path("runs") / "evidence" / options.out.name
    options.work.mkdir(parents=True, exist_ok=True)
    variants = {words[0]: words[1:] for words in map(shlex.split, options.variant or [options.agent])}
    jobs = [(name, words, seed) for seed in options.seeds for name, words in variants.items()]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda job: run(options, *job), jobs))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for (name, _, _), result in zip(jobs, done, strict=True):
        results[name].append(result)
    document = {
        "command": shlex.join(["python", *sys.argv]),
        "env": options.env,
        "preset": options.preset,
        "overrides": options.set,
        "variants": variants,
        "episodes": options.episodes,
        "jobs_at_a_time": options.jobs,
        "threads_each": options.threads,
        "machine": f"{os.cpu_count()} x {platform.machine()}",
        "median_score": {name: float(np.median([r["score"] for r in runs])) for name, runs in results.items()},
        "median_minutes": {name: float(np.median([r["minutes"] for r in runs])) for name, runs in results.items()},
        "runs": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    draw(results, options)
    for name, runs in results.items():
        print(f"{name}: {[round(r['score'], 3) for r in runs]}, minutes {[r['minutes'] for r in runs]}")


if __name__ == "__main__":
    main()
