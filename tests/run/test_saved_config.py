"""``config.json`` is read without its preset, says what it lacks, and is refused where it is of another format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_runs import files

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.errors import UserError
from reverie.presets import make_config, presets
from reverie.report.record import read_metrics
from reverie.run.saved_config import load_config, save_config

OLD = Path(__file__).parent.parent / "fixtures" / "format-2"
"""A run of DQN on CartPole from before ``config.json`` had a format."""


def document(run_dir: Path) -> Any:
    return json.loads((run_dir / "config.json").read_text())


def saved(folder: Path, agent: str = "r2d2", preset: str = "cpu-toy") -> Path:
    save_config(make_config(agent, preset), folder)
    return folder


@pytest.mark.parametrize(("agent", "preset"), [(agent, name) for agent, names in presets().items() for name in names])
def test_every_preset_comes_back_without_being_asked(
    agent: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(agent, preset)
    save_config(config, tmp_path)
    whole = document(tmp_path)
    assert whole["format"] == 3
    whole["config"]["preset"] = "one that is gone"
    (tmp_path / "config.json").write_text(json.dumps(whole))
    monkeypatch.setattr(f"reverie.presets.{agent.replace('-', '_')}.PRESETS", {})
    assert overrides.to_dict(load_config(tmp_path)) == whole["config"]
    assert capsys.readouterr() == ("", "")


def test_missing_keys_are_said_in_one_line_with_the_values_they_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = document(saved(tmp_path))
    config = whole["config"]
    del config["run"]["capture"], config["agent"]["eta"], config["replay"]["selector"]["floor"]
    del config["agent"]["opt"]["lr_over"]
    (tmp_path / "config.json").write_text(json.dumps(whole))
    assert load_config(tmp_path) == make_config("r2d2", "cpu-toy")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"reverie: {tmp_path}/config.json lacks 4 keys, which take their defaults: agent.opt.lr_over = 0, "
        "agent.eta = 0.9, replay.selector.floor = 1e-06, run.capture = False\n"
    )


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    whole = document(saved(tmp_path))
    whole["config"]["replay"]["learn"] = 20
    (tmp_path / "config.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match=r"unknown key 'replay\.learn'; did you mean replay\.window\.learn"):
        load_config(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    whole = document(saved(tmp_path)) | {"format": 4}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match="has format 4, not 3: train anew in another directory"):
        load_config(tmp_path)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


@pytest.mark.parametrize(
    "command",
    ["train dqn --env CartPole-v1 --logdir {run}", "resume {run}", "eval {run}", "dream {run}", "report {run}"],
)
def test_an_old_run_is_refused_in_one_line_and_left_as_it_is(old: Path, command: str) -> None:
    before = files(old)
    assert sum(map(len, before.values())) < 100_000
    result = CliRunner().invoke(cli, command.format(run=old).split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"reverie: error: {old}/config.json has no format, as runs before format 3: train anew in another directory, "
        "or use the commit that wrote it (version 0.1.0); `reverie plot` still draws its metrics\n"
    )
    assert files(old) == before


def test_an_old_run_is_not_loaded(old: Path) -> None:
    before = files(old)
    with pytest.raises(UserError, match="has no format, as runs before format 3"):
        reverie.load(old)
    assert files(old) == before


def test_an_old_run_is_drawn(old: Path, tmp_path: Path) -> None:
    before = files(old)
    assert len(read_metrics(old)) > 10
    words = ["plot", str(old), "--metric", "episode/score", "--normalise", "off", "--out", str(tmp_path / "curve.png")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert files(old) == before
