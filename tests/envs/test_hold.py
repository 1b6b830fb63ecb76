"""Environments are held to their declared spaces while they are trained in, kind by kind."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.faults import EnvFault
from reverie.envs.hold import FIRST
from reverie.envs.native import NativeVector
from reverie.envs.stepping import Stepping
from reverie.envs.vector import SyncVector
from tests.envs.odd_envs import Giving

PICTURE = spaces.Box(0, 255, (16, 16, 1), np.uint8)
VECTOR = spaces.Box(-1, 1, (2, 3), np.float32)

WRONG: dict[str, tuple[spaces.Space, Any, str]] = {
    "floats for bytes": (PICTURE, np.full((16, 16, 1), 0.5, np.float32), "is float32, 0.5..0.5; its space declares"),
    "whole numbers above a byte": (PICTURE, np.full((16, 16, 1), 300), "values 300..300"),
    "negative numbers for bytes": (PICTURE, np.full((16, 16, 1), -1), "values -1..-1"),
    "no channel axis": (PICTURE, np.zeros((16, 16), np.uint8), r"shape \(16, 16\); its space declares \(16, 16, 1\)"),
    "channels first": (
        spaces.Box(0, 255, (32, 32, 3), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
        r"shape \(3, 32, 32\)",
    ),
    "a transposed vector": (VECTOR, np.zeros((3, 2), np.float32), r"shape \(3, 2\)"),
    "a longer vector": (spaces.Box(-1, 1, (2,), np.float32), np.zeros(3, np.float32), r"shape \(3,\)"),
    "text": (VECTOR, "left", "'left', which holds no numbers"),
    "None": (VECTOR, None, "None, which holds no numbers"),
    "a ragged list": (VECTOR, [[1, 2, 3], [1]], "has no shape"),
    "an index too large": (spaces.Discrete(3), 3, r"values 3..3; its space declares int64 in 0..2"),
    "an index below its start": (spaces.Discrete(3, start=5), 4, "values 4..4; .* in 5..7"),
    "an index in floats": (spaces.Discrete(3), 1.5, "is float64"),
    "one of several indices": (spaces.MultiDiscrete([2, 3]), np.array([1, 3]), "values 1..3"),
    "bits that are none": (spaces.MultiBinary(3), np.array([0, 1, 2], np.int8), "values 0..2"),
    "an integer outside its Box": (spaces.Box(0, 10, (2,), np.int64), np.array([3, 11]), "values 3..11"),
    "a missing key": (spaces.Dict(a=VECTOR, b=VECTOR), {"a": np.zeros((2, 3))}, r"lacks \['b'\]"),
    "no dictionary": (spaces.Dict(a=VECTOR), np.zeros((2, 3)), "is a ndarray"),
    "a short tuple": (spaces.Tuple((VECTOR, VECTOR)), (np.zeros((2, 3)),), "is 1 parts"),
    "deep within": (
        spaces.Dict(a=spaces.Tuple((VECTOR, spaces.Discrete(2)))),
        {"a": (np.zeros((2, 3), np.float32), 2)},
        "observation 'a/1' has values 2..2",
    ),
}

RIGHT: dict[str, tuple[spaces.Space, Any]] = {
    "as declared": (VECTOR, np.ones((2, 3), np.float32)),
    "float64 for float32": (VECTOR, np.full((2, 3), 0.1)),
    "a list": (VECTOR, [[0, 0, 0], [1, 1, 1]]),
    "int64 within a byte": (PICTURE, np.full((16, 16, 1), 255, np.int64)),
    "a bare number": (spaces.Box(-1, 1, (1,), np.float32), 0.5),
    "NumPy's index": (spaces.Discrete(3), np.int32(2)),
    "more keys": (spaces.Dict(a=VECTOR), {"a": np.zeros((2, 3), np.float32), "more": None}),
}


def vector(space: spaces.Space, later: Any, after: int = 0, check: Any = "first", good: Any = None) -> SyncVector:
    """Two streams whose rows are `later` from row `after` on, and drawn from the space before."""
    space.seed(0)
    env = SyncVector("odd", [Giving(space, lambda _, t: later if t >= after else space.sample()) for _ in range(2)])
    env.settle(Stepping(check))
    return env


def play(env: Any, env_steps: int) -> None:
    env.reset(0)
    for _ in range(env_steps):
        env.step(np.zeros(env.num_envs, np.int64))


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_another_observation_is_refused(name: str) -> None:
    space, value, message = WRONG[name]
    with pytest.raises(EnvFault, match=f"odd: stream 0, env_step 0 of episode 0 .*departs from its spaces.*{message}"):
        vector(space, value).reset(0)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("after", [5, FIRST - 1])
def test_the_first_rows_are_looked_at(name: str, after: int) -> None:
    space, value, message = WRONG[name]
    with pytest.raises(EnvFault, match=f"stream 0, .*{message}"):
        play(vector(space, value, after), FIRST)


@pytest.mark.parametrize("check", ["first", "all", "none"])
def test_later_rows_are_looked_at_if_that_is_asked(check: str) -> None:
    env = vector(PICTURE, np.full((16, 16, 1), 0.5, np.float32), FIRST + 20, check)
    if check == "all":
        with pytest.raises(EnvFault, match="its space declares uint8"):
            play(env, 2 * FIRST)
    else:
        play(env, 2 * FIRST)


def test_a_second_stream_is_held_too() -> None:
    envs = [Giving(VECTOR, lambda _, t, i=i: np.zeros((2, 3) if i == 0 else (3, 2), np.float32)) for i in range(2)]
    with pytest.raises(EnvFault, match="odd: stream 1"):
        SyncVector("odd", envs).reset(0)


@pytest.mark.parametrize("name", RIGHT)
def test_what_changes_nothing_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    space, value = RIGHT[name]
    play(vector(space, value, check="all"), 30)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("name", ["floats in a whole batch", "indices in a whole batch"])
def test_vector_environments_are_held_too(name: str, mode: str) -> None:
    space, value = (PICTURE, 0.5) if name.startswith("floats") else (spaces.Discrete(3), 5)

    class Odd(gymnasium.vector.VectorEnv[Any, Any, Any]):
        num_envs = 2
        single_observation_space, single_action_space = space, spaces.Discrete(2)
        observation_space = gymnasium.vector.utils.batch_space(space, 2)
        action_space = spaces.MultiDiscrete([2, 2])
        metadata = {"autoreset_mode": mode}  # noqa: RUF012

        def reset(self, **_: Any) -> Any:
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            zeros = np.zeros(2, bool)
            return np.full(self.observation_space.shape, value), np.zeros(2), zeros, zeros, {}

    env = NativeVector("odd", Odd())
    env.reset(0)
    with pytest.raises(EnvFault, match=r"odd: step 1 since its reset .* departs from its spaces: the observation"):
        env.step(np.zeros(2, np.int64))
    env.settle(Stepping("none"))
    if value == 0.5:
        env.step(np.zeros(2, np.int64))  # as it was asked for
    else:
        with pytest.raises(EnvFault, match=r"odd: step 2 since its reset .*is 5, outside its space"):
            env.step(np.zeros(2, np.int64))  # an index has no other reading


def test_changes_that_float32_loses_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    env = SyncVector("clock", [Giving(space, lambda _, t: np.array([1.7e9 + t, t / 7])) for _ in range(2)])
    play(env, 60)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "clock: the observation is float64 and rows hold float32: most changes of some entries are lost" in said


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, t: rng.normal(size=2),
        lambda rng, t: np.array([1e-12, 1.0]) * rng.normal(size=2),
        lambda rng, t: np.array([3.0, 4.0]),
        lambda rng, t: np.array([t, 2 * t], np.int64),
    ],
)
def test_ordinary_float64_is_not_spoken_of(draw: Any, capsys: pytest.CaptureFixture[str]) -> None:
    play(SyncVector("fine", [Giving(spaces.Box(-np.inf, np.inf, (2,), np.float64), draw)]), 90)
    assert capsys.readouterr().err == ""


def test_floats_outside_their_bounds_are_said_once_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    env = SyncVector("far", [Giving(spaces.Box(-1, 1, (2,), np.float32), lambda _, t: np.full(2, 3.0 + t, np.float32))])
    assert env.reset(0)["obs.vector"].tolist() == [[3, 3]]
    play(env, 20)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "values 3..3, outside the declared bounds in -1..1; they are kept" in said
