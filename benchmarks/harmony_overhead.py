"""What balancers add to DreamerV2's learner update: updates of parent and child in turn, on one batch.

    python -m benchmarks.harmony_overhead --out results/performance/harmony_overhead.json

Networks as in `benchmarks.learner`, few rows: what a balancer does hardly depends on their number, so its share of an
update at full size is smaller. In every round a balancer and its parent (fixed weights) make two updates each in the
order A B B A; a round's ratio is that of the sums. Reported: the median of the ratios with a 95 % bootstrap interval
over rounds, of the process's processor time (which other processes touch least) and of wall clock. The parent is
compared with a second copy of itself too (``fixed``): what that shows is noise.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.learner import ACTIONS, build
from benchmarks.timing import make_batch, surroundings, timed, update, write
from reverie.agents.dreamerv2 import DreamerV2Learner
from reverie.data.sequences import Batch
from reverie.nets.balance import BalanceKind
from reverie.run.allocator import keep_freed_memory

KINDS: tuple[BalanceKind, ...] = ("harmony", "fixed", "harmony-unrectified", "harmony-closed", "uw", "dwa", "nashmtl")


def ratios(
    parent: DreamerV2Learner, child: DreamerV2Learner, batch: Batch, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """child / parent of (wall clock, processor) seconds, [rounds, 2], and the parent's seconds per update, [2]."""
    found, base = [], []
    for _ in range(rounds):
        times = [timed(partial(update, agent.update, batch, "model_loss")) for agent in (parent, child, child, parent)]
        seconds = np.array(times)
        found.append((seconds[1] + seconds[2]) / (seconds[0] + seconds[3]))
        base.append((seconds[0] + seconds[3]) / 2)
    return np.array(found), np.median(base, 0)


def interval(values: np.ndarray) -> dict[str, Any]:
    """Median with its 95 % percentile bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(np.median(drawn, 1), [2.5, 97.5])
    return {"median": float(np.median(values)), "interval": [float(low), float(high)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--rows", type=int, nargs=2, default=(8, 4), metavar=("TIME", "BATCH"))
    parser.add_argument("--kinds", nargs="+", choices=get_args(BalanceKind), default=KINDS)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    batch = make_batch(tuple(options.rows), (64, 64, 3), ACTIONS, last=0.02, fresh=True)
    results: dict[str, Any] = {}
    time, width = options.rows
    parent = build(cpu, torch.float32, learn=time)
    for kind in options.kinds:
        child = build(cpu, torch.float32, balance=kind, learn=time)
        ratios(parent, child, batch, 1)  # first updates make the optimisers' states
        found, base = ratios(parent, child, batch, options.rounds)
        results[kind] = {
            "processor_ratio": interval(found[:, 1]),
            "wall_ratio": interval(found[:, 0]),
            "parent_seconds": {"wall": float(base[0]), "processor": float(base[1])},
            "processor_ratios": [round(float(x), 4) for x in found[:, 1]],
        }
    document = {
        "what": f"update time with a balancer over that with fixed weights; {width} x {time} rows of 64x64x3",
        "order": "parent child child parent",
        "rounds": options.rounds,
        "kinds": results,
    }
    write(document | surroundings(), options.out)


if __name__ == "__main__":
    main()
