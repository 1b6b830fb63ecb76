"""Environments that raise: what is said, what is kept, and streams that are started anew without splicing episodes."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.envs.env import ResumeError, shut
from reverie.envs.faults import EnvFault
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector
from reverie.envs.owned import release
from reverie.envs.stepping import Stepping
from reverie.envs.vector import SyncVector
from reverie.errors import UserError
from tests.contracts.test_envs import streams
from tests.envs.odd_envs import CannotClose, Failing, Giving, Leaving, async_failing

HERE = "tests.envs.odd_envs"


def failing(restarts: int = 0, **options: Any) -> SyncVector:
    """Three streams, of which number 1 fails as said; environments that are made anew do not fail."""
    env = SyncVector("odd", [Failing(), Failing(**options), Failing()], make=Failing)
    env.settle(Stepping(restarts=restarts))
    return env


def play(env: Any, env_steps: int) -> None:
    for _ in range(env_steps):
        env.step(np.zeros(env.num_envs, np.int64))


def test_a_fault_says_where_and_shows_the_environments_own_traceback() -> None:
    env = failing(at=(11,))
    env.reset(3)
    play(env, 10)
    with pytest.raises(EnvFault) as caught:
        play(env, 1)
    assert "odd: stream 1, env_step 3 of episode 1 (seed " in str(caught.value)
    assert "step() raised ConnectionError: simulator gone" in str(caught.value)
    lines = caught.value.detail.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "odd_envs.py" in lines[1]
    assert lines[-2:] == ["ConnectionError: simulator", "gone"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.detail) == (str(caught.value), caught.value.detail)


@pytest.mark.parametrize("action", [[0, 2], [0, -1], [0, 256], [0, 0.5], [0], 0])
def test_actions_that_there_are_not_are_refused_and_nothing_is_stepped(action: Any) -> None:
    env = SyncVector("odd", [Failing(), Failing()])
    env.reset(3)
    before = env.state_dict()
    with pytest.raises(UserError, match=r"there is no action|takes actions of shape"):
        env.step(np.array(action))
    assert [len(log) for log in env.state_dict()["actions"]] == [len(log) for log in before["actions"]]
    assert [each.steps for each in env.envs] == [0, 0]  # type: ignore[attr-defined]


def test_an_environment_that_ends_its_process_does_not_end_a_run_without_a_word() -> None:
    env = SyncVector("odd", [Failing(), Leaving(at=(3,))])
    env.reset(3)
    play(env, 2)
    with pytest.raises(EnvFault, match=r"odd: stream 1, env_step 3 of episode 0 .*: step\(\) raised SystemExit: 3"):
        play(env, 1)


@pytest.mark.parametrize("at", [3, 8, 11])
def test_after_a_fault_the_state_is_that_before_the_step(at: int) -> None:
    env, well = failing(at=(at,)), failing()
    for each in (env, well):
        each.reset(3)
        play(each, at - 1)
    with pytest.raises(EnvFault):
        play(env, 1)
    state, expected = env.state_dict(), well.state_dict()
    # The number of the object is in the observation, so checksums differ between the two.
    assert state["seed"] == expected["seed"]
    assert state["episode"].tolist() == expected["episode"].tolist()
    assert [len(a) for a in state["actions"]] == [len(a) for a in expected["actions"]]


def test_a_fault_in_reset_says_so() -> None:
    with pytest.raises(EnvFault, match=r"stream 1, env_step 0 of episode 0 .*: reset\(\) raised TimeoutError"):
        failing(resets=(1,)).reset(0)
    env = failing(resets=(2,))
    env.reset(0)
    with pytest.raises(EnvFault, match=r"stream 1, env_step 0 of episode 1 .*: reset\(\) raised TimeoutError"):
        play(env, 8)


@pytest.mark.parametrize("failures", [{"at": (3,)}, {"at": (1,)}, {"at": (8,)}, {"resets": (2,)}, {"resets": (1,)}])
def test_a_stream_that_is_made_anew_begins_another_episode(
    failures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    env = failing(1, **failures)
    played = streams(env, env.reset(0), 30, np.random.default_rng(0))
    for rows in played:
        for before, after in itertools.pairwise(rows):
            same = before["obs.vector"][1] == after["obs.vector"][1]
            # Within an object time runs on; another object begins with a first row, whatever was before.
            assert after["is_first"] or (same and after["obs.vector"][0] == before["obs.vector"][0] + 1)
            assert not before["is_last"] or after["is_first"]
            assert not after["is_first"] or (after["obs.vector"][0] == 0 and after["reward"] == 0)
    objects = [{float(row["obs.vector"][1]) for row in rows} for rows in played]
    assert [len(each) for each in objects] == [1, 1 if failures == {"resets": (1,)} else 2, 1]
    assert env.metrics() == {"env_restarts": 1.0}
    assert "it is made anew (1 of 1)" in capsys.readouterr().err


def test_the_step_says_which_streams_lost_their_action() -> None:
    env = failing(1, at=(3,))
    env.reset(0)
    lost = [env.step(np.zeros(3, np.int64)).lost for _ in range(5)]
    assert [None if each is None else each.tolist() for each in lost] == [None, None, [1], None, None]


def test_restarts_are_counted_and_end() -> None:
    env = SyncVector("odd", [Failing(at=(2,))], make=lambda: Failing(at=(2,)))
    env.settle(Stepping(restarts=3))
    env.reset(0)
    with pytest.raises(EnvFault, match="ConnectionError"):
        play(env, 20)
    assert env.metrics() == {"env_restarts": 3.0}


def test_a_maker_that_fails_too_uses_up_the_restarts() -> None:
    def broken() -> gymnasium.Env:
        raise OSError("no licence")

    env = SyncVector("odd", [Failing(at=(2,))], make=broken)
    env.settle(Stepping(restarts=3))
    env.reset(0)
    with pytest.raises(EnvFault, match="its maker raised OSError: no licence"):
        play(env, 2)


def test_a_restarted_stream_is_resumed() -> None:
    Failing.made = 0
    env = failing(5, at=(3,))
    env.reset(0)
    play(env, 6)
    state = env.state_dict()
    release(env)
    other = SyncVector("odd", env.envs, make=Failing)
    other.settle(Stepping(restarts=5))
    other.load_state_dict(state)
    assert other.metrics() == {"env_restarts": 1.0}
    np.testing.assert_array_equal(other.state_dict()["checksum"], state["checksum"])


def test_a_fault_in_the_replay_means_that_the_stream_cannot_be_brought_back() -> None:
    env = failing()
    env.reset(0)
    play(env, 6)
    with pytest.raises(ResumeError, match="when it was simulated again"):
        failing(at=(4,)).load_state_dict(env.state_dict())


@pytest.mark.parametrize("factory", ["async_failing", "sync_failing"])
def test_vector_environments_say_the_stream_and_the_workers_traceback(factory: str) -> None:
    env = make_env(f"{HERE}:{factory}", num_envs=3)
    env.reset(0)
    with pytest.raises(EnvFault, match=r"step 33 since its reset .* raised ConnectionError: simulator gone") as e:
        play(env, 40)
    assert "odd_envs.py" in e.value.detail
    assert e.value.detail.endswith("ConnectionError: simulator\ngone")
    env.close()


def test_a_worker_that_was_killed_is_named_and_the_others_end() -> None:
    source: Any = async_failing(3, at=10**9)
    env = NativeVector("odd", source)
    env.reset(0)
    play(env, 3)
    os.kill(source.processes[2].pid, signal.SIGKILL)
    source.processes[2].join(5)
    with pytest.raises(EnvFault, match=r"stream 2, step 4 .* found that its process has ended \(signal 9\)"):
        play(env, 2)
    env.close()
    assert not any(worker.is_alive() for worker in source.processes)


def test_vector_environments_cannot_be_made_anew() -> None:
    for id in (f"{HERE}:sync_failing", "ALE/Pong-v5"):
        with pytest.raises(UserError, match=r"env\.restarts must be 0"):
            make_env(id, num_envs=2, stepping=Stepping(restarts=1))


def test_one_that_cannot_be_closed_takes_nothing_down(capsys: pytest.CaptureFixture[str]) -> None:
    envs = [CannotClose(), Failing()]
    shut(SyncVector("odd", envs))
    assert "odd could not be closed: RuntimeError: window was closed already" in capsys.readouterr().err
    assert envs[1].closed


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ((np.zeros(2, np.float32), 1.0, False, {}), r"step\(\) returned 4 values; it must return"),
        (np.zeros(2, np.float32), r"step\(\) returned a ndarray"),
        ((np.zeros(2, np.float32), 1.0, False, False, None), "returned a NoneType as info"),
        ((np.zeros(2, np.float32), None, False, False, {}), "reward None is not a number"),
        ((np.zeros(2, np.float32), 1.0, np.zeros(3, bool), False, {}), r"terminated array.* is not a bool"),
    ],
)
def test_a_step_that_is_none_is_a_fault(out: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    monkeypatch.setattr(Giving, "step", lambda self, action: out)
    env = SyncVector("odd", [Giving(space, lambda _, t: np.zeros(2, np.float32))])
    env.reset(0)
    with pytest.raises(EnvFault, match=f"odd: stream 0, env_step 1 of episode 0 .*{message}"):
        play(env, 1)
