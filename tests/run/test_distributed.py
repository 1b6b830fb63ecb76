"""The runner with many actors, on an engine of the tests: every row once and in order, whoever is lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engine import Engine

from reverie.cli import cli
from reverie.config import Config, RayConfig
from reverie.data.dataset import open_dataset
from reverie.data.selectors import FifoConfig
from reverie.data.sequences import SequenceSpec
from reverie.envs.toys import Count
from reverie.errors import UserError
from reverie.report.log import read_metrics
from reverie.run.distributed import Distributed
from reverie.run.lock import Stop
from reverie.run.params import Params
from reverie.run.remote import ActorHost, Birth, Crash, Orders, Parameters, Report, sent
from reverie.run.saved_config import save_config
from reverie.run.sharded_store import ShardedStore
from reverie.run.train import elsewhere
from tests.contracts.test_counting import SPECS, assert_well_formed, configuration

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"
COUNT = {"length": 2, "max_length": 11, "end": "mixed"}
ACTORS, STREAMS = 3, 2


INFERENCE = pytest.mark.parametrize("inference", ["actor", "central"])


def config_of(spec: SequenceSpec, inference: str = "actor", **ray: Any) -> Config:
    config = configuration("toy/count", ACTORS * STREAMS, spec, COUNT)
    every = 5 if inference == "actor" else 0
    run = dataclasses.replace(config.run, env_steps=500, publish_every=every, checkpoint_every=150)
    store = dataclasses.replace(config.replay.store, budget=80_000)
    replay = dataclasses.replace(config.replay, store=store)
    return dataclasses.replace(config, run=run, replay=replay, ray=RayConfig(actors=ACTORS, inference=inference, **ray))  # type: ignore[arg-type]


class Recorder:
    """Trains, and keeps what has to be looked at: wrong rows of batches, versions of actors, lines for people."""

    def __init__(self, config: Config, folder: Path, engine: Engine, restore: bool = False) -> None:
        self.runner = elsewhere(config)(config, folder, engine)  # type: ignore[arg-type]
        self.wrong: list[float] = []
        self.versions: dict[tuple[int, int], list[int]] = {}
        self.lines: list[str] = []
        self.runner.fleet._say = self.lines.append
        receive = self.runner.receive

        def note(report: Any) -> None:
            if isinstance(report, Report):
                life = (report.delivery.actor, report.delivery.incarnation)
                self.versions.setdefault(life, []).append(report.version)
            receive(report)

        self.runner.fleet._receive = note
        step = self.runner.trainer.update

        def update(batch: Any) -> Any:
            result = step(batch)
            self.wrong.append(float(result.metrics["wrong"]))
            return result

        self.runner.trainer.update = update
        if restore:
            self.runner.restore()

    def train(self, until: int | None = None) -> None:
        class Enough(Stop):
            def __call__(stop) -> bool:
                return until is not None and self.runner.run.clock.env_steps >= until

        self.runner.train(Enough())

    def check(self, folder: Path) -> None:
        """Rows, states and versions are right; as many were trained as env_steps were made."""
        assert len(self.wrong) > 20
        assert not any(self.wrong)
        for versions in self.versions.values():
            assert versions == sorted(versions)
        runner = self.runner
        if isinstance(runner.store, ShardedStore):
            counts = runner.store.counts
        else:
            runner.store.complete()
            counts = runner.store.replay.counts
        data = open_dataset(folder / "replay")
        steps = 0
        for stream in range(ACTORS * STREAMS):
            rows = data.rows(stream)
            assert_well_formed(rows)
            assert len(rows["reward"]) == counts[stream]
            steps += int((~rows["is_last"]).sum())
        assert steps == runner.run.clock.env_steps >= 500
        asked = runner.config.run.train_ratio
        assert asked is not None
        status = json.loads((folder / "status.json").read_text())
        clock, store = runner.run.clock, runner.store
        assert store.limiter.achieved(clock.env_steps, store.sampled_rows) == pytest.approx(asked, rel=0.02)
        assert len(status["actors"]) == ACTORS


@pytest.mark.parametrize(
    ("spec", "inference"),
    [(SPECS[1], "actor"), (SPECS[2], "actor"), (SPECS[1], "central")],
    ids=["period", "context", "central"],
)
def test_every_row_once_and_in_order(tmp_path: Path, spec: SequenceSpec, inference: str) -> None:
    recorder = Recorder(config_of(spec, inference), tmp_path, Engine())
    recorder.train()
    recorder.check(tmp_path)
    assert not recorder.lines
    logged = {name for line in read_metrics(tmp_path) for name in line if name.startswith("actor/")}
    assert len(logged) >= 8
    assert all(f"`{name}`" in DOCS.read_text() for name in logged)
    save_config(recorder.runner.config, tmp_path)
    told = CliRunner().invoke(cli, ["status", str(tmp_path)])
    assert told.exit_code == 0, told.output
    words = told.output.split()
    assert words[words.index("env_steps") + 1] == str(recorder.runner.run.clock.env_steps)
    assert words[words.index("running") + 1] == "False"
    assert "waits_for" in words
    state = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path), "--json"]).stdout)
    assert [actor["actor"] for actor in state["actors"]] == list(range(ACTORS))
    assert sum(actor["env_steps"] for actor in state["actors"]) >= state["env_steps"] > 0
    assert {actor for actor, _ in recorder.versions} == set(range(ACTORS))
    assert max(recorder.versions[0, 1]) > 0


@INFERENCE
def test_what_is_used_up_is_used_once_and_held_back_for(tmp_path: Path, inference: str) -> None:
    """First in, first out, without pacing: every window is trained once, and none is overwritten before."""
    config = config_of(SequenceSpec(learn=4, period=4, state="stored"), inference)
    store = dataclasses.replace(config.replay.store, budget=8_000)
    replay = dataclasses.replace(config.replay, selector=FifoConfig(), store=store)
    run = dataclasses.replace(config.run, train_ratio=None, prefill=0, pretrain=0, publish_every=0)
    recorder = Recorder(dataclasses.replace(config, replay=replay, run=run), tmp_path, Engine())
    recorder.train()
    place = recorder.runner.store
    assert not any(recorder.wrong)
    assert place.replay.oldest.min() > 0
    assert place.metrics()["dropped_windows"] == 0
    waiting = len(place.replay.selector.state_dict()["queue"])
    assert waiting < config.replay.batch
    complete = int((place.replay.counts // 4).sum())
    assert len(recorder.wrong) * config.replay.batch == complete - waiting


def sometimes(kind: str, share: float) -> Callable[[Any, str], str | None]:
    """A fault at that share of the rollouts, whoever makes them."""
    rng = np.random.default_rng(0)

    def fault(body: ActorHost, name: str) -> str | None:
        return kind if name == "rollout" and rng.random() < share else None

    return fault


@pytest.mark.parametrize(
    ("spec", "inference", "share"),
    [(SPECS[1], "actor", 0.2), (SPECS[2], "actor", 0.2), (SPECS[2], "central", 0.03)],
    ids=["period", "context", "central"],
)
def test_actors_that_die_lose_their_rollouts_and_nothing_else(
    tmp_path: Path, spec: SequenceSpec, inference: str, share: float
) -> None:
    recorder = Recorder(config_of(spec, inference, crashes=9), tmp_path, Engine(sometimes("die", share)))
    recorder.train()
    recorder.check(tmp_path)
    assert len(recorder.lines) >= 3
    assert all("was lost (The actor died unexpectedly" in line and "begins anew" in line for line in recorder.lines)


@pytest.mark.parametrize(("inference", "share"), [("actor", 0.1), ("central", 0.01)])
def test_an_actor_that_hangs_is_replaced(tmp_path: Path, inference: str, share: float) -> None:
    config = config_of(SPECS[1], inference, silence=0.05, patience=0.05, crashes=9)
    recorder = Recorder(config, tmp_path, Engine(sometimes("hang", share)))
    recorder.train()
    recorder.check(tmp_path)
    assert any("said nothing for" in line for line in recorder.lines)


@INFERENCE
def test_a_run_that_is_cut_off_goes_on_with_its_counters(tmp_path: Path, inference: str) -> None:
    """From its last checkpoint, with the episodes that were open there closed."""
    config, wrong = config_of(SPECS[1], inference), []
    for part, until in enumerate((200, 350, 351, None)):
        recorder = Recorder(config, tmp_path, Engine(), restore=part > 0)
        before = recorder.runner.run.clock.env_steps
        assert before >= (0, 200, 350, 351)[part]
        recorder.train(until)
        wrong += recorder.wrong
    assert not any(wrong)
    recorder.wrong = wrong
    recorder.check(tmp_path)
    assert min(recorder.runner.inbox.incarnation) >= 3


class Breaks(Count):
    """Raises at its so-manieth step."""

    def __init__(self, at: int) -> None:
        super().__init__(2, 11, "mixed")
        self.left = at

    def step(self, action: np.int64) -> Any:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("the simulator lost its licence")
        return super().step(action)


def breaks(at: int) -> Breaks:
    return Breaks(at)


@INFERENCE
@pytest.mark.parametrize(("at", "ends"), [(2, True), (30, False)], ids=["at once", "now and then"])
def test_a_crash_shows_its_own_traceback_and_ends_the_run_only_if_it_comes_again_and_again(
    tmp_path: Path, at: int, ends: bool, inference: str
) -> None:
    config = config_of(SPECS[1], inference)
    env = dataclasses.replace(config.env, id=f"{__name__}:breaks", options={"at": at})
    recorder = Recorder(dataclasses.replace(config, env=env), tmp_path, Engine())
    if ends:
        with pytest.raises(UserError, match=r"failed 3 times in a row, at last with: .*lost its licence"):
            recorder.train()
        assert recorder.runner.run.saved_at == recorder.runner.run.clock.env_steps
    else:
        recorder.train()
        recorder.check(tmp_path)
        # All but the last decision of each of an actor's streams is kept: 28 of 29, and a rollout is 20.
        assert recorder.runner.run.clock.env_steps > 28 * STREAMS * (
            sum(m.restarts for m in recorder.runner.fleet.members) - ACTORS
        )
    crashes = [line for line in recorder.lines if "crashed in" in line]
    assert crashes
    assert all("seed" in line and 'raise RuntimeError("the simulator lost its licence")' in line for line in crashes)


def test_episodes_that_ended_before_a_crash_are_told_with_it() -> None:
    config = config_of(SPECS[1])
    env = dataclasses.replace(config.env, id=f"{__name__}:breaks", options={"at": 75})
    config = dataclasses.replace(config, env=env)
    host = ActorHost(Birth(0, 1, np.zeros(STREAMS, np.int64), sent(config)), ACTORS, 20)
    params = Params()
    params.publish(0, 0, host.actor.policy)
    newest = params.newer(-1)
    assert newest is not None
    answers = [host.rollout(Parameters.of(newest), Orders(40, "random", 0)) for _ in range(3)]
    assert [type(answer) for answer in answers] == [Report, Crash, Crash]
    assert answers[1] is answers[2]
    closed = 0
    for answer in answers[:2]:
        assert len(answer.ended) == len(answer.info) > 0
        closed += sum(int(chunk.rows["is_last"].sum()) for chunk in answer.delivery.chunks)  # type: ignore[union-attr]
    # The newest row of a stream, which may close an episode, is a peek.
    assert 0 <= sum(len(answer.ended) for answer in answers[:2]) - closed <= STREAMS


def test_files_that_tell_of_a_run_are_not_worth_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".status.json").mkdir()
    (tmp_path / "incidents.log").mkdir()
    recorder = Recorder(config_of(SPECS[1], crashes=9), tmp_path, Engine(sometimes("die", 0.2)))
    recorder.runner.fleet._say = recorder.runner.say
    recorder.train()
    assert recorder.runner.run.complete
    told = capsys.readouterr().err
    assert "it begins anew" in told
    assert told.count("status.json is not written: Is a directory; the run goes on without it") == 1


def test_updates_on_the_env_steps_of_a_checkpoint_are_saved_when_it_is_stopped(tmp_path: Path) -> None:
    config = config_of(SPECS[1])
    run = dataclasses.replace(config.run, prefill=150, pretrain=400, checkpoint_every=150)
    recorder = Recorder(dataclasses.replace(config, run=run), tmp_path, Engine())
    clock = recorder.runner.run.clock

    class Learned(Stop):
        def __call__(self) -> bool:
            return clock.learner_steps >= 30

    recorder.runner.train(Learned())
    head = recorder.runner.run.checkpoints.head()
    assert head is not None
    assert clock.learner_steps == 30
    assert (head["env_steps"], head["learner_steps"]) == (clock.env_steps, 30)


def test_updates_that_a_finished_run_owes_heed_a_stop(tmp_path: Path) -> None:
    recorder = Recorder(config_of(SPECS[1]), tmp_path, Engine())
    recorder.train()
    runner = recorder.runner
    told = [line for line in read_metrics(tmp_path) if any(name.startswith("train/") for name in line)]
    assert told[-1]["learner_steps"] == runner.run.clock.learner_steps
    owed = Recorder(config_of(SPECS[1]), tmp_path, Engine(), restore=True).runner
    made = owed.run.clock.learner_steps
    assert made == runner.run.clock.learner_steps
    owed.store.limiter.extra += 100 * owed.config.replay.batch

    class Soon(Stop):
        def __call__(self) -> bool:
            return owed.run.clock.learner_steps >= made + 3

    owed.run.stop = Soon()
    owed.end()
    assert owed.run.clock.learner_steps == made + 3


class Strange(Count):
    """Pays what is no number, at its thirtieth step."""

    steps = 0

    def step(self, action: np.int64) -> Any:
        self.steps += 1
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.steps == 30 else reward, *rest


def strange() -> Strange:
    return Strange(2, 11, "mixed")


@INFERENCE
def test_what_is_the_users_to_mend_is_one_line_and_no_new_life(tmp_path: Path, inference: str) -> None:
    config = config_of(SPECS[1], inference)
    env = dataclasses.replace(config.env, id=f"{__name__}:strange", options={})
    recorder = Recorder(dataclasses.replace(config, env=env), tmp_path, Engine())
    with pytest.raises(UserError, match=r"actor 0 \(life 1, seed \d+\): .*reward") as caught:
        recorder.train()
    assert "\n" not in str(caught.value)
    assert not recorder.lines
    assert recorder.runner.run.saved_at == recorder.runner.run.clock.env_steps > 0


def test_streams_are_shared_equally() -> None:
    with pytest.raises(ValueError, match=r"7 streams cannot be shared equally by 3 actors; set env.num_envs = 9"):
        dataclasses.replace(config_of(SPECS[1]), env=dataclasses.replace(config_of(SPECS[1]).env, num_envs=7))


def test_roles_do_not_write_to_what_they_are_given(tmp_path: Path) -> None:
    """The negative control of the engine: what it hands over cannot be written to."""
    engine = Engine()
    array = engine.get(engine.put({"rows": np.zeros(3)}))["rows"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


def test_rows_of_a_rollout_must_fit_the_windows(tmp_path: Path) -> None:
    spec = SPECS[1]
    assert spec.period > 1
    wrong = 4 * spec.period + 1
    with pytest.raises(UserError, match=rf"ray.rows is {wrong}, .* multiple of that, for example {5 * spec.period}"):
        Distributed(config_of(spec, rows=wrong), tmp_path, Engine())  # type: ignore[arg-type]
