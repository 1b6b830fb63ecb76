"""Runs at once on one machine: what their replays take together and how they share a GPU, said before they begin.

Kernels of different processes take turns on a GPU, unless CUDA's Multi-Process Service (MPS) is there: then those that
leave part of the GPU idle run side by side. Source: NVIDIA, "Multi-Process Service", chapters 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from reverie.config import Config
from reverie.data.rows import bytes_of, row_spec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.machine import gpu_memory, in_words, memory, mps_running
from reverie.run.build import env_spec, pick_device
from reverie.run.length import rows_to_come
from reverie.run.room import asked_memory, lies_on_gpu


def together(runs: Iterable[Config], jobs: int) -> str:
    """Line that says what the replays of the `jobs` largest runs take, for runs that go on together; empty for one.

    Of a budget that counts which is filled (`reverie.run.room.asked_memory`) with the rows of the run, one for each of
    its env_steps, or those of its dataset; of a Minari dataset the whole budget. States and extras of an agent come on
    top, and each run's networks.
    Raises UserError if the memory of the machine, or of a GPU, is less than that.
    """
    pending = list(runs)
    if min(jobs, len(pending)) < 2:
        return ""
    seen: dict[str, EnvSpec] = {}
    sizes: dict[str, list[float]] = {}
    devices = [pick_device(config.run.device) for config in pending]
    for config, device in zip(pending, devices, strict=True):
        if (kind := repr(config.env)) not in seen:
            seen[kind] = env_spec(config)
        gpu = f"cuda:{device.index or 0}" if lies_on_gpu(config, device) else ""
        sizes.setdefault(gpu, []).append(asked_memory(config, _rows(config, seen[kind]), device))
    said = []
    for gpu, each in sizes.items():
        there = gpu_memory(gpu) if gpu else memory()
        assert there is not None
        asked, count = sum(sorted(each)[-jobs:]), min(jobs, len(each))
        where = f"the memory of {gpu}" if gpu else "memory"
        if asked > there.total:
            raise UserError(
                f"the replays of {count} runs at once come to {in_words(asked)}, more than the {in_words(there.total)} "
                f"of {where}: fewer --jobs, or a smaller replay.store.budget"
            )
        said.append(f"{in_words(asked)} of {in_words(there.total)} of {where}")
    line = f"{min(jobs, len(pending))} runs at once: their replays take {' and '.join(said)} when full"
    return f"{line}; {shared}" if (shared := _shared(devices)) else line


def _shared(devices: Sequence[torch.device]) -> str:
    """How runs on one GPU share it; empty if no two are on one."""
    gpus = [device.index or 0 for device in devices if device.type == "cuda"]
    if len(gpus) == len(set(gpus)):
        return ""
    if mps_running():
        return "those on one GPU share it by MPS, if its daemon still runs"
    return "those on one GPU take turns on it, for no MPS is there (nvidia-cuda-mps-control -d starts it)"


def _rows(config: Config, spec: EnvSpec) -> float:
    """Bytes of all rows that the run's replay is given."""
    return rows_to_come(config, spec.action_repeat) * bytes_of(row_spec(spec.observation, spec.action))
