"""Numbers that are not finite end a run at once, are told with their place, and are in no checkpoint."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gymnasium import spaces
from test_roles import Plus, Script, explore
from tiny_runs import Never, again, begin, lines

from reverie import overrides
from reverie.agents.agent import Decision
from reverie.cli import cli
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.checkpoint import Checkpoints
from reverie.run.finite import NEVER, FirstBad
from reverie.run.local import Local
from reverie.run.roles import Actor, Evaluator

LENGTH = 10


class Poisoned(gymnasium.Env):
    """Episodes of 10 env_steps. `what` is not finite once: `at` env_steps after the first, in its first instance."""

    observation_space = spaces.Dict(
        {"near": spaces.Box(-1, 1, (3,), np.float32), "far": spaces.Box(-np.inf, np.inf, (2, 2), np.float64)}
    )
    action_space = spaces.Discrete(2)

    def __init__(self, what: str = "nothing", value: float = math.nan, at: int = 37) -> None:
        self.what, self.value, self.at, self.total = what, float(value), at, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.see("reset"), {}

    def step(self, action: int) -> Any:
        self.t += 1
        self.total += 1
        reward = self.value if self.what == "reward" and self.total == self.at else float(action)
        return self.see("observation"), reward, self.t >= LENGTH, False, {}

    def see(self, what: str) -> dict[str, np.ndarray]:
        far = np.zeros((2, 2))
        if what == self.what and self.total == self.at:
            far[1, 0] = self.value
        return {"near": self.np_random.uniform(-1, 1, 3).astype(np.float32), "far": far}


def words(run_dir: Path, *more: str, **options: Any) -> list[str]:
    given = [f"--env.options.{name}={value}" for name, value in options.items()]
    small = ["--agent.torso.units=4", "--agent.hidden=4", "--replay.batch=4", "--env.num_envs=1", "--run.prefill=20"]
    small += [
        "--run.env_steps=80",
        "--run.train_ratio=2",
        "--run.log_every=5",
        "--run.checkpoint_every=30",
        "--run.threads=1",
    ]
    command = ["train", "dqn", "--preset", "cpu-vectors", "--env", f"{__name__}:Poisoned", "--logdir", str(run_dir)]
    return [*command, "--device", "cpu", *small, "--run.eval_episodes=0", "--run.threads=1", *given, *more]


FAR = r"observation 'far' is %s at \[2\] in float32"
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "nan observation": ({"what": "observation"}, f"7 env_steps into its episode, 36 into the run: {FAR % 'nan'}"),
    "inf observation": ({"what": "observation", "value": math.inf}, f".*{FAR % 'inf'}"),
    "-inf observation": ({"what": "observation", "value": -math.inf}, f".*{FAR % '-inf'}"),
    "too large for float32": ({"what": "observation", "value": 1e300}, f".*{FAR % 'inf'}"),
    "last of an episode": ({"what": "observation", "at": 40}, f"10 env_steps into its episode, 39 .*{FAR % 'nan'}"),
    "first of an episode": ({"what": "reset", "at": 40}, f"0 env_steps into its episode, 39 .*{FAR % 'nan'}"),
    "nan reward": ({"what": "reward"}, "7 env_steps into its episode, 36 into the run: the reward is nan in float32"),
    "-inf reward": ({"what": "reward", "value": -math.inf, "at": 40}, "10 env_steps .*: the reward is -inf"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_environment_gives(tmp_path: Path, kind: str) -> None:
    options, message = KINDS[kind]
    result = CliRunner().invoke(cli, words(tmp_path / "run", **options))
    assert result.exit_code == 2, f"{result.output}\n{result.exception!r}"
    assert result.stderr.count("\n") == 1
    assert re.search(rf"error: .*:Poisoned, stream 0, {message}", result.stderr), result.stderr
    assert "run.nonfinite = warn" in result.stderr
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.names() == [30]
    tensors = checkpoints.load()["trainer"]["learner"]["tensors"]
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert read_metrics(tmp_path / "run")[-1]["env_steps"] <= 40


def test_the_very_first_row(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, words(tmp_path / "run", what="reset", at=0))
    assert result.exit_code == 2
    assert "stream 0, 0 env_steps into its episode, 0 into the run" in result.stderr


def test_who_wants_to_go_on_is_told_once_for_each_thing(tmp_path: Path) -> None:
    more = ("--run.nonfinite=warn", "--agent.torso.standardise=false")
    result = CliRunner().invoke(cli, words(tmp_path / "run", *more, what="reward"))
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert result.stderr.count("the reward is nan") == 1
    assert result.stderr.count("q_loss") == result.stderr.count("parameter ") == 1
    assert "the run goes on (run.nonfinite is warn)" in result.stderr
    assert read_metrics(tmp_path / "run")[-1]["env_steps"] == 80
    assert any(math.isnan(line.get("train/q_loss", 0.0)) for line in read_metrics(tmp_path / "run"))


def test_nothing_is_said_of_finite_numbers(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, words(tmp_path / "run", what="observation", value=100.0))
    assert (result.exit_code, result.stderr) == (0, "")


# What is learned


def settings(**changes: Any) -> Config:
    small = {"agent.torso.units": 4, "agent.hidden": 4, "replay.batch": 4, "env.num_envs": 1, "run.prefill": 20}
    run = {"run.env_steps": 200, "run.train_ratio": 2, "run.log_every": 30, "run.checkpoint_every": 25}
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    config = make_config("dqn", "cpu-vectors", "CartPole-v1")
    return overrides.apply(config, {**small, **run, "run.eval_episodes": 0, **dotted})


def learned(local: Local) -> list[int]:
    """Updates, from 1, after which a loss or a gradient was not finite."""
    bad: list[int] = []
    real = local.trainer.update

    def update(batch: Any) -> Any:
        result = real(batch)
        if not all(math.isfinite(float(result.metrics[name])) for name in ("q_loss", "q_grad_norm")):
            bad.append(local.learner.learner_steps)
        return result

    local.trainer.update = update
    return bad


@pytest.mark.parametrize("every", [{"run__log_every": 10}, {"run__log_every": 0, "run__checkpoint_every": 10}])
def test_a_loss_is_told_with_its_learner_step(tmp_path: Path, every: dict[str, int]) -> None:
    local = begin(settings(agent__opt__lr=1e25, agent__opt__lr_over=0, **every), tmp_path / "run")
    bad = learned(local)
    with pytest.raises(UserError, match=r"q_\w+ is not finite at learner_step (\d+); the newest checkpoint") as error:
        local.train(Never())
    told = re.search(r"learner_step (\d+)", str(error.value))
    assert told is not None
    assert int(told[1]) == bad[0] > 1
    assert len(bad) > 1, "several updates were bad, and the first is told"
    kept = Checkpoints(tmp_path / "run").names()
    assert not kept or max(kept) < local.run.clock.env_steps


def test_parameters_are_looked_at_before_they_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings()
    local = begin(config, tmp_path / "run")
    real = local.save

    def save() -> None:
        if local.run.clock.env_steps == 75:
            with torch.no_grad():
                next(local.learner.parameters())[0] = math.inf
        real()

    monkeypatch.setattr(local, "save", save)
    with pytest.raises(UserError, match=r"parameter policy\.\S+ is not finite after \d+ updates"):
        local.train(Never())
    assert Checkpoints(tmp_path / "run").names() == [25, 50]
    # From there the run goes on as if nothing had happened.
    again(config, tmp_path / "run").train(Never())
    begin(config, tmp_path / "alone").train(Never())
    assert lines(tmp_path / "run") == lines(tmp_path / "alone")


def test_the_first_bad_update_is_found_without_waiting_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FirstBad(["model", "actor"])
    assert first.take() == NEVER
    good = {"model_loss": torch.tensor(1e38), "model_grad_norm": torch.tensor(3e38), "other": torch.tensor(math.nan)}

    def waits(*_: object) -> None:
        raise AssertionError("the host waits for the device")

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__int__", "__float__", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, waits)
        for number in range(1, 5):
            first.add(good, number)
        first.add(good | {"actor_loss": torch.tensor(-math.inf)}, 5)
        first.add(good | {"actor_grad_norm": torch.tensor(math.nan)}, 6)
        first.add(good, 7)
    assert first.take() == 5
    assert first.take() == NEVER
    first.add(good, 8)
    assert first.take() == NEVER
    first.add({"other": torch.tensor(math.nan)}, 9)  # an update without a loss, as an actor's that sends gradients away
    assert first.take() == NEVER


# Actions, evaluations


class Nowhere(Plus):
    """Its action is NaN at the third step of stream 1."""

    def step(self, state: Any, rows: Any, noise: Any, seat: Any) -> Decision:
        decision = super().step(state, rows, noise, seat)
        action = torch.zeros(2, 3)
        if int(state["rows"][0]) == 2:
            action[1, 2] = math.nan
        return Decision(action, decision.state, decision.extras)


def test_actions_are_looked_at_before_they_are_taken() -> None:
    env = Script([5, 5], "same step")
    env.spec = type(env.spec)("script", env.spec.observation, spaces.Box(-1, 1, (3,)))
    actor = Actor(env, Nowhere(), None, seed=1)
    actor.start()
    actor.step(explore(2))
    actor.step(explore(2))
    with pytest.raises(
        UserError, match=r"script, stream 1, 2 env_steps into .*: the policy's action is \[0.0, 0.0, nan"
    ):
        actor.step(explore(2))
    assert len(env.actions) == 2


@pytest.mark.parametrize("kind", ["same step", "next step"])
def test_evaluations_are_looked_at_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = Script([3, 4], kind)
    real = env._rows

    def rows(clock: np.ndarray, last: np.ndarray) -> Any:
        given = real(clock, last)
        return given | {"reward": np.where(clock == 4, np.float32(np.inf), given["reward"])}

    monkeypatch.setattr(env, "_rows", rows)
    with pytest.raises(UserError, match=r"evaluation: script, stream 1, 4 env_steps into .*: the reward is inf"):
        Evaluator(env, Plus(), 4, seed=0).run()
