"""Worlds of the page: rows of every kind of environment in order, and back to any of them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from reverie.data.rows import Rows
from reverie.envs.env import Step, VectorEnv
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector
from reverie.errors import UserError
from reverie.play.page.worlds import Live, Recorded

ACTION = np.ones(1, np.int64)


def flags(world: Live | Recorded) -> tuple[bool, bool]:
    return bool(world.rows["is_first"][0]), bool(world.rows["is_last"][0])


@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_every_last_row_is_followed_by_a_first_one(autoreset: AutoresetMode) -> None:
    """Whether an environment begins its next episode in the step that ends one, or in the one after."""
    vector = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=autoreset)
    world = Live(NativeVector("CartPole-v1", vector), 0)
    seen = [flags(world)]
    for _ in range(60):
        assert world.step(ACTION)
        seen.append(flags(world))
        if world.rows["is_first"][0]:
            assert world.rows["prev_action"][0] == 0
            assert world.place.count == 0
    ends = [i for i, (_, last) in enumerate(seen) if last]
    assert len(ends) > 3
    assert [i for i, (first, _) in enumerate(seen) if first] == [0, *(i + 1 for i in ends if i + 1 < len(seen))]
    place, rows = world.place, world.rows
    world.step(ACTION)
    with pytest.raises(UserError, match="cannot be brought back in mid-episode: begin afresh"):
        world.go(place, rows)
    world.close()


def test_a_world_comes_back_to_every_row_and_goes_on_from_there_the_same() -> None:
    env = make_env("toy/catch", num_envs=1)
    world = Live(env, 3)
    rng = np.random.default_rng(0)
    visited = [(world.place, world.rows)]
    actions = []
    for _ in range(30):
        actions.append(rng.integers(3, size=1))
        world.step(actions[-1])
        visited.append((world.place, world.rows))
    for at in (29, 12, 0, 7, 8, 16, 30):
        world.go(*visited[at])
        for ahead in range(at, min(at + 10, 30)):
            world.step(actions[ahead])
            for name, value in visited[ahead + 1][1].items():
                np.testing.assert_array_equal(world.rows[name], value)
    # Another way from an earlier row, and both ways can still be gone.
    first = next(i for i, (_, rows) in enumerate(visited) if rows["is_first"][0] and i > 5)
    world.go(*visited[first + 2])
    world.step((actions[first + 2] + 1) % 3)
    branch = (world.place, world.rows)
    for place, rows in (visited[first + 4], branch, visited[first + 3], branch):
        world.go(place, rows)
        assert world.place is place
    world.close()


class Forgetful(VectorEnv):
    """An environment whose episodes are not repeatable."""

    def __init__(self) -> None:
        self.env = make_env("toy/catch", num_envs=1)
        self.spec, self.num_envs = self.env.spec, 1

    def reset(self, seed: int) -> Rows:
        return self.env.reset(seed)

    def step(self, action: np.ndarray) -> Step:
        step = self.env.step(action)
        step.rows["obs.image"][:] = np.random.default_rng().integers(256, size=step.rows["obs.image"].shape)
        return step

    def state_dict(self) -> dict[str, object]:
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.env.load_state_dict(state)


def test_a_world_that_comes_out_elsewhere_says_so() -> None:
    world = Live(Forgetful(), 0)
    world.step(ACTION)
    place, rows = world.place, world.rows
    world.step(ACTION)
    with pytest.raises(UserError, match="did not come back to where it was"):
        world.go(place, rows)


def test_an_environment_that_raises_closes_its_episode() -> None:
    env = make_env("toy/catch", num_envs=1)
    world = Live(env, 0)
    world.step(ACTION)
    before = world.rows
    following = env.reset(5)
    env.step = lambda action: Step(following, lost=np.array([0]))  # type: ignore[method-assign]
    world.step(ACTION)
    assert flags(world) == (False, True)
    np.testing.assert_array_equal(world.rows["obs.image"], before["obs.image"])
    world.step(ACTION)
    assert flags(world) == (True, False)
    np.testing.assert_array_equal(world.rows["obs.image"], following["obs.image"])


def test_a_recording_goes_only_where_it_went() -> None:
    rows = {
        "action": np.array([0, 2, 0]),
        "reward": np.arange(3.0),
        "is_first": np.array([True, False, False]),
        "is_last": np.array([False, False, True]),
    }
    world = Recorded(rows, 0)
    assert not world.step(np.array([1]))
    assert world.rows["reward"].tolist() == [0.0]
    assert world.step(np.array([0]))
    assert world.recorded().tolist() == [2]  # type: ignore[union-attr]
    assert world.step(np.array([2]))
    assert world.recorded() is None
    assert not world.step(np.array([0]))
