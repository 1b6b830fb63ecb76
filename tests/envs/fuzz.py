"""What is asked of every plan of `tests.envs.fuzzed`: right rows, actions and scores, or one line of the user's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import reverie
from reverie.agents.agent import Decision, Noise, Policy, Seat
from reverie.data.rows import State
from reverie.envs.check import check_env
from reverie.errors import UserError
from reverie.overrides import apply
from reverie.play.load import LoadedPolicy
from reverie.run.build import derive
from reverie.run.saved_config import load_config
from tests.envs.fuzzed import Plan, World, expected_action, expected_row, options_of

ID = "tests.envs.fuzzed:World"
STEPS = 34
AGENTS = {
    "dqn": {"agent.hidden": 8, "agent.torso.units": 8, "agent.torso.channels": [2, 2, 2]},
    "dreamerv2": {
        "agent.rssm.deter": 8, "agent.rssm.hidden": 8, "agent.rssm.stoch": 2, "agent.rssm.classes": 3,
        "agent.encoder.depth": 2, "agent.encoder.units": 8, "agent.decoder.depth": 2, "agent.decoder.units": 8,
        **{f"agent.{head}.{key}": value for head in ("actor", "critic", "reward", "discount")
           for key, value in {"layers": 1, "units": 8}.items()},
        "agent.horizon": 3, "replay.window.learn": 4,
    },
}  # fmt: skip


def refused(plan: Plan, call: Callable[[], Any]) -> str | None:
    """The line that a call is refused with, None if it went through. Whatever else is raised is a fault of ours."""
    try:
        call()
    except UserError as error:
        line = str(error)
    except RuntimeError as error:
        if plan["fault"] != "raise" or "the simulator" not in str(error):
            raise
        return str(error)  # the environment's own
    else:
        return None
    assert "\n" not in line or plan["fault"] == "raise", line
    return line


def seed_of(seed: int, stream: int, episode: int) -> int:
    """The seed of an episode, as docs/environments.md has it."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream, episode)).generate_state(1, np.uint32)[0] >> 1)


class Reference:
    """One stream of the plain environment, played by row actions, without anything of ours between."""

    def __init__(self, plan: Plan, seed: int, stream: int) -> None:
        self.plan, self.seed, self.stream, self.episode = plan, seed, stream, -1
        self.world = World(copy.deepcopy(plan))
        self.begin()

    def begin(self) -> None:
        self.episode += 1
        self.observation, self.info = self.world.reset(seed=seed_of(self.seed, self.stream, self.episode))
        self.reward, self.terminated, self.truncated = 0.0, False, False

    def step(self, action: np.ndarray) -> None:
        native: Any = expected_action(self.plan, action).astype(self.world.action_space.dtype)
        self.observation, reward, self.terminated, self.truncated, self.info = self.world.step(
            int(native) if self.plan["action"]["is"] == "discrete" else native
        )
        self.reward = float(np.asarray(reward).reshape(()))

    def check(self, rows: Mapping[str, np.ndarray], i: int, first: bool) -> None:
        """Row i of `rows` is what is seen here."""
        over = self.terminated or self.truncated
        flags = {"is_first": first, "is_last": over, "is_terminal": self.terminated}
        assert {name: bool(rows[name][i]) for name in flags} == flags
        np.testing.assert_equal(rows["reward"][i], np.float32(0 if first else self.reward))
        seen = expected_row(self.plan, self.observation)
        if self.plan["mask"] == "info":
            seen["action_mask"] = self.info["action_mask"].astype(np.float32)
        assert {name.removeprefix("obs.") for name in rows if name.startswith("obs.")} == seen.keys()
        for key, value in seen.items():
            np.testing.assert_array_equal(rows[f"obs.{key}"][i], value)


def draw(spec: Any, rows: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Random row actions of those that are allowed."""
    count = len(rows["reward"])
    if isinstance(spec.action, spaces.Discrete):
        allowed = rows["obs.action_mask"] if spec.action_mask else np.ones((count, int(spec.action.n)))
        return (rng.random(allowed.shape) * (allowed > 0.5)).argmax(-1)
    if isinstance(spec.action, spaces.MultiDiscrete):
        return rng.integers(0, spec.action.nvec, (count, len(spec.action.nvec)))
    return rng.uniform(-1.2, 1.2, (count, *spec.action.shape)).astype(np.float32)


def check_rows(plan: Plan) -> str | None:
    """Rows and actions of two streams against two references; the line of a refusal."""

    def play() -> None:
        env = reverie.make_env(ID, num_envs=2, **options_of(plan))
        rng, rows = np.random.default_rng(1), env.reset(5)
        fault = plan["fault"] if plan["fault"] == "nan reward" else ""
        references = [Reference({**plan, "fault": fault}, 5, i) for i in range(2)]
        for i, one in enumerate(references):
            one.check(rows, i, True)
        for _ in range(STEPS):
            action = draw(env.spec, rows, rng)
            step = env.step(action)
            for i, one in enumerate(references):
                one.step(action[i])
                if one.terminated or one.truncated:
                    one.check(step.ends, step.streams.tolist().index(i), False)
                    one.begin()
                    one.check(step.rows, i, True)
                else:
                    one.check(step.rows, i, False)
            rows = step.rows
        env.close()

    line = refused(plan, play)
    assert line is not None or not plan["fault"] or plan["fault"] == "nan reward", "a fault passed unsaid"
    assert line is None or plan["fault"], f"refused without a fault: {line}"
    return line


class Chance(Policy):
    """A policy that acts at random, among what is allowed, and keeps what it did."""

    noise = 1

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec, self.rng = spec, np.random.default_rng(2)
        self.rows: dict[str, np.ndarray] = {}

    def initial_state(self, batch: int) -> State:
        return {}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        self.rows = {name: value.numpy().copy() for name, value in rows.items()}
        self.did = draw(self.spec, self.rows, self.rng)
        return Decision(torch.from_numpy(np.asarray(self.did)), {})

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> Any:
        raise NotImplementedError


def check_load(plan: Plan) -> None:
    """A policy between the plain environment's own observations and actions, for one episode."""
    plan = {**plan, "fault": ""}
    env = reverie.make_env(ID, **options_of(plan))
    chance, plain = Chance(env.spec), reverie.make_single(ID, **options_of(plan))
    policy = LoadedPolicy(chance, env.spec, 0, adapter=env.adapter)
    state, over = policy.initial_state(1), False
    observation, info = plain.reset(seed=7)
    while not over:
        action, state = policy.act(observation, state, info=info)
        for key, value in expected_row(plan, observation).items():
            np.testing.assert_array_equal(chance.rows[f"obs.{key}"][0], value)
        observation, _, terminated, truncated, info = plain.step(action)
        np.testing.assert_allclose(np.asarray(action), expected_action(plan, chance.did[0]), rtol=1e-6)
        over = terminated or truncated


def check_checks(plan: Plan) -> None:
    """`check_env` reports a fault that it comes across, and raises nothing."""
    report = None

    def play() -> None:
        nonlocal report
        report = check_env(ID, env_steps=40, **options_of(plan))

    assert refused({**plan, "fault": ""}, play) is None
    assert report is not None
    assert report.ok == (not plan["fault"]), (plan["fault"], report.problems)


def check_train(plan: Plan, agent: str, run_dir: Path) -> str | None:
    """A run that is stopped, resumed, evaluated and loaded; the line of a refusal.

    Its rows are those of the plain environment, played by the actions that they hold, and so is what was saved before a
    fault; its evaluation's scores are those of the loaded policy in a loop over the plain environment.
    """
    config = reverie.make_config(agent, "cpu", ID, options=options_of(plan))
    keys = {
        "run.env_steps": 40,
        "run.prefill": 24,
        "run.eval_episodes": 1,
        "run.eval_envs": 1,
        "run.seed": 3,
        "env.num_envs": 2,
        "run.train_ratio": 1,
    }
    config = apply(
        config, {**keys, "replay.store.budget": 4_000_000, "replay.store.chunk": 4, "replay.batch": 2, **AGENTS[agent]}
    )

    def live() -> None:
        reverie.train(config, run_dir)
        reverie.resume(run_dir, {"run.env_steps": 60})

    line = refused(plan, live)
    if any((run_dir / "replay").glob("*.chunk")) and plan["fault"] != "nan reward":
        check_record(plan, run_dir)
    if line is not None:
        assert plan["fault"], f"refused without a fault: {line}"
        return line
    # A resumed run has new environments, which count what they play anew.
    assert plan["fault"] in ("", "nan reward") or plan["fault_at"] > 19, "a fault passed unsaid"
    check_scores({**plan, "fault": ""}, run_dir)
    return None


def check_record(plan: Plan, run_dir: Path) -> None:
    """Rows that a run wrote down against two references."""
    data, seed = reverie.open_dataset(run_dir / "replay"), derive(3, "actor")
    for stream in data.streams:
        rows = data.rows(stream)
        one, first = Reference({**plan, "fault": ""}, seed, stream), True
        for t in range(len(rows["reward"])):
            one.check(rows, t, first)
            first = bool(rows["is_last"][t])
            if first:
                one.begin()
            else:
                one.step(rows["action"][t])


def check_scores(plan: Plan, run_dir: Path) -> None:
    """Scores of an evaluation against those of the loaded policy, by its own hands."""
    options = {"env.options.plan.fault": ""} if load_config(run_dir).env.options["plan"]["fault"] else {}
    scores = reverie.evaluate(run_dir, episodes=2, settings=options)["scores"]
    policy, one, played = reverie.load(run_dir), Reference(plan, derive(0, "evaluation"), 0), []
    for _ in scores:
        state, total, over = policy.initial_state(1), 0.0, False
        while not over:
            action, state = policy.act(one.observation, state, reward=np.float32(one.reward), info=one.info)
            one.observation, reward, terminated, truncated, one.info = one.world.step(action)
            one.reward = float(np.asarray(reward).reshape(()))
            total, over = total + float(np.float32(one.reward)), terminated or truncated
        played.append(total)
        one.begin()
    np.testing.assert_allclose(scores, played, rtol=1e-6, atol=1e-6)
