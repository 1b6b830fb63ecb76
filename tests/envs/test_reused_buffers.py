"""Vector environments that write their next step, or a reset, into the arrays that they have returned."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from test_conventions import Counts, expected

from reverie.envs.check import check_env
from reverie.envs.faults import EnvFault
from reverie.envs.make import make_env
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.envs.tasks import Tasks
from reverie.errors import UserError

HERE = __name__


class Reuses(Counts):
    """One array of each kind for ever; a step that only resets pays and ends again, as stale buffers have it."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seen, _ = super().reset(seed=seed, options=options)
        if options is None:
            self.kept: dict[str, Any] = {"count": seen["count"].copy()}
            self.kept |= {"reward": np.zeros(self.num_envs, np.float32)}
            self.kept |= {name: np.zeros(self.num_envs, bool) for name in ("terminated", "truncated")}
        else:
            for name in ("reward", "terminated", "truncated"):
                self.kept[name][options["reset_mask"]] = 0
        self.kept["count"][:] = seen["count"]
        return {"count": self.kept["count"]}, {}

    def step(self, actions: Any) -> Any:
        begins = self.over.copy() if self.mode == "next_step" else np.zeros(self.num_envs, bool)
        stale = self.kept["terminated"].copy(), self.kept["truncated"].copy()
        seen, reward, terminated, truncated, info = super().step(actions)
        self.kept["count"][:] = seen["count"]
        self.kept["reward"][:] = np.where(begins, 9.0, reward)
        self.kept["terminated"][:] = np.where(begins, stale[0], terminated)
        self.kept["truncated"][:] = np.where(begins, stale[1], truncated)
        flags = self.kept["terminated"], self.kept["truncated"]
        return {"count": self.kept["count"]}, self.kept["reward"], *flags, info


def make(num_envs: int, mode: str) -> Any:
    return Reuses(num_envs, mode, finals="final_obs" if mode == "same_step" else "")


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_rows_stay_what_they_were(mode: str) -> None:
    env = make_env(f"{HERE}:make", num_envs=3, mode=mode, autoreset=mode)
    kept: list[list[Any]] = [[] for _ in range(3)]
    rows = env.reset(0)
    for stream in range(3):
        kept[stream].append((rows, stream))
    for _ in range(14):
        step = env.step(np.zeros(3, np.int64))
        for at, stream in enumerate([] if step.ends is None or step.streams is None else step.streams.tolist()):
            kept[stream].append((step.ends, at))
        for stream in range(3):
            kept[stream].append((step.rows, stream))
    fields = ("obs.count", "reward", "is_first", "is_last", "is_terminal")
    for stream in range(3):  # only now, when all of it has been written over
        told = [tuple(np.asarray(rows[name][at]).item() for name in fields) for rows, at in kept[stream]]
        episode = expected(stream)
        assert told[: 2 * len(episode)] == episode * 2


class Old(Counts):
    """As before Gymnasium 1.0: infos of last steps are an array, one for each stream; observations are 0 elsewhere."""

    def __init__(self, num_envs: int, batched: bool) -> None:
        super().__init__(num_envs, "same_step")
        self.batched = batched
        self.single_observation_space = spaces.Discrete(9, start=1)
        self.observation_space = spaces.MultiDiscrete(np.full(num_envs, 9), start=np.ones(num_envs, int))

    def step(self, actions: Any) -> Any:
        self.count = self.count + 1
        over = self.count == self.until
        last = self.see()
        info: dict[str, Any] = {"final_info": np.array([{"x": 1} if each else None for each in over], object)}
        if over.any():
            finals = np.where(over, last, 0)  # 0 is no observation of this space
            info |= {"final_observation": finals if self.batched else finals.astype(object)}
            info |= {"_final_observation": over}
        reward = self.count.astype(np.float32)
        self.count = np.where(over, 0, self.count)
        return self.see(), reward, over, np.zeros(self.num_envs, bool), info

    def see(self) -> Any:
        return self.count + 1


def old(num_envs: int, batched: bool) -> Any:
    return Old(num_envs, batched)


@pytest.mark.parametrize("batched", [True, False])
def test_last_observations_of_streams_that_did_not_end_are_not_looked_at(batched: bool) -> None:
    env = make_env(f"{HERE}:old", num_envs=2, batched=batched, autoreset="same_step")
    env.reset(0)
    ends = [step.ends for _ in range(6) if (step := env.step(np.zeros(2, np.int64))).ends is not None]
    assert [end["obs.index"].tolist() for end in ends] == [[2], [3], [2], [2, 3]]  # counted from 0 in rows


class Says(gymnasium.Env[Any, Any]):
    """Has a word of its own at the end of each episode."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.MultiBinary(2)

    def __init__(self, said: Any, mask: Any = None) -> None:
        self.said, self.mask = said, mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {} if self.mask is None else {"action_mask": self.mask}

    def step(self, action: Any) -> Any:
        info = {"episode_info": self.said} | ({} if self.mask is None else {"action_mask": self.mask})
        return np.zeros(1, np.float32), 0.0, True, False, info


def says(said: Any) -> gymnasium.Env:
    return Says(said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"map": "forest", "gold": 3}, {"gold": 3.0}),
        (None, {}),
        ("won", {}),
        ({"steps": np.float32(2.0)}, {"steps": 2.0}),
    ],
)
def test_words_that_are_no_numbers_are_left_alone(said: Any, told: dict[str, float]) -> None:
    env = make_env(f"{HERE}:says", num_envs=1, said=said)
    env.reset(0)
    assert dict(env.step(np.zeros((1, 2), np.int64)).episode_info.get(0, {})) == told


def test_masks_of_bits_and_of_a_wrong_size_are_checked() -> None:
    assert check_env(lambda: Says({}, np.array([1, 0, 1, 1])), 20, action_mask="follow").problems == ()
    (problem,) = check_env(lambda: Says({}, np.ones(3)), 20, action_mask="follow").problems
    assert "has 3 entries, the actions are 4" in problem


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_without_bounds_are_refused(dtype: Any) -> None:
    with pytest.raises(UserError, match="no bounds that could be reached"):
        ActionAdapter(spaces.Box(-np.inf, np.inf, (1,), dtype))
    assert ActionAdapter(spaces.Box(0, 255, (1,), np.uint8)).batch(np.ones((1, 1))).tolist() == [[255]]
    assert ActionAdapter(spaces.Box(-9, 9, (1,), dtype)).batch(-np.ones((1, 1))).tolist() == [[-9]]


def test_an_empty_name_does_not_take_anothers() -> None:
    box = spaces.Box(0, 1, (1,), np.float32)
    with pytest.raises(UserError, match="collide, because an empty one is called 'vector'"):
        ObservationAdapter(spaces.Dict({"": box, "vector": box}))


def test_seeds_count_from_0() -> None:
    with pytest.raises(UserError, match="seed is -1; it must be at least 0"):
        make_env("toy/catch").reset(-1)


def test_tasks_that_were_brought_back_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env("toy/catch,toy/maze", num_envs=2)
    assert isinstance(env, Tasks)
    env.reset(0)
    state = env.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(env.envs[1], "step", lambda action: (_ for _ in ()).throw(EnvFault("on purpose")))
        with pytest.raises(EnvFault, match="on purpose"):
            env.step(np.zeros(2, np.int64))
    assert env.state_dict()["tasks"] is None
    env.load_state_dict(state)
    assert env.state_dict()["tasks"] is not None
