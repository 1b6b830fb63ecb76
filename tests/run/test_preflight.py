"""Runs that would train nothing are refused before anything is built; those that trained nothing are no success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Never, begin

from reverie import overrides
from reverie.config import Config
from reverie.envs.make import make_env
from reverie.errors import UserError
from reverie.machine import Memory, in_words
from reverie.presets import make_config
from reverie.run.build import build_agent
from reverie.run.checkpoint import Checkpoints
from reverie.run.preflight import check_draws
from reverie.run.room import check_memory, learning_fits
from reverie.run.telling import Pace
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
        {**FIFO, "agent__n_step": 3, "replay__batch": 20},
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


DRAWS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a2c from a replay": (
        "a2c",
        "CartPole-v1",
        {"replay.selector": "uniform", "run.train_ratio": 8.0},
        "a2c learns each row once, as it is acted: replay.selector = fifo with share 0",
    ),
    "a2c with old rows": ("a2c", "CartPole-v1", {"replay.selector.share": 0.5}, "a2c learns each row once"),
    "drift without a memory": (
        "dqn",
        "CartPole-v1",
        {"replay.window.drift": True},
        "there is no memory whose states could drift: set replay.window.drift to false",
    ),
    "drift of nothing": ("apex-dpg", "Pendulum-v1", {"replay.window.drift": True}, "no memory whose states could"),
    "a3c with old rows": (
        "a3c",
        "CartPole-v1",
        {"replay.selector.share": 0.5, "replay.batch": 2},
        "a3c learns each row once",
    ),
    **{
        f"{agent} by priority": (
            agent,
            env,
            {"replay.selector": "prioritised"},
            f"{agent} gives no priorities back.* set replay.selector.alpha to 0, or replay.selector to another",
        )
        for agent, env in (("dreamerv2", "toy/catch"), ("dreamerv3", "toy/catch"), ("tdmpc2", "Pendulum-v1"))
    },
}


@pytest.mark.parametrize("kind", DRAWS)
def test_draws_that_losses_do_not_hold_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    agent, env, changes, message = DRAWS[kind]
    monkeypatch.setattr("reverie.run.runner.build_learner", lambda *_: pytest.fail("a learner was built"))
    with pytest.raises(UserError, match=message):
        train(overrides.apply(make_config(agent, None, env), changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_draws_that_losses_hold_for_are_not() -> None:
    """IMPALA corrects for old rows; priorities that do not count, and those that agents give, may be drawn by."""
    for agent, env, changes in (
        ("impala", "CartPole-v1", {"replay.selector.share": 0.5}),
        ("dreamerv2", "toy/catch", {"replay.selector": "prioritised", "replay.selector.alpha": 0.0}),
        ("rainbow", "CartPole-v1", {"replay.selector": "prioritised"}),
        ("apex-dpg", "Pendulum-v1", {"replay.selector": "prioritised"}),
        ("tdmpc", "Pendulum-v1", {"replay.selector": "prioritised"}),
    ):
        config = overrides.apply(make_config(agent, None, env), changes)
        world = make_env(env)
        check_draws(config, build_agent(config, world.spec))
        world.close()


ALMOST: dict[str, dict[str, Any]] = {
    "prefill": {"run__prefill": 150},
    "window": {"agent__n_step": 149},
    "windows used once": {**FIFO, "agent__n_step": 3, "replay__batch": 15},
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


def test_training_that_stops_on_its_way_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where an episode is longer than the replay, and windows begin where episodes do."""
    local = begin(asked(run__log_every=30), tmp_path / "run")
    selector = local.store.replay.selector
    ready = selector.ready
    selector.ready = lambda n: local.store.env_steps < 80 and ready(n)  # type: ignore[method-assign]
    local.train(Never())
    assert local.learner.learner_steps > 1
    assert capsys.readouterr().err.count("no learner_step in 30 env_steps, which earn more than two") == 1


def test_nothing_is_said_of_a_run_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(asked(run__log_every=1), tmp_path / "run")
    assert capsys.readouterr().err == ""


# Sizes against the machine

GB = 10**9
ROW = 4 * 4 + 4 + 3 + 8 + 8
"""Bytes of a row of CartPole: observation, reward, flags, action and the one before."""


def machine(monkeypatch: pytest.MonkeyPatch, total: float, available: float) -> None:
    there = Memory(int(total), int(available))
    for module in ("reverie.run.room", "reverie.machine"):
        monkeypatch.setattr(f"{module}.memory", lambda: there)


@pytest.mark.parametrize(
    ("env_steps", "budget", "message"),
    [
        (10**10, "60GB", "replay.store.budget is 60 GB, there are 23 GB, of which 15 GB are free"),
        (
            10**9,
            "60GB",
            rf"replay.store.budget is 60 GB, the run's rows come to {in_words(10**9 * ROW)}, there are 23 GB",
        ),
        (10**10, "24GiB", r"replay.store.budget is 25.8 GB"),
    ],
)
def test_a_replay_that_cannot_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_steps: int, budget: str, message: str
) -> None:
    machine(monkeypatch, 23 * GB, 15 * GB)
    config = asked(run__env_steps=env_steps, replay__store__budget=budget)
    with pytest.raises(UserError, match=f"does not fit into this machine's memory: {message}") as error:
        train(config, tmp_path / "run")
    assert "--replay.store.budget 12GB would fit" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_cannot_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1_000_000, 900_000)
    train(asked(replay__batch=10), tmp_path / "run")
    with pytest.raises(UserError, match=r"a batch of 100,000 windows takes .*make replay.batch smaller"):
        train(asked(replay__batch=100_000), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_queue_that_never_holds_a_batch_is_refused(tmp_path: Path) -> None:
    settings = overrides.apply(
        make_config("impala", "cpu", "CartPole-v1"),
        {"replay.store.budget": 200_000, "replay.batch": 256, "run.env_steps": 20_000},
    )
    with pytest.raises(UserError, match=r"a batch has \d+ windows, but the replay holds \d+ of 16 streams at a time"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_replay_that_does_not_fit_now_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, 23 * GB, 3000)
    train(asked(), tmp_path / "run")
    assert "will not fit into what is free now of this machine's memory, 3 kB" in capsys.readouterr().err


def test_a_budget_that_the_run_never_fills_is_none_of_the_machines_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, 10_000_000, 9_000_000)
    train(asked(replay__store__budget="20MB"), tmp_path / "run")
    out, err = capsys.readouterr()
    assert err == ""
    line = next(line for line in out.splitlines() if line.startswith("replay: "))
    assert line.endswith("when full, of 10 MB of memory; it holds the whole run")


def test_the_memory_of_a_gpu_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.run.room.gpu_memory", lambda device: Memory(80 * GB, 30 * GB))
    cuda = torch.device("cuda:1")
    config = asked(replay__store__budget="32GB", replay__store__place="device")
    message = r"the memory of cuda:1: replay.store.budget is 32 GB, there are 80 GB, of which 30 GB are free; .* 24GB"
    with pytest.raises(UserError, match=message):
        check_memory(config, 1e6, cuda)
    check_memory(asked(replay__store__budget="29GB", replay__store__place="device"), 1e6, cuda)
    check_memory(config, 1e6, torch.device("cpu"))  # there is no GPU: the rows are on the host


FULL = {
    "host": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        "this machine's",
    ),
    "python": (MemoryError(), "this machine's"),
    "cuda": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "this machine's"),
}


@pytest.mark.parametrize("kind", FULL)
def test_a_learner_step_that_does_not_fit_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    error, where = FULL[kind]
    local = begin(asked(run__checkpoint_every=60), tmp_path / "run")
    update = local.trainer.update

    def full(batch: Any) -> Any:
        if local.run.clock.env_steps >= 100:
            raise error
        return update(batch)

    monkeypatch.setattr(local.trainer, "update", full)
    with pytest.raises(UserError, match=rf"a learner_step does not fit into {where} memory.*replay.batch") as raised:
        local.train(Never())
    assert raised.value.__cause__ is error
    assert Checkpoints(tmp_path / "run").names() == [60]


@pytest.mark.parametrize("error", [RuntimeError("on purpose"), NotImplementedError("on purpose")], ids=repr)
def test_other_errors_of_a_learner_step_stay_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    local = begin(asked(), tmp_path / "run")

    def broken(batch: Any) -> Any:
        raise error

    monkeypatch.setattr(local.trainer, "update", broken)
    with pytest.raises(type(error), match="on purpose") as raised:
        local.train(Never())
    assert raised.value is error


def test_on_a_gpu_numbers_of_half_the_size_are_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.run.room.gpu_memory", lambda device: Memory(80 * GB, 30 * GB))

    def step() -> None:
        with learning_fits(asked(run__precision="float32"), torch.device("cuda:0")):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"cuda:0, 80 GB.* run.precision bfloat16"):
        step()


def test_the_hours_to_come_are_told_after_a_minute_of_training() -> None:
    pace = Pace(1_000_000)
    assert pace.line(0.0, 0, 0) == pace.line(50.0, 50_000, 0) == ""  # the prefill does not count
    assert pace.line(100.0, 60_000, 1) == pace.line(159.0, 61_000, 50) == ""
    # 2400 env_steps in 120 s: 20 a second, so 937 600 take 13 hours.
    told = pace.line(220.0, 62_400, 100)
    assert told == "about 13.0 hours to go, at the 20.0 env_steps/s of the first minute of training"
    assert pace.line(400.0, 70_000, 300) == ""
    short = Pace(2000)
    assert short.line(0.0, 500, 1) == ""
    assert short.line(60.0, 1100, 9) == "about 2 minutes to go, at the 10.0 env_steps/s of the first minute of training"
