"""A loaded policy between an environment's own observations and actions, as `make_env` would stand there."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import reverie
from reverie.agents.agent import Decision, Noise, Policy, Seat
from reverie.data.rows import OBS, State
from reverie.envs.env import VectorEnv
from reverie.envs.make import make_env
from reverie.envs.resume import episode_seed
from reverie.envs.single import Single, single
from reverie.envs.toys import Count
from reverie.errors import UserError
from reverie.play.load import LoadedPolicy

HERE = __name__

OBSERVATIONS: dict[str, tuple[spaces.Space, dict[str, Any]]] = {
    "vector": (spaces.Box(-1, 1, (2,), np.float64), {}),
    "masked": (spaces.Box(-1, 1, (3,), np.float32), {"mask": [0, 2]}),
    "start": (spaces.Discrete(4, start=10), {}),
    "picture": (spaces.Box(0, 255, (17, 16, 3), np.uint8), {}),
    "channels first": (spaces.Box(0, 255, (3, 17, 16), np.uint8), {}),
    "gray": (spaces.Box(0, 255, (17, 16), np.uint8), {}),
    "wide picture": (spaces.Box(0, 255, (17, 16, 3), np.int32), {}),
    "float picture": (spaces.Box(0, 1, (17, 16, 3), np.float32), {"kind": "image"}),
    "grid": (spaces.Box(0, 255, (5, 4, 2), np.uint8), {"kind": "grid", "layout": "hwc", "codes": 256 // 4}),
    "scalar": (spaces.Box(-2, 2, (), np.float32), {}),
    "many": (spaces.MultiDiscrete([3, 4], start=[1, -1]), {}),
    "bits": (spaces.MultiBinary((2, 2)), {}),
    "nested": (
        spaces.Dict(
            {
                "eye": spaces.Box(0, 255, (1, 17, 16), np.uint8),
                "hand": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(0, 9, (2, 1), np.float64)]),
            }
        ),
        {"mask": {"hand/1": [1]}},
    ),
    "tuple": (spaces.Tuple([spaces.Box(-1, 1, (1,)), spaces.Discrete(2)]), {}),
}
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3, start=5),
    "below": spaces.Discrete(5, start=-2),
    "many": spaces.MultiDiscrete([300, 2, 1], start=[0, 4, 7]),
    "bits": spaces.MultiBinary((2, 3)),
    "box": spaces.Box(0.0, 10.0, (1,), np.float32),
    "bounds": spaces.Box(np.array([[-1.0, 0.0]]), np.array([[3.0, 0.5]]), dtype=np.float64),
    "integers": spaces.Box(-3, 7, (2,), np.int32),
    "scalar": spaces.Box(0.0, 1.0, (), np.float64),
}


class Any_(gymnasium.Env):
    """Random observations of a space; actions outside of their space are refused."""

    def __init__(self, see: str = "vector", do: str = "discrete") -> None:
        self.observation_space, self.action_space = copy.deepcopy(OBSERVATIONS[see][0]), ACTIONS[do]

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is outside of {self.action_space}"
        self.time += 1
        return self.look(), float(self.time), self.time == 6, False, {}

    def look(self) -> Any:
        seen = self.observation_space.sample()
        return np.uint8(seen % 64) if isinstance(seen, np.ndarray) and seen.shape == (5, 4, 2) else seen


class Probe(Policy):
    """A policy that keeps the rows that it is shown, and acts at random."""

    noise = 4

    def __init__(self, action: spaces.Space) -> None:
        super().__init__()
        self.action, self.rows, self.did = action, {}, torch.zeros(0)

    def initial_state(self, batch: int) -> State:
        return {"age": torch.zeros(batch)}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        u = noise.uniform(len(rows["is_first"]), self.noise)
        self.rows = {name: value.numpy().copy() for name, value in rows.items()}
        if isinstance(self.action, spaces.Discrete):
            self.did = (u[:, 0] * int(self.action.n)).long()
        elif isinstance(self.action, spaces.MultiDiscrete):
            shape = (len(u), *self.action.shape)
            self.did = (torch.rand(shape) * torch.from_numpy(self.action.nvec)).long()
        else:
            self.did = 2.2 * torch.rand(len(u), *self.action.shape) - 1.1
        return Decision(self.did, {"age": state["age"] + 1})

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> Any:
        raise NotImplementedError


def loaded(env: VectorEnv) -> tuple[LoadedPolicy, Probe]:
    probe = Probe(env.spec.action)
    return LoadedPolicy(probe, env.spec, 0, adapter=env.adapter), probe


@pytest.mark.parametrize("do", list(ACTIONS))
@pytest.mark.parametrize("see", list(OBSERVATIONS))
def test_it_sees_and_does_what_it_would_in_training(see: str, do: str) -> None:
    options = {"see": see, "do": do, **OBSERVATIONS[see][1]}
    trained_in = make_env(f"{HERE}:Any_", **options)
    policy, probe = loaded(trained_in)
    plain = reverie.make_single(f"{HERE}:Any_", **options)
    assert type(plain) is Any_
    obs, _ = plain.reset(seed=episode_seed(3, 0, 0))
    rows, state, ends = trained_in.reset(3), policy.initial_state(1), False
    for _ in range(6):
        action, state = policy.act(obs, state)
        for key in trained_in.spec.observation:
            np.testing.assert_array_equal(probe.rows[OBS + key], rows[OBS + key])
            assert probe.rows[OBS + key].dtype == rows[OBS + key].dtype
        step = trained_in.step(probe.did.numpy())
        obs, _, ends, _, _ = plain.step(action)
        rows = step.rows if step.ends is None else step.ends
    assert ends


@pytest.mark.parametrize("see", list(OBSERVATIONS))
def test_a_batch_has_a_leading_axis(see: str) -> None:
    """As Gymnasium's vector environments have it, with two streams and with one."""
    options = {"see": see, "do": "box", **OBSERVATIONS[see][1]}
    for count in (1, 2):
        many = gymnasium.vector.SyncVectorEnv([lambda: Any_(see, "box")] * count)
        policy, probe = loaded(make_env(f"{HERE}:Any_", num_envs=count, **options))
        one, alone = loaded(make_env(f"{HERE}:Any_", **options))
        obs, _ = many.reset(seed=[1, 2][:count])
        action, _ = policy.act(obs, policy.initial_state(count))
        assert action.shape == (count, 1)
        assert many.action_space.contains(action)
        for i in range(count):
            each = Any_(see, "box")
            one.act(each.reset(seed=[1, 2][i])[0], one.initial_state(1))
            for key in policy.spec.observation:
                np.testing.assert_array_equal(probe.rows[OBS + key][i], alone.rows[OBS + key][0])


def test_rows_in_are_rows_out() -> None:
    env = make_env(f"{HERE}:Any_", num_envs=3, see="start", do="box", flicker=0.0)
    policy, probe = loaded(env)
    rows, state = env.reset(0), policy.initial_state(3)
    for _ in range(9):
        action, state = policy.act(rows, state)
        assert {name: value.tolist() for name, value in probe.rows.items() if name != "prev_action"} == {
            name: value.tolist() for name, value in rows.items() if name in ("obs.index", "reward", "is_first")
        }
        np.testing.assert_array_equal(action, probe.did.numpy())
        rows = env.step(action).rows
    with pytest.raises(UserError, match=r"rows have obs.index of float32 \(3,\), expected int64 \(3,\)"):
        policy.act(rows | {"obs.index": np.zeros(3, np.float32)}, state)
    with pytest.raises(UserError, match=r"state is None; begin with initial_state\(streams\)"):
        policy.act(rows, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("see", "obs", "words"),
    [
        ("start", 14, "outside its space"),
        ("start", 11.5, "is float64 with values from 11.5 to 11.5, its space declares int64"),
        ("picture", np.full((17, 16, 3), 0.5), "its space declares uint8"),
        ("picture", np.full((17, 16, 3), 256), "is int64 with values from 256 to 256, its space declares uint8"),
        ("picture", np.zeros((3, 17, 16), np.uint8), r"has shape \(3, 17, 16\), expected \(1, 17, 16, 3\)"),
        ("nested", {"eye": np.zeros((1, 17, 16), np.uint8)}, "observation 'hand/0' is missing; got eye"),
        ("nested", np.zeros(3), "observation 'eye' is missing; got ndarray"),
        ("tuple", (np.zeros(1, np.float32),), "observation '1' is missing; got tuple"),
        ("tuple", (np.zeros((1, 1), np.float32), 1), "some observations have a leading axis and some have none"),
        ("vector", ["a", "b"], "has dtype"),
    ],
)
def test_observations_of_another_space_are_one_line(see: str, obs: Any, words: str) -> None:
    policy, _ = loaded(make_env(f"{HERE}:Any_", see=see, **OBSERVATIONS[see][1]))
    with pytest.raises(UserError, match=words) as error:
        policy.act(obs, policy.initial_state(1))
    assert "\n" not in str(error.value)


def test_lists_and_python_numbers_are_observations() -> None:
    policy, probe = loaded(make_env(f"{HERE}:Any_", see="tuple"))
    policy.act(([0.5], 1), policy.initial_state(1))
    assert (probe.rows["obs.0"].tolist(), probe.rows["obs.1"].tolist()) == ([[0.5]], [1])


class Rows(VectorEnv):
    """Counts as a source of rows of one's own, in which closing rows stay in place."""

    def __init__(self, env: VectorEnv) -> None:
        self.env, self.spec, self.num_envs, self.pending = env, env.spec, env.num_envs, None

    def reset(self, seed: int) -> Any:
        self.pending = None
        return self.env.reset(seed)

    def step(self, action: np.ndarray) -> Any:
        if self.pending is not None:
            (step, self.pending) = (self.pending, None)
            return step
        step = self.env.step(action)
        if step.ends is None:
            return step
        self.pending = type(step)(step.rows)
        return type(step)(step.ends, episode_info=step.episode_info)


@pytest.mark.parametrize("in_place", [False, True])
def test_rows_as_a_plain_environment(in_place: bool) -> None:
    """Like the environment beneath, episode for episode, though its ends come in either way."""
    beneath = make_env("toy/count", length=2, max_length=4, end="mixed")
    env = Single(Rows(beneath)) if in_place else Single(beneath)
    reference = Count(length=2, max_length=4, end="mixed")
    for episode in range(6):
        obs, _ = env.reset(seed=5 if episode == 0 else None)
        expected, _ = reference.reset(seed=episode_seed(5, 0, episode))
        over = False
        while not over:
            np.testing.assert_array_equal(obs, expected)
            obs, reward, terminated, truncated, _ = env.step(1)
            expected, *rest, _ = reference.step(1)
            assert [reward, terminated, truncated] == rest
            over = terminated or truncated
        np.testing.assert_array_equal(obs, expected)
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(1)
    first, _ = env.reset(seed=5)
    expected, _ = reference.reset(seed=episode_seed(5, 0, 0), options={"episode": 0})
    np.testing.assert_array_equal(first, expected)


def test_where_there_is_no_single_stream() -> None:
    with pytest.raises(UserError, match="flickers by rows"):
        reverie.make_single("toy/catch", flicker=0.5)
    with pytest.raises(UserError, match="is a vector environment"):
        reverie.make_single("CartPole-v1", native=True)
    with pytest.raises(UserError, match="has 2 streams"):
        Single(Rows(make_env("toy/count", num_envs=2)))
    assert single(make_env("toy/catch")).observation_space.shape == (32, 32, 1)


PLAY = """
import sys, reverie
run = sys.argv[1]
policy, env, many = reverie.load(run), reverie.make_single(run), reverie.make_env(run, num_envs=2)
obs, _ = env.reset(seed=0)
state = policy.initial_state(1)
over = False
while not over:
    action, state = policy.act(obs, state)
    obs, _, over, _, _ = env.step(action)
rows, state = many.reset(0), policy.initial_state(2)
for _ in range(8):
    action, state = policy.act(rows, state)
    rows = many.step(action).rows
print(action.dtype, many.spec.flags)
"""


@pytest.mark.parametrize(("agent", "see", "do"), [("dqn", "nested", "below"), ("dreamerv2", "start", "bounds")])
def test_a_run_is_played_in_another_process(agent: str, see: str, do: str, tmp_path: Path) -> None:
    options = {"see": see, "do": do, **OBSERVATIONS[see][1]}
    config = reverie.make_config(agent, "cpu", f"{HERE}:Any_", options=options)
    keys = {"run.env_steps": 40, "run.prefill": 40, "run.eval_episodes": 1, "env.num_envs": 1}
    reverie.train(reverie.overrides.apply(config, keys), tmp_path / "run")
    code = [sys.executable, "-c", PLAY, str(tmp_path / "run")]
    done = subprocess.run(code, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == ("int64" if agent == "dqn" else "float32")
