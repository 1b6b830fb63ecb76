"""What benchmarks of learner updates share: a batch of random rows, a clock, and the document that is written."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from reverie.agents.agent import Result
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.report.record import read_metrics


def make_batch(
    shape: tuple[int, int],
    image: tuple[int, int, int],
    actions: int,
    last: float,
    fresh: bool,
    start: State | None = None,
    device: torch.device | None = None,
) -> Batch:
    """Random rows, always the same.

    shape: [T, B]; image: [H, W, C], uint8; last: how likely a row ends its episode; fresh: the first row begins one;
    start: the states before the first row, [B, ...].
    """
    g = torch.Generator().manual_seed(0)
    width = shape[1]
    ends = torch.rand(*shape, generator=g) < last
    rows = {
        "obs.image": torch.randint(0, 256, (*shape, *image), dtype=torch.uint8, generator=g),
        "prev_action": torch.randint(0, actions, shape, generator=g),
        "action": torch.randint(0, actions, shape, generator=g),
        "reward": torch.randn(*shape, generator=g),
        "is_last": ends,
        "is_terminal": ends,
        "is_first": torch.cat([torch.full((1, width), fresh), ends[:-1]]),
    }
    rows = {name: value.to(device) for name, value in rows.items()}
    keys, ages = torch.arange(width), torch.zeros(width, dtype=torch.int64)
    return Batch(rows, start, keys, torch.full((width,), 0.01, device=device), ages)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds and this process's processor seconds of a call."""
    began, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - spent


def update(call: Callable[[Batch], Result], batch: Batch, metric: str) -> None:
    """One learner_step, waited for until a metric of it is a number. call: `Learner.update` or its like."""
    float(call(batch).metrics[metric])


def wait(call: Callable[[Batch], Result], batch: Batch) -> None:
    """One learner_step, waited for until one of its metrics is a number."""
    float(next(iter(call(batch).metrics.values())))


def kernels(call: Callable[[Batch], Result], batch: Batch) -> int:
    """Kernels that a GPU runs in one learner_step, after one that does not count."""
    wait(call, batch)
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        wait(call, batch)
    on_device = [event for event in trace.key_averages() if event.device_type == DeviceType.CUDA]
    return sum(event.count for event in on_device if not event.key.startswith(("Memcpy", "Memset")))


def device_name(device: torch.device) -> str:
    """The card's name, or the device's kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def summary(times: list[tuple[float, float]]) -> dict[str, Any]:
    """Of several `timed` calls."""
    seconds, processor = [list(column) for column in zip(*times, strict=True)]
    return {
        "seconds": seconds,
        "seconds_median": float(np.median(seconds)),
        "seconds_best": min(seconds),
        "processor_seconds_median": float(np.median(processor)),
    }


def minutes(*run_dirs: Path) -> float:
    """Minutes for which runs have been running, over all their parts."""
    seconds = sum(max(record["time/elapsed_s"] for record in read_metrics(run_dir)) for run_dir in run_dirs)
    return round(seconds / 60, 2)


def surroundings() -> dict[str, Any]:
    """What a time depends on, and the memory that was needed so far."""
    found = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if torch.cuda.is_initialized():
        found["gpu_peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    return found


def write(document: dict[str, Any], out: Path | None) -> None:
    """Print the document and, if asked, keep it."""
    print(json.dumps(document, indent=2))
    if out:
        keep(document, out)


def keep(document: dict[str, Any], out: Path) -> None:
    """Write the document to a file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
