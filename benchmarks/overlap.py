"""Acting beside learning against taking turns: env_steps/s of whole runs, in turns on one machine.

    python -m benchmarks.overlap --out results/performance/overlap.json

Each workload is trained twice, with ``run.overlap`` 0 and 1, in this process, with one torch thread: a stretch of
env_steps of the one, the same stretch of the other, and so on. ``cpu_s_per_env_step`` is processor time of the whole
process: what overlapping adds in work, where it saves waiting.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.timing import surroundings, write
from reverie import overrides
from reverie.presets import make_config
from reverie.run.local import Local
from reverie.run.lock import Stop
from reverie.run.overlapped import Overlapped
from reverie.run.train import beside

WORKLOADS: dict[str, tuple[str, str, str, dict[str, Any], int]] = {
    "impala Pong": ("impala", "cpu-pixels", "ALE/Pong-v5", {}, 4000),
    "dqn Pong": ("dqn", "atari", "ALE/Pong-v5", {"run.prefill": 500, "replay.store.budget": 100_000_000}, 400),
    "r2d2 Pong": ("r2d2", "cpu-pixels", "ALE/Pong-v5", {"run.prefill": 2000}, 800),
    "dreamerv2 Catch": ("dreamerv2", "cpu", "toy/catch", {"run.prefill": 500}, 400),
}
"""Name -> agent, preset, environment, settings, env_steps of a stretch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7, help="and one before, which does not count")
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS))
    options = parser.parse_args()
    document: dict[str, Any] = {"rounds": options.rounds, "workloads": {}}
    for name in options.only:
        document["workloads"][name] = measured(name, options.rounds)
        print(name, document["workloads"][name]["ratio"], flush=True)
        write(document | surroundings(), options.out)


def measured(name: str, rounds: int) -> dict[str, Any]:
    """env_steps/s of both kinds of run, stretch by stretch, and their ratios."""
    agent, preset, env, settings, stretch = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs = {}
        for overlap in (0, 1):
            own = {"run.threads": 1, "run.overlap": overlap, "run.checkpoint_every": 0, "log.writers": []}
            config = overrides.apply(make_config(agent, preset, env), settings | own)
            run = beside(config)(config, Path(folder) / str(overlap))
            assert isinstance(run, Local)
            stack.enter_context(run.run.heeding(Stop()))
            run.start()
            while not run.run.clock.learner_steps:
                step(run)
            settle(run)
            runs[overlap] = run
        each: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
        for _ in range(rounds + 1):
            for overlap, run in runs.items():
                each[overlap].append(timed(run, stretch))
        for run in runs.values():
            run.end()
            run.close()
    speeds = {overlap: [stretch / wall for wall, _ in times[1:]] for overlap, times in each.items()}
    ratios = [beside / turns for turns, beside in zip(speeds[0], speeds[1], strict=True)]
    return {
        "settings": settings,
        "preset": preset,
        "env_steps_per_stretch": stretch,
        "env_steps_per_s": {"in turns": speeds[0], "beside": speeds[1]},
        "cpu_s_per_env_step": {
            word: statistics.median(cpu for _, cpu in each[overlap][1:]) / stretch
            for overlap, word in ((0, "in turns"), (1, "beside"))
        },
        "ratio": {"median": statistics.median(ratios), "each": ratios},
    }


def step(run: Local) -> None:
    """One round of a runner, without logs and checkpoints."""
    run.act()
    run.learn()
    run.run.tick()


def settle(run: Local) -> None:
    """Wait for updates under way."""
    if isinstance(run, Overlapped):
        run.settle()


def timed(run: Local, env_steps: int) -> tuple[float, float]:
    """Seconds by the wall and of processor time for so many env_steps."""
    until, wall, cpu = run.run.clock.env_steps + env_steps, time.perf_counter(), time.process_time()
    while run.run.clock.env_steps < until:
        step(run)
    settle(run)
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
