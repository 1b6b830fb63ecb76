"""Tasks that are revealed after exploring: what is learned from an explorer's rows, beside acting for the task.

    python -m benchmarks.explore --seeds 100 101 102 --work runs/explore --out results/explore/maze
    python -m benchmarks.later_tasks --seeds 100 101 102 --explored runs/explore --out results/explore/later

A task is a goal in `toy/maze` that none of the explorer's rows were paid for (its own was the last place). For each
seed and goal DreamerV2, preset `cpu`, learns from the rows of that seed's explorer, played again where the goal pays
(`dataset.rewards played`), without acting; and once more online, acting in the task, with as many env_steps and
learner_steps. Scores are means of greedy episodes; ``share`` of all pairs is the first one's score over the
second's, or over random play's where that is more.
Runs are in --work [runs/later]; those that are complete are not repeated. Writes <out>.json after every pair.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import reverie
from benchmarks.complete import complete
from benchmarks.timing import minutes
from reverie import overrides
from reverie.run.saved_config import load_config

AGENT, ENV, EPISODES = "dreamerv2", "toy/maze", 20
OFFLINE, ONLINE = "from the explorer's rows", "online"


def learned(run_dir: Path, seed: int, goal: int, env_steps: int, rows: Path | None) -> dict[str, float]:
    """Score of a run and the minutes that it took. rows: of the explorer; None: it acts itself."""
    settings: dict[str, Any] = {"run.seed": seed, "run.threads": 1, "run.env_steps": env_steps}
    settings |= {} if rows is None else {"dataset.path": str(rows), "dataset.rewards": "played"}
    complete(overrides.apply(reverie.make_config(AGENT, "cpu", ENV, options={"goal": goal}), settings), run_dir)
    return {"score": float(reverie.evaluate(run_dir, episodes=EPISODES)["score"]), "minutes": minutes(run_dir)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--goals", type=int, nargs="+", default=[8, 14])
    parser.add_argument("--explored", type=Path, default=Path("runs/explore"), help="--work of benchmarks/explore.py")
    parser.add_argument("--work", type=Path, default=Path("runs/later"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        explorer = options.explored / f"maze-{seed}"
        env_steps = load_config(explorer).run.env_steps
        assert env_steps is not None
        for goal in options.goals:
            spec = reverie.make_env(ENV, goal=goal).spec
            row: dict[str, Any] = {"seed": seed, "goal": goal, "random": spec.random_score, "best": spec.optimal_score}
            for kind, rows in ((OFFLINE, explorer / "replay"), (ONLINE, None)):
                run_dir = options.work / f"{kind.split()[0]}-{goal}-{seed}"
                row[kind] = learned(run_dir, seed, goal, env_steps, rows)
            runs.append(row)
            print(json.dumps(row), flush=True)
            document = {
                "command": shlex.join(["python", "-m", "benchmarks.later_tasks", *sys.argv[1:]]),
                "env": ENV,
                "agent": AGENT,
                "preset": "cpu",
                "episodes": EPISODES,
                "share": [round(run[OFFLINE]["score"] / max(run[ONLINE]["score"], run["random"]), 3) for run in runs],
                "runs": runs,
            }
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
