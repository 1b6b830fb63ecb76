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
        ("Pendulum-v1,CartPole-v1", "vector is float32 .3,. in Pendulum-v1, float32 .4,. in CartPole-v1; only vectors"),
        ("CartPole-v1,odd_tasks:Far", "must have the same actions, or discrete ones: .* only continuous ones"),
        ("odd_tasks:Far,odd_tasks:Sees", r"vector is float32 \(4,\) in odd_tasks:Far, nothing in odd_tasks:Sees"),
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


def test_what_is_called_a_mask_and_is_none_is_seen_like_anything_else() -> None:
    named = "odd_tasks:Masked,odd_tasks:MaskedToo"
    env = make_env(named, num_envs=2, action_mask="ignore")
    alone = make_env("odd_tasks:Masked", num_envs=1, action_mask="ignore")
    assert not env.spec.action_mask
    assert env.spec.observation.keys() == alone.spec.observation.keys() | {"task"}
    rows = env.reset(0)
    assert {name for name in rows if name.startswith("obs.")} == {f"obs.{key}" for key in env.spec.observation}
    assert rows["obs.action_mask"].tolist() == [[0, 1], [0, 1]]


PADDED = "Pendulum-v1,odd_tasks:Turns,odd_tasks:Named"


def test_vectors_and_continuous_actions_are_padded_to_the_widest() -> None:
    """Pendulum: vector [3], action [1]. Turns: the same vector, action [2]. Named: vectors of 1 and 4, action [1]."""
    env = make_env(PADDED, num_envs=6)
    assert env.spec.widths == (1, 2, 1)
    assert env.spec.action == spaces.Box(-1, 1, (2,), np.float32)
    assert {key: space.shape for key, space in env.spec.observation.items()} == {"vector": (5,), "task": ()}
    assert not env.spec.action_mask
    rows = env.reset(3)
    assert rows["obs.vector"].dtype == np.float32
    assert (rows["obs.vector"][[0, 1, 3, 4], 3:] == 0).all()
    assert rows["obs.vector"][2].tolist() == [0.0, 10.0, 11.0, 12.0, 13.0]
    alone = make_env("Pendulum-v1", num_envs=2)
    own = alone.reset(int(np.random.SeedSequence([3, 0]).generate_state(1)[0]))
    assert np.array_equal(rows["obs.vector"][[0, 3], :3], own["obs.vector"])
    action = np.array([[0.5, 9.0], [0.25, -0.75], [1.0, 9.0], [-0.5, 9.0], [0.125, 0.5], [-1.0, 9.0]], np.float32)
    step, its = env.step(action), alone.step(action[[0, 3], :1])
    assert np.array_equal(step.rows["obs.vector"][[0, 3], :3], its.rows["obs.vector"])
    assert step.rows["reward"][[1, 4]].tolist() == [-0.5, 0.625]  # the sum of both
    assert step.rows["reward"][[2, 5]].tolist() == [1.0, -1.0]
    for _ in range(4):
        step = env.step(action)
    assert step.ends is not None  # Turns and Named end after 5
    assert step.streams.tolist() == [1, 4, 2, 5]
    assert step.ends["obs.vector"].shape == (4, 5)
    assert step.ends["obs.task"].tolist() == [1, 1, 2, 2]


def test_alike_vectors_keep_their_names_where_only_actions_differ() -> None:
    env = make_env("Pendulum-v1,odd_tasks:Turns", num_envs=2)
    assert env.spec.widths == (1, 2)
    assert env.spec.observation["vector"].shape == (3,)
    same = make_env("odd_tasks:Turns,odd_tasks:Far", num_envs=2)  # two actions each
    assert same.spec.widths == ()
    assert same.spec.observation["vector"].shape == (4,)


def test_one_stream_of_padded_ones_is_padded_too() -> None:
    rows = make_env(PADDED).reset(0)
    assert rows["obs.vector"].shape == (1, 5)
    assert rows["obs.task"].tolist() == [0]


def test_padded_ones_come_back_and_keep_the_contract() -> None:
    from reverie.envs.check import check_env

    env, other = make_env(PADDED, num_envs=3), make_env(PADDED, num_envs=3)
    env.reset(5)
    actions = np.random.default_rng(0).uniform(-1, 1, (16, 3, 2)).astype(np.float32)
    for k in range(7):
        env.step(actions[k])
    state = env.state_dict()
    following = [env.step(actions[7 + k]).rows for k in range(9)]
    other.load_state_dict(state)
    for k, rows in enumerate(following):
        back = other.step(actions[7 + k]).rows
        assert all(np.array_equal(back[name], value) for name, value in rows.items())
    report = check_env("odd_tasks:Turns,odd_tasks:Named", env_steps=30)
    assert not report.problems, report.problems


def test_bounds_are_those_of_all() -> None:
    env = make_env(TWO, num_envs=2)
    box = env.spec.observation["vector"]
    assert isinstance(box, spaces.Box)
    assert (box.low.tolist(), box.high.tolist()) == ([0.0], [200.0])
    assert isinstance(Loud().observation_space, gymnasium.spaces.Box)
