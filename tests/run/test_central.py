"""The runner whose actors are environments alone, on an engine of the tests; its contract is in `test_distributed`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine import Engine
from tiny_runs import Stop

from reverie import overrides
from reverie.config import Config
from reverie.data.selectors import FifoConfig
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run import inference
from reverie.run.central import Central, EnvHost
from reverie.run.checkpoint import Checkpoints
from reverie.run.fixed import check_change
from reverie.run.inference import Seen
from reverie.run.ledger import Ledger
from reverie.run.remote import Birth, Crash, Report, sent
from reverie.run.train import elsewhere
from tests.contracts.test_counting import SPECS
from tests.run.test_distributed import Recorder, config_of

SMALL: dict[str, Any] = {
    "ray.actors": 2,
    "ray.inference": "central",
    "env.num_envs": 4,
    "run.env_steps": 400,
    "run.log_every": 100,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 0,
    "run.threads": 1,
}
VALUES: dict[str, Any] = {
    "agent.torso.units": 8,
    "run.prefill": 100,
    "run.train_ratio": 2.0,
    "replay.batch": 4,
}
ACTOR_CRITIC: dict[str, Any] = {
    "agent.torso.units": 8,
    "agent.units": 8,
    "replay.batch": 2,
    "replay.window.learn": 5,
    "replay.window.period": 5,
}


def small(agent: str, env: str, **changes: Any) -> Config:
    words = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return overrides.apply(make_config(agent, "cpu", env), words)


def trained(config: Config, folder: Path) -> Central:
    runner = elsewhere(config)(config, folder, Engine())  # type: ignore[arg-type]
    assert isinstance(runner, Central)
    summary = runner.train(Stop(runner, 10**9))
    assert summary["finished"]
    assert runner.learner.learner_steps > 5
    return runner


def test_r2d2_has_its_ladder_states_and_priorities(tmp_path: Path) -> None:
    """The whole ladder acts; with rows go the states before them and the policy's priorities of complete windows."""
    ladder = {"agent.explore.kind": "ladder", "agent.units": 8, "run.prefill": 0, "replay.selector.alpha": 1.0}
    runner = Central(small("r2d2", "CartPole-v1", **VALUES | ladder), tmp_path, Engine())  # type: ignore[arg-type]
    assert runner.learner.windows.keeps_states
    add, scores, moved = runner.store.add, list[float](), list[bool]()

    def note(rows: Any, streams: Any = None, states: Any = None, priorities: Any = None, version: int = 0) -> None:
        scores.extend([] if priorities is None else priorities[np.isfinite(priorities)].tolist())
        inside = ~rows["is_first"]
        moved.extend(np.any([(value[inside] != 0).any(-1) for value in states.values()], 0).tolist())
        add(rows, streams, states, priorities, version)

    runner.store.add = note  # type: ignore[method-assign]
    runner.train(Stop(runner, 10**9))
    assert runner.learner.learner_steps > 5
    spec = runner.learner.windows
    assert len(scores) == sum((rows - spec.length) // spec.period + 1 for rows in runner.store.replay.counts) > 10
    assert min(scores) > 0.0
    assert len(moved) > 300
    assert all(moved)
    epsilon = {line["actor/epsilon"] for line in read_metrics(tmp_path) if "actor/epsilon" in line}
    assert len(epsilon) == 1  # both actors are in each batch
    assert epsilon.pop() == pytest.approx(np.mean([0.4 ** (1 + 7 * i / 3) for i in range(4)]))
    assert tuple(runner.inbox.seat.streams) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("agent", "env", "settings"),
    [
        ("impala", "CartPole-v1", ACTOR_CRITIC | {"agent.correction": "epsilon"}),
        ("apex", "CartPole-v1", VALUES | {"run.publish_every": 0}),
    ],
    ids=["ga3c", "apex"],
)
def test_agents_of_every_line(tmp_path: Path, agent: str, env: str, settings: dict[str, Any]) -> None:
    trained(small(agent, env, **settings), tmp_path)
    lines = read_metrics(tmp_path)
    ages = [line["actor/parameter_age"] for line in lines if "actor/parameter_age" in line]
    assert max(ages) <= 4.0  # updates between a decision and the arrival of what followed: those of a round
    assert all(np.isfinite(line["train/log_ratio"]) for line in lines if "train/log_ratio" in line)


@pytest.mark.parametrize("torn", [True, False])
def test_what_came_in_part_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool) -> None:
    """A full disk at a closing row; another fault, before any row was passed on, saves what there is."""
    settings = small("apex", "CartPole-v1", **VALUES | {"run.publish_every": 0, "run.checkpoint_every": 50})
    runner = elsewhere(settings)(settings, tmp_path, Engine())  # type: ignore[arg-type]
    real = Ledger._pass if torn else Ledger._look

    def fails(ledger: Ledger, *given: Any) -> None:
        closing = given[0]["is_last"].all() if torn else given[0].ends is not None
        if closing and runner.run.clock.env_steps > 110:
            raise UserError("the disk is full")
        real(ledger, *given)

    monkeypatch.setattr(Ledger, real.__name__, fails)
    with pytest.raises(UserError, match="the disk is full"):
        runner.train(Stop(runner, 10**9))
    made = runner.run.clock.env_steps
    saved = Checkpoints(tmp_path).names()[-1]
    assert (saved < made) == torn
    monkeypatch.undo()
    again = elsewhere(settings)(settings, tmp_path, Engine())  # type: ignore[arg-type]
    again.restore()
    assert again.train(Stop(again, 10**9))["finished"]


def test_rows_know_the_version_that_decided(tmp_path: Path) -> None:
    """First in, first out: windows are learned soon, from versions that are hardly older than the learner's."""
    config = config_of(SequenceSpec(learn=4, period=4, state="stored"), "central")
    replay = dataclasses.replace(config.replay, selector=FifoConfig())
    run = dataclasses.replace(config.run, train_ratio=None, prefill=0, pretrain=0)
    recorder = Recorder(dataclasses.replace(config, replay=replay, run=run), tmp_path, Engine())
    versions: list[int] = []
    store = recorder.runner.store
    add = store.add

    def note(rows: Any, streams: Any = None, states: Any = None, priorities: Any = None, version: int = 0) -> None:
        versions.append(recorder.runner.learner.learner_steps - version)
        add(rows, streams, states, priorities, version)

    store.add = note  # type: ignore[method-assign]
    recorder.train()
    assert set(versions) <= {0, 1, 2}
    assert len(versions) > 100


def test_states_that_are_swapped_between_actors_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the contract: what was decided goes to the wrong ledgers."""
    split = inference._split
    monkeypatch.setattr(inference, "_split", lambda *given: split(*given)[::-1])
    recorder = Recorder(config_of(SPECS[1], "central"), tmp_path, Engine())
    try:
        recorder.train()
    except AssertionError:
        return
    assert any(recorder.wrong)


def host(chunk: int = 3, **changes: Any) -> EnvHost:
    settings = sent(small("dqn", "toy/catch", **changes))
    made = EnvHost(Birth(1, 1, np.zeros(2, np.int64), settings), 2, chunk)
    assert made.failed is None, made.failed
    return made


def test_a_host_of_environments_answers_one_decision_after_another() -> None:
    there = host()
    reports = [there.rollout(None, -1)]
    for _ in range(4):
        action = np.ones(2, np.int64)
        action.flags.writeable = False
        reports.append(there.rollout(action, 7))
    assert all(isinstance(report, Report) for report in reports)
    seen = [report.delivery for report in reports if isinstance(report, Report)]
    assert [(each.actor, each.incarnation, each.sequence) for each in seen if isinstance(each, Seen)] == [
        (1, 1, number) for number in range(5)
    ]
    assert [report.env_steps for report in reports if isinstance(report, Report)] == [0, 2, 2, 2, 2]
    assert [report.version for report in reports if isinstance(report, Report)] == [-1, 7, 7, 7, 7]
    # A life that ends before it has made as many decisions as a rollout has counts as one that failed.
    assert [report.whole for report in reports if isinstance(report, Report)] == [False, False, False, True, True]
    first = seen[0]
    assert isinstance(first, Seen)
    assert first.step.rows["is_first"].all()


def test_a_host_that_failed_says_the_same_again() -> None:
    there = host()
    there.rollout(None, -1)
    crash = there.rollout(np.zeros(3, np.int64), 0)
    assert isinstance(crash, Crash)
    assert crash.delivery is None
    assert there.rollout(np.zeros(2, np.int64), 1) is crash


def test_a_new_seed_begins_the_generator_of_decisions_anew(tmp_path: Path) -> None:
    runner = Central(config_of(SPECS[1], "central"), tmp_path, Engine())  # type: ignore[arg-type]
    first = runner.inbox.noise.uniform(4)
    assert not torch.equal(runner.inbox.noise.uniform(4), first)
    runner.reseed()
    assert torch.equal(runner.inbox.noise.uniform(4), first)


@pytest.mark.parametrize(
    ("agent", "changes", "reason"),
    [
        ("apex", {}, r"run.publish_every is 20, .* the learner's own policy decides.*: set run.publish_every = 0"),
        ("dqn", {"ray.rows": 40}, r"ray.rows is 40, .* no rows travel in chunks: set ray.rows = 0"),
        ("dqn", {"ray.shards": 1}, r"ray.shards is 1, .* has all rows first: set ray.shards = 0"),
        (
            "a3c",
            {"ray.inference": "actor", "ray.learners": 2},
            r"ray.learners is 2, but a3c's workers send gradients: .* set ray.learners = 1",
        ),
        ("a3c", {}, r"ray.inference is central, but a3c's workers send gradients: .* set ray.inference = actor"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, agent: str, changes: dict[str, Any], reason: str
) -> None:
    config = small(agent, "CartPole-v1", **changes)
    with pytest.raises(UserError, match=reason) as caught:
        elsewhere(config)(config, tmp_path, Engine())  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_actors_there_is_nobody_to_decide_for() -> None:
    with pytest.raises(UserError, match=r"set ray.actors \(--actors\); without any, one policy decides for all"):
        overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), {"ray.inference": "central"})


def test_a_run_keeps_its_inference() -> None:
    config = config_of(SPECS[1], "central")
    other = dataclasses.replace(config, ray=dataclasses.replace(config.ray, inference="actor"))
    with pytest.raises(UserError, match=r"ray.inference cannot change in the middle of a run"):
        check_change(config, other)
