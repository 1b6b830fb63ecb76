"""Value-based runs go on exactly: priorities, target network, epsilon, extras and stored states included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import kill_and_finish
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, final, lines

from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.local import Local

RUN: dict[str, Any] = {
    "agent.torso.channels": [2, 3, 3],
    "agent.torso.units": 8,
    "agent.hidden": 8,
    "agent.target_every": 3,
    "agent.explore.over": 120,
    "env.num_envs": 2,
    "replay.batch": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 160,
    "run.prefill": 40,
    "run.log_every": 10,
    "run.checkpoint_every": 20,
    "run.eval_every": 60,
    "run.eval_episodes": 3,
    "run.eval_envs": 2,
}
SEARCH: dict[str, Any] = {
    "agent.plan.candidates": 10,
    "agent.plan.elites": 4,
    "agent.plan.policy_candidates": 2,
    "run.eval_limit": 12,
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dqn": (
        "dqn",
        "toy/catch",
        {
            "agent.double": True,
            "agent.dueling": True,
            "agent.stack": 3,
            "agent.beta_over": 20,
            "agent.opt.kind": "rmsprop",
            "replay.selector": "prioritised",
            "run.train_ratio": 1.0,
        },
    ),
    "rainbow": (
        "rainbow",
        "toy/catch",
        {"agent.atoms": 5, "agent.stack": 2, "agent.beta_over": 20, "run.train_ratio": 1.0},
    ),
    "iqn": (
        "iqn",
        "toy/catch",
        {"agent.levels": 4, "agent.target_levels": 3, "agent.acting_levels": 2, "run.train_ratio": 1.0},
    ),
    "drqn": (
        "drqn",
        "toy/catch",
        {
            "agent.units": 6,
            "agent.whole_episodes": True,
            "replay.window.learn": 8,
            "replay.selector": "episodes",
            "run.train_ratio": 4.0,
        },
    ),
    "r2d2": (
        "r2d2",
        "toy/tmaze",
        {
            "agent.units": 6,
            "agent.torso.dense": 6,
            "agent.stack": 2,
            "agent.opt.lr_over": 40,
            "env.options": '{"pixels": true, "size": 12, "length": 40}',
            "replay.window.context": 4,
            "replay.window.learn": 8,
            "replay.window.period": 4,
            "replay.window.drift": True,
            "run.train_ratio": 4.0,
        },
    ),
    "apex-dpg": (
        "apex-dpg",
        "Pendulum-v1",
        {"agent.actor_units": [5], "agent.critic_units": [6], "agent.target_every": 7, "run.train_ratio": 1.0},
    ),
    "tdmpc": (
        "tdmpc",
        "Pendulum-v1",
        {
            "agent.units": 8,
            "agent.latent": 6,
            "agent.encoder_units": 8,
            "agent.anneal.over": 30,
            "replay.window.learn": 3,
            "run.train_ratio": 4.0,
            **SEARCH,
        },
    ),
    "tdmpc2": (
        "tdmpc2",
        "Pendulum-v1",
        {
            "agent.size.units": 8,
            "agent.size.latent": 8,
            "agent.size.encoder_units": 8,
            "run.train_ratio": 4.0,
            **SEARCH,
        },
    ),
}


def preset(agent: str) -> str:
    return "cpu" if agent in ("apex-dpg", "tdmpc", "tdmpc2") else "cpu-toy"


def settings(kind: str) -> dict[str, Any]:
    agent, env, changes = KINDS[kind]
    keys = overrides.flatten(make_config(agent, preset(agent), env))
    return {key: value for key, value in RUN.items() if key in keys} | changes


def config(kind: str) -> Config:
    agent, env, _ = KINDS[kind]
    return overrides.apply(make_config(agent, preset(agent), env), settings(kind))


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


def test_the_drift_is_logged(alone: dict[str, Path]) -> None:
    drifts = [record["train/drift_last"] for record in read_metrics(alone["r2d2"]) if "train/drift_last" in record]
    assert len(drifts) > 5
    assert max(drifts) > 0


def test_states_that_are_not_there_cannot_be_kept(tmp_path: Path) -> None:
    for env, words, reason in (
        ("CartPole-v1", {"replay.window.state": "stored"}, "dqn on CartPole-v1 has no recurrent state to keep"),
        ("CartPole-v1", {"replay.window.drift": True}, "there is no memory whose states could drift"),
        ("toy/catch", {"replay.window.drift": True}, "there is no memory whose states could drift"),  # but a stack
    ):
        settings = overrides.apply(make_config("dqn", "cpu", env), words)
        with pytest.raises(UserError, match=reason):
            Local(settings, tmp_path / "run")


def test_a_replay_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    settings = overrides.apply(make_config("dqn", "cpu", "toy/catch"), {"replay.store.budget": 9 * 10**15})
    with pytest.raises(UserError, match=r"a replay of 9000000000000000 bytes does not fit .* --replay.store.budget"):
        Local(settings, tmp_path / "run")


def target_network(run: Local) -> None:
    next(run.learner.target.parameters()).data.mul_(1.01)  # type: ignore[union-attr]


def priorities(run: Local) -> None:
    tree = run.store.replay.selector.tree  # type: ignore[attr-defined]
    leaves = tree.get(np.arange(tree.size))
    leaves[::2] *= 3.0
    tree.load(leaves)


@pytest.mark.parametrize("disturb", [target_network, priorities], ids=lambda part: part.__name__)
def test_what_only_these_agents_have_matters(tmp_path: Path, alone: dict[str, Path], disturb: Any) -> None:
    """The negative control."""
    run = begin(config("dqn"), tmp_path / "run")
    run.train(Stop(run, 88))
    run = again(config("dqn"), tmp_path / "run")
    disturb(run)
    run.train(Never())
    assert lines(tmp_path / "run") != lines(alone["dqn"]) or final(tmp_path / "run") != final(alone["dqn"])


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind"), list(enumerate(KINDS)))
def test_killed(tmp_path: Path, alone: dict[str, Path], seed: int, kind: str) -> None:
    """kill -9 at three moments of a run, and the same command again."""
    agent, env, _ = KINDS[kind]
    run_dir = tmp_path / "run"
    words = [f"--{key}={str(value).replace(' ', '')}" for key, value in settings(kind).items()]
    command = ["train", agent, "--preset", preset(agent), "--env", env, "--logdir", str(run_dir), *words]
    moments = ["after a checkpoint", "later", "later"]
    kill_and_finish(command, run_dir, moments, np.random.default_rng(seed), alone[kind])
