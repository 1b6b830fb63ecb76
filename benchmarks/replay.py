"""Speed of the sequence replay, beside the speed at which this machine can copy the same bytes at all.

    python -m benchmarks.replay --out results/speed/replay.json

Sampling: batches of 64 windows of 120 rows of 84 x 84 uint8 out of --rows stored rows, uniform and prioritised (with
the priorities of every batch written back and the tree brought up to date). Inserting: one row for each of 64 streams
per call, into rings that have been full once (`steady`) and into fresh memory (`cold`, where every page is touched
for the first time). Each figure is given as best and median of its rounds (rows or sequences per second) and as the
median of its ratios to a floor measured in turn with it, because a shared machine is not the same from one moment to
the next. A batch is 54 MB, so cores that others use slow the copy itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.data.replay import Replay
from reverie.data.rows import Field, RowSpec
from reverie.data.selectors import Prioritised, Selector, Uniform
from reverie.data.sequences import Feedback, SequenceSpec

STREAMS, BATCH = 64, 64
SEQUENCE = SequenceSpec(context=40, learn=75, lookahead=5, period=40)
GOALS = {"uniform": 7000.0, "prioritised": 6900.0, "insert": 427_000.0}


def spec(image: bool) -> RowSpec:
    """Rows of an Atari agent, with the image or with a vector of four numbers."""
    observation = Field((84, 84), np.dtype(np.uint8)) if image else Field((4,), np.dtype(np.float32))
    flags = {name: Field((), np.dtype(bool)) for name in ("is_first", "is_last", "is_terminal")}
    action, reward = Field((), np.dtype(np.int64)), Field((), np.dtype(np.float32))
    return {"obs.image": observation, "prev_action": action, "action": action, "reward": reward, **flags}


def one_row_each(fields: RowSpec) -> dict[str, np.ndarray]:
    """A row for every stream, with noise where the spec has numbers."""
    rng = np.random.default_rng(0)
    rows = {name: np.zeros((STREAMS, *field.shape), field.dtype) for name, field in fields.items()}
    rows["obs.image"] = rng.integers(0, 255, rows["obs.image"].shape).astype(rows["obs.image"].dtype)
    return rows


def race(calls: dict[str, Callable[[], Any]], items: int, rounds: int) -> dict[str, dict[str, float]]:
    """Items per second of each call, best and median, and the median of its ratios to the first call.

    The calls take turns, so that whatever else the machine does meets all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    first = next(iter(seconds.values()))
    return {
        name: {
            "best": items / min(values),
            "median": items / statistics.median(values),
            "of_floor": statistics.median(f / v for f, v in zip(first, values, strict=True)),
        }
        for name, values in seconds.items()
    }


def fill(selector: Selector, rows: int, image: bool) -> tuple[Replay, dict[str, float]]:
    """A full replay, and the rate at which it was filled for the first time."""
    fields = spec(image)
    replay = Replay(fields, SEQUENCE, STREAMS, None, selector, 0, capacity=rows)
    each = one_row_each(fields)
    begin = time.perf_counter()
    for _ in range(replay.rows_per_stream):
        replay.add(each)
    return replay, {"mean": len(replay) / (time.perf_counter() - begin)}


def bench_insert(replay: Replay, rounds: int, image: bool) -> dict[str, Any]:
    """Rows per second into rings that have been full once; the floor writes the observations alone with one copy."""
    each = one_row_each(spec(image))
    pixels = each["obs.image"]
    ring = replay._rings.data["obs.image"].numpy().reshape(STREAMS, -1, *pixels.shape[1:])
    cursor = itertools.cycle(range(replay.rows_per_stream))

    def floor() -> None:
        ring[:, next(cursor)] = pixels

    return race({"floor": floor, "steady": lambda: replay.add(each)}, STREAMS, rounds)


def bench_sample(replay: Replay, uniform: Selector, rounds: int) -> dict[str, Any]:
    """Sequences per second of both selectors over the same rows (a second replay of a million would need 7 GB more).

    The floors move the images of a batch with nothing around it: one gather by random windows, one contiguous copy.
    """
    ring = replay._rings.data["obs.image"].flatten(1)
    shape = (SEQUENCE.length * BATCH, ring.shape[1])
    source, target = torch.ones(shape, dtype=torch.uint8), torch.ones(shape, dtype=torch.uint8)
    numpy_rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    tree = replay.selector

    def gather() -> None:
        starts = numpy_rng.integers(0, len(ring) - SEQUENCE.length, BATCH)
        index = (starts + np.arange(SEQUENCE.length)[:, None]).reshape(-1)
        torch.index_select(ring, 0, torch.from_numpy(index), out=target)

    def prioritised() -> None:
        replay.selector = tree
        batch = replay.sample(BATCH)
        replay.feedback(Feedback(batch.keys, torch.rand(BATCH, generator=torch_rng)))
        tree.tree.total()  # type: ignore[attr-defined]

    def uniformly() -> None:
        replay.selector = uniform
        replay.sample(BATCH)

    for _ in range(3):
        uniformly()
    calls = {"floor": gather, "copy": lambda: target.copy_(source), "uniform": uniformly, "prioritised": prioritised}
    return race(calls, BATCH, rounds)


def main() -> None:
    """Run everything and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--rows", type=int, default=100_000, help="stored rows (84 x 84 bytes each)")
    parser.add_argument("--rounds", type=int, default=100, help="timed batches per figure")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    result: dict[str, Any] = {
        "rows": options.rows,
        "streams": STREAMS,
        "batch": BATCH,
        "window_rows": SEQUENCE.length,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": options.threads,
        "goals": GOALS,
    }
    replay, result["insert_84x84_cold"] = fill(Prioritised(), options.rows, image=True)
    result["insert_84x84"] = bench_insert(replay, 20 * options.rounds, image=True)
    uniform = Uniform()
    uniform.bind(replay.selector.layout)
    uniform.load_state_dict(replay.selector.state_dict())
    result["sample"] = sample = bench_sample(replay, uniform, options.rounds)
    result["replay_bytes"] = replay.nbytes
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    small, result["insert_small_cold"] = fill(Uniform(), options.rows, image=False)
    result["insert_small"] = bench_insert(small, 20 * options.rounds, image=False)
    medians = {name: sample[name]["median"] for name in ("uniform", "prioritised")}
    medians["insert"] = result["insert_84x84"]["steady"]["median"]
    result["goals_met_by_median"] = {name: medians[name] > goal for name, goal in GOALS.items()}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
