"""How much of a sparse maze is found: Plan2Explore beside random play, over seeds.

    python -m benchmarks.explore --seeds 100 101 102 103 104 --out results/explore/maze

Plan2Explore runs with its preset `cpu` on `toy/maze` (its reward is never met at random); random play has as many
streams, env_steps and the same seeds of its episodes. At each of ten times: the share of all places that were visited
so far, and the share of the rows that are beyond the middle of the corridor. At the end: the score of the task's
behaviour, which has never acted in training. Runs are in --work [runs/explore]; those that are complete are not
repeated. Writes <out>.json and a picture of it, <out>.png, after every seed. Further words are settings:
--env.options.cells 5.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from benchmarks.complete import complete
from benchmarks.timing import minutes
from reverie.envs.maze import Maze
from reverie.report.curves import COLOURS, blank_axes
from reverie.run.configure import configure

ENV, TIMES, EPISODES = "toy/maze", 10, 20
KINDS = {"plan2explore": "Plan2Explore", "random": "random play"}


def curve(places: np.ndarray, count: int) -> dict[str, list[float]]:
    """Shares by time. places: int64 [rows], in the order of acting; count: of all places."""
    parts = np.array_split(places, TIMES)
    found = [len(np.unique(np.concatenate(parts[: i + 1]))) / count for i in range(TIMES)]
    return {"coverage": found, "far": [float((part > count // 2).mean()) for part in parts]}


def explored(run_dir: Path, maze: Maze) -> np.ndarray:
    """Places of all rows of a run, in the order of acting, stream beside stream."""
    dataset = reverie.open_dataset(run_dir / "replay")
    streams = []
    for stream in dataset.streams:
        streams.append(np.concatenate([maze.places(c.rows["obs.image"]) for c in dataset.chunks(stream)]))
    least = min(map(len, streams))
    return np.stack([stream[:least] for stream in streams], -1).flatten()


def at_random(seed: int, env_steps: int, streams: int, maze: Maze, options: Mapping[str, Any]) -> np.ndarray:
    """Places of all rows of uniformly random play, in the order of acting."""
    env, generator = reverie.make_env(ENV, num_envs=streams, **options), np.random.default_rng(seed)
    rows, places = env.reset(seed), []
    for _ in range(env_steps // streams):
        places.append(maze.places(rows["obs.image"]))
        step = env.step(generator.integers(4, size=streams))
        rows = step.rows
        if step.ends is not None:  # rows of the run that it explores have the last of each episode too
            places.append(maze.places(step.ends["obs.image"]))
    return np.concatenate(places)


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Places found so far against env_steps: each seed thin, their medians thick."""
    figure, axes = blank_axes()
    times = np.linspace(0, document["env_steps"], TIMES + 1)[1:]
    for colour, (kind, name) in zip(COLOURS, KINDS.items(), strict=False):
        each = np.array([run[kind]["coverage"] for run in document["runs"]])
        axes.plot(times, each.T, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(times, np.median(each, 0), color=colour, linewidth=2, label=name)
    axes.set_xlabel("env_steps")
    axes.set_ylabel(f"share of the {document['places']} places that were visited")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(f"{document['env']}: {len(document['runs'])} seeds and their median", loc="left", fontsize=10)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--env_steps", type=int, default=40_000)
    parser.add_argument("--work", type=Path, default=Path("runs/explore"))
    parser.add_argument("--out", type=Path, required=True)
    options, words = parser.parse_known_args()
    rows = []
    for seed in options.seeds:
        run_dir = options.work / f"maze-{seed}"
        given = {"seed": str(seed), "env_steps": str(options.env_steps)}
        config = configure("plan2explore", "cpu", ENV, ["--run.threads", "1", *words], given)
        maze = Maze(**config.env.options)
        complete(config, run_dir)
        explorer = curve(explored(run_dir, maze), len(maze.path))
        play = at_random(seed, options.env_steps, config.env.num_envs, maze, config.env.options)
        score = float(reverie.evaluate(run_dir, episodes=EPISODES)["score"])
        row = {"seed": seed, "plan2explore": explorer, "random": curve(play, len(maze.path))}
        rows.append({**row, "task_score": score, "minutes": minutes(run_dir)})
        print(json.dumps(rows[-1]), flush=True)
        document = {
            "command": shlex.join(["python", "-m", "benchmarks.explore", *sys.argv[1:]]),
            "env": ENV,
            "options": dict(config.env.options),
            "places": len(maze.path),
            "env_steps": options.env_steps,
            "random_score": maze.random_score,
            "optimal_score": maze.optimal_score,
            "found": {kind: [row[kind]["coverage"][-1] for row in rows] for kind in KINDS},
            "runs": rows,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
        draw(document, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
