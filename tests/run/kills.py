"""Runs in processes of their own that are killed at seeded moments, and go on until they have ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from tiny_runs import assert_same_run

from reverie.run.checkpoint import Checkpoints

POLL = 0.0003
KINDS = ["early", "later", "in a checkpoint", "after a checkpoint", "in a chunk", "later", "in a checkpoint"]
"""Moments to kill at, see `moment`."""
PRELOAD = (
    "cli",
    "run.local",
    "presets",
    "presets.dreamerv2",
    "presets.harmonydream",
    "presets.r2d2",
    "presets.iqn",
    "presets.impala",
)
PRELOAD += (
    "agents.dreamerv2",
    "agents.rainbow",
    "agents.iqn",
    "agents.drqn",
    "agents.r2d2",
    "agents.impala",
    "envs.toys",
    "envs.gym",
)


def play(command: Sequence[str], output: str) -> None:
    """The command line in a process of its own."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from reverie.cli import cli

    cli.main(list(command))


@cache
def server() -> ForkServerContext:
    """Processes are forked from one that has imported everything: a start takes no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"reverie.{name}" for name in PRELOAD])
    return context


def launch(command: Sequence[str], output: Path) -> BaseProcess:
    """Starts the command line in a fresh process; what it prints is added to the file `output`."""
    process = server().Process(target=play, args=(command, str(output)), daemon=True)
    process.start()
    return process


def names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def moment(kind: str, run_dir: Path, rng: np.random.Generator) -> Callable[[], bool]:
    """Tells when to kill."""
    begun = time.monotonic()
    if kind == "early":
        delay = rng.uniform(0, 0.3)
        return lambda: time.monotonic() - begun > delay
    if kind == "later":
        # From the lines of the checkpoint on: a run that goes on first cuts the lines after it.
        pointer = Checkpoints(run_dir).latest()
        offset = json.loads((pointer / "state.json").read_text())["tree"]["offset"] if pointer else 0
        target = offset + int(rng.integers(1, 5000))
        metrics = run_dir / "metrics.jsonl"
        cut = metrics.stat().st_size if metrics.exists() else 0
        seen = {"small": cut <= offset}

        def grown() -> bool:
            size = metrics.stat().st_size if metrics.exists() else 0
            seen["small"] = seen["small"] or size < cut or size <= offset
            return seen["small"] and size >= target

        return grown
    if kind == "in a checkpoint":
        folder = run_dir / "checkpoints"
        old = names(folder)
        return lambda: any(name.endswith(".partial") for name in names(folder) - old)
    if kind == "after a checkpoint":
        folder = run_dir / "checkpoints"
        old = names(folder)
        return lambda: any(name.isdigit() for name in names(folder) - old)
    assert kind == "in a chunk"
    return lambda: any(name.endswith(".tmp") for name in names(run_dir / "replay"))


def kill_and_finish(
    command: Sequence[str], run_dir: Path, kinds: Sequence[str], rng: np.random.Generator, alone: Path
) -> None:
    """kill -9 at these moments of the run that `command` trains in `run_dir`; then it must equal the run `alone`.

    After each kill the same command or `reverie resume` goes on. A run that ends before it could be killed is compared
    and begun anew.
    """
    output = run_dir.with_suffix(".output")
    done = 0
    while done < len(kinds):
        chosen = command
        if (run_dir / "config.json").exists() and rng.integers(2):
            chosen = ["resume", str(run_dir)]
        now = moment(kinds[done], run_dir, rng)
        process = launch(chosen, output)
        while process.is_alive() and not now():
            time.sleep(POLL)
        process.kill()
        process.join()
        if process.exitcode == 0:
            assert_same_run(alone, run_dir)
            shutil.rmtree(run_dir)
        assert process.exitcode in (0, -signal.SIGKILL), output.read_text()
        done += process.exitcode != 0
    process = launch(command, output)
    process.join()
    assert process.exitcode == 0, output.read_text()
    assert_same_run(alone, run_dir)
    assert "Traceback" not in output.read_text()
    assert not [name for name in names(run_dir / "checkpoints") | names(run_dir / "replay") if "partial" in name]
