"""Streams in processes: the same rows, states that go either way, and faults as without processes."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest

from reverie.envs.env import ResumeError
from reverie.envs.faults import EnvFault
from reverie.envs.make import make_drawn, make_env
from reverie.envs.stepping import Stepping
from reverie.envs.workers import WorkerVector
from reverie.errors import UserError
from tests.contracts.test_envs import assert_same, sample, streams

HERE = "tests.envs.odd_envs"
KINDS: dict[str, dict[str, Any]] = {
    "toy/count": {"length": 2, "max_length": 6, "end": "mixed"},
    "toy/tmaze": {"length": 4},
    "toy/catch": {"size": 16, "cells": 4},
    "Pendulum-v1": {"max_episode_steps": 17},
    "tests.envs.test_gym:Dicts": {"length": 3},
    "CartPole-v1": {"mask": [1], "flicker": 0.3},
}


def both(id: str, workers: int = 2, num_envs: int = 4, **options: Any) -> tuple[Any, Any]:
    """Streams in processes and the same streams here."""
    apart = make_env(id, num_envs=num_envs, stepping=Stepping(workers=workers), **options)
    return apart, make_env(id, num_envs=num_envs, **options)


@pytest.mark.parametrize("id", KINDS)
def test_rows_are_those_of_one_process(id: str) -> None:
    apart, here = both(id, **KINDS[id])
    assert apart.spec == here.spec
    rng, twin = np.random.default_rng(0), np.random.default_rng(0)
    assert_same(streams(apart, apart.reset(5), 40, rng), streams(here, here.reset(5), 40, twin))
    action = sample(here, rng)
    a, b = apart.step(action), here.step(action)
    assert a.episode_info == b.episode_info
    apart.close()


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 4)])
def test_a_state_is_brought_back_with_other_processes(before: int, after: int) -> None:
    made = [make_env("toy/count", num_envs=4, max_length=9, stepping=Stepping(workers=n)) for n in (before, after)]
    rng = np.random.default_rng(1)
    streams(made[0], made[0].reset(2), 25, rng)
    state, later = made[0].state_dict(), rng.bit_generator.state
    expected = streams(made[0], None, 20, rng)
    rng.bit_generator.state = later
    made[1].load_state_dict(state)
    assert_same(expected, streams(made[1], None, 20, rng))
    for env in made:
        env.close()


def test_a_state_that_does_not_come_back_is_refused() -> None:
    apart, here = both("toy/count")
    here.reset(0)
    streams(here, None, 5, np.random.default_rng(0))
    state = here.state_dict()
    state["checksum"] = state["checksum"] + (np.arange(4) == 3)
    with pytest.raises(ResumeError, match="stream 3 is elsewhere"):
        apart.load_state_dict(state)
    apart.close()


def test_a_fault_is_told_as_without_processes() -> None:
    apart, here = both(f"{HERE}:Failing", at=[11])
    told = []
    for env in (apart, here):
        env.reset(3)
        for _ in range(10):
            env.step(np.zeros(4, np.int64))
        state = env.state_dict()
        with pytest.raises(EnvFault) as caught:
            env.step(np.zeros(4, np.int64))
        told.append((str(caught.value), caught.value.detail))
        assert [a.tolist() for a in env.state_dict()["actions"]] == [a.tolist() for a in state["actions"]]
    assert told[0] == told[1]
    apart.close()
    assert not any(process.is_alive() for process in apart._env.processes)


def test_environments_are_made_anew_in_their_processes() -> None:
    apart = make_env(f"{HERE}:Failing", num_envs=4, stepping=Stepping(workers=2, restarts=2), at=[3])
    apart.reset(0)
    lost = [apart.step(np.zeros(4, np.int64)).lost for _ in range(4)]
    assert [None if each is None else each.tolist() for each in lost] == [None, None, [0, 1, 2, 3], None]
    assert apart.metrics() == {"env_restarts": 4.0}
    apart.close()


def test_a_process_that_is_gone_to_us_but_still_there_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env("toy/count", num_envs=4, length=50, stepping=Stepping(workers=2))
    assert isinstance(env, WorkerVector)
    env.reset(0)
    process = env._env.processes[1]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    for each in env._env.processes:
        monkeypatch.setattr(each, "is_alive", lambda: True)
    with pytest.raises(EnvFault):
        env.step(np.zeros(4, np.int64))
    monkeypatch.undo()
    env.close()


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_process_that_is_killed(restarts: int, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env("toy/count", num_envs=4, length=50, stepping=Stepping(workers=2, restarts=restarts))
    assert isinstance(env, WorkerVector)
    env.reset(0)
    for _ in range(3):
        env.step(np.zeros(4, np.int64))
    process = env._env.processes[1]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    if restarts:
        step = env.step(np.zeros(4, np.int64))
        assert step.lost is not None
        assert step.lost.tolist() == [0, 1, 2, 3]
        assert step.rows["is_first"].all()
        assert step.rows["obs.vector"].tolist() == [[0, 1]] * 4
        assert env.metrics() == {"env_restarts": 2.0}
        assert env.step(np.zeros(4, np.int64)).rows["obs.vector"].tolist() == [[1, 1]] * 4
        assert r"worker 1 (streams 2 to 3), step found that its process has ended (signal 9)" in capsys.readouterr().err
    else:
        with pytest.raises(EnvFault, match=r"worker 1 \(streams 2 to 3\), step found that its process has ended"):
            env.step(np.zeros(4, np.int64))
        assert [len(actions) for actions in env.state_dict()["actions"]] == [3] * 4
    env.close()


def test_an_interrupt_of_a_process_is_left_to_the_parent() -> None:
    env = make_env("toy/count", num_envs=2, stepping=Stepping(workers=2))
    assert isinstance(env, WorkerVector)
    env.reset(0)
    for process in env._env.processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert env.step(np.zeros(2, np.int64)).rows["obs.vector"][:, 0].tolist() == [1, 1]
    env.close()


@pytest.mark.parametrize(
    ("id", "num_envs", "message"),
    [
        ("toy/count", 3, "3 streams of toy/count cannot be shared out evenly among 2 processes"),
        (f"{HERE}:sync_failing", 2, r"env\.workers must be 0"),
        ("no_such_module:make", 2, "no module 'no_such_module'"),
    ],
)
def test_what_cannot_be_is_one_line(id: str, num_envs: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_env(id, num_envs=num_envs, stepping=Stepping(workers=2))


def test_processes_that_cannot_begin_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr("reverie.envs.workers.AsyncVectorEnv", gone)
    with pytest.raises(UserError, match=r"could not begin \(ConnectionResetError\); a script that asks .*__main__"):
        make_env("toy/count", num_envs=2, stepping=Stepping(workers=2))


def test_what_is_drawn_has_no_processes() -> None:
    with pytest.raises(UserError, match=r"what is drawn is stepped here: env\.workers must be 0"):
        make_drawn("CartPole-v1", num_envs=2, stepping=Stepping(workers=2))


def test_a_slow_environment_is_stepped_at_once_in_all_processes() -> None:
    """Sleeping processes need no processor: eight of them take about as long as one."""
    env = make_env(f"{HERE}:Slow", num_envs=8, stepping=Stepping(workers=8), seconds=0.05)
    env.reset(0)
    env.step(np.zeros(8, np.int64))
    begun = time.perf_counter()
    for _ in range(5):
        env.step(np.zeros(8, np.int64))
    took = time.perf_counter() - begun
    env.close()
    assert took < 8 * 5 * 0.05 / 2  # one after another they take 2 s; a busy machine may be slow
