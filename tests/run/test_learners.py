"""The runner with several learners, which are threads on an engine of the tests: all are one, whoever is lost."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engine import ActorDied, Engine, GetTimeoutError, frozen

from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import comparable, read_metrics
from reverie.run.central import Central
from reverie.run.distributed import Distributed
from reverie.run.fixed import check_change
from reverie.run.learners import Learners
from reverie.run.lock import Stop
from reverie.run.replica import LearnerHost
from reverie.run.sharded import Sharded
from reverie.run.team import Before
from reverie.run.train import elsewhere, train
from tests.agents.shared import assert_same

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"
RUN: dict[str, Any] = {
    "agent.torso.channels": [2, 3, 3],
    "agent.torso.units": 8,
    "agent.torso.dense": 8,
    "agent.units": 6,
    "agent.popart": True,
    "agent.popart_step": 0.01,
    "agent.torso.standardise": True,
    "env.num_envs": 2,
    "env.options": '{"length": 9}',
    "replay.batch": 4,
    "replay.window.learn": 4,
    "replay.window.period": 4,
    "replay.window.state": "stored",
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 160,
    "run.log_every": 20,
    "run.checkpoint_every": 80,
    "run.eval_every": 1000,
    "run.eval_episodes": 1,
    "log.writers": [],
    "ray.actors": 2,
    "ray.learners": 2,
    "ray.patience": 30.0,
}


def config_of(agent: str = "impala", **changes: Any) -> Config:
    config = make_config(agent, env="toy/tmaze")
    known = overrides.flatten(config)
    return overrides.apply(config, {key: value for key, value in RUN.items() if key in known} | changes)


class Threads(Engine):
    """An engine whose learners are threads. fault: gives ``die``, ``hang`` or ``raise`` for the how-manieth update."""

    def __init__(self, fault: Callable[[int], str] = lambda update: "") -> None:
        super().__init__()
        self.strikes, self.updates = fault, 0
        self.hosts: list[Any] = []
        self.released = threading.Event()

    def remote(self, kind: type) -> Any:
        if not issubclass(kind, LearnerHost):
            return super().remote(kind)

        def make(*arguments: Any) -> SimpleNamespace:
            sent, work = frozen(arguments), ThreadPoolExecutor(1)
            body = work.submit(lambda: kind(*sent))
            host = SimpleNamespace(body=body, work=work, dead=False)
            for name in ("ping", "restore", "join", "update", "state"):
                remote = lambda *given, name=name: self.ask(host, name, frozen(self.values(given)))  # noqa: E731
                setattr(host, name, SimpleNamespace(remote=remote))
            self.hosts.append(host)
            return host

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

    def values(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value.make() if hasattr(value, "make") else value for value in given)

    def ask(self, host: Any, name: str, given: tuple[Any, ...]) -> Future[Any]:
        def run() -> Any:
            body, fault = host.body.result(), ""
            if name == "update":
                self.updates += 1
                fault = self.strikes(self.updates)
            if fault == "die":
                body.ring.close()
                body.ring = None
                host.dead = True
            if host.dead:
                raise ActorDied("The actor died unexpectedly before finishing this task.\nand more")
            if fault == "hang":
                self.released.wait(60)
            if fault == "raise":
                body.learner.losses = None
            return frozen(getattr(body, name)(*given))

        return host.work.submit(run)

    def get(self, ref: Any, timeout: float | None = None) -> Any:
        if not isinstance(ref, Future):
            return super().get(ref, timeout)
        try:
            return ref.result(timeout)
        except Late as error:
            raise GetTimeoutError from error

    def kill(self, handle: Any) -> None:
        self.killed += 1
        handle.dead = True

    @property
    def last(self) -> Any:
        """The learner of the host that was there last."""
        return self.hosts[-1].body.result().learner


class Never(Stop):
    def __call__(self) -> bool:
        return False


def run(config: Config, folder: Path, engine: Engine, restore: bool = False) -> Any:
    runner = elsewhere(config)(config, folder, engine)  # type: ignore[arg-type]
    if restore:
        runner.restore()
    runner.train(Never())
    return runner


def lines(folder: Path) -> list[dict[str, float]]:
    """What a run logged of its updates."""
    return [line for line in map(comparable, read_metrics(folder)) if "train/value" in line]


def test_a_run_of_two_learners_is_that_of_one_whoever_is_lost(tmp_path: Path) -> None:
    """Up to rounding: rows come in one order here. Both learners end as the same, bit for bit.

    A step on which one was lost is made again, from where it began: that run is the same as without, bit for bit.
    """
    engine = Threads()
    two = run(config_of(), tmp_path / "two", engine)
    one = run(config_of(**{"ray.learners": 1}), tmp_path / "one", Engine())
    assert two.learner.learner_steps == one.learner.learner_steps >= 10
    assert_same(two.learner.save(), engine.last.save(), 0.0)
    assert_same(two.learner.save(), one.learner.save(), 1e-3)
    assert engine.killed == 3  # two actors and a learner
    ours, theirs = lines(tmp_path / "two"), lines(tmp_path / "one")
    assert len(ours) == len(theirs) > 4
    for line, other in zip(ours, theirs, strict=True):
        for name in other:
            if name.startswith("train/"):
                assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-3), name
    logged = {name for line in read_metrics(tmp_path / "two") for name in line if name.startswith("actor/learner")}
    assert {"actor/learners", "actor/learner_restarts", "actor/learners_memory"} <= logged
    assert all(f"`{name}`" in DOCS.read_text() for name in logged)
    status = json.loads((tmp_path / "two" / "status.json").read_text())
    assert [learner["learner"] for learner in status["learners"]] == [1]

    torn = Threads(lambda update: {4: "die", 6: "raise", 8: "hang"}.get(update, ""))
    other = run(config_of(**{"ray.patience": 3.0}), tmp_path / "torn", torn)
    torn.released.set()
    assert_same(two.learner.save(), other.learner.save(), 0.0)
    assert_same(torn.last.save(), other.learner.save(), 0.0)
    assert other.team.restarts == 3
    said = (tmp_path / "torn" / "incidents.log").read_text().strip().splitlines()
    assert len(said) == 3
    for line, why, learner_steps in zip(
        said,
        (
            "learner 1 was lost (The actor died unexpectedly before finishing this task.)",
            "learner 1 was lost (TypeError: 'NoneType' object is not callable)",
            "learner 1 said nothing for",
        ),
        (3, 4, 5),
        strict=True,
    ):
        assert why in line
        assert f"all but the first begin anew, from {learner_steps} learner_steps" in line


@pytest.mark.parametrize(
    ("agent", "changes", "kind"),
    [
        ("impala", {"ray.inference": "central"}, Central),
        ("r2d2", {"ray.shards": 2, "run.prefill": 20, "run.publish_every": 2, "agent.feed": False}, Sharded),
    ],
)
def test_runs_of_other_kinds_have_several_learners_too(
    agent: str, changes: dict[str, Any], kind: type[Distributed], tmp_path: Path
) -> None:
    engine = Threads()
    runner = run(config_of(agent, **changes), tmp_path, engine)
    assert isinstance(runner, kind)
    assert isinstance(runner, Learners)
    assert runner.run.clock.env_steps >= 160
    assert runner.learner.learner_steps >= 10
    assert_same(runner.learner.save(), engine.last.save(), 0.0)
    status = json.loads((tmp_path / "status.json").read_text())
    assert len(status["learners"]) == 1
    assert len(status["actors"]) == 2


def test_learners_that_fail_again_and_again_end_the_run_which_goes_on_with_one(tmp_path: Path) -> None:
    """All that was drawn is learned, and saved; the same run then ends with one learner, or with three."""
    config = config_of(**{"run.env_steps": 80, "ray.crashes": 1, "replay.batch": 6, "run.ahead": 1})
    with pytest.raises(UserError, match=r"learners failed 2 times in a row, at last: learner 1 was lost .* is saved"):
        run(config, tmp_path, Threads(lambda update: "die" if update > 1 else ""))
    saved = copy.deepcopy(json.loads((tmp_path / "status.json").read_text()))
    assert saved["learner_steps"] == 3  # one was made by both, one was lost, one was drawn ahead
    for learners, env_steps in ((1, 120), (3, 160)):
        ray, length = replace(config.ray, learners=learners), replace(config.run, env_steps=env_steps, ahead=0)
        engine = Threads() if learners > 1 else Engine()
        runner = run(replace(config, ray=ray, run=length), tmp_path, engine, restore=True)
        assert runner.run.clock.env_steps >= env_steps
        assert runner.run.resumed is not None
    hosts = [host.body.result().learner for host in engine.hosts]  # type: ignore[attr-defined]
    assert len(hosts) == 2
    for learner in hosts:
        assert_same(learner.save(), runner.learner.save(), 0.0)


def test_a_learner_that_cannot_be_built_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(LearnerHost):
        def ping(self) -> tuple[int, str]:
            return 0, "no module of that name"

    monkeypatch.setattr("reverie.run.team.LearnerHost", Torn)
    monkeypatch.setattr("reverie.run.team.Team.__init__.__defaults__", (Torn,))
    engine = Threads()
    with pytest.raises(UserError, match="learner 1 cannot be built: no module of that name"):
        run(config_of(**{"ray.crashes": 0}), tmp_path, engine)
    assert engine.killed == 3


@pytest.mark.parametrize(
    ("agent", "changes", "message"),
    [
        ("impala", {"ray.learners": 0}, "learners must be at least 1"),
        ("impala", {"replay.batch": 5}, "replay.batch is 5, which 2 learners cannot share equally: set it to 6"),
        ("impala", {"run.compile": True}, "run.compile is true"),
        ("impala", {"run.capture": True}, "run.capture is true"),
        ("impala", {"replay.store.place": "device"}, "batches of several learners are sent from the host"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, agent: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Learners(config_of(agent, **changes), tmp_path, Engine())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ray.actors": 0}, r"one learner beside the actor: set ray.actors"),
        ({"population.size": 2}, r"one learner for each member of a population"),
        ({"dataset.path": "runs/a"}, r"one learner where a run learns from a dataset"),
    ],
)
def test_where_there_is_one_learner_several_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"ray.learners is 2, but there is " + message):
        train(config_of(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_number_of_learners_is_no_other_run() -> None:
    check_change(config_of(), config_of(**{"ray.learners": 1}))


def test_agents_that_are_not_known_to_learn_the_same_are_refused(tmp_path: Path) -> None:
    config = overrides.apply(
        make_config("dreamerpro", env="toy/catch"), {"ray.actors": 1, "ray.learners": 2, "replay.batch": 4}
    )
    with pytest.raises(UserError, match=r"ray.learners is 2, but dreamerpro is not known to learn the same"):
        Learners(config, tmp_path, Engine())  # type: ignore[arg-type]


def test_what_was_before_an_update_comes_back() -> None:
    """Before the first one, when there are no moments, and later; memory is used again."""
    from tests.agents import value

    learner = value.make("iqn", value.VECTOR, {"learn": 3}, levels=4, target_levels=4, acting_levels=2, cosines=3)
    before = Before(learner)
    for seed in range(2):
        before.keep()
        there = [x.data_ptr() for x in before.copies]
        kept = copy.deepcopy(learner.save())
        learner.update(value.batch(learner, seed=seed))
        with pytest.raises(AssertionError):
            assert_same(kept, learner.save(), 0.0)
        weight = next(iter(learner.policy.parameters()))
        weight.grad = torch.zeros_like(weight)
        before.bring_back()
        assert_same(kept, learner.save(), 0.0)
        assert all(parameter.grad is None for parameter in learner.parameters())
        learner.update(value.batch(learner, seed=seed))
    before.keep()
    assert [x.data_ptr() for x in before.copies] == there
