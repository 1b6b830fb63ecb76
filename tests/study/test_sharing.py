"""Runs at once: what their replays take together, by hand, and what is refused before anything begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.config import Config
from reverie.errors import UserError
from reverie.machine import Memory
from reverie.run.configure import configure
from reverie.study import sharing
from reverie.study.compare import Comparison, Variant, compare
from reverie.study.jobs import Jobs
from reverie.study.sharing import together

ROW = 32 * 32 + 2 * 8 + 4 + 3
"""bytes of a row of Catch: a picture, two actions, a reward, three flags"""


def config(*words: str, env_steps: int = 1000) -> Config:
    return configure("dreamerv2", "cpu", "toy/catch", list(words), {"env_steps": str(env_steps)})


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "memory", lambda: Memory(10_000_000, 1))


def test_the_largest_that_go_on_together_count() -> None:
    runs = [config(env_steps=n) for n in (1000, 3000, 2000)]
    assert (
        together(runs, 2) == f"2 runs at once: their replays take {5 * ROW / 1e3:.3g} MB of 10 MB of memory when full"
    )
    assert together(runs, 7).startswith(f"3 runs at once: their replays take {6 * ROW / 1e3:.3g} MB of")


def test_a_budget_that_is_filled_counts() -> None:
    small = config("--replay.store.budget", "100kB")
    assert "take 200 kB of" in together([small, small], 2)


def test_rows_of_a_dataset_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.run.length.open_dataset", lambda path: range(3000))
    recorded = config("--dataset.path", "a/replay")
    assert f"take {6 * ROW / 1e3:.3g} MB of" in together([recorded, recorded], 2)
    published = config("--dataset.path", "minari:name", "--replay.store.budget", "4MB")
    assert "take 8 MB of" in together([published, published], 2)


def test_several_environments_are_those_of_the_run() -> None:
    both = configure("impala", "cpu", "CartPole-v0,CartPole-v1", [], {"env_steps": "1000"})
    assert together([both, both], 2).startswith("2 runs at once")


def test_one_at_a_time_needs_no_word() -> None:
    assert together([config(), config()], 1) == together([config()], 2) == together([], 2) == ""


def test_what_does_not_fit_is_refused() -> None:
    runs = [config(env_steps=6000)] * 2
    with pytest.raises(UserError, match=r"2 runs at once come to 12.6 MB, more than the 10 MB of memory: fewer --jobs"):
        together(runs, 2)
    assert together(runs[:1], 2) == ""


def test_on_a_gpu_whole_budgets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(sharing, "gpu_memory", lambda device: Memory(3 * 10**9, 1))
    words = ("--replay.store.place", "device", "--run.device", "cuda:0", "--replay.store.budget", "1GB")
    assert "take 2 GB of 3 GB of the memory of cuda:0 when full" in together([config(*words)] * 2, 4)
    same = config(*words, "--run.device", "cuda"), config(*words, "--run.device", "auto"), config(*words)
    assert "3 runs at once: their replays take 3 GB of 3 GB of the memory of cuda:0 when full" in together(same, 3)
    with pytest.raises(UserError, match="4 runs at once come to 4 GB, more than the 3 GB of the memory of cuda:0"):
        together([config(*words)] * 4, 4)
    with pytest.raises(UserError, match="device 'cuda:1' was asked for but torch sees 1: cuda:0 to cuda:0"):
        together([config(*words, "--run.device", "cuda:1")] * 2, 2)


def test_a_comparison_that_does_not_fit_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(Jobs, "call", lambda jobs, words, log: calls.append(words))
    variants = (Variant("a", "dreamerv2"), Variant("b", "dreamerv2"))
    request = Comparison("toy/catch", variants, (0,), tmp_path / "runs", tmp_path / "c", "cpu", 6000, jobs=2)
    with pytest.raises(UserError, match="2 runs at once"):
        compare(request, calls.append)
    assert calls == []
    assert not (tmp_path / "runs").exists()


def test_how_a_gpu_is_shared_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert "GPU" not in together([config(), config()], 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    first, second = config("--run.device", "cuda"), config("--run.device", "cuda:1")
    assert "GPU" not in together([first, second], 2)
    assert together([first, second, first], 2).endswith(
        "when full; those on one GPU take turns on it, for no MPS is there (nvidia-cuda-mps-control -d starts it)"
    )
    (tmp_path / "control").touch()
    assert together([first, first], 2).endswith("when full; those on one GPU share it by MPS, if its daemon still runs")
