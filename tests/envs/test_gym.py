"""Gymnasium ids, users' factories and native vector environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs import toys
from reverie.envs.env import VectorEnv
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector, measured
from reverie.envs.toys import Count
from reverie.envs.vector import SyncVector
from reverie.errors import UserError

HERE = __name__


class Dicts(Count):
    """Counts, with the observation split over a dictionary with an image."""

    def __init__(self, length: int = 3) -> None:
        super().__init__(length=length)
        self.observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (16, 16, 3), np.uint8), "count": spaces.Discrete(length + 1)}
        )

    def _observe(self) -> Any:
        return {"image": np.full((16, 16, 3), 10 * self._count, np.uint8), "count": np.int64(self._count)}


def single(length: int = 3) -> gymnasium.Env:
    return Count(length=length)


def native(num_envs: int) -> gymnasium.vector.VectorEnv:
    return gymnasium.vector.SyncVectorEnv([lambda: Count(length=3) for _ in range(num_envs)])


def ours(num_envs: int, length: int = 3) -> VectorEnv:
    return make_env("toy/count", num_envs=num_envs, length=length)


def wrong_size(num_envs: int) -> gymnasium.vector.VectorEnv:
    return native(num_envs + 1)


def nothing() -> None:
    return None


def anything(**options: Any) -> gymnasium.Env:
    return Count(**options)


@pytest.mark.parametrize("name", ["single", "native", "ours", "anything", "Count"])
def test_factories_of_every_kind(name: str) -> None:
    id = f"{HERE}:{name}" if name != "Count" else "reverie.envs.toys:Count"
    options = {"length": 3} if name != "native" else {}
    env = make_env(id, num_envs=2, **options)
    assert env.num_envs == 2
    assert isinstance(env, NativeVector if name == "native" else SyncVector)
    if name == "single":
        assert env.spec.flags == {"length": 3}
    assert env.reset(0)["obs.vector"].tolist() == [[0, 0], [0, 0]]
    assert env.step(np.zeros(2, np.int64)).rows["obs.vector"][:, 0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("CartPol-v1", {}, "CartPole-v1"),
        ("CartPole-v7", {}, "CartPole-v1"),
        ("CartPole-v1", {"gravitty": 1}, "gravitty"),
        ("toy/cath", {}, "toy/catch"),
        ("no_such_module:make", {}, "no module 'no_such_module'"),
        (f"{HERE}:singel", {}, "did you mean single"),
        (f"{HERE}:single", {"lenght": 3}, "did you mean length"),
        (f"{HERE}:nothing", {}, "NoneType"),
        (f"{HERE}:wrong_size", {}, "returned 2 streams where 1"),
    ],
)
def test_mistakes_are_named_in_one_line(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        make_env(id, **options)
    assert "\n" not in str(error.value)


def test_missing_packages_are_named() -> None:
    def needs() -> gymnasium.Env:
        raise gymnasium.error.DependencyNotInstalled("box2d")

    gymnasium.register("Needs-v0", entry_point=needs)
    try:
        with pytest.raises(UserError, match=r"Needs-v0 needs a package.*box2d"):
            make_env("Needs-v0")
    finally:
        del gymnasium.registry["Needs-v0"]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_dictionaries_keep_their_last_observations(mode: str, asynchronous: bool) -> None:
    kind = gymnasium.vector.AsyncVectorEnv if asynchronous else gymnasium.vector.SyncVectorEnv
    env = NativeVector("dicts", kind([lambda: Dicts(3), lambda: Dicts(5)][:1] * 2, autoreset_mode=mode))
    rows = env.reset(0)
    assert rows["obs.image"].shape == (2, 16, 16, 3)
    seen = [int(rows["obs.count"][0])]
    for _ in range(8):
        step = env.step(np.zeros(2, np.int64))
        for rows in [step.rows] if step.ends is None else [step.ends, step.rows]:
            assert (rows["obs.image"][0] == 10 * rows["obs.count"][0]).all()
            assert rows["reward"][0] == rows["obs.count"][0]
            assert rows["is_last"][0] == (rows["obs.count"][0] == 3)
            seen.append(int(rows["obs.count"][0]))
    assert seen[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    env.close()


def test_streams_that_end_at_different_times_do_not_disturb_each_other() -> None:
    for mode in ("NextStep", "SameStep", "Disabled"):
        fns = [lambda: Count(length=2), lambda: Count(length=5)]
        env = NativeVector("two", gymnasium.vector.SyncVectorEnv(fns, autoreset_mode=mode))
        seen: list[list[float]] = [[], []]
        rows = env.reset(0)
        for i in range(2):
            seen[i].append(rows["obs.vector"][i, 0])
        for _ in range(9):
            step = env.step(np.zeros(2, np.int64))
            if step.ends is not None and step.streams is not None:
                for at, i in enumerate(step.streams):
                    seen[i].append(step.ends["obs.vector"][at, 0])
            for i in range(2):
                seen[i].append(step.rows["obs.vector"][i, 0])
        assert seen[0][:9] == [0, 1, 2, 0, 1, 2, 0, 1, 2], mode
        assert seen[1][:9] == [0, 1, 2, 3, 4, 5, 0, 1, 2], mode


class Telling(Count):
    """Says at the end of an episode how far it counted, and a word; every other stream says nothing."""

    def __init__(self, length: int, says: bool) -> None:
        super().__init__(length=length)
        self.says = says

    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        if self.says and (rest[2] or rest[3]):
            info = info | {"episode_info": {"count": float(self._count), "word": "end"}}
        return *rest, info


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_what_is_measured_over_an_episode_is_told_by_whoever_measured_it(mode: str) -> None:
    fns: Any = [lambda: Telling(2, True), lambda: Telling(2, False), lambda: Telling(3, True)]
    env = NativeVector("tells", gymnasium.vector.SyncVectorEnv(fns, autoreset_mode=mode))
    env.reset(0)
    told = [dict(env.step(np.zeros(3, np.int64)).episode_info) for _ in range(3)]
    assert told == [{}, {0: {"count": 2.0}}, {2: {"count": 3.0}}]


@pytest.mark.parametrize(
    "info",
    [
        {"final_info": np.array([None, {"episode_info": {"x": 1}}], object)},
        {"episode_info": [None, {"x": np.float32(1)}]},
        {"episode_info": {"x": np.array([0.0, 1.0])}},
    ],
)
def test_infos_of_other_vector_environments_are_understood(info: dict[str, Any]) -> None:
    assert measured(info, np.array([1])) == {1: {"x": 1.0}}


@pytest.mark.parametrize("found", [None, 5, "end", {"x": 1.0}, {"x": np.zeros(1)}, [], np.float64(2)])
def test_other_words_for_other_things_are_let_be(found: Any) -> None:
    assert measured({"episode_info": found}, np.array([1])) == {}


def test_disabled_streams_are_seeded_per_episode() -> None:
    def lengths(seed: int) -> list[int]:
        fns = [lambda: Count(length=2, max_length=9) for _ in range(2)]
        env = NativeVector("count", gymnasium.vector.SyncVectorEnv(fns, autoreset_mode="Disabled"))
        env.reset(seed)
        steps = [env.step(np.zeros(2, np.int64)) for _ in range(60)]
        return [int(n) for step in steps if step.ends is not None for n in step.ends["reward"]]

    assert lengths(0) == lengths(0) != lengths(1)
    reference = make_env("toy/count", num_envs=2, length=2, max_length=9)
    reference.reset(0)
    steps = [reference.step(np.zeros(2, np.int64)) for _ in range(60)]
    assert lengths(0) == [int(n) for step in steps if step.ends is not None for n in step.ends["reward"]]


def test_unknown_modes_are_refused() -> None:
    vector = native(1)
    vector.metadata = {"autoreset_mode": "Sometimes"}
    with pytest.raises(UserError, match="Sometimes"):
        NativeVector("odd", vector)


def test_a_gymnasium_id_behind_a_module() -> None:
    gymnasium.register("OurCount-v0", entry_point=toys.Count)
    try:
        assert make_env(f"{HERE}:OurCount-v0").reset(0)["obs.vector"].tolist() == [[0, 0]]
    finally:
        del gymnasium.registry["OurCount-v0"]
