"""The runner whose store is in shards, on an engine of the tests: every row once and in order, whoever is lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engine import Engine, EngineError, Ref
from gymnasium import spaces

from reverie.cli import cli
from reverie.config import Config, RayConfig
from reverie.data.dataset import open_dataset
from reverie.data.limiter import Limiter
from reverie.data.rows import row_spec
from reverie.data.selectors import OnlineConfig, UniformConfig
from reverie.data.sequences import SequenceSpec
from reverie.data.shard import Part, Plan, Shipment
from reverie.errors import UserError
from reverie.machine import in_words
from reverie.report.log import read_metrics
from reverie.run import sharded_store
from reverie.run.branch import branch
from reverie.run.fixed import check_change
from reverie.run.saved_config import save_config
from reverie.run.sharded import Sharded
from reverie.run.sharded_store import ShardedStore
from reverie.run.shards import ShardHost
from tests.contracts.test_counting import SPECS, assert_well_formed
from tests.run.test_distributed import Recorder, config_of

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"


def store_of(recorder: Recorder) -> ShardedStore:
    assert isinstance(recorder.runner.store, ShardedStore)
    return recorder.runner.store


def hear(recorder: Recorder) -> None:
    """What shards say comes to the recorder too."""
    store_of(recorder)._say = recorder.lines.append


@pytest.mark.parametrize(
    ("spec", "shards"), [(SPECS[1], 1), (SPECS[2], 2), (SPECS[1], 3)], ids=["period 1", "context 2", "period 3"]
)
def test_every_row_once_and_in_order(
    tmp_path: Path, spec: Any, shards: int, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(config_of(spec, shards=shards), tmp_path, Engine())
    hear(recorder)
    recorder.train()
    recorder.check(tmp_path)
    assert not recorder.lines
    store = store_of(recorder)
    assert [line.split(" when full")[0] for line in capsys.readouterr().out.splitlines() if "when full" in line] == [
        f"replay: {in_words(store.room.nbytes * min(1.0, recorder.runner.run.total / store.room.rows))}"
    ]
    homes = zip(store.plans, store.shards.each, strict=True)
    assert store.room.rows == sum(home.tally.rows_per_stream * plan.actors * plan.streams for plan, home in homes)
    assert store.dropped == store.lost_rows == 0
    assert store.rows == sum(min(int(count), 10**9) for count in np.minimum(store.counts, rows_per_stream(store)))
    logged = {name for line in read_metrics(tmp_path) for name in line if name.startswith(("actor/", "replay/"))}
    assert {"replay/shard_memory", "replay/shard_queue"} <= logged
    save_config(recorder.runner.config, tmp_path)
    told = CliRunner().invoke(cli, ["status", str(tmp_path)])
    assert told.exit_code == 0, told.output
    state = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path), "--json"]).stdout)
    assert [shard["shard"] for shard in state["shards"]] == list(range(shards))
    assert sum(shard["rows"] for shard in state["shards"]) == store.rows
    for name in state["shards"][0]:
        assert f"`{name}`" in DOCS.read_text()


def rows_per_stream(store: ShardedStore) -> int:
    tally = store.shards.each[0].tally
    assert tally is not None
    return tally.rows_per_stream


def shard_fault(kind: str, method: str, at: set[int]) -> Callable[[Any, str], str | None]:
    """A fault of shards at the so-manieth calls of a method."""
    calls = iter(range(10**9))

    def fault(body: Any, name: str) -> str | None:
        return kind if isinstance(body, ShardHost) and name == method and next(calls) in at else None

    return fault


def check_after_loss(recorder: Recorder, folder: Path) -> None:
    """No batch had a wrong row, no two episodes were joined, env_steps are those that were made, ratios are held."""
    store, runner = store_of(recorder), recorder.runner
    assert len(recorder.wrong) > 20
    assert not any(recorder.wrong)
    data, decisions = open_dataset(folder / "replay"), 0
    for stream in data.streams:
        rows = data.rows(stream)
        assert_well_formed(rows)
        assert len(rows["reward"]) == store.counts[stream]
        decisions += int((~rows["is_last"]).sum())
    # Rows that were lost were counted when they were made; closing rows are counted by nobody.
    assert decisions <= runner.run.clock.env_steps <= decisions + store.lost_rows
    asked = runner.config.run.train_ratio
    achieved = store.limiter.achieved(runner.run.clock.env_steps, store.sampled_rows)
    assert achieved == pytest.approx(asked, rel=0.02)


def shorter(config: Config, env_steps: int = 320) -> Config:
    return dataclasses.replace(
        config, run=dataclasses.replace(config.run, env_steps=env_steps, checkpoint_every=100, prefill=40)
    )


@pytest.mark.parametrize(
    ("kind", "method", "at"),
    [
        ("die", "take", {1, 7}),
        ("die", "serve", {9, 40}),
        ("die", "save", {1}),
        ("die", "begin", {1}),
        ("hang", "serve", {9}),
    ],
)
def test_a_shard_that_is_lost_goes_on_from_the_checkpoint(tmp_path: Path, method: str, at: set[int], kind: str) -> None:
    patience = {"silence": 0.05, "patience": 0.05} if kind == "hang" else {}
    faults = shard_fault(kind, method, at)
    config = shorter(config_of(SPECS[1], shards=2, crashes=9, **patience))
    recorder = Recorder(config, tmp_path, Engine(faults))
    hear(recorder)
    recorder.train()
    check_after_loss(recorder, tmp_path)
    store = store_of(recorder)
    lost = [line for line in recorder.lines if line.startswith("reverie: shard")]
    if kind == "die":
        assert store.shards.restarts == len(at) == len(lost)
    assert store.shards.restarts >= len(lost) >= 1
    assert all("its new life has" in line and "rows are lost" in line for line in lost)
    assert (
        store.metrics()["lost_rows"] == store.lost_rows == sum(int(line.split(", and ")[1].split()[0]) for line in lost)
    )
    if method in ("take", "serve"):
        assert store.lost_rows > 0
        assert any("nothing, since there is no checkpoint" in line for line in lost)
    # Actors of a lost shard began anew, and no others: the first shard has actors 0 and 1, the second actor 2.
    whose = {int(line.split()[2]) for line in lost}
    if method != "begin":
        anew = {actor for actor, member in enumerate(recorder.runner.fleet.members) if member.restarts}
        assert anew == {actor for actor in range(3) if {0: 0, 1: 0, 2: 1}[actor] in whose}


def test_a_shard_that_is_lost_again_and_again_ends_the_run_with_one_line(tmp_path: Path) -> None:
    recorder = Recorder(config_of(SPECS[1], shards=2), tmp_path, Engine(shard_fault("die", "take", set(range(99)))))
    hear(recorder)
    with pytest.raises(
        UserError, match=r"shard \d was lost 3 times in a row: at last it was lost \(The actor died"
    ) as end:
        recorder.train()
    assert "\n" not in str(end.value)


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UserError("cannot write chunk: no space left on the disk")

    monkeypatch.setattr("reverie.data.record.write_chunk", full)
    recorder = Recorder(config_of(SPECS[1], shards=2), tmp_path, Engine())
    with pytest.raises(UserError, match=r"shard \d: cannot write chunk: no space left"):
        recorder.train()


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "replay")

    monkeypatch.setattr("reverie.data.record.write_chunk", gone)
    with pytest.raises(UserError, match=r"shard \d: .*No such file or directory: 'replay'"):
        Recorder(config_of(SPECS[1], shards=2), tmp_path, Engine()).train()


def test_a_run_that_is_cut_off_goes_on_with_all_rows(tmp_path: Path) -> None:
    """From its last checkpoint, all shards at one moment; files of later rows are gone."""
    config, wrong = config_of(SPECS[1], shards=2), []
    for part, until in enumerate((200, 260, None)):
        recorder = Recorder(config, tmp_path, Engine(), restore=part > 0)
        store = store_of(recorder)
        before = recorder.runner.run.clock.env_steps
        assert before >= (0, 200, 260)[part]
        if part:
            assert sum(body.store.env_steps for body in bodies(store)) == before
            counts = np.concatenate([body.replay.counts for body in bodies(store)])
            np.testing.assert_array_equal(counts, store.counts)
        recorder.train(until)
        wrong += recorder.wrong
    assert not any(wrong)
    recorder.wrong = wrong
    recorder.check(tmp_path)
    assert min(recorder.runner.inbox.incarnation) >= 3


def bodies(store: ShardedStore) -> list[Any]:
    store.shards.settle()
    return [process.handle.body.shard for process in store.shards.each]


def test_a_learner_that_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """What shards wrote after the checkpoint, chunk files included, is done again."""
    config = config_of(SPECS[1], shards=2)

    class Killed(BaseException):
        pass

    recorder = Recorder(config, tmp_path, Engine())
    receive, saved = recorder.runner.fleet._receive, recorder.runner.store.saved
    checkpoints: list[int] = []
    recorder.runner.store.saved = lambda: (saved(), checkpoints.append(recorder.runner.run.clock.env_steps))  # type: ignore[method-assign,func-returns-value,assignment]

    def kill(report: Any) -> None:
        if checkpoints and recorder.runner.run.clock.env_steps > checkpoints[-1] + 60:
            raise Killed
        receive(report)

    recorder.runner.fleet._receive = kill
    with pytest.raises(Killed):
        recorder.train()
    again = Recorder(config, tmp_path, Engine(), restore=True)
    assert again.runner.run.clock.env_steps == checkpoints[-1]
    again.train()
    again.wrong = recorder.wrong + again.wrong
    again.check(tmp_path)


def test_another_number_of_shards_is_refused(tmp_path: Path) -> None:
    config = config_of(SPECS[1], shards=2)
    Recorder(config, tmp_path, Engine()).train(until=40)
    for shards in (0, 3):
        other = dataclasses.replace(config, ray=dataclasses.replace(config.ray, shards=shards))
        with pytest.raises(UserError, match=r"ray.shards cannot change in the middle of a run: each shard keeps"):
            check_change(config, other)
    other = dataclasses.replace(config, ray=dataclasses.replace(config.ray, shards=3))
    with pytest.raises(UserError, match=r"has the rows of 2 shards, this run 3: set ray.shards = 2"):
        Recorder(other, tmp_path, Engine(), restore=True)


def test_what_shards_cannot_do_is_refused(tmp_path: Path) -> None:
    config = config_of(SPECS[1], shards=2)
    replay = dataclasses.replace(config.replay, selector=OnlineConfig())
    with pytest.raises(UserError, match=r"replay.selector 'online' draws in the order in which rows of all streams"):
        Sharded(dataclasses.replace(config, replay=replay), tmp_path, Engine())  # type: ignore[arg-type]
    store = dataclasses.replace(config.replay.store, place="device")
    replay = dataclasses.replace(config.replay, store=store)
    with pytest.raises(UserError, match=r"set replay.store.place = host"):
        Sharded(dataclasses.replace(config, replay=replay), tmp_path, Engine())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ray.shards is 4, ray.actors 3"):
        dataclasses.replace(config, ray=RayConfig(3, shards=4))


def test_a_branch_takes_the_rows_of_all_shards_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = shorter(config_of(SPECS[1], shards=2), 1000)
    trunk = Recorder(config, tmp_path / "trunk", Engine())
    save_config(config, tmp_path / "trunk")
    trunk.train(until=150)
    monkeypatch.setattr("reverie.run.cluster.connected", lambda options: nullcontext(Engine()))
    result = branch(tmp_path / "trunk", tmp_path / "branch", {"run.env_steps": 240})
    assert result["env_steps"] >= 240
    data, before = open_dataset(tmp_path / "branch" / "replay"), open_dataset(tmp_path / "trunk" / "replay")
    for stream in before.streams:
        assert_well_formed(data.rows(stream))
        for name, value in before.rows(stream).items():
            if name != "is_last":  # the row that was seen last may have closed an episode
                np.testing.assert_array_equal(data.rows(stream)[name][: len(value)], value)


def test_rows_of_another_window_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: one row later than the state belongs to."""
    joined = sharded_store.joined

    def later(parts: dict[int, Part], *rest: Any) -> Any:
        moved = {
            k: dataclasses.replace(p, rows={n: np.roll(v, -1, 0) for n, v in p.rows.items()}) for k, p in parts.items()
        }
        return joined(moved, *rest)

    monkeypatch.setattr(sharded_store, "joined", later)
    config = config_of(SPECS[1], shards=2)
    with pytest.raises(AssertionError):
        Recorder(config, tmp_path, Engine()).train()


def test_rows_that_were_lost_with_the_last_life_do_not_end_the_next(tmp_path: Path) -> None:
    """A node dies with rows under way, and its actor begins anew before the shard has said that it lacks them."""

    def gone() -> None:
        raise EngineError("the rows are gone with their node")

    windows = SequenceSpec(0, 5, 0, 1)
    spec = row_spec({"x": spaces.Box(-1, 1, (2,), np.float32)}, spaces.Discrete(2))
    plan = Plan(spec, windows, None, UniformConfig(), 0, 0, 1, 1, 1, 100_000, None, 32)
    said: list[str] = []
    store = ShardedStore(Engine(), [plan], RayConfig(actors=1, shards=1), Limiter(1.0, 0), 0, said.append, lambda: None)
    life, _ = store.begin(0)
    assert store.take(Shipment(0, life, 0, 5, {0: 5}, Ref(gone)))
    life, indices = store.begin(0)
    assert (int(store.incarnation[0]), store.broken, store.lost_rows, indices.tolist()) == (life, set(), 5, [0])
    assert store.take(Shipment(0, life, 0, 0, {0: 0}, []))
    assert store.dropped == 0


def test_an_actor_whose_shard_was_lost_must_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: rows that go on where the lost life was are refused, never spliced."""
    monkeypatch.setattr(ShardedStore, "_end", lambda self, actor: None)
    monkeypatch.setattr("reverie.data.inbox.Lives.due", lambda self, message: True)
    monkeypatch.setattr("reverie.data.inbox.Lives.early", lambda self, message: False)
    recorder = Recorder(config_of(SPECS[1], shards=2), tmp_path, Engine(shard_fault("die", "take", {11})))
    hear(recorder)
    with pytest.raises(RuntimeError, match=r"shard \d failed:(.|\n)*expects row"):
        recorder.train()
