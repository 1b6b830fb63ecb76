"""Workers' gradients against a serial replay of them in float64, and messages that count once."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Never, begin

from reverie import overrides
from reverie.agents.a3c import A3CLearner
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.fixed import check_change
from reverie.run.owner import Gradients, Owner
from reverie.run.status import read_status
from reverie.run.worker import check_workers
from tests.agents.actor_critics import VECTOR, batch, loss_of, make

SMALL: dict[str, Any] = {
    "agent.workers": 2,
    "agent.torso.units": 8,
    "agent.torso.dense": 8,
    "agent.units": 6,
    "agent.opt.kind": "rmsprop-tf",
    "agent.opt.lr": 0.05,
    "agent.opt.clip": 0.4,
    "env.num_envs": 4,
    "replay.batch": 2,
    "replay.window.learn": 4,
    "replay.window.period": 4,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 150,
    "run.log_every": 50,
    "run.checkpoint_every": 0,
    "run.eval_episodes": 0,
}
KINDS: dict[str, dict[str, Any]] = {
    "feed-forward": {"agent.average": "sum"},
    "lstm": {"agent.core": "lstm", "replay.window.state": "stored"},
}


def serial(learner: Any, work: list[tuple[int, Any]], total: int, stale: bool = True) -> tuple[Any, Any, list[int]]:
    """Parameters and RMSProp's squares, by name, after these batches of these workers, and staleness by update.

    One loop, with the parameters of each worker's last fetch and one set of squares. stale: False computes gradients at
    the newest parameters.
    """
    config = learner.config.opt
    theta = {name: value.detach().double() for name, value in learner.named_parameters()}
    square = {name: torch.ones_like(value) for name, value in theta.items()}
    fetched = {worker: (0, dict(theta)) for worker, _ in work}
    staleness = []
    for step, (worker, data) in enumerate(work):
        version, own = fetched[worker] if stale else (step, theta)
        staleness.append(step - version)
        with torch.no_grad():
            for name, value in learner.named_parameters():
                value.copy_(own[name])
        found = torch.autograd.grad(loss_of(learner, data), list(learner.parameters()))
        grads = {name: grad.double() for (name, _), grad in zip(learner.named_parameters(), found, strict=True)}
        norm = sum(float(grad.square().sum()) for grad in grads.values()) ** 0.5
        scale = min(1.0, config.clip / (norm + 1e-6))
        rate = config.lr + (config.lr_end - config.lr) * min(step / total, 1.0)
        for name, grad in grads.items():
            square[name] = 0.99 * square[name] + 0.01 * (scale * grad) ** 2
            theta[name] = theta[name] - rate * scale * grad / (square[name] + config.eps).sqrt()
        fetched[worker] = (step + 1, dict(theta))
    return theta, square, staleness


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_in_turns_are_a_serial_replay_of_their_gradients(kind: str, tmp_path: Path) -> None:
    config = overrides.apply(make_config("a3c", "cpu-toy", "toy/catch"), SMALL | KINDS[kind])
    run = begin(config, tmp_path / "run")
    reference = copy.deepcopy(run.learner)
    work: list[tuple[int, Any]] = []
    for worker in run.workers.each:

        def noting(data: Any, number: int = worker.number, inner: Any = worker.learner.gradients) -> Any:
            work.append((number, data.map(torch.clone)))
            return inner(data)

        worker.learner.gradients = noting
    run.train(Never())
    learner, total = run.learner, int(run.learner.config.opt.lr_over)
    assert len(work) == learner.learner_steps > 15
    assert [number for number, _ in work] == [step % 2 for step in range(len(work))]
    theta, square, staleness = serial(copy.deepcopy(reference), work, total)
    assert staleness == [0] + [1] * (len(work) - 1)
    moments = learner.save()["optimisers"]["actor_critic"]
    for name, value in learner.named_parameters():
        torch.testing.assert_close(value.double(), theta[name], rtol=1e-4, atol=2e-6)
        torch.testing.assert_close(moments[name]["square"].double(), square[name], rtol=1e-5, atol=1e-7)
    # The negative control: gradients at the newest parameters lead elsewhere.
    fresh, _, _ = serial(reference, work, total, stale=False)
    assert max(float((fresh[name] - theta[name]).abs().max()) for name in theta) > 1e-4
    assert run.owner.env_steps == run.run.clock.env_steps >= 150
    assert run.owner.decisions.min() > 60
    logged = [line for line in read_metrics(tmp_path / "run") if "train/staleness" in line]
    assert [line["train/staleness_max"] for line in logged] == [1.0] * len(logged)
    assert logged[-1]["train/staleness"] == read_status(tmp_path / "run")["train/staleness"] == 1.0
    with torch.no_grad():
        next(learner.parameters()).add_(1.0)  # as when a member of a population copies another
    run.renewed()
    for worker in run.workers.each:
        assert all(torch.equal(a, b) for a, b in zip(worker.learner.parameters(), learner.parameters(), strict=True))
    with pytest.raises(UserError, match=r"agent.workers cannot change .*: each worker has streams"):
        check_change(config, overrides.apply(config, {"agent.workers": 4, "replay.batch": 1}))


def owner_and_worker() -> tuple[Owner, A3CLearner, list[Any]]:
    learner, worker = make("a3c", VECTOR), make("a3c", VECTOR)
    return Owner(learner, 2, 3), worker, [batch(worker, seed=seed) for seed in range(4)]


def message(worker: A3CLearner, data: Any, actor: int = 0, incarnation: int = 1, sequence: int = 0) -> Gradients:
    groups, metrics = worker.gradients(data)
    told = {name: float(value) for name, value in metrics.items()}
    flat = {group: grads.numpy() for group, grads in groups.items()}
    for array in flat.values():
        array.setflags(write=False)  # as engines hand it out
    return Gradients(actor, incarnation, sequence, 0, 15, flat, told)


def parameters(owner: Owner) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in owner.learner.parameters()])


def test_gradients_are_those_of_the_loss_and_nothing_of_the_sender_moves() -> None:
    """Of the sum over rows, not clipped; a learner that is not asked for them steps as A2C's does."""
    worker, alone = make("a3c", VECTOR), make("a2c", VECTOR, average="sum", opt=make("a3c").config.opt)
    data = batch(worker)
    before = [value.clone() for value in worker.parameters()]
    groups, metrics = worker.gradients(data)
    expected = torch.autograd.grad(loss_of(alone, data), list(alone.policy.parameters()))
    assert torch.equal(groups["actor_critic"], torch.cat([grad.flatten() for grad in expected]))
    assert all(torch.equal(a, b) for a, b in zip(before, worker.parameters(), strict=True))
    assert all(value.grad is None for value in worker.parameters())
    assert worker.learner_steps == 0
    assert "actor_critic_grad_norm" not in metrics
    other = alone.update(data).metrics
    mine = worker.update(data).metrics
    assert {name: float(value) for name, value in mine.items()} == {name: float(v) for name, v in other.items()}
    assert all(torch.equal(a, b) for a, b in zip(worker.parameters(), alone.parameters(), strict=True))


def test_every_gradient_is_applied_once_and_in_order() -> None:
    owner, worker, data = owner_and_worker()
    assert [owner.begin(0)[0], owner.begin(1)[0]] == [1, 1]
    first = message(worker, data[0])
    assert owner.take(first)
    assert owner.learner.learner_steps == 1
    held = parameters(owner)
    for again in (first, message(worker, data[1], incarnation=2), message(worker, data[1], incarnation=0)):
        assert not owner.take(again)
    assert torch.equal(parameters(owner), held)
    assert (owner.dropped, owner.learner.learner_steps, owner.env_steps) == (3, 1, 15)
    with pytest.raises(ValueError, match="actor 0 delivers 2, but 1 was not received"):
        owner.take(message(worker, data[1], sequence=2))
    assert owner.take(message(worker, data[1], actor=1))
    assert owner.staleness.tolist() == [0, 1]
    incarnation, indices = owner.begin(0)
    assert (incarnation, indices.tolist()) == (2, [0, 0, 0])
    assert not owner.take(message(worker, data[2], sequence=1))  # of the life before
    assert owner.take(message(worker, data[2], incarnation=2))
    assert owner.decisions.tolist() == [30, 15]
    told = owner.metrics()
    assert (told["staleness"], told["staleness_max"]) == (1.0, 2.0)
    assert owner.metrics()["staleness_max"] == 0.0


def test_what_does_not_fit_is_refused() -> None:
    owner, worker, data = owner_and_worker()
    owner.begin(0)
    good = message(worker, data[0])
    with pytest.raises(ValueError, match="version 1, but there were 0"):
        owner.take(replace(good, version=1))
    with pytest.raises(ValueError, match=r"gradients of \['q'\]"):
        owner.take(replace(good, groups={"q": good.groups["actor_critic"]}))
    with pytest.raises(ValueError, match="gradients must be"):
        owner.take(replace(good, groups={"actor_critic": np.zeros(3, np.float32)}))
    assert owner.learner.learner_steps == 0
    assert owner.take(good)


def test_numbers_that_are_not_finite_end_the_run() -> None:
    owner, worker, data = owner_and_worker()
    owner.begin(0)
    bad = message(worker, data[0])
    owner.take(replace(bad, groups={"actor_critic": np.full_like(bad.groups["actor_critic"], np.nan)}))
    with pytest.raises(UserError, match=r"actor_critic_grad_norm is not finite at learner_step 1"):
        owner.metrics()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"run.train_ratio": 1.0}, r"run.train_ratio is 1.0, .*; set run.train_ratio = none"),
        ({"run.publish_every": 5}, r"fetches parameters after each of its gradients; set run.publish_every = 0"),
        ({"run.prefill": 10}, "no row is acted at random"),
        ({"ray.rows": 20}, "set ray.rows = 0"),
        ({"env.num_envs": 15}, "15 streams cannot be shared equally by 4 workers: set env.num_envs = 16"),
    ],
)
def test_settings_that_mean_nothing_to_workers_are_one_line(words: dict[str, Any], reason: str) -> None:
    config = overrides.apply(make_config("a3c", "cpu", "CartPole-v1"), words)
    with pytest.raises(UserError, match=reason) as error:
        check_workers(config, config.agent.workers)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"agent.workers": 0}, "workers must be at least 1"),
        ({"agent.torso.standardise": True}, "not shared among workers: set torso.standardise to false"),
        ({"replay.store.budget": 8000}, "raise it to at least .*of a worker with 4 of 16 streams"),
        ({"replay.store.budget": 16_000, "replay.batch": 64}, "a batch has 64 windows, but .* that of a worker"),
    ],
)
def test_what_workers_cannot_be_is_one_line(words: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        begin(overrides.apply(make_config("a3c", "cpu", "CartPole-v1"), words), tmp_path / "run")
