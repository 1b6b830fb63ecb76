"""Parameters that travel: published, taken over, and a run whose actor follows the learner from version to version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny_runs import Never, Stop, again, assert_same_run, begin, config, lines

from reverie.agents.agent import Policy
from reverie.agents.learner import tensors_of
from reverie.report.log import read_metrics
from reverie.run.build import build_agent, build_env
from reverie.run.params import Follower, Params, install


def policies(env: str = "toy/catch") -> tuple[Policy, Policy]:
    settings = config(env)
    agent = build_agent(settings, build_env(settings, 1).spec)
    torch.manual_seed(0)
    return agent.policy(), agent.policy()


def same(one: Policy, other: Policy) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one).values(), tensors_of(other).values(), strict=True))


def test_published_parameters_arrive_whole() -> None:
    leader, policy = policies()
    leader.version.fill_(7)
    params = Params()
    assert params.newer(-1) is None
    params.publish(7, 100, leader)
    newest = params.newer(6)
    assert newest is not None
    assert (newest.version, newest.env_steps, params.newer(7)) == (7, 100, None)
    assert not same(leader, policy)
    with torch.no_grad():
        for parameter in leader.parameters():
            parameter += 1  # what was published does not move with the leader
    install(newest, policy)
    assert not same(leader, policy)
    with torch.no_grad():
        for parameter in leader.parameters():
            parameter -= 1
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(leader.parameters(), policy.parameters(), strict=True))
    assert int(policy.version) == 7


def test_parameters_of_another_policy_are_refused() -> None:
    leader, _ = policies()
    other, _ = policies("CartPole-v1")
    params = Params()
    params.publish(0, 0, leader)
    newest = params.newer(-1)
    assert newest is not None
    with pytest.raises(ValueError, match=r"published parameters have \d+ bytes, this policy \d+"):
        install(newest, other)


def test_a_follower_takes_over_every_so_many_versions() -> None:
    leader, policy = policies()
    follower = Follower(policy, every=5)
    taken = []
    for version in (0, 1, 4, 6, 7, 9, 10, 23, 24):
        follower.follow(version, leader)
        taken.append(follower.version)
    assert taken == [0, 0, 0, 6, 6, 6, 10, 23, 23]


def test_an_actor_that_follows_every_update_acts_as_the_learner_would(tmp_path: Path) -> None:
    for every, name in ((0, "shared"), (1, "followed"), (4, "late")):
        settings = config("toy/catch", run__publish_every=every, run__train_ratio=4.0)
        begin(settings, tmp_path / name).train(Never())
    shared, followed, late = (_without_age(lines(tmp_path / name)) for name in ("shared", "followed", "late"))
    assert shared == followed != late
    ages = [record["actor/parameter_age"] for record in read_metrics(tmp_path / "late") if "replay/rows" in record]
    assert set(ages) == {0, 1, 2, 3, 4}  # taken over before a decision, logged after the updates that follow it


def _without_age(told: list[str]) -> list[str]:
    return [re.sub(r", 'actor/parameter_age': \d+", "", line) for line in told]


def test_the_last_evaluation_is_of_all_that_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = begin(config("toy/catch", run__train_ratio=4.0, run__ahead=2, run__eval_every=0), tmp_path / "run")
    evaluated = []
    monkeypatch.setattr(local.run, "evaluate", lambda policy: evaluated.append(local.learner.learner_steps))
    local.train(Never())
    assert evaluated == [local.learner.learner_steps]


@pytest.mark.parametrize("changes", [{"run__publish_every": 3}, {"run__ahead": 2}])
def test_late_parameters_and_early_batches_resume_exactly(tmp_path: Path, changes: dict[str, int]) -> None:
    settings = config("toy/catch", run__train_ratio=4.0, **changes)
    begin(settings, tmp_path / "alone").train(Never())
    local = begin(settings, tmp_path / "run")
    for env_steps in (60, 100, 140):  # where the run that is left alone saves too, and drains what was drawn ahead
        local.train(Stop(local, env_steps))
        local = again(settings, tmp_path / "run")
    local.train(Never())
    assert_same_run(tmp_path / "alone", tmp_path / "run")
    exact = begin(config("toy/catch", run__train_ratio=4.0), tmp_path / "exact")
    exact.train(Never())
    assert lines(tmp_path / "exact") != lines(tmp_path / "run")
