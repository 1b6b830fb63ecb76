"""R2D2's learner update at the published sizes: sequences per second, and where the time goes.

    python -m benchmarks.r2d2_learner --batch 16 --threads 2 --out results/performance/r2d2_learner.json
    python -m benchmarks.r2d2_learner --batch 64 --device cuda --precision bfloat16 --capture

Windows of 40 + 80 + 5 rows of 84x84 (4 frames are stacked by the network), Nature's convolutions, 512 units before and
in the LSTM, dueling double, 18 actions, stored states. The paper's text names no layer between convolutions and LSTM;
Acme, SEED RL and rlpyt have one, Deep RL Zoo has none: `--dense 0` is the network of the text. Reports seconds per
update (median and best), sequences per second and peak memory; on a CPU also the share of convolutions, the LSTM and
other matrix products.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.timing import make_batch, summary, surroundings, timed, update, write
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.dqn import DQNLearner
from reverie.agents.r2d2 import R2D2, R2D2Config
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets import cores
from reverie.run.allocator import prepare_process

ACTIONS = 18
SETTLING, PROFILED = 4, 7


def build(device: torch.device, precision: torch.dtype, dense: int, drift: bool = False) -> DQNLearner:
    """The learner as published, with that many units between convolutions and LSTM, with or without the drift gauge."""
    config = R2D2Config()
    config = replace(config, torso=replace(config.torso, dense=dense))
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(ACTIONS))
    asked = SequenceSpec(context=40, learn=80, period=40, state="stored", drift=drift)
    agent = R2D2(config, env)
    torch.manual_seed(0)
    return agent.learner(agent.policy(), agent.windows(asked), 0, device, precision)


def windows(learner: DQNLearner, width: int) -> Batch:
    """Random windows for it, with the states that actors had, all initial ones: before the first row, and at probes."""
    start, probes = learner.policy.initial_state(width), learner.windows.probes
    shape = (learner.windows.length, width)
    batch = make_batch(shape, (84, 84, 1), ACTIONS, last=0.005, fresh=False, start=start, device=learner.device)
    if not probes:
        return batch
    return replace(batch, probes={name: torch.stack([value] * len(probes)) for name, value in start.items()})


def profiles(learner: DQNLearner, batch: Batch) -> dict[str, Any]:
    """Several updates, each profiled: the median of every share, and the middle one by time for the rest.

    The first ones do not count. What the profiler allocates for itself lies between the large blocks of the heap, and
    until that has settled an update faults some of them in again, which it does not do unwatched (`page_faults`).
    """
    found = [where(learner, batch) for _ in range(SETTLING + PROFILED)][SETTLING:]
    found.sort(key=lambda one: float(one["profiled_seconds"]))
    shares = {name: median(one["shares"][name] for one in found) for name in found[0]["shares"]}
    faults = [one["page_faults"] for one in found]
    return {"profiled_updates": PROFILED, **found[PROFILED // 2], "shares": shares, "page_faults": faults}


def where(learner: DQNLearner, batch: Batch) -> dict[str, Any]:
    """Shares of one update's wall time: convolutions, LSTM, other matrix products, and the costliest operations.

    The LSTM is its unrolling and the products that project its inputs, known by the number of these.
    """
    core = learner.policy.network.core
    assert isinstance(core, cores.LSTM)
    inputs = core.cell.input_size
    unroll = cores.lstm_unroll

    def marked(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with record_function("LSTM forward"):
            return unroll(*given)

    cores.lstm_unroll = marked
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as trace:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        began = time.perf_counter()
        update(learner.update, batch, "q_loss")
        wall = time.perf_counter() - began
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    cores.lstm_unroll = unroll
    events = {event.key: event for event in trace.key_averages()}
    unrolled = [event for event in trace.events() if event.name in ("LSTM forward", "_UnrollBackward")]
    spans = [event.time_range for event in unrolled]
    outside = [
        event
        for event in trace.events()
        if event.name in ("aten::addmm", "aten::mm")
        and not any(span.start <= event.time_range.start and event.time_range.end <= span.end for span in spans)
    ]
    projections = [event for event in outside if any(inputs in shape for shape in event.input_shapes)]
    parts = {
        "convolutions": [events["aten::convolution"], events["aten::convolution_backward"]],
        "lstm": [*unrolled, *projections],
        "other linear layers": [event for event in outside if event not in projections],
    }
    shares = {name: sum(event.cpu_time_total for event in found) / 1e6 / wall for name, found in parts.items()}
    top = sorted(events.values(), key=lambda e: -e.self_cpu_time_total)[:14]
    return {
        "profiled_seconds": wall,
        "page_faults": faults,
        "shares": {name: round(share, 4) for name, share in shares.items()},
        "top_self": {e.key: round(e.self_cpu_time_total / 1e6 / wall, 4) for e in top},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dense", type=int, default=512, help="units between convolutions and LSTM (0: none)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--capture", action="store_true", help="replay the update as a CUDA graph")
    options = parser.parse_args()
    prepare_process(options.threads)
    device = torch.device(options.device)
    learner = build(device, getattr(torch, options.precision), options.dense)
    batch = windows(learner, options.batch)
    call = CapturedUpdate(learner) if options.capture else learner.update
    for _ in range(EAGER + 1 if device.type == "cuda" else 1):
        update(call, batch, "q_loss")
    times = summary([timed(lambda: update(call, batch, "q_loss")) for _ in range(options.repeats)])
    document: dict[str, Any] = {
        "what": f"R2D2 learner update, {options.batch} x (40 + 80 + 5) rows of 84x84x4, LSTM 512",
        "dense_units": options.dense,
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
        document["profile"] = profiles(learner, batch)
    write(document, options.out)


if __name__ == "__main__":
    main()
