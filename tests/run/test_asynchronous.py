"""The runner whose workers send gradients, on an engine of the tests: rows counted once, gradients applied once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from engine import Engine
from tiny_runs import Stop
from torch import Tensor, nn

from reverie import overrides
from reverie.cli import cli
from reverie.config import Config, RayConfig
from reverie.data.selectors import FifoConfig
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.asynchronous import Asynchronous, WorkerHost
from reverie.run.lock import alone
from reverie.run.owner import Gradients
from reverie.run.remote import Report
from reverie.run.saved_config import save_config
from reverie.run.turns import Turns
from tests.contracts.test_counting import Counting, CountingLearner, CountingPolicy, configuration

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"
COUNT = {"length": 2, "max_length": 11, "end": "mixed"}
WORKERS, STREAMS, LEARN, BATCH = 3, 2, 4, 2


class TallyLearner(CountingLearner):
    """Its loss is its one weight times the rows of a batch: every step that is made of them can be read off it."""

    def __init__(self, policy: Any, windows: SequenceSpec, seed: int = 0) -> None:
        super().__init__(policy, windows, False, seed)
        self.optimisers = {"tally": Optimiser(policy.parameters(), OptimConfig(lr=1.0, clip=1e9, shrink=0.0))}
        self.kept: dict[str, Tensor] = {}

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        with pytest.raises(StopIteration):
            next(super().losses(batch, metrics))
        yield {"tally": self.policy.weight.sum() * batch.rows["reward"][: self.windows.learn].numel()}  # type: ignore[operator, union-attr]

    def reduce(self, group: str) -> bool:
        self.kept[group] = self.optimisers[group].take()
        return False

    def gradients(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        metrics = self.apply_update(batch).metrics
        return dict(self.kept), metrics


@dataclass(frozen=True)
class Nothing:
    """Settings of the agent that counts: only workers."""

    workers: int = WORKERS


class Tally(Counting):
    """The counting agent with a weight, whose workers send gradients."""

    Config: ClassVar[type] = Nothing
    asynchronous: ClassVar[bool] = True

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        return replace(asked, lookahead=1)

    def policy(self) -> CountingPolicy:
        policy = CountingPolicy(extras=False)
        policy.weight = nn.Parameter(torch.zeros(1))
        return policy

    def learner(self, policy: Any, windows: SequenceSpec, seed: int = 0, *where: Any) -> TallyLearner:
        return TallyLearner(policy, windows, seed)


def config_of(actors: int = WORKERS, **ray: Any) -> Config:
    config = configuration(
        "toy/count", WORKERS * STREAMS, SequenceSpec(learn=LEARN, period=LEARN, state="stored"), COUNT
    )
    run = replace(config.run, env_steps=240, train_ratio=None, prefill=0, pretrain=0, checkpoint_every=0, log_every=50)
    run = replace(run, eval_episodes=0)
    selector, store = FifoConfig(), replace(config.replay.store, budget=80_000)
    replay = replace(config.replay, batch=BATCH, selector=selector, store=store)
    options = RayConfig(actors, in_flight=1, **ray)
    return replace(config, name=f"{__name__}:Tally", agent=Nothing(), run=run, replay=replay, ray=options)


class Recorder:
    """Trains, and keeps the gradients that were applied."""

    def __init__(self, config: Config, folder: Path, engine: Any, restore: bool = False) -> None:
        self.runner = Asynchronous(config, folder, engine)
        self.lines: list[str] = []
        self.runner.fleet._say = self.lines.append
        self.applied: list[Gradients] = []
        apply = self.runner.owner.apply

        def noting(gradients: Gradients) -> None:
            apply(gradients)
            self.applied.append(gradients)

        self.runner.owner.apply = noting  # type: ignore[method-assign]
        if restore:
            self.runner.restore()

    def train(self, until: int = 10**9, enough: Callable[[], bool] = lambda: False) -> None:
        class Enough(Stop):
            def __call__(self) -> bool:
                return super().__call__() or enough()

        self.runner.train(Enough(self.runner, until))

    def check(self) -> None:
        """Each gradient once, in order within a life; its rows right; env_steps and steps are their sums."""
        owner, applied = self.runner.owner, self.applied
        for actor in range(WORKERS):
            lives: dict[int, list[Gradients]] = {}
            for gradients in applied:
                if gradients.actor == actor:
                    lives.setdefault(gradients.incarnation, []).append(gradients)
            assert lives
            assert sorted(lives) == list(lives)
            for life in lives.values():
                assert [gradients.sequence for gradients in life] == list(range(len(life)))
                assert [gradients.version for gradients in life] == sorted(gradients.version for gradients in life)
        assert not any(gradients.metrics["wrong"] for gradients in applied)
        assert all(gradients.groups["tally"].tolist() == [LEARN * BATCH] for gradients in applied)
        assert owner.learner.learner_steps == len(applied)
        # Adam on one gradient again and again: a whole rate at every step.
        assert next(owner.learner.parameters()).item() == pytest.approx(-len(applied), rel=1e-4)
        assert owner.env_steps == sum(gradients.env_steps for gradients in applied) == self.runner.run.clock.env_steps


def test_rows_are_counted_once_and_gradients_applied_once(tmp_path: Path) -> None:
    config = config_of()
    recorder = Recorder(config, tmp_path, Engine())
    recorder.train()
    recorder.check()
    assert not recorder.lines
    owner = recorder.runner.owner
    # On this engine workers take turns: two others' gradients come in between.
    assert owner.staleness.tolist() == [WORKERS - 1] * WORKERS
    learned = len(recorder.applied) * LEARN * BATCH
    assert 240 <= owner.env_steps <= learned * 1.2
    assert not (tmp_path / "replay").exists()
    logged = read_metrics(tmp_path)
    assert [line["train/staleness_max"] for line in logged if "train/staleness" in line][-1] == WORKERS - 1
    save_config(config, tmp_path)
    told = CliRunner().invoke(cli, ["status", str(tmp_path)])
    assert told.exit_code == 0, told.output
    words = told.output.split()
    assert float(words[words.index("staleness") + 1]) == WORKERS - 1
    state = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path), "--json"]).stdout)
    assert [actor["staleness"] for actor in state["actors"]] == [WORKERS - 1] * WORKERS
    assert state["env_steps"] == owner.env_steps
    names = {name for line in logged for name in line if name.startswith("actor/")}
    assert all(f"`{name}`" in DOCS.read_text() for name in names)


def sometimes(kind: str, share: float) -> Callable[[Any, str], str | None]:
    """A fault at that share of the rollouts, before or after they are played."""
    rng = torch.Generator().manual_seed(0)

    def fault(body: WorkerHost, name: str) -> str | None:
        if name != "rollout" or float(torch.rand(1, generator=rng)) >= share:
            return None
        if body.actor.env_steps % 2:  # it has played on, and nobody will hear of it
            body.worker.store.env_steps += 1000
        return kind

    return fault


def test_workers_that_die_are_replaced_and_count_for_nothing_they_did_not_send(tmp_path: Path) -> None:
    recorder = Recorder(config_of(crashes=9), tmp_path, Engine(sometimes("die", 0.2)))
    recorder.train()
    recorder.check()
    assert len(recorder.lines) >= 3
    assert all("was lost (The actor died unexpectedly" in line and "begins anew" in line for line in recorder.lines)
    assert recorder.runner.owner.lives.incarnation.sum() == WORKERS + len(recorder.lines)


def test_what_is_delivered_twice_or_by_a_life_before_changes_nothing(tmp_path: Path) -> None:
    recorder = Recorder(config_of(), tmp_path, Engine())
    receive, held = recorder.runner.fleet._receive, list[Any]()

    def twice(report: Any) -> None:
        receive(report)
        assert isinstance(report, Report)
        held.append(report)
        receive(held[len(held) // 2])

    recorder.runner.fleet._receive = twice
    recorder.train()
    recorder.check()
    assert recorder.runner.owner.dropped == len(held) == len(recorder.applied)


def test_a_run_that_is_cut_off_goes_on_with_its_counters(tmp_path: Path) -> None:
    applied: list[Gradients] = []
    for part, until in enumerate((90, 160, 10**9)):
        recorder = Recorder(config_of(), tmp_path, Engine(), restore=part > 0)
        assert recorder.runner.run.clock.env_steps >= (0, 90, 160)[part]
        recorder.train(until)
        applied += recorder.applied
    recorder.applied = applied
    recorder.check()
    assert min(recorder.runner.owner.lives.incarnation) == 3


def test_in_turns_the_same_agent_counts_the_same(tmp_path: Path) -> None:
    """Interrupted in the middle too: every row is learned once, each worker's in order, whoever resumes."""
    seen: dict[int, list[int]] = {}
    for part, until in enumerate((90, 91, 150, 10**9)):
        run = Turns(config_of(actors=0), tmp_path)
        if part:
            run.restore()
        for worker in run.workers.each:

            def noting(batch: Batch, number: int = worker.number, inner: Any = worker.learner.gradients) -> Any:
                groups, metrics = inner(batch)
                assert not metrics["wrong"]
                seen.setdefault(number, []).extend(batch.keys.tolist())
                return groups, metrics

            worker.learner.gradients = noting  # type: ignore[operator, assignment]
        run.train(Stop(run, until))
    assert sorted(seen) == list(range(WORKERS))
    for keys in seen.values():
        for stream in range(STREAMS):
            starts = [key & ((1 << 40) - 1) for key in keys if key >> 40 == stream]
            assert starts == list(range(0, LEARN * len(starts), LEARN))
    assert run.owner.env_steps == run.run.clock.env_steps >= 240
    assert run.kept()["dropped_windows"] == 0
    assert run.owner.learner.learner_steps == sum(len(keys) for keys in seen.values()) // BATCH


def test_a3c_itself_on_the_engine(tmp_path: Path) -> None:
    """CartPole with an LSTM: a whole run, read-only messages, evaluated with what the owner has."""
    words = {
        **{"agent.core": "lstm", "agent.units": 6, "agent.torso.units": 8, "replay.window.state": "stored"},
        **{
            "run.env_steps": 500,
            "run.log_every": 200,
            "run.checkpoint_every": 0,
            "run.eval_episodes": 2,
            "ray.actors": 2,
        },
    }
    config = overrides.apply(make_config("a3c", "cpu", "CartPole-v1"), words)
    assert config.ray.in_flight == 1
    runner = Asynchronous(config, tmp_path / "new", Engine())  # type: ignore[arg-type]
    before = [value.clone() for value in runner.learner.parameters()]
    with alone(tmp_path / "new"):
        summary = runner.train(Stop(runner, 10**9))
    assert summary["finished"]
    assert runner.owner.env_steps >= 500
    assert all(not torch.equal(a, b) for a, b in zip(before, runner.learner.parameters(), strict=True))
    assert {"train/staleness", "train/policy_loss", "train/actor_critic_grad_norm", "actor/parameter_age"} <= {
        name for line in read_metrics(tmp_path / "new") for name in line
    }
