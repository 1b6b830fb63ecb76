"""Catches by the column of the ball, in what a run on `toy/catch` has recorded, and in random play before it learns.

    python benchmarks/catch_columns.py --run runs/catch --out results/catch/columns.json
    python benchmarks/catch_columns.py --prefill dreamerv2 --seeds 0 1 2 --set run.prefill=800 --out columns.json

For each column: episodes in which the ball fell there, and in how many of them it was caught.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import reverie
from reverie import overrides
from reverie.envs.catch import ball_columns


def columns(run_dir: Path) -> dict[int, list[int]]:
    """Column -> episodes, catches."""
    counts: dict[int, list[int]] = {}
    cells = reverie.make_env(run_dir).spec.flags["cells"]
    for episode in reverie.open_dataset(run_dir / "replay").episodes():
        column = int(ball_columns(episode["obs.image"][0], cells))
        both = counts.setdefault(column, [0, 0])
        both[0] += 1
        both[1] += int(episode["reward"].sum() > 0)
    return dict(sorted(counts.items()))


def prefill(agent: str, seed: int, words: list[str]) -> dict[int, list[int]]:
    """The same, of the random play that the preset `cpu` begins with. words: ``key=value`` that are set beside it."""
    config = overrides.apply(reverie.make_config(agent, "cpu", "toy/catch"), overrides.parse(words))
    only = {"run.env_steps": config.run.prefill + config.env.num_envs, "run.pretrain": 0, "run.train_ratio": 1e-6}
    config = overrides.apply(config, {**only, "run.seed": seed, "run.eval_episodes": 0, "run.threads": 1})
    with tempfile.TemporaryDirectory() as folder:
        reverie.train(config, Path(folder) / "run")
        return columns(Path(folder) / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--prefill", metavar="AGENT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="of --prefill: key=value")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    words = ["runs/catch" if word == str(options.run) else word for word in sys.argv[1:]]
    document: dict[str, Any] = {"command": shlex.join(["python", "benchmarks/catch_columns.py", *words])}
    document["of each column"] = "episodes, catches"
    if options.run:
        document["columns"] = columns(options.run)
    else:
        document["seeds"] = {seed: prefill(options.prefill, seed, options.set) for seed in options.seeds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
