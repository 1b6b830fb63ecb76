"""Environments written for older versions of Gymnasium, and odd returns: they work, or one line says what to write."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.check import check_env
from reverie.envs.make import make_env
from reverie.envs.resume import episode_seed
from reverie.errors import UserError

HERE = __name__


class New(gymnasium.Env):
    """Counts to 4; the reward is the action."""

    observation_space = spaces.Box(0, 4, (2,), np.float32)
    action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.first = 0, float(self.np_random.random())
        return self.look(), {}

    def step(self, action: int) -> Any:
        self.time += 1
        return self.look(), float(action), self.time == 4, False, {}

    def look(self) -> Any:
        return np.array([self.time, self.first], np.float32)


class NoOptions(New):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return New.reset(self, seed=seed)


class Lists(New):
    def look(self) -> Any:
        return New.look(self).tolist()


class InArrays(New):
    def step(self, action: int) -> Any:
        seen, reward, terminated, truncated, info = New.step(self, action)
        return seen, np.array([[reward]]), np.array([terminated]), np.bool_(truncated), info


class Both(New):
    def step(self, action: int) -> Any:
        seen, reward, terminated, _, info = New.step(self, action)
        return seen, int(reward), int(terminated), terminated, info


class NoSeed(New):
    def reset(self) -> Any:  # type: ignore[override]
        return New.reset(self)


class OldReset(New):
    def reset(self, **kwargs: Any) -> Any:
        return New.reset(self, **kwargs)[0]


class OldStep(New):
    def step(self, action: int) -> Any:
        seen, reward, terminated, _, info = New.step(self, action)
        return seen, reward, terminated, info


class NoInfo(New):
    def step(self, action: int) -> Any:
        return *New.step(self, action)[:4], None


class NoReward(New):
    def step(self, action: int) -> Any:
        seen, _, *rest = New.step(self, action)
        return seen, None, *rest


class Said(New):
    def step(self, action: int) -> Any:
        seen, reward, _, *rest = New.step(self, action)
        return seen, reward, "no", *rest


class ManyRewards(New):
    def step(self, action: int) -> Any:
        seen, _, *rest = New.step(self, action)
        return seen, np.zeros(2), *rest


@pytest.mark.parametrize("name", ["New", "NoOptions", "Lists", "InArrays", "Both"])
def test_these_work(name: str) -> None:
    env = make_env(f"{HERE}:{name}", num_envs=2)
    rows = env.reset(3)
    for episode in range(2):
        for time in range(4):
            assert rows["obs.vector"][:, 0].tolist() == [time, time]
            reference = New()
            reference.reset(seed=episode_seed(3, 1, episode))
            assert rows["obs.vector"][1, 1] == np.float32(reference.first)
            step = env.step(np.array([0, 2]))
            rows = step.rows
            closing = step.ends if step.ends is not None else rows
            assert closing["reward"].tolist() == [-1, 1]
            assert closing["is_terminal"].all() == closing["is_last"].all() == (time == 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoSeed", r"reset\(\) takes no seed; write it as reset\(self, \*, seed=None, options=None\)"),
        ("OldReset", r"reset\(\) returned a ndarray; it must return \(observation, info\)"),
        ("OldStep", r"step\(\) returned 4 values; it must return \(observation, reward, terminated, truncated, info\)"),
        ("NoInfo", r"step\(\) returned a NoneType as info"),
        ("NoReward", "reward None is not a number"),
        ("Said", "terminated 'no' is not a bool; return True or False"),
        ("ManyRewards", r"reward array\(\[0., 0.\]\) is not a number"),
    ],
)
def test_these_are_one_line(name: str, words: str) -> None:
    def play() -> None:
        env = make_env(f"{HERE}:{name}")
        env.reset(0)
        env.step(np.zeros(1, np.int64))

    with pytest.raises(UserError, match=words) as error:
        play()
    assert str(error.value).startswith(f"{HERE}:{name}: ")
    assert "\n" not in str(error.value)
    assert not check_env(f"{HERE}:{name}", env_steps=20).ok
