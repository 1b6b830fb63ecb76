"""Run directories with a made-up metric, as small as `reverie plot` can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie.report.record import FILE


def make_run(
    path: Path,
    scores: Sequence[float] = (1.0, 2.0),
    *,
    agent: str = "r2d2",
    env: str = "toy/catch",
    seed: int = 0,
    metric: str = "episode/score",
    run: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A run with `scores` at frames 40, 80, ... (env_steps 10, 20, ..., minutes 1, 2, ...)."""
    path.mkdir(parents=True)
    config = {
        "name": agent,
        "preset": "cpu",
        "agent": {"core": {"size": 8}, **settings},
        "env": {"id": env, "num_envs": 1, "options": {}},
        "run": {"seed": seed, "frames": 1000, "threads": 1, **(run or {})},
        "log": {"writers": ["tensorboard"], "callbacks": [], "options": {}, **(log or {})},
    }
    (path / "config.json").write_text(json.dumps({"config": config, "versions": {}}))
    lines = [
        {"env_steps": 10 * n, "frames": 40 * n, "learner_steps": n, "time/elapsed_s": 60.0 * n, metric: score}
        for n, score in enumerate(scores, start=1)
    ]
    (path / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def weighed(path: Path) -> Path:
    """A run whose reward loss stays at 2 while its weight grows; the dynamics loss reaches 0."""
    run = make_run(path)
    lines = []
    for n in (1, 2):
        record = {"env_steps": 10 * n, "frames": 40 * n, "learner_steps": n, "time/elapsed_s": 60.0 * n}
        for group, loss, weight in (("reward", 2.0, n / 2), ("dynamics", 2.0 - n, 0.5)):
            values = {"loss": loss, "weight": weight, "product": loss * weight}
            record |= {f"train/balance/{group}_{kind}": value for kind, value in values.items()}
        lines.append(json.dumps(record) + "\n")
    (run / FILE).write_text("".join(lines))
    return run
