"""Catch that flickers: what memory is worth when a row shows nothing with probability p.

    python benchmarks/flicker.py            # DQN, DQN on 4 stacked frames, DRQN and R2D2; 3 values of p, 3 seeds

One `reverie compare` for each p on toy/catch with 11 x 11 cells, its run directories and tables in --work, then one
figure of all evaluation scores against p. Two policies that are known exactly are drawn beside them: the best with
memory, and one that moves towards the ball when it sees it and waits when it does not. What is complete in --work is
not repeated. Writes <out>.json, .png and .md.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie.report.curves import COLOURS, GRAY, Y_LABELS, blank_axes
from reverie.report.document import write_document
from reverie.study.compare import Comparison, Variant, compare

CELLS, ENV_STEPS, PREFILL, TRAIN_RATIO, ROWS = 11, 160_000, 1600, 10, 320
COMMON = (
    "agent.n_step=3",
    "agent.target_every=50",
    "agent.opt.lr=2e-3",
    "agent.torso.standardise=true",
    "env.num_envs=32",
    f"run.prefill={PREFILL}",
    f"run.train_ratio={TRAIN_RATIO}",
)
FALLING = ("agent.explore.over=30000",)
FRAMES = ("agent.hidden=128", f"replay.batch={ROWS}")
MEMORY = (
    "agent.torso.dense=0",
    "agent.units=128",
    "replay.window.context=0",
    "replay.window.learn=10",
    f"replay.batch={ROWS // 10}",
)
EPISODES = ("agent.feed=true", "agent.whole_episodes=true", "replay.selector=episodes")
VARIANTS = {
    "dqn": ("dqn", *COMMON, *FALLING, *FRAMES),
    "dqn-stack-4": ("dqn", *COMMON, *FALLING, *FRAMES, "agent.stack=4"),
    "drqn": ("drqn", *COMMON, *FALLING, *MEMORY, *EPISODES),
    "r2d2": ("r2d2", *COMMON, *MEMORY, "replay.window.period=5"),
}
"""All train as many rows in as many updates of `ROWS` rows; learning rates fall to 0 over the run."""


def settings(name: str, env_steps: int) -> tuple[str, ...]:
    """Overrides of a variant for a run of that length."""
    updates = int((env_steps - PREFILL) * TRAIN_RATIO / ROWS)
    return (*VARIANTS[name][1:], f"agent.opt.lr_over={updates}")


def watching(cells: int, p: float) -> float:
    """Mean return of moving one cell towards the ball on rows that show it, and waiting on those that do not.

    A ball d columns away (d = 0, or two columns each for d = 1 .. (c - 1) / 2) is caught if at least d of the c - 1
    rows before the last show it. cells: odd. p: probability that a row shows nothing.
    """
    rows = cells - 1

    def shown(d: int) -> float:
        return sum(math.comb(rows, k) * (1.0 - p) ** k * p ** (rows - k) for k in range(d, rows + 1))

    return 2.0 / cells * (1.0 + 2.0 * sum(shown(d) for d in range(1, rows // 2 + 1))) - 1.0


def remembering(cells: int, p: float) -> float:
    """Best mean return with memory: wait until the ball has been seen, then go; d columns away it must show in time.

    That is in one of c - d rows. cells: odd. p: probability that a row shows nothing.
    """
    in_time = sum(1.0 - p ** (cells - d) for d in range(1, cells // 2 + 1))
    return 2.0 / cells * (1.0 + 2.0 * in_time) - 1.0


def run(p: float, asked: argparse.Namespace) -> dict[str, Any]:
    """The comparison at one p."""
    options = json.dumps({"cells": CELLS, "size": CELLS, "flicker": p})
    work = asked.work / f"p-{p:g}"
    request = Comparison(
        env="toy/catch",
        variants=tuple(Variant(name, VARIANTS[name][0], settings(name, asked.env_steps)) for name in asked.variants),
        seeds=tuple(asked.seeds),
        work=work / "runs",
        out=work / "comparison",
        preset="cpu",
        frames=asked.env_steps,  # of Catch, which repeats no action
        overrides=(f"env.options={options}", "run.checkpoint_every=0"),
        episodes=asked.episodes,
        jobs=asked.jobs,
        command=shlex.join(sys.argv),
    )
    return compare(request)


def markdown(document: Mapping[str, Any]) -> list[str]:
    """A line per variant and one per known policy, a column per p; mean over seeds, then each seed."""
    places = [f"{p:g}" for p in document["p"]]
    lines = [f"| score | {' | '.join(f'p = {p}' for p in places)} |", f"|{'---|' * (len(places) + 1)}"]
    for name, found in document["scores"].items():
        cells = [f"{_mean(found[p]):.2f} ({', '.join(f'{score:.2f}' for score in found[p])})" for p in places]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    for name, values in document["known"].items():
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Score against p: means as lines, each seed as a mark."""
    figure, axes = blank_axes()
    p, many = document["p"], len(document["scores"])
    width = 0.012 * (max(p) - min(p) or 1.0)
    for number, (name, found) in enumerate(document["scores"].items()):
        colour, shift = COLOURS[number], width * (number - (many - 1) / 2)
        places = [place + shift for place in p]
        scores = [found[f"{place:g}"] for place in p]
        axes.plot(places, [_mean(each) for each in scores], color=colour, linewidth=2, label=name)
        for place, each in zip(places, scores, strict=True):
            axes.plot([place] * len(each), each, "o", color=colour, markersize=4, alpha=0.6)
    for name, dash in zip(document["known"], ((0, (5, 4)), (0, (1, 2))), strict=True):
        axes.plot(p, document["known"][name], color=GRAY, linewidth=1.2, linestyle=dash, label=name)
    axes.set_xlabel("p: probability that a row shows nothing")
    axes.set_ylabel(Y_LABELS["eval/score"])
    axes.set_xticks(p)
    axes.legend(frameon=False)
    axes.set_title(document["title"], loc="left", fontsize=10)
    figure.savefig(out)


def main() -> None:
    """Run what is missing, sum up, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--p", nargs="+", type=float, default=[0.0, 0.5, 0.8])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--env-steps", type=int, default=ENV_STEPS, help="of each run")
    parser.add_argument("--episodes", type=int, default=200, help="of each evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--work", type=Path, default=Path("runs/flicker"))
    parser.add_argument("--out", type=Path, default=Path("results/flicker/catch"), help="path without ending")
    asked = parser.parse_args()
    found = {f"{p:g}": run(p, asked) for p in asked.p}
    document = {
        "command": shlex.join(["python", "benchmarks/flicker.py", *sys.argv[1:]]),
        "title": f"toy/catch, {CELLS} x {CELLS} cells, flickering; {len(asked.seeds)} seeds",
        "p": asked.p,
        "env_steps": asked.env_steps,
        "episodes": asked.episodes,
        "variants": {name: [VARIANTS[name][0], *settings(name, asked.env_steps)] for name in asked.variants},
        "scores": {
            name: {p: [run["score"] for run in each["runs"][name]] for p, each in found.items()}
            for name in asked.variants
        },
        "known": {
            "best with memory": [remembering(CELLS, p) for p in asked.p],
            "moves when it sees the ball": [watching(CELLS, p) for p in asked.p],
        },
        "comparisons": found,
    }
    table = markdown(document)
    write_document(document, asked.out, table, draw)
    print("\n".join(table))


if __name__ == "__main__":
    main()
