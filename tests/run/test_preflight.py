"""Runs that would train nothing are refused before anything is built; those that trained nothing are no success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Never, begin

from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run.checkpoint import Checkpoints
from reverie.run.train import train

SMALL = {
    "run.env_steps": 150,
    "run.prefill": 40,
    "run.log_every": 50,
    "run.eval_episodes": 1,
    "run.device": "cpu",
    "run.train_ratio": 1.0,
    "replay.batch": 4,
    "env.num_envs": 1,
    "agent.torso.units": 4,
    "agent.hidden": 4,
}


def asked(agent: str = "dqn", env: str = "CartPole-v1", **changes: Any) -> Config:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return overrides.apply(make_config(agent, "cpu-vectors", env), SMALL | dotted)


FIFO = {"run__train_ratio": None, "replay__selector": "fifo", "run__prefill": 0, "replay__window__period": 10}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "prefill": ({"run__prefill": 151}, "run.prefill is 151 env_steps, the whole run has 150"),
    "prefill in frames": (
        {"run__env_steps": None, "run__frames": 500, "run__prefill": 1000},
        "run.prefill is 1000 env_steps, the whole run has 500",
    ),
    "learned rows": (
        {"agent": "r2d2", "replay__window__learn": 200, "replay__window__context": 0},
        r"a window has 210 rows \(context 0, learn 200, lookahead 10\), but each of the 1 streams makes 150 env_steps",
    ),
    "context": ({"agent": "r2d2", "replay__window__context": 140}, r"a window has \d+ rows \(context 140"),
    "steps ahead": ({"agent__n_step": 150}, "a window has 151 rows .*lookahead 150"),
    "streams": (
        {"agent__n_step": 3, "env__num_envs": 50, "run__prefill": 0},
        "a window has 4 rows .* each of the 50 streams makes 3 env_steps in this run of 150",
    ),
    "windows used once": (
        {**FIFO, "replay__batch": 20},
        "a batch has 20 windows, each of which is drawn once, and this run of 150 env_steps has 15",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_trains_nothing_is_refused_before_anything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    changes, message = REFUSED[kind]
    monkeypatch.setattr("reverie.run.runner.build_learner", lambda *_: pytest.fail("a learner was built"))
    with pytest.raises(UserError, match=f"nothing would be trained: {message}"):
        train(asked(**changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


ALMOST: dict[str, dict[str, Any]] = {
    "prefill": {"run__prefill": 150},
    "window": {"agent__n_step": 149},
    "windows used once": {**FIFO, "replay__batch": 15},
}


@pytest.mark.parametrize("kind", ALMOST)
def test_what_trains_once_is_not(tmp_path: Path, kind: str) -> None:
    summary = train(asked(run__log_every=1, **ALMOST[kind]), tmp_path / "run")
    assert summary["finished"]
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["learner_steps"] >= 1


def test_what_only_the_run_can_tell_is_told_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Windows of whole episodes, where none has ended when the run is over."""
    local = begin(asked(run__env_steps=120, run__log_every=10), tmp_path / "run")
    local.store.replay.selector.ready = lambda n: False  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"nothing was trained: all 120 env_steps were made, and no batch of 4 windows"):
        local.train(Never())
    assert capsys.readouterr().err.count("no learner_step yet after 50 env_steps (run.prefill is 40)") == 1
    assert Checkpoints(tmp_path / "run").names() == [120]
    assert local.run.summary == {}


def test_nothing_is_said_of_a_run_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(asked(run__log_every=1), tmp_path / "run")
    assert capsys.readouterr().err == ""
