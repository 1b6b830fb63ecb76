"""Extras take no result down: files that cannot be written, environments that print, numbers that are no JSON."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from kills import server
from tiny_runs import Never, begin, config

from reverie.cli import cli
from reverie.envs.vector import SyncVector
from reverie.report.document import write_document
from reverie.report.record import to_json
from reverie.report.video import rgb, side_by_side, write_image, write_video

EVAL = ["--episodes", "2"]
DREAM = ["--episodes", "1", "--horizon", "3", "--context", "2"]
REPORT = ["--sequences", "4", "--horizon", "3", "--context", "2"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = begin(config("toy/catch", run__env_steps=60), tmp_path_factory.mktemp("extras") / "run")
    run.train(Never())
    return run.run.run_dir


def reverie(*command: str) -> Result:
    return CliRunner().invoke(cli, command)


# Standard output


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step prints."""
    real = SyncVector.step

    def step(self: SyncVector, action: np.ndarray) -> Any:
        print("the environment prints", flush=True)
        return real(self, action)

    monkeypatch.setattr(SyncVector, "step", step)


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("command", [["eval", *EVAL], ["report", *REPORT], ["dream", *DREAM]], ids=lambda c: c[0])
def test_json_is_all_that_is_on_standard_output(run_dir: Path, tmp_path: Path, command: list[str]) -> None:
    out = [] if command[0] == "eval" else ["--out", str(tmp_path / "out")]
    result = reverie(command[0], str(run_dir), *command[1:], *out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["env"] == "toy/catch"
    assert "the environment prints" in result.stderr
    assert "the environment prints" in reverie("eval", str(run_dir), *EVAL).stdout, "without --json it may"


def evaluate_aloud(run_dir: str, stdout: str, stderr: str) -> None:
    """The command in a process of its own, in which a C library prints too."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    real = SyncVector.close

    def close(self: SyncVector) -> None:
        os.write(1, b"from below\n")
        os.system("echo from a child")
        real(self)

    SyncVector.close = close  # type: ignore[method-assign]
    cli.main(["eval", run_dir, *EVAL, "--json"])


def test_what_libraries_and_children_print_is_not_in_the_json_either(run_dir: Path, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    process = server().Process(target=evaluate_aloud, args=(str(run_dir), str(out), str(err)), daemon=True)
    process.start()
    process.join(120)
    assert process.exitcode == 0, err.read_text()
    assert len(json.loads(out.read_text())["scores"]) == 2
    assert "from below\n" in err.read_text()
    assert "from a child\n" in err.read_text()


# Files that cannot be written


def refuse(number: int, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def write_text(self: Path, *args: Any, **kwargs: Any) -> int:
        if self.name.endswith(suffix):
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_text)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_scores_are_told_where_they_cannot_be_kept(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int, as_json: list[str]
) -> None:
    assert reverie("eval", str(run_dir), *EVAL).exit_code == 0
    before = (run_dir / "evaluation.json").read_bytes()
    refuse(number, "evaluation.json.partial", monkeypatch)
    result = reverie("eval", str(run_dir), *EVAL, "--seed", "5", *as_json)
    assert result.exit_code == 0, result.output
    assert "score" in result.stdout
    assert f"evaluation.json was not written: {os.strerror(number)}; name another folder with --out" in result.stderr
    assert result.stderr.count("\n") == 1
    assert (run_dir / "evaluation.json").read_bytes() == before
    assert not list(run_dir.glob("*.partial"))


def test_a_report_is_told_where_it_cannot_be_kept(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = reverie("report", str(run_dir), *REPORT, "--out", str(tmp_path / "file"))
    assert result.exit_code == 0, result.output
    assert "the report was not written: File exists" in result.stderr
    assert "reward.mean_error" in result.stdout
    assert (tmp_path / "file").read_text() == "mine"


def test_dreams_that_cannot_be_kept_are_not_dreamed(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("reverie.play.dream.held_out", lambda *_: pytest.fail("the work was done first"))
    result = reverie("dream", str(run_dir), *DREAM, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert f"cannot write in {tmp_path / 'file'} (File exists); name another place with --out" in result.stderr


# JSON


def strict(text: str) -> Any:
    """JSON as other languages read it."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_has_numbers_that_are_not_finite_as_text(tmp_path: Path) -> None:
    document = {
        "nan": math.nan,
        "list": [1.5, -math.inf, (math.inf, 2)],
        "numpy": {"a": np.float64("nan"), "b": np.float32(0.5), "c": np.int64(3)},
        "path": Path("x/y"),
        "none": None,
        3: True,
    }
    assert strict(to_json(document)) == {
        "nan": "nan",
        "list": [1.5, "-inf", ["inf", 2]],
        "numpy": {"a": "nan", "b": 0.5, "c": 3},
        "path": "x/y",
        "none": None,
        "3": True,
    }
    files = write_document({"score": math.nan}, tmp_path / "doc", ["table"], lambda document, path: path.touch())
    assert strict(files["json"].read_text()) == {"score": "nan"}


def test_a_score_that_is_no_number_is_json_too(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SyncVector.step

    def step(self: SyncVector, action: np.ndarray) -> Any:
        result = real(self, action)
        if result.ends is not None:
            result.ends["reward"] = result.ends["reward"] + np.float32(np.nan)
        return result

    monkeypatch.setattr(SyncVector, "step", step)
    result = reverie("eval", str(run_dir), *EVAL, "--json")
    assert result.exit_code == 2
    assert "the reward is nan" in result.stderr
    assert result.stdout == ""
    monkeypatch.setattr("reverie.play.evaluate.load_config", lambda _: config("toy/catch", run__nonfinite="warn"))
    result = reverie("eval", str(run_dir), *EVAL, "--json")
    assert strict(result.stdout)["scores"] == ["nan", "nan"]
    assert strict((run_dir / "evaluation.json").read_text())["score"] == "nan"


# Pictures of other than one or three planes


@pytest.mark.parametrize("planes", [2, 4, 6, 16])
def test_planes_stand_side_by_side(tmp_path: Path, planes: int) -> None:
    frames = np.zeros((5, 8, 6, planes), np.uint8) + np.arange(planes, dtype=np.uint8) * 10
    shown = rgb(frames)
    assert shown.shape == (5, 8, 6 * planes, 3)
    for plane in range(planes):
        assert (shown[:, :, plane * 6 : plane * 6 + 6] == plane * 10).all()
    assert write_video(tmp_path / "a.mp4", frames).stat().st_size > 0
    assert write_video(tmp_path / "a.gif", frames).stat().st_size > 0
    assert write_image(tmp_path / "a.png", frames[0]).stat().st_size > 0
    assert side_by_side(frames, frames).shape[0] == 5
