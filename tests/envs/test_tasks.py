"""Several environments side by side: who plays what, what all share, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from odd_tasks import Loud, Small

import reverie
from reverie.envs.env import ResumeError, VectorEnv
from reverie.envs.faults import EnvFault
from reverie.envs.make import make_env
from reverie.envs.tasks import check_shares, ids, label
from reverie.errors import UserError

TWO = "odd_tasks:Small,odd_tasks:Loud"


def played(env: VectorEnv, steps: int, seed: int = 3) -> list[Any]:
    """What streams see and earn: rows of each, closing rows in their place."""
    streams: list[list[dict[str, np.ndarray]]] = [[] for _ in range(env.num_envs)]

    def see(rows: Any, of: Any) -> None:
        for i, stream in enumerate(of):
            streams[stream].append({name: value[i] for name, value in rows.items()})

    see(env.reset(seed), range(env.num_envs))
    for k in range(steps):
        step = env.step(np.full(env.num_envs, k % 2))
        if step.ends is not None:
            see(step.ends, step.streams)
        see(step.rows, range(env.num_envs))
    return streams


def test_streams_take_turns_and_each_is_its_task_alone() -> None:
    env = make_env(TWO, num_envs=6)
    assert env.spec.tasks == ("odd_tasks:Small", "odd_tasks:Loud")
    streams = played(env, 20)
    for k, name in enumerate(env.spec.tasks):
        seed = int(np.random.SeedSequence([3, k]).generate_state(1)[0])
        alone = make_env(name, num_envs=3)
        rows = played(alone, 20, seed)
        for number, own in enumerate(rows):
            together = streams[2 * number + k]
            assert all(row["obs.task"] == k for row in together)
            assert len(together) == len(own) > 21
            for row, its in zip(together, own, strict=True):
                assert all(np.array_equal(row[field], value) for field, value in its.items())


def test_the_largest_set_of_actions_is_everybodys_and_the_rest_is_forbidden() -> None:
    env = make_env(TWO, num_envs=2)
    assert env.spec.action == spaces.Discrete(3)
    assert env.spec.action_mask
    assert env.reset(0)["obs.action_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    step = env.step(np.array([0, 2]))
    while step.ends is None:
        step = env.step(np.array([0, 2]))
    assert step.streams is not None
    assert step.ends["obs.action_mask"].tolist() == [[[1, 1, 0], [1, 1, 1]][i] for i in step.streams]
    assert not make_env("toy/catch,odd_tasks:Hundred", num_envs=2).spec.action_mask  # both have three


def test_it_comes_back_in_mid_episode() -> None:
    env, other = make_env(TWO, num_envs=4), make_env(TWO, num_envs=4)
    env.reset(5)
    for k in range(7):
        env.step(np.full(4, k % 2))
    state = env.state_dict()
    following = [env.step(np.full(4, k % 2)).rows for k in range(9)]
    other.load_state_dict(state)
    for k, rows in enumerate(following):
        back = other.step(np.full(4, k % 2)).rows
        assert all(np.array_equal(back[name], value) for name, value in rows.items())


def test_one_that_raises_when_others_have_stepped_cannot_come_back() -> None:
    """The first task's streams are a step ahead then; of a fault in the first task itself all are where they were."""
    env = make_env("odd_tasks:Small,odd_tasks:Breaks", num_envs=2)
    env.reset(0)
    env.step(np.zeros(2, int))
    with pytest.raises(EnvFault, match="odd_tasks:Breaks"):
        env.step(np.zeros(2, int))
    with pytest.raises(ResumeError, match="raised when others had stepped"):
        make_env("odd_tasks:Small,odd_tasks:Breaks", num_envs=2).load_state_dict(env.state_dict())
    env = make_env("odd_tasks:Breaks,odd_tasks:Small", num_envs=2)
    env.reset(0)
    env.step(np.zeros(2, int))
    with pytest.raises(EnvFault):
        env.step(np.zeros(2, int))
    make_env("odd_tasks:Breaks,odd_tasks:Small", num_envs=2).load_state_dict(env.state_dict())


def test_one_stream_is_of_the_first_task_and_knows_all_spaces() -> None:
    env = make_env(TWO)
    assert env.spec.action == spaces.Discrete(3)
    assert played(env, 3)[0][0]["obs.task"] == 0


def test_what_wrappers_change_is_not_counted() -> None:
    """Scores are what environments pay; of a task without such wrappers that is its rewards."""
    env = make_env("odd_tasks:Small,odd_tasks:doubled", num_envs=2)
    env.reset(0)
    for _ in range(4):
        step = env.step(np.zeros(2, int))
        paid = step.rows["reward"].astype(float) if step.ends is None else None
        if paid is not None:
            assert step.earned is not None
            assert step.earned.tolist() == [paid[0], paid[1] / 2]
    step = env.step(np.zeros(2, int))
    assert step.ends is not None
    assert step.earned is not None
    assert step.earned.tolist() == [5.0, 5.0]
    assert step.ends["reward"].tolist() == [5.0, 10.0]


class Named(Small):
    """Has an observation of our name."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"task": spaces.Box(0, 1, (1,), np.float32)})  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        (
            "toy/catch,toy/noisy-catch",
            r"must look alike: image is uint8 \(32, 32, 1\) in toy/catch, uint8 \(32, 32",
        ),
        ("toy/catch,CartPole-v1", "image is uint8 .* nothing in CartPole-v1"),
        ("CartPole-v1,CartPole-v1", "must name different environments"),
        ("CartPole-v1,", "must name different environments"),
        ("Pendulum-v1,odd_tasks:Turns", "must have the same actions, or discrete ones"),
        ("odd_tasks:Small,test_tasks:Named", "has an observation 'task'"),
        ("toy/catch,nowhere/catch", "nowhere/catch"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(id: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        make_env(id, num_envs=2)
    assert "\n" not in str(error.value)


def test_workers_are_refused() -> None:
    from reverie.envs.stepping import Stepping

    with pytest.raises(UserError, match=r"env.workers must be 0"):
        make_env(TWO, num_envs=4, stepping=Stepping(workers=2))


def test_streams_are_shared_out_equally() -> None:
    check_shares(TWO, 4)
    check_shares("toy/catch", 3, 2)
    with pytest.raises(UserError, match=r"3 streams .* over 2 environments: .* multiple of 2, for example 4"):
        check_shares(TWO, 3)
    with pytest.raises(UserError, match=r"6 streams .* 2 environments in each of 2 actors: .* for example 8"):
        check_shares(TWO, 6, 2)
    assert ids("a, b") == ("a", "b")
    assert label("ALE/Pong-v5") == "ALE_Pong-v5"


def test_a_single_environment_is_none_of_several() -> None:
    with pytest.raises(UserError, match="is several environments: name one of them"):
        reverie.make_single(TWO)


def test_it_keeps_the_contract() -> None:
    from reverie.envs.check import check_env

    report = check_env(TWO, env_steps=60)
    assert not report.problems, report.problems


def test_bounds_are_those_of_all() -> None:
    env = make_env(TWO, num_envs=2)
    box = env.spec.observation["vector"]
    assert isinstance(box, spaces.Box)
    assert (box.low.tolist(), box.high.tolist()) == ([0.0], [200.0])
    assert isinstance(Loud().observation_space, gymnasium.spaces.Box)
