"""Memory as far as this process may use it, and sizes as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reverie import overrides
from reverie.config import StoreConfig
from reverie.errors import UserError
from reverie.machine import Memory, gpu_memory, in_words, memory, read_size, share_of

KB, GB = 1024, 10**9


def system(root: Path, files: dict[str, Any]) -> Path:
    meminfo = f"MemTotal: {20_000_000} kB\nMemFree: 5 kB\nMemAvailable: {12_000_000} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
PHYSICAL = Memory(20_000_000 * KB, 12_000_000 * KB)
SYSTEMS: dict[str, tuple[dict[str, Any], Memory]] = {
    "none": ({}, PHYSICAL),
    "v2 without a limit": (
        {"proc/self/cgroup": "0::/a", f"{V2}/a/memory.max": "max\n", f"{V2}/a/memory.current": 7},
        PHYSICAL,
    ),
    "v2": (
        {
            "proc/self/cgroup": "0::/a\n",
            f"{V2}/a/memory.max": 8 * GB,
            f"{V2}/a/memory.current": 5 * GB,
            f"{V2}/a/memory.stat": f"anon {4 * GB}\ninactive_file {1 * GB}\n",
        },
        Memory(8 * GB, 4 * GB),
    ),
    "v2, the limit is the parent's": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/b/memory.max": "max",
            f"{V2}/a/b/memory.current": 1 * GB,
            f"{V2}/a/memory.max": 6 * GB,
            f"{V2}/a/memory.current": 2 * GB,
            f"{V2}/a/memory.stat": "anon 5\n",
        },
        Memory(6 * GB, 4 * GB),
    ),
    "v2 in a container, whose path is the host's": (
        {
            "proc/self/cgroup": "0::/docker/0815\n",
            f"{V2}/memory.max": 3 * GB,
            f"{V2}/memory.current": 1 * GB,
            f"{V2}/memory.stat": "inactive_file 0\n",
        },
        Memory(3 * GB, 2 * GB),
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/x\n9:memory:/job\n0::/\n",
            f"{V1}/job/memory.limit_in_bytes": 8 * GB,
            f"{V1}/job/memory.usage_in_bytes": 6 * GB,
            f"{V1}/job/memory.stat": f"total_inactive_file {2 * GB}\n",
        },
        Memory(8 * GB, 4 * GB),
    ),
    "v1 without a limit": (
        {
            "proc/self/cgroup": "9:memory:/job\n",
            f"{V1}/job/memory.limit_in_bytes": 9223372036854771712,
            f"{V1}/job/memory.usage_in_bytes": 6 * GB,
            f"{V1}/job/memory.stat": "total_inactive_file 0\n",
        },
        PHYSICAL,
    ),
    "a limit above what there is": (
        {
            "proc/self/cgroup": "0::/a\n",
            f"{V2}/a/memory.max": 90 * GB,
            f"{V2}/a/memory.current": 85 * GB,
            f"{V2}/a/memory.stat": "inactive_file 0\n",
        },
        Memory(PHYSICAL.total, 5 * GB),
    ),
    "more used than allowed": (
        {
            "proc/self/cgroup": "0::/a\n",
            f"{V2}/a/memory.max": 2 * GB,
            f"{V2}/a/memory.current": 3 * GB,
            f"{V2}/a/memory.stat": "inactive_file 0\n",
        },
        Memory(2 * GB, 0),
    ),
}


@pytest.mark.parametrize("kind", SYSTEMS)
def test_memory_is_what_the_control_groups_allow(tmp_path: Path, kind: str) -> None:
    files, expected = SYSTEMS[kind]
    assert memory(system(tmp_path, files)) == expected


def test_this_machine() -> None:
    there = memory()
    assert 10**8 < there.available <= there.total < 10**15


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * GB),
        ("8 gb", 8 * GB),
        ("8G", 8 * GB),
        ("1.5GiB", 3 * 2**29),
        ("500MiB", 500 * 2**20),
        ("20kB", 20_000),
        ("2TB", 2 * 10**12),
        ("123", 123),
        ("4_000_000_000", 4 * GB),
        ("1e9", GB),
        ("7b", 7),
        (5, 5),
        (1e9, GB),
        ("50%", "50%"),
        ("12.5 %", "12.5 %"),
    ],
)
def test_sizes_are_read_as_people_write_them(text: Any, size: Any) -> None:
    assert read_size(text) == size
    assert overrides.apply(StoreConfig(), {"budget": text}).budget == share_of(size, memory().total)


@pytest.mark.parametrize("text", ["8XB", "GB", "-3GB", "0%", "101%", "half", "", "1.5", True, None, 2.5, [3]])
def test_what_is_no_size_is_refused(text: Any) -> None:
    if text != "1.5":  # bytes are whole, and so is what they are rounded to
        with pytest.raises(ValueError, match="expected bytes, as 8GB"):
            read_size(text)
    if text not in ("1.5",):
        with pytest.raises(UserError, match="budget"):
            overrides.apply(StoreConfig(), {"budget": text})


def test_shares_become_bytes_where_the_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.machine.memory", lambda: Memory(20 * GB, GB))
    monkeypatch.setattr("reverie.machine.gpu_memory", lambda: Memory(80 * GB, GB))
    half = overrides.apply(StoreConfig(), {"budget": "50%"})
    assert half.budget == 10 * GB
    assert overrides.to_dict(half)["budget"] == 10 * GB
    assert overrides.apply(StoreConfig(), {"budget": "50%", "place": "device"}).budget == 40 * GB
    monkeypatch.setattr("reverie.machine.gpu_memory", lambda: None)
    assert overrides.apply(StoreConfig(), {"budget": "12.5%", "place": "device"}).budget == 5 * GB // 2


def test_what_torch_holds_of_a_gpu_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "is_available": True,
        "mem_get_info": (10 * GB, 80 * GB),
        "memory_reserved": 60 * GB,
        "memory_allocated": 15 * GB,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    assert gpu_memory() == Memory(80 * GB, 55 * GB)


def test_sizes_in_words() -> None:
    assert [in_words(size) for size in (7, 1500, 20 * 10**6, 1.5 * GB, 60 * GB, 2.25e12)] == [
        "7 bytes",
        "1.5 kB",
        "20 MB",
        "1.5 GB",
        "60 GB",
        "2.25 TB",
    ]
