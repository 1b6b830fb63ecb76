"""What the doctor says of machines that this one is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reverie import doctor
from reverie.doctor import Finding


def one(check: Iterator[Finding]) -> Finding:
    (finding,) = check
    return finding


def versions(monkeypatch: pytest.MonkeyPatch, **known: str | None) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: known.get(name.replace("-", "_")))


def test_only_a_broken_core_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("video", "problem", "no\nffmpeg", "install it")

    def raising() -> Iterator[Finding]:
        yield Finding("disk", "ok", "fine")
        raise RuntimeError("cannot look")

    lines: list[str] = []
    monkeypatch.setattr(doctor, "CHECKS", (broken, raising))
    assert doctor.report(lines.append) == 0
    assert lines == [
        "problem  video        no ffmpeg  -> install it",
        "ok       disk         fine",
        "problem  raising      RuntimeError: cannot look",
    ]
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Finding("x", "problem", "", core=True)]), raising))
    assert doctor.report(lines.append) == 1


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(doctor.python()).status == "ok"
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (4, 0))
    finding = one(doctor.python())
    assert (finding.status, finding.core) == ("problem", True)


def test_libraries_are_compared_with_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["torch>=2.11", "numpy>=2.0", "click", 'ale-py>=9; extra == "atari"', "rich>=13.7"]
    monkeypatch.setattr(metadata, "requires", lambda name: required)
    versions(monkeypatch, torch="2.9.1+cu128", numpy="2.0.1", click="8.1")
    *problems, fine = doctor.libraries()
    assert [(p.detail, p.fix, p.core) for p in problems] == [
        ("torch 2.9.1+cu128", "pip install 'torch>=2.11'", True),
        ("rich missing", "pip install 'rich>=13.7'", True),
    ]
    assert fine.detail == "numpy 2.0.1, click 8.1"


def test_a_source_tree_that_is_not_installed() -> None:
    assert one(doctor.libraries("no-such-distribution-here")).status == "warning"


def test_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    finding = one(doctor.device())
    assert finding.status == "warning"
    assert "pytorch.org" in finding.fix
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    properties = SimpleNamespace(name="Some GPU", total_memory=80 * 2**30, major=8)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert one(doctor.device()).detail.startswith("cuda: Some GPU, 80 GiB, bfloat16, TF32 for float32")
    properties.major = 7
    assert "no TF32" in one(doctor.device()).detail


def test_more_threads_than_cores_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert one(doctor.threads()).status == "ok"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    finding = one(doctor.threads())
    assert (finding.status, finding.fix) == ("warning", "set OMP_NUM_THREADS=2")


def test_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def attempt(code: str, environment: object) -> str:
        tried.append(code)
        return "AttributeError: flex_vertedge"

    monkeypatch.setattr(doctor, "_try", attempt)
    versions(monkeypatch, ale_py="0.12.1", dm_control="1.0.28", mujoco="3.3.0")
    atari, crafter, dmc, *_ = doctor.environments()
    assert (atari.status, crafter.status, dmc.status) == ("ok", "warning", "ok")
    assert crafter.fix == 'pip install "reverie-rl[crafter]"'
    assert tried == []
    versions(monkeypatch, dm_control="1.0.50", mujoco="4.0.0")
    atari, _, dmc, *_ = doctor.environments()
    assert (atari.status, dmc.status, dmc.fix) == (
        "warning",
        "problem",
        "pip install dm-control==1.0.28 mujoco==3.3.0",
    )
    assert "flex_vertedge" in dmc.detail


def test_rendering_falls_back_and_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    versions(monkeypatch)
    assert "not needed" in one(doctor.rendering()).detail
    versions(monkeypatch, mujoco="3.3.0")
    for working, status, words in (("egl", "ok", "egl"), ("osmesa", "ok", "osmesa"), ("none", "warning", "no GL")):
        monkeypatch.setattr(doctor, "_try", lambda code, env, w=working: None if env["MUJOCO_GL"] == w else "no GL")
        finding = one(doctor.rendering())
        assert finding.status == status
        assert words in finding.detail


def test_trying_code_elsewhere() -> None:
    assert doctor._try("import os; assert os.environ['REVERIE_TEST'] == '1'", {"REVERIE_TEST": "1"}) is None
    assert doctor._try("raise ValueError('no')", {}) == "ValueError: no"
    assert doctor._try("import os; os._exit(3)", {}) == "ended with code 3"


def test_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, status in ((6e9, "ok"), (1e9, "warning")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert one(doctor.disk()).status == status


def test_video_and_speed_really_work() -> None:
    assert one(doctor.video()).status == "ok"
    assert doctor._rate(lambda: None, 10**9, seconds=0.01) > 0


def test_versions_compare_by_number() -> None:
    assert doctor.numbers("2.13.0+cpu") == (2, 13, 0)
    assert doctor.numbers("2.9.1") < doctor.numbers("2.11")


def test_ray_and_the_room_for_its_object_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    versions(monkeypatch, ray=None)
    assert one(doctor.actors()).fix == 'pip install "reverie-rl[ray]"'
    versions(monkeypatch, ray="2.60.0")
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64_000_000))
    finding = one(doctor.actors())
    assert (finding.status, "--ray.memory 32000000" in finding.fix) == ("warning", True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8_000_000_000))
    assert one(doctor.actors()).detail == f"ray 2.60.0, 8.0 GB free in {tmp_path}"
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    assert one(doctor.actors()).detail == "ray 2.60.0"
