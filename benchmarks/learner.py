"""DreamerV2's learner update at the size at which other implementations were measured; see docs/performance.md.

    python -m benchmarks.learner --out results/performance/learner.json
    python -m benchmarks.learner --published --device cuda --precision bfloat16 --capture

Batch 16 x 64 of 64x64x3 images, 6 actions, deter 256, hidden 256, 16x16 latents, CNN depth 16, heads of 256 units,
imagination of 15 steps from all 1024 posterior states. Reports seconds per update (median and best of N), where the
time goes, how much of it lies inside torch operations, peak memory, and the floor: the same matrix products and
convolutions, forward and backward, replayed alone on tensors of the same shapes and layouts. `--published`: batches of
50 x 50 and the networks of DreamerV2's Atari agent. On a GPU the kernels of an update are counted in place of these.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.peers.dreamer_sizes import (
    ACTIONS,
    CLASSES,
    DEPTH,
    DETER,
    HIDDEN,
    HORIZON,
    IMAGE,
    LATENTS,
    LAYERS,
    SHAPES,
    UNITS,
)
from benchmarks.timing import device_name, kernels, make_batch, summary, surroundings, timed, update, wait, write
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config, DreamerV2Learner
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.balance import BalanceKind
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.run.allocator import prepare_process

TIME, BATCH = SHAPES["dreamerv2"]


def build(
    device: torch.device,
    precision: torch.dtype,
    compiled: bool = False,
    balance: BalanceKind = "fixed",
    learn: int = TIME,
) -> DreamerV2Learner:
    """The learner of the comparison. learn: rows of a window."""
    head = HeadConfig(layers=LAYERS, units=UNITS)
    code = EncoderConfig(depth=DEPTH)
    config = DreamerV2Config(
        encoder=code,
        decoder=code,
        rssm=RSSMConfig(deter=DETER, hidden=HIDDEN, stoch=LATENTS, classes=CLASSES),
        reward=head,
        discount=head,
        actor=head,
        critic=head,
        balance=balance,
        horizon=HORIZON,
    )
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (IMAGE, IMAGE, 3), np.uint8)}, spaces.Discrete(ACTIONS))
    agent = DreamerV2(config, env)
    torch.manual_seed(0)
    learner = agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=learn)), 0, device, precision)
    if compiled:
        learner.compile_parts()
    return learner


def build_published(device: torch.device, precision: torch.dtype, compiled: bool = False) -> DreamerV2Learner:
    """The learner of the paper's Atari agent, at its batches' length."""
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (64, 64, 1), np.uint8)}, spaces.Discrete(ACTIONS))
    agent = DreamerV2(DreamerV2Config(), env)
    torch.manual_seed(0)
    learner = agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=50)), 0, device, precision)
    if compiled:
        learner.compile_parts()
    return learner


class Contractions(TorchDispatchMode):
    """Records every matrix product and convolution with its tensors' shapes, strides and dtypes."""

    NAMES = ("mm", "addmm", "bmm", "convolution", "convolution_backward")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.NAMES:
            self.calls.append((func, args, dict(kwargs or {})))
        return func(*args, **(kwargs or {}))


def floor(learner: DreamerV2Learner, batch: Batch, repeats: int) -> dict[str, Any]:
    """Seconds that the recorded contractions take when nothing else runs (on the very tensors of one update)."""
    with Contractions() as recorded:
        learner.update(batch)
    seconds = []
    with torch.no_grad():
        for _ in range(repeats):
            began = time.perf_counter()
            for func, args, kwargs in recorded.calls:
                func(*args, **kwargs)
            seconds.append(time.perf_counter() - began)
    return {"calls": len(recorded.calls), "seconds_median": float(np.median(seconds)), "seconds_best": min(seconds)}


def where(learner: DreamerV2Learner, batch: Batch) -> dict[str, Any]:
    """Share of one update's wall time inside torch operations (main thread), and the costliest of them."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        began = time.perf_counter()
        learner.update(batch)
        wall = time.perf_counter() - began
    events = trace.key_averages()
    inside = sum(e.self_cpu_time_total for e in events if e.key.startswith("aten::") or "Adam" in e.key) / 1e6
    top = sorted(events, key=lambda e: -e.self_cpu_time_total)[:12]
    return {
        "profiled_seconds": wall,
        "share_in_torch_operations": inside / wall,
        "top": {e.key: round(e.self_cpu_time_total / 1e6 / wall, 4) for e in top},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--capture", action="store_true", help="replay updates as CUDA graphs")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    prepare_process(options.threads)
    device = torch.device(options.device)
    precision = getattr(torch, options.precision)
    make, shape, image = (
        (build_published, (50, 50), (64, 64, 1)) if options.published else (build, (TIME, BATCH), (64, 64, 3))
    )
    learner = make(device, precision, options.compile)
    batch = make_batch(shape, image, ACTIONS, last=0.02, fresh=True, device=device)
    what = "DreamerV2 learner update, 16 x 64 rows of 64x64x3, deter 256, 16x16 latents, depth 16, horizon 15"
    if options.published:
        what = "DreamerV2 learner update, 50 x 50 rows of 64x64x1, networks of the paper's Atari agent, horizon 15"
    document: dict[str, Any] = {"what": what, "precision": options.precision}
    document |= {"compile": options.compile, "capture": options.capture, "device": device_name(device)}
    first, _ = timed(lambda: wait(learner.update, batch))
    if device.type == "cuda":
        document["kernels"] = kernels(make(device, precision, options.compile).update, batch)
    call = CapturedUpdate(learner) if options.capture else learner.update
    for _ in range(EAGER + 1 if options.capture else 1):
        wait(call, batch)
    times = [timed(lambda: update(call, batch, "model_loss")) for _ in range(options.repeats)]
    document |= {"first_update_seconds": first} | summary(times) | surroundings()
    if not (options.compile or options.capture or device.type == "cuda"):
        document["profile"] = where(learner, batch)
        document["floor_contractions"] = floor(learner, batch, options.repeats)
    write(document, options.out)


if __name__ == "__main__":
    main()
