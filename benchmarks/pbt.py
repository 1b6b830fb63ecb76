"""A population that begins with bad rates, beside the best of those members if nobody copies anybody.

    python -m benchmarks.pbt --seeds 100 101 102 103 104 --out results/learning/pbt/entropy
    python -m benchmarks.pbt --lr 1e-6 1e-4 --entropy 1e-4 1e-1 --seeds 100 101 102 --out results/learning/pbt/catch

IMPALA. Rates begin where its presets would not: entropy costs far above theirs, which keep the policy near random play
(the first command), or learning rates far below (the second). ``population``: as the package's defaults are
(tournament, 1.2 or 1 / 1.2 with probability 1/3). ``fixed``: the same members, with the same seeds and rates, for as
long, no decisions. The question is whether the best of the first ends above the best of the second, by what is
selected for (``training``: mean score of the episodes after the last decision) and by the greedy policy (``scores``).
After each run <out>/seed<seed>.json is written; what is in --work is not repeated, and goes on where it was cut off.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import reverie
from benchmarks.timing import minutes, surroundings, write
from reverie import overrides
from reverie.config import POPULATION
from reverie.report.log import read_metrics
from reverie.run.fitness import fitness
from reverie.run.population import DECISIONS, read_decisions
from reverie.run.saved_config import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--env", default="toy/catch")
    parser.add_argument("--env_steps", type=int, default=160_000, help="of each member")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--decisions", type=int, default=40)
    parser.add_argument("--lr", type=float, nargs=2, default=[3e-4, 3e-3], help="learning rates begin between these")
    parser.add_argument("--entropy", type=float, nargs=2, default=[1.0, 10.0], help="entropy costs begin between these")
    parser.add_argument("--episodes", type=int, default=100, help="of each member's last evaluation")
    parser.add_argument("--set", nargs="*", default=[], help="overrides for both")
    parser.add_argument("--work", type=Path, default=Path("runs") / "pbt")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for seed in options.seeds:
        document: dict[str, Any] = {"env": options.env, "seed": seed, "variants": {}}
        for name in ("population", "fixed"):
            document["variants"][name] = played(name, seed, options)
            print(seed, name, document["variants"][name]["training"], document["variants"][name]["scores"], flush=True)
            write(document | surroundings(), options.out / f"seed{seed}.json")


def played(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Scores of the members, where their rates began and ended, and who copied whom how often."""
    config = reverie.make_config("impala", "cpu", options.env)
    settings: dict[str, Any] = {
        "run.seed": seed,
        "run.env_steps": options.env_steps,
        "run.eval_episodes": options.episodes,
        "agent.opt.lr_over": 0.0,
        "log.writers": [],
        "population.size": options.members,
        "population.vary": {"agent.opt.lr": options.lr, "agent.entropy": options.entropy},
        "population.every": options.env_steps // options.decisions,
        # Where nothing is ever decided, members stay as they began.
        "population.burn_in": 0.05 if name == "population" else options.env_steps,
    }
    config = overrides.apply(config, settings | overrides.parse([f"--{word}" for word in options.set]))
    root = options.work / f"{name}-seed{seed}"
    if (root / POPULATION).exists():
        if load_config(root, POPULATION) != config:
            raise SystemExit(f"{root} has another configuration; name another --work")
        result = reverie.resume(root)
    else:
        result = reverie.train(config, root)
    if not result["finished"]:
        raise SystemExit(f"{root} was stopped; the same command goes on with it")
    rounds = read_decisions(root / DECISIONS, options.members)
    since_last = options.env_steps - config.population.every
    training = [
        fitness(options.env, (line for line in read_metrics(root / f"member-{n}") if line["env_steps"] > since_last), 1)
        for n in range(options.members)
    ]
    return {
        "training": training,
        "best_training": max(each for each in training if each is not None),
        "scores": result["eval_scores"],
        "best": max(result["eval_scores"]),
        "began": [dict(decision.after) for decision in rounds[0]],
        "ended": [dict(decision.after) for decision in rounds[-1]],
        "copies": sum(decision.copied_from is not None for each in rounds for decision in each),
        "fitness": [[decision.fitness for decision in each] for each in rounds[1:]],
        "minutes": minutes(*(root / f"member-{n}" for n in range(options.members))),
        "settings": settings,
    }


if __name__ == "__main__":
    main()
