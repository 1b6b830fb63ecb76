"""Runs of actor-critics go on exactly: queues, stored states, PopArt's statistics, lagging actors, workers included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import kill_and_finish
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, final, lines

from reverie import overrides
from reverie.config import Config
from reverie.presets import make_config
from reverie.run.local import Local
from reverie.run.turns import Turns

RUN: dict[str, Any] = {
    "agent.torso.channels": [2, 3, 3],
    "agent.torso.units": 8,
    "agent.torso.dense": 8,
    "agent.units": 6,
    "env.num_envs": 2,
    "replay.batch": 3,
    "replay.window.learn": 4,
    "replay.window.period": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 160,
    "run.log_every": 10,
    "run.checkpoint_every": 20,
    "run.eval_every": 60,
    "run.eval_episodes": 3,
    "run.eval_envs": 2,
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a2c": ("a2c", "toy/catch", {"agent.stack": 3, "agent.opt.kind": "rmsprop-tf", "replay.window.state": "stored"}),
    "a3c": (
        "a3c",
        "toy/tmaze",
        {
            "agent.workers": 2,
            "agent.opt.kind": "rmsprop-tf",
            "agent.core": "lstm",
            "env.num_envs": 4,
            "env.options": '{"length": 9}',
            "replay.batch": 2,
            "replay.window.state": "stored",
        },
    ),
    "impala": (
        "impala",
        "toy/tmaze",
        {
            "agent.popart": True,
            "agent.popart_step": 0.01,
            "agent.torso.standardise": True,
            "env.options": '{"pixels": true, "size": 12, "length": 9}',
            "replay.selector.share": 0.34,
            "run.publish_every": 3,
        },
    ),
}


def config(kind: str) -> Config:
    agent, env, changes = KINDS[kind]
    return overrides.apply(make_config(agent, "cpu-toy", env), RUN | changes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each kind that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in KINDS:
        begin(config(kind), folder / kind).train(Never())
    return {kind: folder / kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_crashed_again_and_again(tmp_path: Path, alone: dict[str, Path], kind: str) -> None:
    run = begin(config(kind), tmp_path / "run")
    for env_steps, crash in ((1, True), (20, False), (41, False), (55, True), (86, False), (119, True), (158, False)):
        if crash:
            with pytest.raises(Crash):
                run.train(Stop(run, env_steps, crash=True))
        else:
            run.train(Stop(run, env_steps))
        run = again(config(kind), tmp_path / "run")
    run.train(Never())
    assert_same_run(alone[kind], tmp_path / "run")
    assert run.learner.learner_steps > 10


def numbers(run: Local) -> None:
    run.store.replay._rng.random()


def statistics(run: Local) -> None:
    run.learner.policy.critic.mean.add_(0.01)  # type: ignore[union-attr, operator]


def states(run: Local) -> None:
    run.actor.state = {name: value + 1 for name, value in run.actor.state.items()}


@pytest.mark.parametrize("disturb", [numbers, statistics, states], ids=lambda part: part.__name__)
def test_what_only_these_agents_have_matters(tmp_path: Path, alone: dict[str, Path], disturb: Any) -> None:
    """The negative control."""
    run = begin(config("impala"), tmp_path / "run")
    run.train(Stop(run, 88))
    run = again(config("impala"), tmp_path / "run")
    disturb(run)
    run.train(Never())
    assert lines(tmp_path / "run") != lines(alone["impala"]) or final(tmp_path / "run") != final(alone["impala"])


def moments(run: Turns) -> None:
    next(iter(run.learner.optimisers["actor_critic"].rule.state.values()))["square"].mul_(1.5)


def old_parameters(run: Turns) -> None:
    run.publish(run.turn)


@pytest.mark.parametrize("disturb", [moments, old_parameters], ids=lambda part: part.__name__)
def test_what_only_workers_have_matters(tmp_path: Path, alone: dict[str, Path], disturb: Any) -> None:
    """The shared squares, and the parameters that a worker fetched before others stepped."""
    run = begin(config("a3c"), tmp_path / "run")
    run.train(Stop(run, 88))
    run = again(config("a3c"), tmp_path / "run")
    disturb(run)
    run.train(Never())
    assert lines(tmp_path / "run") != lines(alone["a3c"]) or final(tmp_path / "run") != final(alone["a3c"])


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind"), list(enumerate(KINDS)))
def test_killed(tmp_path: Path, alone: dict[str, Path], seed: int, kind: str) -> None:
    """kill -9 at three moments of a run, and the same command again."""
    agent, env, changes = KINDS[kind]
    run_dir = tmp_path / "run"
    words = [f"--{key}={str(value).replace(' ', '')}" for key, value in (RUN | changes).items()]
    command = ["train", agent, "--preset", "cpu-toy", "--env", env, "--logdir", str(run_dir), *words]
    moments = ["after a checkpoint", "later", "later"]
    kill_and_finish(command, run_dir, moments, np.random.default_rng(seed), alone[kind])
