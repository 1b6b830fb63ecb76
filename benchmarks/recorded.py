"""What runs have recorded of themselves, as small committed files: evaluations, speed and learning curve of each.

    python -m benchmarks.recorded runs/r2d2-gpu-pong --device "one H100" --out results/learning/r2d2-gpu-pong

For runs whose directory is all that is left of them, or that were long and evaluated on the way; finished or not. An
evaluation is the one that training makes, over `run.eval_episodes` episodes on fresh environments. Writes <out>.json,
.png (training episodes as lines, evaluations as points) and .md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.report.curves import COLOURS, blank_axes
from reverie.report.document import write_document
from reverie.report.record import read_metrics
from reverie.run.saved_config import load_config
from reverie.study.compare import curve


def recorded(run_dir: Path) -> dict[str, Any]:
    """One run: what it was, how far it came, how fast, and what it scored. Raises UserError if it is none."""
    config, records = load_config(run_dir), read_metrics(run_dir)
    evaluations = [
        {
            "env_steps": record["env_steps"],
            "minutes": round(record["time/elapsed_s"] / 60, 2),
            "score": record["eval/score"],
            "score_min": record["eval/score_min"],
            "score_median": record["eval/score_median"],
            "episodes": record["eval/episodes"],
        }
        for record in records
        if "eval/score" in record
    ]
    scores = [(record["frames"], record["episode/score"]) for record in records if "episode/score" in record]
    speeds = [record["speed/env_steps_per_s"] for record in records if record.get("speed/learner_steps_per_s")]
    return {
        "agent": config.name,
        "preset": config.preset,
        "env": config.env.id,
        "seed": config.run.seed,
        "env_steps": max(record["env_steps"] for record in records),
        "frames": max(record["frames"] for record in records),
        "learner_steps": max(record["learner_steps"] for record in records),
        "minutes": round(max(record["time/elapsed_s"] for record in records) / 60, 2),
        "env_steps_per_s": {
            "median": float(np.median(speeds)) if speeds else None,
            "highest": max(speeds, default=None),
            "lowest": min(speeds, default=None),
        },
        "evaluations": evaluations,
        "curve": curve(scores),
    }


def markdown(document: Mapping[str, Any]) -> list[str]:
    """A line per evaluation."""
    lines = ["| run | env_steps | minutes | score | least | median | episodes |", "|---|---|---|---|---|---|---|"]
    for name, run in document["runs"].items():
        for one in run["evaluations"]:
            numbers = f"{one['env_steps']:,} | {one['minutes']:.1f} | {one['score']:.2f} | {one['score_min']:g}"
            lines.append(f"| {name} | {numbers} | {one['score_median']:g} | {one['episodes']:g} |")
    return lines


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Scores against frames."""
    figure, axes = blank_axes()
    for number, (name, run) in enumerate(document["runs"].items()):
        colour, repeat = COLOURS[number % len(COLOURS)], run["frames"] / run["env_steps"]
        axes.plot(run["curve"]["frames"], run["curve"]["score"], color=colour, linewidth=1.5, label=name)
        at = [one["env_steps"] * repeat for one in run["evaluations"]]
        axes.plot(at, [one["score"] for one in run["evaluations"]], "o", color=colour, markersize=6)
    axes.set_xlabel("frames")
    axes.set_ylabel("score: training episodes (lines), evaluations (points)")
    axes.legend(frameon=False)
    axes.set_title(document["title"], loc="left", fontsize=10)
    figure.savefig(out)


def main() -> None:
    """Read, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories; their names become names of curves")
    parser.add_argument("--device", required=True, help="what they ran on, in words")
    parser.add_argument("--command", help="what made them [not said]")
    parser.add_argument("--note", help="what a reader should know of them")
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    asked = parser.parse_args()
    runs = {run.name: recorded(run) for run in asked.runs}
    first = next(iter(runs.values()))
    document = {
        "command": asked.command,
        "recorded": shlex.join(["python", "-m", "benchmarks.recorded", *sys.argv[1:]]),
        "device": asked.device,
        "note": asked.note,
        "title": f"{first['agent']} (preset {first['preset']}) on {first['env']}, {asked.device}",
        "runs": runs,
    }
    table = markdown(document)
    write_document(document, asked.out, table, draw)
    print("\n".join(table))


if __name__ == "__main__":
    main()
