"""R2D2's update at the published sizes in two versions of this repository that take turns, update by update.

    git worktree add ../before ad37cff
    python -m benchmarks.versions --before ../before --threads 2 --out results/performance/r2d2_learner_versions.json

On a shared machine seconds change within minutes by more than most changes of code do; ratios of neighbouring updates
do not. Each version is a process of its own that waits while the other works. Reports all rounds and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

from benchmarks.timing import write

ROOT = Path(__file__).parents[1]
# Calls only what both versions have, or either; a learner's windows were called its spec once.
WORKER = """
import sys, torch
from benchmarks.r2d2_learner import ACTIONS, build
from benchmarks.timing import make_batch, timed, update
from reverie.run.allocator import keep_freed_memory

threads, precision, batch, dense = sys.argv[1:]
keep_freed_memory()
torch.set_num_threads(int(threads))
learner = build(torch.device("cpu"), getattr(torch, precision), int(dense))
start = learner.policy.initial_state(int(batch))
windows = learner.windows if hasattr(learner, "windows") else learner.spec
shape = (windows.length, int(batch))
rows = make_batch(shape, (84, 84, 1), ACTIONS, last=0.005, fresh=False, start=start)
for _ in range(3):
    update(learner.update, rows, "q_loss")
print("ready", flush=True)
for _ in sys.stdin:
    print(*timed(lambda: update(learner.update, rows, "q_loss")), flush=True)
"""


class Worker:
    """A process that makes one update whenever it is asked to."""

    def __init__(self, tree: Path, *settings: object) -> None:
        # Idle threads must sleep: by default they spin, and take the other process's cores.
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
        words = [sys.executable, "-c", WORKER, *map(str, settings)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, cwd=tree, env=environment, stdin=pipe, stdout=pipe, text=True)
        if self._line() != "ready":
            sys.exit(f"versions.py: error: {tree} has no benchmarks.r2d2_learner that this one can call")

    def update(self) -> tuple[float, float]:
        """Seconds and processor seconds of one update."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, processor = map(float, self._line().split())
        return seconds, processor

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def commit(tree: Path) -> str:
    """The commit that is checked out there."""
    words = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the other version")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dense", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    trees = {"before": options.before.resolve(), "now": ROOT}
    document = {
        "what": f"R2D2 learner update, {options.batch} x (40 + 80 + 5) rows, two versions in turns",
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "dense_units": options.dense,
    }
    for precision in options.precisions:
        settings = (options.threads, precision, options.batch, options.dense)
        workers = {name: Worker(tree, *settings) for name, tree in trees.items()}
        rounds: list[dict[str, tuple[float, float]]] = []
        for number in range(options.rounds):
            rounds.append({name: workers[name].update() for name in sorted(workers, reverse=bool(number % 2))})
        for worker in workers.values():
            worker.process.kill()
        document[precision] = {
            "seconds": {name: [one[name][0] for one in rounds] for name in trees},
            "times_as_fast_median": median(one["before"][0] / one["now"][0] for one in rounds),
            "times_as_fast_by_processor_time_median": median(one["before"][1] / one["now"][1] for one in rounds),
        }
    write(document | {"threads": options.threads, "torch": torch.__version__}, options.out)


if __name__ == "__main__":
    main()
