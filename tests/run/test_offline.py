"""Learning from a dataset: its rows and no others, exactly resumed, and refused in one line where it does not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import Crash, Never, Stop, assert_same_run, config

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config, DatasetConfig
from reverie.data.chunks import chunk_path, write_chunk
from reverie.data.dataset import open_dataset
from reverie.data.rows import Rows
from reverie.errors import UserError
from reverie.machine import Memory
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.build import build_agent, build_learner, env_spec, row_specs
from reverie.run.fixed import check_change
from reverie.run.offline import Offline, for_dataset
from reverie.run.saved_config import save_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that acted: three streams, 240 env_steps."""
    folder = tmp_path_factory.mktemp("made") / "run"
    reverie.train(config("toy/catch", env__num_envs=3, run__env_steps=240, run__eval_every=0), folder)
    return folder


def offline(made: Path, **changes: Any) -> Config:
    return for_dataset(config("toy/catch", dataset__path=str(made / "replay"), **changes))


def begin(settings: Config, run_dir: Path) -> Offline:
    run_dir.mkdir(parents=True)
    save_config(settings, run_dir)
    return Offline(settings, run_dir)


def checked(settings: Config) -> None:
    """Hold the run against this machine's memory, as it is when its store is built."""
    env = env_spec(settings)
    row_specs(settings, build_learner(settings, build_agent(settings, env), torch.device("cpu")), env)


def rows_of(run_dir: Path) -> list[Rows]:
    data = open_dataset(run_dir / "replay")
    return [data.rows(stream) for stream in data.streams]


def test_a_finished_run_is_a_whole_dataset(made: Path) -> None:
    assert sum(int((~rows["is_last"]).sum()) for rows in rows_of(made)) == 240


def test_it_learns_from_all_rows_of_the_dataset_and_from_no_other(made: Path, tmp_path: Path) -> None:
    run = begin(offline(made), tmp_path / "run")
    assert run.config.env.num_envs == 3
    run.train(Never())
    for theirs, ours in zip(rows_of(made), rows_of(tmp_path / "run"), strict=True):
        assert theirs.keys() >= ours.keys() >= {"obs.image", "action", "reward", "is_last"}
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name])


def test_it_says_what_it_learns_from(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(offline(made), tmp_path / "run")
    run.begin()
    run.train(Never())
    told = capsys.readouterr().out
    assert f"learning from {made / 'replay'}, counted from 40 on" in told
    assert "random actions" not in told
    assert "it holds the whole dataset" in told
    with pytest.raises(UserError, match=r"nothing would be trained: env_steps are counted from run.prefill, 40, on"):
        reverie.train(offline(made, run__env_steps=40), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_long_run_asks_for_no_more_memory_than_its_dataset(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Memory(1_000_000_000, 900_000_000)
    monkeypatch.setattr("reverie.run.room.memory", lambda: there)
    long = offline(made, run__env_steps=10**9, replay__store__budget=2 * 10**9)
    checked(long)
    with pytest.raises(UserError, match="does not fit into this machine's memory"):
        checked(replace(long, dataset=DatasetConfig()))


def test_it_makes_as_many_learner_steps_as_a_run_that_acts(made: Path, tmp_path: Path) -> None:
    """And logs, evaluates and ends at the same counts."""
    acting = config("toy/catch")
    reverie.train(acting, tmp_path / "acting")
    run = begin(offline(made), tmp_path / "run")
    run.train(Never())
    one, other = read_metrics(tmp_path / "acting"), read_metrics(tmp_path / "run")
    evaluations = [[record["env_steps"] for record in each if "eval/score" in record] for each in (one, other)]
    assert len(evaluations[0]) == len(evaluations[1]) == 3
    assert abs(one[-1]["learner_steps"] - other[-1]["learner_steps"]) <= 1
    assert abs(one[-1]["env_steps"] - other[-1]["env_steps"]) <= 8
    assert not any(name.startswith("episode/") for record in other for name in record)
    # Both had trained 8 rows for each env_step counted, however many decisions the dataset holds.
    told = [record["replay/ratio"] for record in other if "replay/ratio" in record and record["env_steps"] >= 100]
    assert told == pytest.approx([acting.run.train_ratio] * len(told), abs=0.15)
    assert len(told) >= 5


def test_it_goes_on_exactly_without_the_dataset(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "replay", copy / "replay")
    settings = offline(copy)
    begin(settings, tmp_path / "alone").train(Never())
    run = begin(settings, tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 90, crash=True))  # type: ignore[arg-type]
    shutil.rmtree(copy)
    run = Offline(settings, tmp_path / "run")
    run.restore()
    run.train(Never())
    assert_same_run(tmp_path / "alone", tmp_path / "run")


@pytest.mark.parametrize("key", ["run.train_ratio", "run.prefill", "run.pretrain", "replay.batch"])
def test_what_its_env_steps_are_counted_by_cannot_change(key: str, made: Path) -> None:
    settings, acting = offline(made), config("toy/catch")
    changes = {key: 3}
    with pytest.raises(UserError, match=rf"{key} cannot change in the middle of a run: its env_steps are counted by"):
        check_change(settings, overrides.apply(settings, changes))
    check_change(acting, overrides.apply(acting, changes))


def test_a_value_agent_learns_from_a_dreamers_rows(made: Path, tmp_path: Path) -> None:
    small = {"run.env_steps": 120, "run.prefill": 20, "run.eval_episodes": 2, "replay.batch": 4, "agent.hidden": 8}
    base = make_config("dqn", "cpu", "toy/catch")
    settings = overrides.apply(base, {**small, "dataset.path": str(made / "replay")})
    summary = reverie.train(settings, tmp_path / "run")
    assert summary["finished"]
    assert reverie.evaluate(tmp_path / "run", episodes=2)["env_steps"] == 120


def test_what_is_drawn_ahead_moves_the_clock_past_no_evaluation(made: Path, tmp_path: Path) -> None:
    """A checkpoint learns what was drawn ahead; the evaluation that is due within it is played."""
    asked = {"run__ahead": 3, "run__checkpoint_every": 44, "run__eval_every": 48, "run__env_steps": 200}
    begin(offline(made, **asked), tmp_path / "run").train(Never())
    played = [line["env_steps"] for line in read_metrics(tmp_path / "run") if "eval/score" in line]
    assert [place // 48 for place in played] == [1, 2, 3, 4]


def test_a_small_replay_says_what_it_leaves_out(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = offline(made).replay.store.budget
    assert budget > 240 * 1024
    small = begin(offline(made, replay__store__budget=120_000), tmp_path / "run")
    small.train(Never())
    assert "the replay holds the newest" in capsys.readouterr().err
    kept = open_dataset(tmp_path / "run" / "replay")
    oldest = small.store.replay.oldest
    assert oldest.min() > 0
    for stream in kept.streams:  # a file may begin before the oldest row, and ends after it
        assert next(kept.chunks(stream)).start + len(next(kept.chunks(stream))) > oldest[stream]


@pytest.mark.parametrize(
    ("agent", "env", "changes", "words"),
    [
        ("dreamerv2", "CartPole-v1", {}, "has no obs.vector, which dreamerv2 reads; it has"),
        (
            "dreamerv2",
            "toy/catch",
            {"env.options": {"size": 16}},
            r"has obs.image as uint8 \(32, 32, 1\), toy/catch gives",
        ),
        ("r2d2", "toy/catch", {}, "say --replay.window.state zero"),
        ("apex", "toy/catch", {}, r"has no extra\.q, which apex reads"),
        ("impala", "toy/catch", {}, "learns every row once, as it is acted"),
        ("dreamerv2", "toy/catch", {"ray.actors": 1}, "ray.actors must be 0, got 1"),
        ("dreamerv2", "toy/catch", {"replay.window.learn": 150}, "its .* rows have no window of 150 rows"),
        ("dreamerv2", "toy/catch", {"dataset.path": "nowhere"}, "nowhere has no chunk files"),
    ],
)
def test_what_does_not_fit_is_one_line(
    made: Path, tmp_path: Path, agent: str, env: str, changes: dict[str, Any], words: str
) -> None:
    settings = {"dataset.path": str(made / "replay"), "run.env_steps": 8000, **changes}
    with pytest.raises(UserError, match=words):
        reverie.train(overrides.apply(make_config(agent, "cpu", env), settings), tmp_path / "run")
    late = "no window of" in words  # known once the rows are in the store
    assert late or not (tmp_path / "run" / "config.json").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or not read_metrics(tmp_path / "run")


def test_rows_of_another_environment_are_told(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catch with a smaller ball looks alike to whoever checks shapes."""
    other = offline(made, env__options={"ball": 2})
    begin(other, tmp_path / "run").train(Never())
    assert "are of another environment: options is {} there, {'ball': 2} here" in capsys.readouterr().err


def test_the_command_line(made: Path, tmp_path: Path) -> None:
    line = ["train", "dreamerv2", "--env", "toy/catch", "--dataset", str(tmp_path / "none"), "--logdir"]
    result = CliRunner().invoke(cli, [*line, str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "none has no chunk files" in result.output


def test_an_episode_that_was_left_in_its_middle_is_one_line(made: Path, tmp_path: Path) -> None:
    chunk = next(open_dataset(made / "replay").chunks())
    rows = {name: value.copy() for name, value in chunk.rows.items()}
    rows["is_first"][1:] = True
    (tmp_path / "cut").mkdir()
    write_chunk(chunk_path(tmp_path / "cut", 0, 0), replace(chunk, stream=0, start=0, rows=rows))
    settings = config("toy/catch", dataset__path=str(tmp_path / "cut"))
    with pytest.raises(UserError, match=r"cut: rows of stream 0 cannot be taken: .* an episode begins with is_first"):
        reverie.train(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("action", 3, r"has action of \d to 3, toy/catch has Discrete\(3\)"),
        ("prev_action", -1, r"has prev_action of -1 to \d, toy/catch has Discrete\(3\)"),
        ("reward", np.inf, "has numbers in reward that are not finite"),
    ],
)
def test_numbers_that_the_environment_does_not_have_are_one_line(
    made: Path, tmp_path: Path, field: str, value: float, words: str
) -> None:
    chunk = next(open_dataset(made / "replay").chunks())
    rows = {name: array.copy() for name, array in chunk.rows.items()}
    rows[field][5] = value
    (tmp_path / "odd").mkdir()
    write_chunk(chunk_path(tmp_path / "odd", 0, 0), replace(chunk, stream=0, start=0, rows=rows))
    with pytest.raises(UserError, match=words):
        reverie.train(config("toy/catch", dataset__path=str(tmp_path / "odd")), tmp_path / "run")


def test_settings_of_who_acts_are_told_to_change_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = offline(made, run__overlap=2, run__publish_every=3)
    assert (settings.run.overlap, settings.run.publish_every) == (0, 0)
    assert "run.publish_every 3, run.overlap 2 would change nothing" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"run.overlap cannot change in the middle of a run: nobody acts"):
        check_change(settings, replace(settings, run=replace(settings.run, overlap=2)))


def test_a_run_that_has_begun_needs_no_dataset_to_say_how_many_streams_it_has(made: Path, tmp_path: Path) -> None:
    settings = offline(made)
    (tmp_path / "run").mkdir()
    save_config(settings, tmp_path / "run")
    shutil.copytree(made / "replay", tmp_path / "rows")
    gone = replace(settings, dataset=DatasetConfig(str(tmp_path / "rows")))
    save_config(gone, tmp_path / "run")
    shutil.rmtree(tmp_path / "rows")
    assert for_dataset(gone, tmp_path / "run") == gone
    with pytest.raises(UserError, match="rows has no chunk files"):
        for_dataset(gone)


def test_running_means_of_rows_from_elsewhere_begin_anew_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run = SimpleNamespace(config=make_config("dqn", "cpu", "CartPole-v1"), _carried={"means": 0})
    rows = SimpleNamespace(folder="minari:test/cartpole-v0")
    assert Offline._carried_beside(run, rows) == {"means": 0}  # type: ignore[arg-type,comparison-overlap]
    assert "minari:test/cartpole-v0 does not say which its rows were made with" in capsys.readouterr().err
