"""Wrappers that carry something over episodes: saved, brought back, taken over; scores are the environment's own."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipReward, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from gymnasium.wrappers import vector as wrappers

import reverie
from reverie.data.rows import OBS
from reverie.envs.env import ResumeError
from reverie.envs.make import make_env
from reverie.envs.stepping import Stepping
from reverie.envs.wrappers import carried
from reverie.errors import UserError
from reverie.play.evaluate import evaluate
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.central import EnvHost
from reverie.run.checkpoint import Checkpoints
from reverie.run.params import Params
from reverie.run.remote import ActorHost, Birth, Orders, Parameters, Report, sent
from reverie.run.tree import load_tree
from tests.contracts.test_envs import assert_same, sample, streams
from tests.run.tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, config

HERE = "tests.envs.test_wrappers"


class Far(gymnasium.Env):
    """Shows numbers between 990 and 1010; pays 10 for action 1, 3 for action 0; episodes of 5 to 9 env_steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(5, 10))
        return self._see(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self._see(), 10.0 if action else 3.0, self.left == 0, False, {}

    def _see(self) -> np.ndarray:
        return np.array([self.np_random.uniform(990, 1010)], np.float32)


class Bonus(gymnasium.RewardWrapper):
    """Adds what it reads of the environment that it wraps, and writes to it."""

    def reward(self, reward: Any) -> float:
        self.env.seen = True  # type: ignore[attr-defined]
        return float(reward) + self.env.left  # type: ignore[attr-defined]


def bonus() -> gymnasium.Env:
    return Bonus(Far())


def normalised() -> gymnasium.Env:
    return NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(Far())))


def clipped() -> gymnasium.Env:
    return NormalizeReward(ClipReward(Far(), -1, 1))


class Counts(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows how many episodes there have been, and says how to save that."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.episodes = 0

    def reset(self, **how: Any) -> Any:
        self.episodes += 1
        seen, info = self.env.reset(**how)
        return seen + self.episodes, info

    def state_dict(self) -> dict[str, Any]:
        return {"episodes": self.episodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.episodes = state["episodes"]


def counting() -> gymnasium.Env:
    return Counts(Far())


class Running:
    """Mean, variance and count by other hands than Gymnasium's."""

    def __init__(self) -> None:
        self.mean, self.var, self.count = 0.0, 1.0, 0


class Centred(gymnasium.ObservationWrapper):
    """Takes a running mean off."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.running = Running()

    def observation(self, observation: np.ndarray) -> np.ndarray:
        self.running.count += 1
        self.running.mean += (float(observation[0]) - self.running.mean) / self.running.count
        return observation - np.float32(self.running.mean)


def centred() -> gymnasium.Env:
    return Centred(Far())


@pytest.mark.parametrize("factory", ["normalised", "clipped", "counting", "centred"])
@pytest.mark.parametrize("flicker", [0.0, 0.3])
def test_a_state_brings_wrappers_back(factory: str, flicker: float) -> None:
    one, other = (make_env(f"{HERE}:{factory}", num_envs=3, flicker=flicker) for _ in range(2))
    rng = np.random.default_rng(0)
    streams(one, one.reset(1), 40, rng)
    state, later = one.state_dict(), rng.bit_generator.state
    expected = streams(one, None, 30, rng)
    rng.bit_generator.state = later
    other.load_state_dict(state)
    assert_same(expected, streams(other, None, 30, rng))


@pytest.mark.parametrize("factory", ["normalised", "counting"])
def test_processes_carry_as_one_does(factory: str) -> None:
    here, apart = (make_env(f"{HERE}:{factory}", num_envs=2, stepping=Stepping(workers=n)) for n in (0, 2))
    rng = np.random.default_rng(0)
    first = streams(here, here.reset(1), 20, np.random.default_rng(7))
    assert_same(first, streams(apart, apart.reset(1), 20, np.random.default_rng(7)))
    action = sample(here, rng)
    a, b = here.step(action), apart.step(action)
    assert (a.earned is None) == (b.earned is None) == (factory == "counting")
    if a.earned is not None and b.earned is not None:
        np.testing.assert_array_equal(a.earned, np.where(action == 1, 10.0, 3.0))
        np.testing.assert_array_equal(a.earned, b.earned)
    back = make_env(f"{HERE}:{factory}", num_envs=2)
    back.load_state_dict(apart.state_dict())
    assert_same(streams(here, None, 20, np.random.default_rng(3)), streams(back, None, 20, np.random.default_rng(3)))
    apart.adopt(here.carried())
    np.testing.assert_array_equal(apart.reset(3)[OBS + "vector"], _adopted(factory, here).reset(3)[OBS + "vector"])
    apart.close()


def _adopted(factory: str, source: Any) -> Any:
    env = make_env(f"{HERE}:{factory}", num_envs=2)
    env.adopt(source.carried())
    return env


def test_what_is_taken_over_is_kept_as_it_is() -> None:
    source = make_env(f"{HERE}:normalised")
    streams(source, source.reset(0), 200, np.random.default_rng(0))
    told = source.carried()
    mean = told["1 NormalizeObservation"]["obs_rms"]["mean"]
    assert 990 < float(mean[0]) < 1010
    env = make_env(f"{HERE}:normalised", num_envs=2)
    env.adopt(told)
    rows = env.reset(5)
    assert (np.abs(rows[OBS + "vector"]) < 3).all()  # of 1000, as training sees it; a fresh mean would show 0 first
    streams(env, None, 100, np.random.default_rng(1))
    np.testing.assert_array_equal(carried(env.envs[1])["1 NormalizeObservation"]["obs_rms"]["mean"], mean)


def test_other_wrappers_are_refused() -> None:
    told = _adopted_from("normalised")
    with pytest.raises(UserError, match=r"carry over episodes 0 Counts, but what was saved is of 0 NormalizeReward"):
        make_env(f"{HERE}:counting").adopt(told)
    with pytest.raises(UserError, match="no wrappers that carry"):
        make_env("ALE/Pong-v5").adopt(told)
    state = make_env(f"{HERE}:normalised")
    state.reset(0)
    with pytest.raises(ResumeError, match="make the environment with the wrappers of the run"):
        make_env(f"{HERE}:counting").load_state_dict(state.state_dict())


def _adopted_from(factory: str) -> Any:
    env = make_env(f"{HERE}:{factory}")
    env.reset(0)
    return env.carried()


def test_nothing_is_carried_where_there_is_nothing() -> None:
    env = make_env("CartPole-v1")
    env.reset(0)
    assert env.carried() is None
    assert "carried" not in env.state_dict()
    assert env.step(np.zeros(1, np.int64)).earned is None


def _run(factory: str) -> Any:
    base = config("CartPole-v1")
    return replace(base, env=replace(base.env, id=f"{HERE}:{factory}"))


@pytest.mark.parametrize("factory", ["normalised", "clipped"])
def test_a_run_scores_what_the_environment_pays_and_resumes_exactly(factory: str, tmp_path: Path) -> None:
    alone = begin(_run(factory), tmp_path / "alone")
    alone.train(Never())
    for record in read_metrics(tmp_path / "alone"):
        if "episode/score" in record:
            score, length = record["episode/score"], record["episode/length"]
            assert 3 * length <= score <= 10 * length  # of normalised rewards it would be below 3
    first = begin(_run(factory), tmp_path / "stopped")
    with pytest.raises(Crash):
        first.train(Stop(first, 90, crash=True))
    again(_run(factory), tmp_path / "stopped").train(Never())
    assert_same_run(tmp_path / "stopped", tmp_path / "alone")

    result = evaluate(tmp_path / "alone", episodes=4)
    assert all(3 * n <= score <= 10 * n for score, n in zip(result["scores"], result["lengths"], strict=True))


def test_whoever_loads_sees_what_the_policy_saw(tmp_path: Path) -> None:
    begin(_run("normalised"), tmp_path / "run").train(Never())
    tree = load_tree(Checkpoints(tmp_path / "run").find("latest"), ("carried/",))
    mean = tree["carried"]["1 NormalizeObservation"]["obs_rms"]["mean"]
    rows = reverie.make_env(tmp_path / "run", num_envs=2).reset(3)
    assert (np.abs(rows[OBS + "vector"]) < 3).all()
    plain = reverie.make_single(tmp_path / "run")
    np.testing.assert_array_equal(carried(plain)["1 NormalizeObservation"]["obs_rms"]["mean"], mean)


def test_a_run_that_learns_from_rows_is_evaluated_as_they_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(_run("normalised"), tmp_path / "run").train(Never())
    shutil.copytree(tmp_path / "run" / "replay", tmp_path / "alone" / "replay")
    told = {}
    for name in ("run", "alone"):
        path = {"dataset.path": str(tmp_path / name / "replay")}
        reverie.train(reverie.overrides.apply(_run("normalised"), path), tmp_path / f"from-{name}")
        tree = load_tree(Checkpoints(tmp_path / f"from-{name}").find("latest"), ("carried/",))
        told[name] = float(tree["carried"]["1 NormalizeObservation"]["obs_rms"]["mean"][0])
        said = "does not say which its rows were made with" in capsys.readouterr().err
        assert said == (name == "alone")
    made = load_tree(Checkpoints(tmp_path / "run").find("latest"), ("carried/",))
    assert told["run"] == float(made["carried"]["1 NormalizeObservation"]["obs_rms"]["mean"][0]) > 900
    assert told["alone"] == 0.0
    reverie.resume(tmp_path / "from-run", {"run.env_steps": 400})
    tree = load_tree(Checkpoints(tmp_path / "from-run").find("latest"), ("carried/",))
    assert float(tree["carried"]["1 NormalizeObservation"]["obs_rms"]["mean"][0]) == told["run"]


def test_a_new_life_of_an_actor_carries_what_the_earlier_one_did() -> None:
    settings = sent(make_config("dqn", "cpu", f"{HERE}:normalised"))
    first = ActorHost(Birth(0, 0, np.zeros(4, np.int64), settings), actors=1, chunk=20)
    assert first.failed is None, first.failed
    parameters = Params()
    parameters.publish(0, 0, first.actor.policy)
    published = parameters.newer(-1)
    assert published is not None
    report = first.rollout(Parameters.of(published), Orders(40, "explore", 0))
    assert isinstance(report, Report), report
    assert report.carried is not None
    second = ActorHost(Birth(0, 1, np.zeros(4, np.int64), settings, (), report.carried), actors=1, chunk=20)
    assert second.failed is None, second.failed
    before, after = (state["1 NormalizeObservation"]["obs_rms"] for state in (report.carried, second.env.carried()))
    assert after["count"] == before["count"] > 20
    assert second.env.carried()["1 NormalizeObservation"]["update_running_mean"]
    assert all(3 * length <= score <= 10 * length for _, score, length in report.ended)
    # The same where actors are environments alone: what they carry comes with every answer.
    third = EnvHost(Birth(0, 2, np.zeros(4, np.int64), settings, (), report.carried), actors=1, chunk=20)
    answers = [third.rollout(None, -1), *(third.rollout(np.zeros(4, np.int64), 0) for _ in range(12))]
    counts = []
    for answer in answers:
        assert isinstance(answer, Report), answer
        assert answer.carried is not None
        counts.append(float(answer.carried["1 NormalizeObservation"]["obs_rms"]["count"]))
    assert counts[0] == before["count"] < counts[-1]  # as of the beginning of the open episode


def test_wrappers_of_rewards_wrap_the_environment_itself() -> None:
    """Whatever they read of it and write to it, as without us."""
    env = make_env(f"{HERE}:bonus")
    env.reset(0)
    inner = env.envs[0].unwrapped  # type: ignore[attr-defined]
    left = inner.left
    step = env.step(np.ones(1, np.int64))
    assert step.rows["reward"].tolist() == [10.0 + left - 1]
    assert step.earned is not None
    assert step.earned.tolist() == [10.0]
    assert inner.seen


class Within(Far):
    """Calls its own step and those of copies of itself, and takes more than an action."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step(0, first=True)
        return self._see(), {}

    def step(self, action: int, first: bool = False, again: bool = True) -> Any:
        if not first and again:
            copy.copy(self).step(0, again=False)
            self.step(0, again=False)
        return super().step(action)


def within() -> gymnasium.Env:
    return ClipReward(Within(), -1, 1)


def test_an_environment_that_calls_its_own_step_is_counted_once() -> None:
    env = make_env(f"{HERE}:within")
    env.reset(0)
    inner = env.envs[0].unwrapped  # type: ignore[attr-defined]
    left = inner.left
    step = env.step(np.ones(1, np.int64))
    assert step.earned is not None
    assert step.earned.tolist() == [10.0]
    assert inner.left == left - 2
    assert "step" not in vars(inner)
    other = copy.deepcopy(env.envs[0])  # type: ignore[attr-defined]
    other.step(1)
    assert (inner.left, other.unwrapped.left) == (left - 2, left - 4)


def vector(num_envs: int, wrap: str) -> gymnasium.vector.VectorEnv:
    """Streams of `Far` in a wrapper of all, or each in one."""
    if wrap == "each":
        return gymnasium.vector.SyncVectorEnv([normalised] * num_envs)
    env: gymnasium.vector.VectorEnv = gymnasium.vector.SyncVectorEnv([Far] * num_envs)
    return wrappers.NormalizeObservation(env) if wrap == "all" else wrappers.ClipReward(env, -1, 1)


@pytest.mark.parametrize(("wrap", "words"), [("all", "NormalizeObservation carries"), ("each", "wrappers of its env")])
def test_what_a_vector_environment_would_forget_is_refused(wrap: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{words}.*let the factory return one gymnasium.Env in its wrappers"):
        make_env(f"{HERE}:vector", num_envs=2, wrap=wrap)


def test_of_which_rewards_scores_are_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_env(f"{HERE}:vector", num_envs=2, wrap="clip")
    assert "scores are sums of the rewards that ClipReward makes" in capsys.readouterr().err
