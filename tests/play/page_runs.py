"""Runs to play with in tests of the page, and a server of one of them in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_runs import SMALL, Never, begin

from reverie import overrides
from reverie.presets import make_config

CATCH: dict[str, Any] = {
    **{
        f"agent.{part}.{key}": value
        for part in ("encoder", "decoder")
        for key, value in {"depth": 8, "layers": 1, "units": 48}.items()
    },
    **{f"agent.rssm.{key}": value for key, value in {"deter": 48, "hidden": 48, "stoch": 6, "classes": 6}.items()},
    **{
        f"agent.{head}.{key}": value
        for head in ("actor", "critic", "reward", "discount")
        for key, value in {"layers": 1, "units": 48}.items()
    },
    "agent.horizon": 2,
    "agent.kl_scale": 0.1,
    "agent.model_opt.lr": 0.004,
    "env.options.size": 8,
    "env.options.cells": 4,
    "env.num_envs": 4,
    "replay.batch": 64,
    "replay.window.learn": 4,
    "replay.store.chunk": 32,
    "run.threads": 1,
    "run.device": "cpu",
    "run.env_steps": 320,
    "run.prefill": 240,
    "run.pretrain": 250,
    "run.train_ratio": 256.0,
    "run.log_every": 400,
    "run.checkpoint_every": 0,
    "run.eval_every": 0,
    "run.eval_episodes": 2,
    "run.eval_envs": 2,
}
"""Catch on 4 x 4 cells of 2 x 2 pixels: seen through and through after 300 learner_steps, ten seconds of one core."""
SHORT = {"run.env_steps": 60, "run.checkpoint_every": 0, "run.eval_every": 0, "run.eval_episodes": 2}
VALUES: dict[str, Any] = {
    "agent.torso.channels": [2, 3, 3],
    "agent.torso.units": 8,
    "env.num_envs": 2,
    "replay.batch": 4,
    "replay.store.chunk": 16,
    "run.threads": 1,
    "run.prefill": 40,
    "run.log_every": 10,
    "run.eval_envs": 2,
    **SHORT,
}


def made(agent: str, env: str, run_dir: Path, settings: dict[str, Any]) -> Path:
    """A run that was trained just now, with those of the settings that its agent has."""
    config = make_config(agent, "cpu", env)
    keys = overrides.flatten(config)
    known = {key: value for key, value in settings.items() if key in keys or key.startswith("env.options")}
    begin(overrides.apply(config, known), run_dir).train(Never())
    return run_dir


def dreamer(env: str, run_dir: Path, **more: Any) -> Path:
    """A DreamerV2 that has learned next to nothing."""
    return made("dreamerv2", env, run_dir, {**SMALL, **SHORT, **more})


def once(folder: Path, agent: str, env: str, settings: dict[str, Any]) -> Path:
    """The run in a folder that several test processes share: one of them trains it, the others wait."""
    try:
        folder.mkdir()
    except FileExistsError:
        until = time.monotonic() + 300
        while not (folder / "done").exists():
            assert time.monotonic() < until, "the process that trains this run has not come to an end"
            time.sleep(0.2)
    else:
        made(agent, env, folder / "run", settings)
        (folder / "done").touch()
    return folder / "run"


@dataclass(frozen=True)
class Served:
    """A server of a page. url: of the page, with the key."""

    url: str
    process: subprocess.Popen[str]
    log: Path
    recording: Path

    @property
    def host(self) -> str:
        """As its Host header says: 127.0.0.1 and the port."""
        return re.match(r"http://([^/]+)/", self.url)[1]  # type: ignore[index]

    @property
    def key(self) -> str:
        """The key of its address."""
        return self.url.partition("key=")[2]

    def memory(self) -> float:
        """Proportional set size of the process, bytes."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return float(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) * 1024  # type: ignore[index]


@contextmanager
def serving(run_dir: Path, folder: Path, *more: str) -> Iterator[Served]:
    """A server of a run, ended by SIGTERM: it must then have said nothing wrong."""
    log, recording = folder / "log", folder / "recording"
    command = [sys.executable, "-m", "reverie.cli", "play", str(run_dir), "--no-browser", "--record", str(recording)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = next((line.split()[1] for line in lines if line.startswith("open ")), None)
            assert url is not None, log.read_text()
            yield Served(url, process, log, recording)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(20)
            finally:
                process.kill()
    assert code == 0, log.read_text()
    assert log.read_text() == ""
