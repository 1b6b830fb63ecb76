"""Vector environments that do not say when they reset, or do not give last observations: asked for, never guessed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from reverie.envs.make import make_env
from reverie.envs.native import Conventions, NativeVector
from reverie.errors import UserError
from reverie.run.ledger import Episodes

HERE = __name__


class Columns(gymnasium.vector.VectorEnv):
    """Says rewards and flags in a column, or of too few streams."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, few: bool = False) -> None:
        self.num_envs, self.few = num_envs, few
        self.single_observation_space, self.single_action_space = (
            spaces.Box(0, 99, (3,), np.float32),
            spaces.Discrete(2),
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros((self.num_envs, 3), np.float32), {}

    def step(self, actions: Any) -> Any:
        flags = np.zeros((self.num_envs, 1), bool)
        reward = np.arange(1 if self.few else self.num_envs, dtype=np.float32)[:, None]
        return np.ones((self.num_envs, 3), np.float32), reward, flags, flags, {}


def test_rewards_and_flags_are_one_of_each_stream() -> None:
    env = make_env(f"{HERE}:Columns", num_envs=2)
    env.reset(0)
    rows = env.step(np.zeros(2, np.int64)).rows
    assert rows["reward"].tolist() == [0.0, 1.0]
    assert rows["is_last"].shape == rows["is_terminal"].shape == (2,)
    few = make_env(f"{HERE}:Columns", num_envs=2, few=True)
    few.reset(0)
    with pytest.raises(UserError, match=r"the reward has the shape \[1, 1\], expected \[2\]"):
        few.step(np.zeros(2, np.int64))


class Counts(gymnasium.vector.VectorEnv):
    """Stream i counts to 2 + i, a reward of its count per step; ends are true for even streams, time limits for odd.

    mode: what it does. finals: key of ``info`` for last observations; each: as an array of objects. says: its metadata.
    """

    def __init__(self, num_envs: int, mode: str, finals: str = "", each: bool = False, says: Any = None) -> None:
        self.metadata = {} if says is None else {"autoreset_mode": says}
        self.num_envs, self.mode, self.finals, self.each = num_envs, mode, finals, each
        self.single_observation_space = spaces.Dict({"count": spaces.Box(0, 99, (1,), np.float32)})
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.until = 2 + np.arange(num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self.count = np.where(mask, 0, getattr(self, "count", 0))
        self.over = np.zeros(self.num_envs, bool)
        return self.see(), {}

    def step(self, actions: Any) -> Any:
        begins = self.over if self.mode == "next_step" else np.zeros(self.num_envs, bool)
        self.count = np.where(begins, 0, self.count + 1)
        self.over = (self.count == self.until) & ~begins
        reward, last, info = np.where(begins, 0.0, self.count), self.see(), {}
        if self.over.any() and self.finals:
            each = np.array([{"count": x} if over else None for x, over in zip(last["count"], self.over, strict=True)])
            info = {self.finals: each if self.each else last, f"_{self.finals}": self.over.copy()}
        even = np.arange(self.num_envs) % 2 == 0
        ends = self.over & even, self.over & ~even
        if self.mode == "same_step":
            self.count = np.where(self.over, 0, self.count)
        return self.see(), reward, *ends, info

    def see(self) -> Any:
        return {"count": self.count[:, None].astype(np.float32)}


def make(num_envs: int, mode: str = "same_step", finals: str = "", each: bool = False, says: Any = None) -> Any:
    return Counts(num_envs, mode, finals, each, says)


def rows_of(env: Any, stream: int, steps: int = 14) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Rows of one stream (count, reward, is_first, is_last, is_terminal), and its episodes as they are told."""
    out, told, episodes = [], [], Episodes(env.num_envs)
    everyone = np.arange(env.num_envs)

    def add(rows: Any, at: int) -> None:
        fields = ("obs.count", "reward", "is_first", "is_last", "is_terminal")
        out.append(tuple(np.asarray(rows[name][at]).item() for name in fields))

    rows = env.reset(0)
    told += episodes.add(rows, everyone)
    add(rows, stream)
    for _ in range(steps):
        step = env.step(np.zeros(env.num_envs, np.int64))
        if step.ends is not None:
            told += episodes.add(step.ends, step.streams)
            if stream in step.streams:
                add(step.ends, step.streams.tolist().index(stream))
        told += episodes.add(step.rows, everyone)
        add(step.rows, stream)
    return out, [episode for episode in told if episode[0] == stream]


def expected(stream: int, last: int | None = None) -> list[tuple[Any, ...]]:
    """One episode of a stream: 0, 1, ... 2 + stream. last: the count that its closing row shows."""
    until = 2 + stream
    shown = [*range(until), until if last is None else last]
    return [(float(c), float(t), t == 0, t == until, t == until and stream % 2 == 0) for t, c in enumerate(shown)]


GIVEN = [("final_obs", False), ("final_obs", True), ("final_observation", False), ("final_observation", True)]


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("how", ["said", "metadata", "both"])
@pytest.mark.parametrize(("finals", "each"), GIVEN)
def test_each_convention_gives_the_same_rows(mode: str, how: str, finals: str, each: bool) -> None:
    if mode != "same_step":
        finals = ""
    name = {"next_step": "NEXT_STEP", "same_step": "SAME_STEP", "disabled": "DISABLED"}[mode]
    says = None if how == "said" else AutoresetMode[name]
    options = {} if how == "metadata" else {"autoreset": mode}
    for stream in (0, 1, 2):
        env = make_env(f"{HERE}:make", num_envs=3, mode=mode, finals=finals, each=each, says=says, **options)
        rows, told = rows_of(env, stream)
        episode = expected(stream)
        count = len(rows) // len(episode)
        assert count >= 2
        assert rows[: count * len(episode)] == episode * count
        score, length = sum(range(3 + stream)), 2 + stream
        assert told[:2] == [(stream, score, length)] * 2


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_without_metadata_it_must_be_said(mode: str) -> None:
    with pytest.raises(
        UserError, match=r"metadata\['autoreset_mode'\], or say --env.options.autoreset same_step"
    ) as error:
        make_env(f"{HERE}:make", num_envs=2, mode=mode)
    assert "\n" not in str(error.value)


def test_gymnasiums_own_need_not_say_it() -> None:
    vector = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")])
    vector.metadata = {}  # as in Gymnasium 1.0
    assert NativeVector("own", vector).mode == "NextStep"


@pytest.mark.parametrize("stream", [0, 1])
def test_last_observations_that_nobody_gives(stream: int) -> None:
    options = {"num_envs": 2, "mode": "same_step", "autoreset": "same_step"}
    with pytest.raises(UserError, match=r"say --env.options.final_obs previous.*or --env.options.autoreset next_step"):
        rows_of(make_env(f"{HERE}:make", **options), stream)
    rows, told = rows_of(make_env(f"{HERE}:make", **options, final_obs="previous"), stream)
    episode = expected(stream, last=1 + stream)
    assert rows[: 2 * len(episode)] == episode * 2
    assert told[0] == (stream, sum(range(3 + stream)), 2 + stream)


def test_last_observations_of_some_streams() -> None:
    """Where one is missing among those that are given, it alone is asked for."""
    env = NativeVector("some", Counts(2, "same_step", "final_obs"), conventions=Conventions("same_step"))
    step = env.env.step

    def without(actions: Any) -> Any:
        *rest, info = step(actions)
        return *rest, {name: value & [True, False] if name == "_final_obs" else value for name, value in info.items()}

    env.env.step = without  # type: ignore[method-assign]
    env.reset(0)
    env.step(np.zeros(2))
    assert env.step(np.zeros(2)).streams.tolist() == [0]
    with pytest.raises(UserError, match="does not give the last observation"):
        env.step(np.zeros(2))


def test_a_next_step_environment_that_gives_last_observations() -> None:
    env = make_env(
        f"{HERE}:make", num_envs=1, mode="same_step", finals="final_observation", says=AutoresetMode.NEXT_STEP
    )
    env.reset(0)
    env.step(np.zeros(1, np.int64))
    with pytest.raises(UserError, match=r"say --env.options.autoreset same_step"):
        env.step(np.zeros(1, np.int64))
    told = make_env(
        f"{HERE}:make", num_envs=1, mode="same_step", finals="final_obs", says="NextStep", autoreset="same_step"
    )
    assert rows_of(told, 0)[0][:6] == expected(0) * 2


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        (
            f"{HERE}:make",
            {"autoreset": "sometimes"},
            "autoreset 'sometimes' must be one of next_step, same_step, disabled",
        ),
        (f"{HERE}:make", {"autoreset": "same_step", "final_obs": True}, "must be one of given, previous"),
        (f"{HERE}:make", {"says": "Sometimes"}, "autoreset mode 'Sometimes'"),
        ("CartPole-v1", {"autoreset": "same_step"}, "is no vector environment"),
        ("reverie.envs.toys:Count", {"final_obs": "previous"}, "is no vector environment"),
        ("toy/count", {"final_obs": "previous"}, "has no option 'final_obs'"),
    ],
)
def test_what_cannot_be_said(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_env(id, **options)
