"""How prioritised sequence replay grows: the same work on 10 thousand, 100 thousand and a million stored rows.

    python -m benchmarks.replay_growth --out results/performance/replay_1m.json

The replay of an R2D2 agent: rows of 84 x 84 uint8 from 64 streams, windows of 40 + 75 + 5 rows with period 40, the
state of an LSTM of 512 stored before every 40th row, priorities from the actor. Measured are::

    sample    64 windows drawn and gathered, their new priorities written back, the tree summed again
    gather    the images of 64 such windows at random places, copied with nothing around it (the floor of `sample`)
    select    what `sample` does without rows: draw 64 windows, write priorities back, sum again
    insert    one row for every stream, 40 times: each stream completes one window and stores one state
    fill      the first insertion of every row, into memory that no page has been touched of

All replays are full and in memory at once, and each round times one call on each of them in turn, so that whatever
else the machine does meets all sizes alike. One thread, because beside other work the processor's time of one thread
says what a call costs, and the clock says how long others made it wait. A million rows need 7.2 GB and a minute or
two; free memory is checked before any is reserved.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.replay import BATCH, SEQUENCE, STREAMS, one_row_each, spec
from reverie.data.replay import Replay
from reverie.data.rows import Field
from reverie.data.selectors import Prioritised
from reverie.data.sequences import Feedback

LSTM = 512
STORED = replace(SEQUENCE, state="stored")
HEADROOM = 2_000_000_000
"""bytes that must stay free for batches and for whoever else is on the machine"""


class Grown:
    """A replay of `rows` rows and the calls that are timed on it."""

    def __init__(self, rows: int) -> None:
        states = {name: Field((LSTM,), np.dtype(np.float32)) for name in ("h", "c")}
        self.replay = Replay(spec(image=True), STORED, STREAMS, None, Prioritised(), 0, states=states, capacity=rows)
        self.each = one_row_each(spec(image=True))
        self.states = {name: np.ones((STREAMS, LSTM), np.float32) for name in states}
        self.rng, self.torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.images = self.replay._rings.data["obs.image"].flatten(1)
        self.target = torch.ones((STORED.length * BATCH, self.images.shape[1]), dtype=torch.uint8)

    def insert(self) -> None:
        """One period of rows: 40 for every stream."""
        for _ in range(STORED.period):
            self.replay.add(self.each, None, self.states, self.rng.random(STREAMS))

    def fill(self) -> float:
        """Every slot once; returns rows per second."""
        begin = time.perf_counter()
        for _ in range(self.replay.rows_per_stream):
            self.replay.add(self.each, None, self.states, self.rng.random(STREAMS))
        return len(self.replay) / (time.perf_counter() - begin)

    def sample(self) -> None:
        """A batch and its feedback."""
        batch = self.replay.sample(BATCH)
        self.replay.feedback(Feedback(batch.keys, torch.rand(BATCH, generator=self.torch_rng)))
        self.replay.selector.tree.total()  # type: ignore[attr-defined]

    def gather(self) -> None:
        """The images of a batch, at windows drawn uniformly."""
        starts = self.rng.integers(0, len(self.images) - STORED.length, BATCH)
        index = (starts + np.arange(STORED.length)[:, None]).reshape(-1)
        torch.index_select(self.images, 0, torch.from_numpy(index), out=self.target)

    def select(self) -> None:
        """The selector's part of `sample`."""
        selector = self.replay.selector
        drawn = selector.sample(BATCH, self.rng)
        selector.update(drawn.streams, drawn.starts, self.rng.random(BATCH))
        selector.tree.total()  # type: ignore[attr-defined]


def available_memory() -> int:
    """Bytes that may be used without swapping."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def huge_pages(pid: int) -> int:
    """Bytes of this process that lie in huge pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))


def grow(calls: dict[str, Callable[[], Any]], items: int, rounds: int) -> dict[str, Any]:
    """Items per second at each size, by the clock and by the processor's time for this process.

    times_the_smallest: median over rounds of the processor's time at this size over that at the first size.
    """
    clock: dict[str, list[float]] = {size: [] for size in calls}
    processor: dict[str, list[float]] = {size: [] for size in calls}
    for turn in range(rounds + 3):
        for size, call in calls.items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            call()
            if turn >= 3:  # the first three make the batch's buffers
                clock[size].append(time.perf_counter() - begin)
                processor[size].append(time.process_time() - begin_processor)
    first = processor[next(iter(calls))]
    return {
        size: {
            "best": items / min(clock[size]),
            "median": items / statistics.median(clock[size]),
            "median_by_processor_time": items / statistics.median(processor[size]),
            "times_the_smallest": statistics.median(p / f for p, f in zip(processor[size], first, strict=True)),
        }
        for size in calls
    }


def main() -> None:
    """Fill every size, run the races and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="stored rows")
    parser.add_argument("--rounds", type=int, default=150, help="timed calls per size and figure")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = sum(field.nbytes for field in spec(image=True).values()) + 8 * LSTM // STORED.period
    needed, free = row * sum(options.sizes) + HEADROOM, available_memory()
    if needed > free:
        parser.error(f"sizes {options.sizes} need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: leave one out")

    result: dict[str, Any] = {
        "streams": STREAMS,
        "batch": BATCH,
        "window_rows": STORED.length,
        "period": STORED.period,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": options.threads,
        "load_average_before": os.getloadavg()[0],
        "machine": "2 cores, shared with other work while this was measured",
        "goal": "times_the_smallest at most 1.5",
    }
    grown = {str(rows): Grown(rows) for rows in options.sizes}
    result["fill"] = {size: g.fill() for size, g in grown.items()}
    for name in ("gather", "select", "sample", "insert"):
        items = STREAMS * STORED.period if name == "insert" else BATCH
        result[name] = grow({size: getattr(g, name) for size, g in grown.items()}, items, options.rounds)
    result["replay_bytes"] = {size: g.replay.nbytes for size, g in grown.items()}
    result["huge_page_bytes"] = huge_pages(os.getpid())
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
