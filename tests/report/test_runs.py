"""Which run directories are found, and which belong to one curve under which label."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from reverie.errors import UserError
from reverie.report.runs import Key, find_runs, grouped, read_runs, telling_settings
from tests.report.run_dirs import make_run

ALL: tuple[Key, ...] = ("agent", "env", "config")


def labels(folder: Path, keys: Sequence[Key] = ALL, x: str = "frames") -> dict[str, list[str]]:
    runs, notes = read_runs(find_runs([folder]), "episode/score", x)  # type: ignore[arg-type]
    assert notes == []
    return {label: [run.path.name for run in members] for label, members in grouped(runs, keys).items()}


def test_runs_are_found_in_folders_once(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "deep" / "er" / "a"), make_run(tmp_path / "b")
    make_run(a / "replay" / "not-a-run-of-its-own")
    (tmp_path / "empty").mkdir()
    os.symlink(a, tmp_path / "again")
    assert find_runs([tmp_path]) == [(b, False), (a, False)]
    assert find_runs([a, tmp_path, tmp_path / "again"]) == [(a, True), (b, False)]


def test_paths_without_runs_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to plot; name run directories"):
        find_runs([])
    with pytest.raises(UserError, match="nowhere is not a directory"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"has no run \(a directory with config.json\) in it"):
        find_runs([make_run(tmp_path / "a"), tmp_path / "a" / "..", tmp_path / "a", _empty(tmp_path)])
    (tmp_path / "a" / "config.json").unlink()
    with pytest.raises(UserError, match=r"a has a metrics.jsonl but no config.json"):
        find_runs([tmp_path / "a"])


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_a_run_without_the_metric_is_left_out_of_a_folder_and_an_error_by_itself(tmp_path: Path) -> None:
    has, has_not = make_run(tmp_path / "a"), make_run(tmp_path / "b", metric="train/loss")
    (make_run(tmp_path / "c") / "metrics.jsonl").unlink()  # it has only just begun
    runs, notes = read_runs(find_runs([tmp_path]), "episode/score", "frames")
    assert [run.path for run in runs] == [has]
    assert len(notes) == 2
    assert notes[0].startswith(f"left out: {has_not} has no 'episode/score' yet; it has: time/elapsed_s, train/loss")
    with pytest.raises(UserError, match="b has no 'episode/score'"):
        read_runs(find_runs([has, has_not]), "episode/score", "frames")
    with pytest.raises(UserError, match=r"none of 3 runs has 'eval/score'; the first: .*a has no 'eval/score' yet"):
        read_runs(find_runs([tmp_path]), "eval/score", "frames")


@pytest.mark.parametrize("damaged", ["", "{}", '{"config": {}}', '{"config": {"name": "r2d2", "env": 3}}'])
def test_a_damaged_configuration_is_named(tmp_path: Path, damaged: str) -> None:
    (make_run(tmp_path / "a") / "config.json").write_text(damaged)
    with pytest.raises(UserError, match=r"a/config.json is damaged"):
        read_runs(find_runs([tmp_path]), "episode/score", "frames")


def test_seeds_lengths_and_logging_make_no_other_curve(tmp_path: Path) -> None:
    make_run(tmp_path / "0", seed=0)
    make_run(tmp_path / "1", seed=1, run={"frames": 5, "log_every": 7, "eval_every": 1})
    make_run(tmp_path / "2", seed=2, run={"threads": 2})
    make_run(tmp_path / "3", seed=3, run={"keep_best": False, "eval_limit": 7})
    make_run(tmp_path / "4", seed=4, log={"writers": [], "callbacks": ["dreams"], "options": {"dreams": {"every": 9}}})
    assert labels(tmp_path) == {"r2d2": ["0", "1", "2", "3", "4"]}
    # How fast it learns by the clock does depend on the machine.
    assert labels(tmp_path, x="minutes") == {"r2d2, threads 1": ["0", "1", "3", "4"], "r2d2, threads 2": ["2"]}


def test_keys_decide_what_a_curve_is(tmp_path: Path) -> None:
    make_run(tmp_path / "0", lr=0.1)
    make_run(tmp_path / "1", lr=0.2)
    make_run(tmp_path / "2", lr=0.1, env="toy/tmaze")
    make_run(tmp_path / "3", lr=0.1, agent="dqn")
    assert labels(tmp_path) == {
        "r2d2, toy/catch, lr 0.1": ["0"],
        "r2d2, toy/catch, lr 0.2": ["1"],
        "r2d2, toy/tmaze": ["2"],
        "dqn, toy/catch": ["3"],
    }
    assert labels(tmp_path, ["agent"]) == {"r2d2": ["0", "1", "2"], "dqn": ["3"]}
    assert labels(tmp_path, ["env"]) == {"toy/catch": ["0", "1", "3"], "toy/tmaze": ["2"]}
    assert labels(tmp_path, ["env", "agent"]).keys() == {"r2d2, toy/catch", "r2d2, toy/tmaze", "dqn, toy/catch"}
    assert labels(tmp_path, ["config"]) == {"lr 0.1": ["0", "2", "3"], "lr 0.2": ["1"]}


def test_what_reads_the_same_is_the_same(tmp_path: Path) -> None:
    make_run(tmp_path / "0", lr=1, act="none")
    make_run(tmp_path / "1", lr="1", act="none", seed=1)
    assert labels(tmp_path) == {"r2d2": ["0", "1"]}


def test_one_environment_is_not_in_the_labels_but_by_itself(tmp_path: Path) -> None:
    make_run(tmp_path / "0")
    assert labels(tmp_path) == {"r2d2": ["0"]}
    assert labels(tmp_path, ["env"]) == {"toy/catch": ["0"]}
    assert labels(tmp_path, ["config"]) == {"all runs": ["0"]}


def test_telling_settings_are_few_and_tell_all_apart() -> None:
    base = {"agent.lr": 0.1, "agent.core.size": 8, "agent.head.size": 8, "preset": "cpu", "agent.double": False}
    assert telling_settings([base]) == {}
    large = base | {"agent.core.size": 16, "agent.head.size": 16, "preset": "atari"}
    # All three settings tell these two apart; the first is named, by as much of its key as no other ends with.
    assert telling_settings([base, large]) == {"agent.core.size": "core.size"}
    other = base | {"agent.double": True, "agent.lr": 0.3}
    assert telling_settings([base, large, other]) == {"agent.lr": "lr", "agent.core.size": "core.size"}
    # A setting that an older version did not have; 1 and true are not the same.
    assert telling_settings([base, base | {"agent.new": None}]) == {"agent.new": "new"}
    assert telling_settings([base | {"agent.double": 1}, base | {"agent.double": True}]) == {"agent.double": "double"}


def test_the_same_configuration_twice_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="one of them twice"):
        telling_settings([{"lr": 0.1, "act": "elu"}, {"lr": 0.2, "act": "elu"}, {"lr": 0.1, "act": "elu"}])


def test_labels_of_many_configurations_are_all_different(tmp_path: Path) -> None:
    for number in range(12):
        make_run(tmp_path / f"{number:02}", a=number % 2, b=number % 3, c=number // 6, d=str(number))
    found = labels(tmp_path)
    assert len(found) == 12
    assert next(iter(found)) == "r2d2, d 0"


def test_a_reader_of_earlier_versions(tmp_path: Path) -> None:
    """Only agent, environment and seed must be there: a run that could not be resumed can still be drawn."""
    path = make_run(tmp_path / "0")
    old = {"config": {"name": "forgotten", "env": {"id": "gone/env"}, "run": {"seed": 3}}}
    (path / "config.json").write_text(json.dumps(old))
    (run,), _ = read_runs(find_runs([path]), "episode/score", "frames")
    assert (run.agent, run.env, run.seed, dict(run.settings)) == ("forgotten", "gone/env", 3, {})
