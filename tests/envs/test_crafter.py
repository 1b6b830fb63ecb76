"""Crafter: ends, achievements, and worlds that are functions of their seeds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("crafter")

from reverie.envs.crafter import SMALLEST, _Ordered
from reverie.envs.make import make_env
from reverie.errors import UserError


def test_the_length_is_a_limit_and_achievements_are_told() -> None:
    env = make_env("crafter/reward", length=30)
    rows = env.reset(0)
    assert rows["obs.image"].shape == (1, 64, 64, 3)
    for t in range(30):
        step = env.step(np.array([6 if t == 5 else 0]))
        assert (step.ends is not None) == (t == 29)
    assert step.ends is not None
    assert step.ends["is_last"][0]
    assert not step.ends["is_terminal"][0]
    info = step.episode_info[0]
    assert len(info) == 22
    assert set(info.values()) <= {0.0, 1.0}


def test_death_is_a_true_end() -> None:
    env = make_env("crafter/reward", length=100)
    env.reset(0)
    env.envs[0]._game._player.health = 0  # type: ignore[attr-defined]
    step = env.step(np.array([0]))
    assert step.ends is not None
    assert step.ends["is_terminal"][0]


def test_an_interrupted_world_goes_on_exactly() -> None:
    rng = np.random.default_rng(0)
    env = make_env("crafter/reward")
    env.reset(2)
    for _ in range(60):
        env.step(rng.integers(0, 17, 1))
    # Creatures of a chunk are kept in order of arrival, not of memory addresses.
    assert all(isinstance(chunk, _Ordered) for chunk in env.envs[0]._game._world.chunks.values())  # type: ignore[attr-defined]
    other = make_env("crafter/reward")
    other.load_state_dict(env.state_dict())
    for _ in range(40):
        action = rng.integers(0, 17, 1)
        a, b = env.step(action).rows, other.step(action).rows
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_looking_changes_nothing() -> None:
    seen, unseen = (make_env("crafter/reward") for _ in range(2))
    for env in (seen, unseen):
        env.reset(0)
        env.envs[0]._game._world.daylight = 0.0  # type: ignore[attr-defined]
    before = [env.envs[0]._game._world.random.get_state()[1].tolist() for env in (seen, unseen)]  # type: ignore[attr-defined]
    assert seen.envs[0].render().shape == (288, 288, 3)  # type: ignore[attr-defined]
    after = [env.envs[0]._game._world.random.get_state()[1:3] for env in (seen, unseen)]  # type: ignore[attr-defined]
    assert before[0] == before[1] == after[0][0].tolist()
    assert after[0][1] == after[1][1]


def test_without_reward_and_mistakes() -> None:
    env = make_env("crafter/noreward", length=20)
    env.reset(0)
    assert all(env.step(np.array([1])).rows["reward"][0] == 0.0 for _ in range(10))
    with pytest.raises(UserError, match="crafter/reward"):
        make_env("crafter/rewad")
    with pytest.raises(UserError, match="did you mean length"):
        make_env("crafter/reward", lenght=3)
    for option, value in (("size", 17), ("length", 0)):
        with pytest.raises(UserError, match=f"{option} {value} must be at least|{option} {value} at least"):
            make_env("crafter/reward", **{option: value})


def test_the_smallest_size_can_be_drawn() -> None:
    assert make_env("crafter/reward", size=SMALLEST).reset(0)["obs.image"].shape == (1, SMALLEST, SMALLEST, 3)
