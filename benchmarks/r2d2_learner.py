"""R2D2's learner update at the published sizes: sequences per second, and where the time goes.

    python benchmarks/r2d2_learner.py --batch 16 --threads 2 --out results/performance/r2d2_learner.json

Windows of 40 + 80 + 5 rows of 84x84 (4 frames are stacked by the network), Nature's convolutions, 512 units before and
in the LSTM, dueling double, 18 actions, stored states. Reports seconds per update (median and best), sequences per
second, the share of convolutions, the LSTM and other matrix products, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch.profiler import ProfilerActivity, profile, record_function

from reverie.agents.r2d2 import R2D2, R2D2Config
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets import cores

ACTIONS = 18


def build(device: torch.device, precision: torch.dtype) -> R2D2:
    """The learner as published."""
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(ACTIONS))
    asked = SequenceSpec(context=40, learn=80, period=40, state="stored")
    torch.manual_seed(0)
    return R2D2(R2D2Config(), env, R2D2.sequence(R2D2Config(), asked, env), 0, device, precision)


def make_batch(learner: R2D2, batch: int, device: torch.device) -> Batch:
    """Random rows; one in two hundred ends an episode."""
    g = torch.Generator().manual_seed(0)
    time_, last = learner.spec.length, torch.rand(learner.spec.length, batch, generator=g) < 0.005
    rows = {
        "obs.image": torch.randint(0, 256, (time_, batch, 84, 84, 1), dtype=torch.uint8, generator=g),
        "prev_action": torch.randint(0, ACTIONS, (time_, batch), generator=g),
        "action": torch.randint(0, ACTIONS, (time_, batch), generator=g),
        "reward": torch.randn(time_, batch, generator=g),
        "is_last": last,
        "is_terminal": last,
        "is_first": torch.cat([torch.zeros(1, batch, dtype=torch.bool), last[:-1]]),
    }
    rows = {name: value.to(device) for name, value in rows.items()}
    start = learner.policy.initial_state(batch)
    keys, ages = torch.arange(batch), torch.zeros(batch, dtype=torch.int64)
    return Batch(rows, start, keys, torch.full((batch,), 0.01, device=device), ages)


def where(learner: R2D2, batch: Batch) -> dict[str, Any]:
    """Shares of one update's wall time: convolutions, LSTM, other matrix products, and the costliest operations."""
    unroll = cores.lstm_unroll

    def marked(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with record_function("LSTM forward"):
            return unroll(*given)

    cores.lstm_unroll = marked
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        began = time.perf_counter()
        learner.update(batch)
        wall = time.perf_counter() - began
    cores.lstm_unroll = unroll
    events = {event.key: event for event in trace.key_averages()}

    def seconds(*names: str) -> float:
        return sum(events[name].cpu_time_total for name in names if name in events) / 1e6

    lstm = seconds("LSTM forward", "_UnrollBackward")
    shares = {
        "convolutions": seconds("aten::convolution", "aten::convolution_backward") / wall,
        "lstm": lstm / wall,
        "linear layers": seconds("aten::addmm", "aten::mm", "aten::addmm_") / wall,
    }
    top = sorted(events.values(), key=lambda e: -e.self_cpu_time_total)[:14]
    return {
        "profiled_seconds": wall,
        "shares (linear layers include the LSTM's products)": {k: round(v, 4) for k, v in shares.items()},
        "top_self": {e.key: round(e.self_cpu_time_total / 1e6 / wall, 4) for e in top},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    learner = build(device, getattr(torch, options.precision))
    batch = make_batch(learner, options.batch, device)
    float(learner.update(batch).metrics["q_loss"])
    seconds, processor = [], []
    for _ in range(options.repeats):
        began, spent = time.perf_counter(), time.process_time()
        float(learner.update(batch).metrics["q_loss"])
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - spent)
    document: dict[str, Any] = {
        "what": f"R2D2 learner update, {options.batch} x (40 + 80 + 5) rows of 84x84x4, LSTM 512",
        "precision": options.precision,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "seconds": seconds,
        "seconds_median": float(np.median(seconds)),
        "seconds_best": min(seconds),
        "processor_seconds_median": float(np.median(processor)),
        "sequences_per_s_median": options.batch / float(np.median(seconds)),
        "sequences_per_s_best": options.batch / min(seconds),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "profile": where(learner, batch),
    }
    text = json.dumps(document, indent=2)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
