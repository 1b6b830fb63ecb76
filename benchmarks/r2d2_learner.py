"""R2D2's learner update at the published sizes: sequences per second, and where the time goes.

    python -m benchmarks.r2d2_learner --batch 16 --threads 2 --out results/performance/r2d2_learner.json
    python -m benchmarks.r2d2_learner --batch 64 --device cuda --precision bfloat16 --capture

Windows of 40 + 80 + 5 rows of 84x84 (4 frames are stacked by the network), Nature's convolutions, 512 units before and
in the LSTM, dueling double, 18 actions, stored states. Reports seconds per update (median and best), sequences per
second and peak memory; on a CPU also the share of convolutions, the LSTM and other matrix products.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.timing import make_batch, summary, surroundings, timed, update, write
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.r2d2 import R2D2, R2D2Config
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets import cores
from reverie.run.allocator import keep_freed_memory

ACTIONS = 18


def build(device: torch.device, precision: torch.dtype) -> R2D2:
    """The learner as published."""
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(ACTIONS))
    asked = SequenceSpec(context=40, learn=80, period=40, state="stored")
    torch.manual_seed(0)
    return R2D2(R2D2Config(), env, R2D2.sequence(R2D2Config(), asked, env), 0, device, precision)


def where(learner: R2D2, batch: Batch) -> dict[str, Any]:
    """Shares of one update's wall time: convolutions, LSTM, other matrix products, and the costliest operations."""
    unroll = cores.lstm_unroll

    def marked(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with record_function("LSTM forward"):
            return unroll(*given)

    cores.lstm_unroll = marked
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        began = time.perf_counter()
        update(learner.update, batch, "q_loss")
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
    parser.add_argument("--capture", action="store_true", help="replay the update as a CUDA graph")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    learner = build(device, getattr(torch, options.precision))
    shape = (learner.spec.length, options.batch)
    start = learner.policy.initial_state(options.batch)
    batch = make_batch(shape, (84, 84, 1), ACTIONS, last=0.005, fresh=False, start=start, device=device)
    call = CapturedUpdate(learner) if options.capture else learner.update
    for _ in range(EAGER + 1 if device.type == "cuda" else 1):
        update(call, batch, "q_loss")
    times = summary([timed(lambda: update(call, batch, "q_loss")) for _ in range(options.repeats)])
    document: dict[str, Any] = {
        "what": f"R2D2 learner update, {options.batch} x (40 + 80 + 5) rows of 84x84x4, LSTM 512",
        "precision": options.precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "captured": options.capture,
    }
    document |= times | surroundings()
    document["sequences_per_s_median"] = options.batch / times["seconds_median"]
    document["sequences_per_s_best"] = options.batch / times["seconds_best"]
    if device.type == "cuda":
        document["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    else:
        document["profile"] = where(learner, batch)
    write(document, options.out)


if __name__ == "__main__":
    main()
