"""One suite for every environment: what the rows of a stream promise, whatever their source."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from reverie.data.rows import Rows, row_spec
from reverie.envs import atari
from reverie.envs.control import choose_gl
from reverie.envs.env import ResumeError, VectorEnv
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector
from reverie.envs.stepping import Stepping
from reverie.errors import UserError
from reverie.play.dream_env import Ends
from tests.play.dreams import dream

NUM_ENVS = 3


def native(id: str, mode: str) -> VectorEnv:
    """Gymnasium's own in-process vector environment, in one of its three reset conventions."""
    fns = [lambda: gymnasium.make(id, max_episode_steps=23) for _ in range(NUM_ENVS)]
    return NativeVector(id, gymnasium.vector.SyncVectorEnv(fns, autoreset_mode=mode))


ENVS: dict[str, Callable[[], VectorEnv]] = {
    "toy/count": lambda: make_env("toy/count", num_envs=NUM_ENVS, length=3, max_length=9, end="mixed"),
    "toy/catch": lambda: make_env("toy/catch", num_envs=NUM_ENVS),
    "toy/noisy-catch": lambda: make_env("toy/noisy-catch", num_envs=NUM_ENVS),
    "toy/noisy-catch continuous": lambda: make_env("toy/noisy-catch", num_envs=NUM_ENVS, continuous=True),
    "toy/tmaze": lambda: make_env("toy/tmaze", num_envs=NUM_ENVS, length=4),
    "toy/tmaze pixels": lambda: make_env("toy/tmaze", num_envs=NUM_ENVS, length=4, pixels=True),
    "toy/tmaze noise": lambda: make_env("toy/tmaze", num_envs=NUM_ENVS, length=4, noise=2),
    "toy/catch flicker": lambda: make_env("toy/catch", num_envs=NUM_ENVS, flicker=0.5),
    "CartPole-v1 masked": lambda: make_env("CartPole-v1", num_envs=NUM_ENVS, mask=[1, 3], flicker=0.2),
    "CartPole-v1": lambda: make_env("CartPole-v1", num_envs=NUM_ENVS),
    "Pendulum-v1": lambda: make_env("Pendulum-v1", num_envs=NUM_ENVS, max_episode_steps=30),
    "CartPole in processes": lambda: make_env("CartPole-v1", num_envs=NUM_ENVS, stepping=Stepping(workers=3)),
    "toy/count in processes": lambda: make_env(
        "toy/count", num_envs=4, stepping=Stepping(workers=2), length=3, max_length=9, end="mixed"
    ),
    "CartPole native": lambda: make_env("CartPole-v1", num_envs=NUM_ENVS, native=True),
    "CartPole native masked": lambda: make_env("CartPole-v1", num_envs=NUM_ENVS, native=True, mask=[1, 3], flicker=0.2),
    "NextStep": lambda: native("CartPole-v1", "NextStep"),
    "SameStep": lambda: native("CartPole-v1", "SameStep"),
    "Disabled": lambda: native("CartPole-v1", "Disabled"),
    "ALE/Pong-v5 atari": lambda: make_env("ALE/Pong-v5", num_envs=2, max_frames=160, threads=1),
    "ALE/Breakout-v5 atari-dqn2015": lambda: make_env(
        "ALE/Breakout-v5", num_envs=2, protocol="atari-dqn2015", max_frames=400, threads=1
    ),
    "ALE/Breakout-v5 flicker": lambda: make_env(
        "ALE/Breakout-v5", num_envs=2, protocol="atari-dqn2015", max_frames=400, threads=1, flicker=0.5
    ),
    "ALE/MsPacman-v5 atari100k": lambda: make_env(
        "ALE/MsPacman-v5", num_envs=2, protocol="atari100k", max_frames=160, threads=1
    ),
    "dmc/cartpole-swingup states": lambda: make_env(
        "dmc/cartpole-swingup", num_envs=2, protocol="dmc-proprio", action_repeat=25
    ),
    "dmc-background/cartpole-swingup": lambda: make_env(
        "dmc-background/cartpole-swingup", num_envs=2, action_repeat=25, size=16, render="cheap"
    ),
    "metaworld/reach states": lambda: make_env("metaworld/reach", num_envs=2, protocol="metaworld-state", length=20),
    "fetch/reach states": lambda: make_env("fetch/reach", num_envs=2, protocol="fetch", length=20),
    "Taxi-v4": lambda: make_env("Taxi-v4", num_envs=NUM_ENVS, max_episode_steps=20),
    "MinAtar/Breakout-v1": lambda: make_env("MinAtar/Breakout-v1", num_envs=NUM_ENVS),
    "MiniGrid-Empty-Random-6x6-v0": lambda: make_env(
        "MiniGrid-Empty-Random-6x6-v0", num_envs=NUM_ENVS, max_episode_steps=20
    ),
    "popgym-RepeatPreviousEasy-v0": lambda: make_env("popgym-RepeatPreviousEasy-v0", num_envs=NUM_ENVS),
    "two tasks": lambda: make_env("Pendulum-v1,MountainCarContinuous-v0", num_envs=4, max_episode_steps=30),
    "a dream": lambda: dream(NUM_ENVS),
    "a dream with a threshold": lambda: dream(NUM_ENVS, Ends(threshold=0.5, length=7)),
}

PACKAGES = {
    "dmc": "dm_control",
    "metaworld/": "metaworld",
    "fetch/": "gymnasium_robotics",
    "MinAtar/": "minatar",
    "MiniGrid-": "minigrid",
    "popgym-": "popgym",
}
"""Prefix of a name above -> the module without which it is skipped."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")


@pytest.fixture(params=list(ENVS))
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], VectorEnv]:
    if request.param.startswith("ALE/"):
        pytest.importorskip("ale_py")
        # Small enough that streams are seeded and go on unseeded within a test.
        monkeypatch.setattr(atari, "RESEED", 60)
    for prefix, package in PACKAGES.items():
        if request.param.startswith(prefix):
            pytest.importorskip(package)
    if "background" in request.param and choose_gl() is None:
        pytest.skip("no OSMesa or EGL library to render with")
    return ENVS[request.param]


def sample(env: VectorEnv, rng: np.random.Generator) -> np.ndarray:
    """Random row actions [N, ...]."""
    space = env.spec.action
    if isinstance(space, gymnasium.spaces.Box):
        return rng.uniform(-1.0, 1.0, (env.num_envs, *space.shape)).astype(np.float32)
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(0, int(space.n), env.num_envs)
    return rng.integers(0, space.nvec, (env.num_envs, len(space.nvec)))


def streams(env: VectorEnv, rows: Rows | None, env_steps: int, rng: np.random.Generator) -> list[list[Rows]]:
    """Play at random; returns per stream its rows [...] in time, closing rows of same-step sources in their places."""
    out: list[list[Rows]] = [[] for _ in range(env.num_envs)]

    def put(rows: Rows, ids: np.ndarray) -> None:
        for at, i in enumerate(ids):
            out[i].append({name: value[at] for name, value in rows.items()})

    if rows is not None:
        put(rows, np.arange(env.num_envs))
    for _ in range(env_steps):
        step = env.step(sample(env, rng))
        if step.ends is not None:
            assert step.streams is not None
            assert step.streams.dtype == np.int64
            put(step.ends, step.streams)
        put(step.rows, np.arange(env.num_envs))
    return out


def sources(state: dict[str, Any]) -> list[dict[str, Any]]:
    """What each environment beneath wrappers and tasks has saved."""
    return [each.get("env", each) for each in state.get("tasks", [state])]


def assert_same(a: list[list[Rows]], b: list[list[Rows]]) -> None:
    for ours, theirs in zip(a, b, strict=True):
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            for name in x:
                np.testing.assert_array_equal(x[name], y[name], err_msg=name)


def test_actions_that_there_are_not_are_refused_before_anything_is_stepped(make: Callable[[], VectorEnv]) -> None:
    env, other = make(), make()
    rng = np.random.default_rng(0)
    env.reset(3)
    other.reset(3)
    good = sample(env, rng)
    bad = [good[:-1], np.concatenate([good, good[:1]]), good[..., None]]
    if not isinstance(env.spec.action, gymnasium.spaces.Box):
        for value in (-1, 0.5, 10**6):
            wrong = good.astype(np.float64)
            wrong.reshape(-1)[-1] = value
            bad.append(wrong)
    for wrong in bad:
        with pytest.raises(UserError, match=r"takes actions of shape|there is no action"):
            env.step(wrong)
    one, two = env.step(good), other.step(good)
    assert one.rows.keys() == two.rows.keys()
    for name, value in one.rows.items():
        np.testing.assert_array_equal(value, two.rows[name])
    env.close()
    other.close()


def test_rows_are_well_formed(make: Callable[[], VectorEnv]) -> None:
    env = make()
    seen = row_spec(env.spec.observation, env.spec.action)
    del seen["prev_action"], seen["action"]
    episodes = 0
    for rows in streams(env, env.reset(0), 120, np.random.default_rng(0)):
        assert rows[0]["is_first"]
        for row in rows:
            assert set(row) == set(seen)
            for name, field in seen.items():
                assert (row[name].shape, row[name].dtype) == (field.shape, field.dtype), name
            assert row["is_last"] or not row["is_terminal"]
            assert not (row["is_first"] and row["is_last"])
            assert not row["is_first"] or row["reward"] == 0.0
            assert np.isfinite(row["reward"])
            for key, space in env.spec.observation.items():
                assert space.contains(row["obs." + key]) or isinstance(space, gymnasium.spaces.Discrete)
        for before, after in itertools.pairwise(rows):
            assert before["is_last"] == after["is_first"]
        episodes += sum(int(row["is_last"]) for row in rows)
    assert episodes >= 3
    env.close()


def test_same_seed_same_streams_and_other_seed_others(make: Callable[[], VectorEnv]) -> None:
    played = [
        streams(env, env.reset(seed), 60, np.random.default_rng(1))
        for env, seed in ((make(), 7), (make(), 7), (make(), 8))
    ]
    assert_same(played[0], played[1])
    with pytest.raises(AssertionError):
        assert_same(played[0], played[2])


def test_a_second_reset_begins_anew(make: Callable[[], VectorEnv]) -> None:
    env = make()
    first = streams(env, env.reset(3), 40, np.random.default_rng(2))
    assert_same(first, streams(env, env.reset(3), 40, np.random.default_rng(2)))


def test_streams_differ_from_each_other(make: Callable[[], VectorEnv]) -> None:
    env = make()
    a, b, *_ = streams(env, env.reset(0), 60, np.random.default_rng(3))
    with pytest.raises(AssertionError):
        assert_same([a], [b])


@pytest.mark.parametrize("env_steps", [0, 7, 83])
def test_a_stream_goes_on_as_if_it_had_not_been_interrupted(make: Callable[[], VectorEnv], env_steps: int) -> None:
    env = make()
    if env.spec.resume == "truncate":
        with pytest.raises(NotImplementedError):
            env.state_dict()
        return
    rng = np.random.default_rng(4)
    streams(env, env.reset(5), env_steps, rng)
    state, later = env.state_dict(), rng.bit_generator.state
    expected = streams(env, None, 50, rng)
    other = make()
    other.load_state_dict(state)
    rng.bit_generator.state = later
    for again, before in zip(sources(other.state_dict()), sources(state), strict=True):
        np.testing.assert_array_equal(again["checksum"], before["checksum"])
    assert_same(expected, streams(other, None, 50, rng))


def test_a_return_to_elsewhere_is_refused(make: Callable[[], VectorEnv]) -> None:
    env = make()
    if env.spec.resume != "replay":
        pytest.skip("not resumed by replay")
    streams(env, env.reset(5), 10, np.random.default_rng(4))
    state = env.state_dict()
    beneath = sources(state)[-1]
    beneath["checksum"] = beneath["checksum"] + (np.arange(len(beneath["checksum"])) == 1)
    with pytest.raises(ResumeError):
        make().load_state_dict(state)


def test_counted_rows_are_neither_lost_nor_doubled_nor_shifted() -> None:
    env = make_env("toy/count", num_envs=2, length=2, max_length=5, end="mixed")
    ends = set()
    for rows in streams(env, env.reset(0), 200, np.random.default_rng(0)):
        count = episode = 0
        for row in rows:
            assert row["obs.vector"].tolist() == [count, episode]
            assert row["reward"] == count
            count, episode = (0, episode + 1) if row["is_last"] else (count + 1, episode)
            if row["is_last"]:
                ends.add((int(row["obs.vector"][0]), bool(row["is_terminal"])))
    assert ends == {(length, terminal) for length in (2, 3, 4, 5) for terminal in (False, True)}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("end", ["terminal", "limit"])
def test_native_modes_give_the_counting_rows(mode: str, end: str) -> None:
    from reverie.envs.toys import Count

    fns = [lambda: Count(length=3, end=end) for _ in range(2)]  # type: ignore[arg-type]
    env = NativeVector("count", gymnasium.vector.SyncVectorEnv(fns, autoreset_mode=mode))
    for rows in streams(env, env.reset(0), 21, np.random.default_rng(0)):
        expected = [(t, k, float(t), t == 0, t == 3, t == 3 and end == "terminal") for k in range(5) for t in range(4)]
        got = [(*row["obs.vector"], row["reward"], row["is_first"], row["is_last"], row["is_terminal"]) for row in rows]
        assert got[:20] == expected
