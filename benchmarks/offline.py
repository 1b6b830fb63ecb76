"""Learning from a dataset: a run that acts, then one that learns from its rows alone, over seeds.

    python -m benchmarks.offline --agent dreamerv2 --env toy/catch --seeds 100 101 102 --out results/offline/catch

The second run has the first one's preset, length and seed, and so as many learner_steps. Scores are means of 100 greedy
episodes. Runs are in --work [runs/offline]; those that are complete are not repeated. Writes <out>.json after every
seed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np

import reverie
from benchmarks.complete import complete
from benchmarks.timing import minutes
from reverie import overrides

EPISODES = 100


def score(
    run_dir: Path, agent: str, env: str, seed: int, dataset: Path | None, words: list[str]
) -> tuple[float, float]:
    """Score of a run, made if it is not there, and the minutes that it took. words: ``key=value``."""
    settings = {"run.seed": seed, "run.threads": 1} | ({} if dataset is None else {"dataset.path": str(dataset)})
    config = overrides.apply(reverie.make_config(agent, "cpu", env), settings | overrides.parse(words))
    complete(config, run_dir)
    return float(reverie.evaluate(run_dir, episodes=EPISODES)["score"]), minutes(run_dir)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--env", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--set", nargs="*", default=[], help="key=value that both runs have beside the preset")
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        place = options.work / f"{options.agent}-{options.env.replace('/', '_')}-{seed}"
        online, spent = score(place / "online", options.agent, options.env, seed, None, options.set)
        dataset = place / "online" / "replay"
        offline, more = score(place / "offline", options.agent, options.env, seed, dataset, options.set)
        held = len(reverie.open_dataset(dataset))
        rows.append({"seed": seed, "online": online, "offline": offline, "rows": held, "minutes": [spent, more]})
        print(rows[-1], flush=True)
        spec = reverie.make_env(place / "online").spec
        document = {
            "command": shlex.join(["python", "-m", "benchmarks.offline", *_without_work(sys.argv[1:])]),
            "agent": options.agent,
            "preset": "cpu",
            "env": options.env,
            "episodes": EPISODES,
            "random_score": spec.random_score,
            "optimal_score": spec.optimal_score,
            "median": {kind: float(np.median([row[kind] for row in rows])) for kind in ("online", "offline")},
            "runs": rows,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


def _without_work(words: list[str]) -> list[str]:
    at = words.index("--work") if "--work" in words else len(words)
    return words[:at] + words[at + 2 :]


if __name__ == "__main__":
    main()
