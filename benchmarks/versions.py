"""Two versions of this repository that take turns, move by move: learners, acting, and the replay.

    git worktree add ../before b07a6d0
    python -m benchmarks.versions --before ../before --out results/performance/versions.json
    python -m benchmarks.versions --before ../before --what r2d2 --threads 2 --batch 16

On a shared machine seconds change within minutes by more than most changes of code do; ratios of neighbouring moves do
not. Each version is a process of its own that waits while the other works. Where a process's memory comes to lie makes
a difference too, with the very same code, so that several pairs of processes are begun. Reports all rounds, the median
ratio of each pair, and the median over pairs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.timing import write

ROOT = Path(__file__).parents[1]
BEGIN = """
import sys, tempfile, torch
from pathlib import Path
from benchmarks.timing import timed, update, make_batch
from reverie.run.allocator import keep_freed_memory
threads, batch, precision, dense = int(sys.argv[1]), int(sys.argv[2]), getattr(torch, sys.argv[3]), int(sys.argv[4])
keep_freed_memory()
torch.set_num_threads(threads)
"""
END = """
for _ in range(3):
    move()
print("ready", flush=True)
for _ in sys.stdin:
    print(*timed(move), flush=True)
"""
# Each makes `move` of what both versions have.
WHAT = {
    "r2d2": """
from benchmarks.r2d2_learner import ACTIONS, build
learner = build(torch.device("cpu"), precision, dense)
start = learner.policy.initial_state(batch)
rows = make_batch((125, batch), (84, 84, 1), ACTIONS, last=0.005, fresh=False, start=start)
move = lambda: update(learner.update, rows, "q_loss")
""",
    "dreamerv2": """
from benchmarks.learner import ACTIONS, TIME, build
learner = build(torch.device("cpu"), precision)
rows = make_batch((TIME, batch), (64, 64, 3), ACTIONS, last=0.02, fresh=True)
move = lambda: update(learner.update, rows, "model_loss")
""",
    "dreamerv2-cpu": """
from reverie.presets import make_config
from reverie.run.build import build_agent, build_learner, env_spec
config = make_config("dreamerv2", "cpu", "toy/catch")
learner = build_learner(config, build_agent(config, env_spec(config)), torch.device("cpu"))
rows = make_batch((learner.windows.length, batch), (32, 32, 1), 3, last=0.1, fresh=True)
move = lambda: update(learner.update, rows, "model_loss")
""",
    "acting": """
from benchmarks.acting import r2d2_run
folder = tempfile.TemporaryDirectory()
run = r2d2_run(batch, Path(folder.name))
def move():
    for _ in range(20):
        run.act()
""",
    "replay": """
import numpy as np
from reverie.data.replay import Replay
from reverie.data.rows import Field
from reverie.data.selectors import Prioritised
from reverie.data.sequences import Feedback, SequenceSpec
flags = {name: Field((), np.dtype(bool)) for name in ("is_first", "is_last", "is_terminal")}
spec = {"obs.image": Field((84, 84, 1), np.dtype(np.uint8)), "reward": Field((), np.dtype(np.float32)), **flags}
replay = Replay(spec, SequenceSpec(8, 16, 1, 8), batch, None, Prioritised(0.9), 0, capacity=200 * batch)
rows = {name: np.zeros((batch, *field.shape), field.dtype) for name, field in spec.items()}
first = rows | {"is_first": np.ones(batch, bool)}
replay.add(first)
for _ in range(200):
    replay.add(rows)
priorities = torch.rand(16, generator=torch.Generator().manual_seed(0))
def move():
    for _ in range(20):
        for _ in range(8):
            replay.add(rows)
        replay.feedback(Feedback(replay.sample(16).keys, priorities))
""",
}


class Worker:
    """A process that makes one move whenever it is asked to."""

    def __init__(self, tree: Path, what: str, *settings: object) -> None:
        # Idle threads must sleep: by default they spin, and take the other process's cores.
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
        words = [sys.executable, "-c", BEGIN + WHAT[what] + END, *map(str, settings)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, cwd=tree, env=environment, stdin=pipe, stdout=pipe, text=True)
        while (line := self._line()) != "ready":
            if self.process.poll() is not None or not line:
                sys.exit(f"versions.py: error: {tree} cannot be measured by what this one calls ({what})")

    def move(self) -> tuple[float, float]:
        """Seconds and processor seconds of one move."""
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


def race(trees: dict[str, Path], what: str, pairs: int, rounds: int, *settings: object) -> dict[str, Any]:
    """All rounds of one kind of move, and how many times as fast the version of now is, pair by pair of processes."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in trees}
    ratios: list[tuple[float, float]] = []
    for _ in range(pairs):
        workers = {name: Worker(tree, what, *settings) for name, tree in trees.items()}
        times = [
            {name: workers[name].move() for name in sorted(workers, reverse=bool(number % 2))}
            for number in range(rounds)
        ]
        for worker in workers.values():
            worker.process.kill()
        for name in trees:
            seconds[name].append([one[name][0] for one in times])
        clock, processor = (median(one["before"][k] / one["now"][k] for one in times) for k in (0, 1))
        ratios.append((clock, processor))
    return {
        "seconds": seconds,
        "times_as_fast": [clock for clock, _ in ratios],
        "times_as_fast_by_processor_time": [processor for _, processor in ratios],
        "times_as_fast_median": median(clock for clock, _ in ratios),
        "times_as_fast_by_processor_time_median": median(processor for _, processor in ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the other version")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--what", nargs="+", choices=list(WHAT), default=list(WHAT))
    parser.add_argument("--batch", type=int, default=8, help="windows of an update; streams of acting and replay")
    parser.add_argument("--dense", type=int, default=512, help="units between R2D2's convolutions and LSTM")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of fresh processes")
    parser.add_argument("--rounds", type=int, default=10, help="of each pair")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    trees = {"before": options.before.resolve(), "now": ROOT}
    settings = (options.threads, options.batch, options.precision, options.dense)
    document: dict[str, Any] = {
        "what": "one update of R2D2 (40 + 80 + 5 rows), of DreamerV2 (64 rows) and of its preset cpu on Catch; 20 "
        "decisions of R2D2's actor on Pong, stored; 160 additions to a prioritised replay and 20 samples of it with "
        "feedback",
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "batch": options.batch,
        "precision": options.precision,
        "dense_units": options.dense,
    }
    for what in options.what:
        document[what] = race(trees, what, options.pairs, options.rounds, *settings)
    write(document | {"threads": options.threads, "torch": torch.__version__}, options.out)


if __name__ == "__main__":
    main()
