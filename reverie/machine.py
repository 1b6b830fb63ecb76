"""What this machine has: memory, as far as this process may use it, and sizes as people write them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
MOST = 2**53
"""bytes: 9 PB, of which whole numbers are exact as floats too"""
_SIZE = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")


@dataclass(frozen=True)
class Memory:
    """Memory in bytes. total: that there is, or that the process's control groups allow. available: of it, now."""

    total: int
    available: int


def memory(root: Path = Path("/")) -> Memory:
    """The memory of this machine, within the limits of the control groups (v1 and v2) that this process is in.

    root: of the file system. Where nothing says what is available, all of it is.
    """
    total, available = _physical(root)
    for limit, used in _limits(root):
        if limit < total:
            total = limit
        available = min(available, max(limit - used, 0))
    return Memory(total, min(available, total))


def gpu_memory(device: str | None = None) -> Memory | None:
    """The memory of a GPU (None: the present one) for this process; None where there is none.

    What torch keeps of it from tensors that are gone is free to new ones.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Memory(total, min(free + kept, total))


def mps_running() -> bool:
    """Whether the control daemon of CUDA's Multi-Process Service listens where a process of ours looks for it.

    Source: NVIDIA, "Multi-Process Service", environment variable CUDA_MPS_PIPE_DIRECTORY and its default.
    """
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists()


def memory_of(place: Literal["host", "device"]) -> Memory:
    """The memory of the host, or of its GPU, if it has one."""
    return (gpu_memory() if place == "device" else None) or memory()


def read_size(value: object) -> int | str:
    """Bytes of a whole number, of text such as ``8GB``, ``500 MiB`` or ``1e9``; a share such as ``50%`` stays text.

    Raises ValueError for anything else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST and value == int(value):
        return int(value)
    if isinstance(value, str):
        if share := _SHARE.fullmatch(value):
            if 0 < float(share[1]) <= 100:
                return value
        elif (size := _SIZE.fullmatch(value)) and (count := _bytes(size[1], size[2])) <= MOST:
            return round(count)
    raise ValueError(f"expected bytes, as 8GB, 500MiB or 2000000000, or a share of the memory, as 50%, got {value!r}")


def _bytes(number: str, unit: str | None) -> float:
    return float(number.replace("_", "")) * UNITS[(unit or "").lower()]


def share_of(value: int | str, total: int) -> int:
    """Bytes of what `read_size` gave, where a share is of `total`."""
    return int(float(value.strip(" %")) / 100 * total) if isinstance(value, str) else value


def in_words(size: float) -> str:
    """A size for people: 1.5 GB."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def _physical(root: Path) -> tuple[int, int]:
    try:
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
        return kilobytes["MemTotal"] * 1024, kilobytes.get("MemAvailable", kilobytes["MemTotal"]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**62
        return total, total


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use, without what the kernel can drop at once, of each control group that this process is in."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for number, controllers, path in groups:
        if number == "0" and not controllers:
            base, limit, used, cache = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        # In a container the path may be that of the host, which is not there; the container's own group then is `base`.
        inside = root / base / path.lstrip("/")
        folders = [inside, *inside.parents] if inside.exists() else [root / base]
        for folder in folders:
            if not folder.is_relative_to(root / base):
                break
            try:
                most, now = int((folder / limit).read_text()), int((folder / used).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no limit ("max"), or no such file in the root group
                continue
            yield most, now - int(stat.get(cache, 0))
