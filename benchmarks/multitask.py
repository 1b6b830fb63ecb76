"""One network on two tasks whose rewards differ a hundredfold, with PopArt and without, beside each task alone.

    python -m benchmarks.multitask --seeds 100 101 102 103 104 --out results/learning/multitask

Catch from pixels, and the same for a hundred times the reward: what is seen tells nothing about which it is, and what
is to be done is the same. PopArt's step is 0.01: with the published 3e-4 its statistics need a hundred updates of a run
that has a thousand, in which errors of a hundred lead the network astray. Of both together twice the env_steps are
made, so that each is played as much as alone. Scores are in units of what a catch pays, 1 is the best, -0.75 random
play. After each run <out>/seed<seed>.json is written; runs that are complete in --work are not repeated, those that
were cut off go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import reverie
from benchmarks.timing import minutes, surroundings, write
from reverie import overrides
from reverie.envs.catch import Catch
from reverie.envs.tasks import label
from reverie.report.record import read_metrics
from reverie.run.saved_config import load_config

TASKS = {"toy/catch": 1.0, "benchmarks.multitask:Hundred": 100.0}
"""Environment -> what a catch pays."""
BOTH = ",".join(TASKS)
VARIANTS: dict[str, tuple[str, bool]] = {
    "both with PopArt": (BOTH, True),
    "both without": (BOTH, False),
    **{
        f"{id.rpartition(':')[2]} alone {'with PopArt' if popart else 'without'}": (id, popart)
        for id in TASKS
        for popart in (True, False)
    },
}


class Hundred(Catch):
    """Catch for a hundred times as much."""

    def _reward(self, over: bool) -> float:
        return 100.0 * super()._reward(over)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--env_steps", type=int, default=80_000, help="of each task")
    parser.add_argument("--episodes", type=int, default=100, help="of each task, in each evaluation")
    parser.add_argument("--evaluations", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--set", nargs="*", default=[], help="overrides for all variants")
    parser.add_argument("--work", type=Path, default=Path("runs") / "multitask")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for seed in options.seeds:
        document: dict[str, Any] = {"seed": seed, "pays": TASKS, "env_steps_of_each": options.env_steps, "variants": {}}
        for name in options.only:
            document["variants"][name] = played(name, seed, options)
            print(seed, name, document["variants"][name]["scores"], flush=True)
            write(document | surroundings(), options.out / f"seed{seed}.json")


def played(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The scores of a variant's run, by task and in units of what a catch pays, and those on the way."""
    id, popart = VARIANTS[name]
    tasks = id.split(",")
    config = reverie.make_config("impala", "cpu", id)
    total = options.env_steps * len(tasks)
    settings = {
        "agent.popart": popart,
        "agent.popart_step": 0.01,
        "run.seed": seed,
        "run.env_steps": total,
        "run.eval_every": total // options.evaluations,
        "run.eval_episodes": options.episodes,
        "run.checkpoint_every": total // 8,
        "log.writers": [],
    }
    config = overrides.apply(config, settings | overrides.parse([f"--{word}" for word in options.set]))
    run_dir = options.work / f"{label(name)}-seed{seed}"
    if (run_dir / "config.json").exists():
        if load_config(run_dir) != config:
            raise SystemExit(f"{run_dir} has another configuration; name another --work")
        result = reverie.resume(run_dir)
    else:
        result = reverie.train(config, run_dir)
    if not result["finished"]:
        raise SystemExit(f"{run_dir} was stopped; the same command goes on with it")
    return {
        "scores": {task: score / TASKS[task] for task, score in by_task(result, tasks).items()},
        "on_the_way": [
            {"env_steps": line["env_steps"]}
            | {task: score / TASKS[task] for task, score in by_task(line, tasks).items()}
            for line in read_metrics(run_dir)
            if "eval/score" in line
        ],
        "minutes": minutes(run_dir),
        "settings": settings,
    }


def by_task(told: Any, tasks: list[str]) -> dict[str, float]:
    """Mean scores of an evaluation, of a run's summary or of a line of its log."""
    if len(tasks) == 1:
        return {tasks[0]: told["eval_score"] if "eval_score" in told else told["eval/score"]}
    if "eval_tasks" in told:
        return dict(told["eval_tasks"])
    return {task: told[f"task/{label(task)}/eval_score"] for task in tasks}


if __name__ == "__main__":
    main()
