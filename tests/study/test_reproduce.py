"""`reverie reproduce`: claims, their numbers, their verdicts; and that ours are true of what is committed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reverie.cli import cli
from reverie.study.reproduce import Check, claims, reproduce

OURS = Path(__file__).parents[2] / "results" / "claims"
SCORE = {"value": "median_score.dreamer-1.5", "interval": [0.5, None]}


def write(folder: Path, name: str = "small", score: float = 0.75, **changes: Any) -> Path:
    """A claim whose command writes `score`, and whose committed score is 1."""
    (folder / "claims").mkdir(exist_ok=True)
    (folder / "kept.json").write_text(json.dumps({"median_score": {"dreamer-1.5": 1.0}}))
    text = json.dumps({"median_score": {"dreamer-1.5": score}})
    program = f"import sys, pathlib; pathlib.Path(sys.argv[1], 'numbers.json').write_text({text!r})"
    said: dict[str, Any] = {
        "claim": "it learns",
        "commands": [f"python {folder / 'program.py'} {{out}}"],
        "result": "numbers.json",
        "committed": "kept.json",
        "checks": [SCORE],
        "minutes": 3,
    }
    (folder / "program.py").write_text(program)
    (folder / "claims" / f"{name}.json").write_text(json.dumps(said | changes))
    return folder / "claims"


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(
        cli, ["reproduce", *words, "--claims", str(folder / "claims"), "--out", str(folder / "o")]
    )


def refused(folder: Path, *words: str) -> str:
    result = run(folder, *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_what_runs_is_waited_for_when_it_is_interrupted(tmp_path: Path) -> None:
    """It has the time that training needs to save."""
    claims_of = write(tmp_path)
    (tmp_path / "program.py").write_text(
        "import pathlib, signal, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
        "signal.sigwait({signal.SIGTERM})\n"
        "time.sleep(1)\n"
        f"pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
    )
    words = [sys.executable, "-m", "reverie.cli", "reproduce", "small", "--claims", str(claims_of)]
    process = subprocess.Popen([*words, "--out", str(tmp_path / "o")])
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()  # as Ctrl-C, which a process in the background does not hear
    assert process.wait(60) == 130
    assert (tmp_path / "saved").exists()


def test_a_claim_that_holds(tmp_path: Path) -> None:
    write(tmp_path)
    result = run(tmp_path, "small")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "claim  it learns"
    assert "pass  median_score.dreamer-1.5 in [0.5, inf]: 1 (committed)" in lines
    assert "pass  median_score.dreamer-1.5 in [0.5, inf]: 0.75 (now)" in lines
    found = f"found  runs in {tmp_path / 'o'}: those that are complete are used again; remove it to run anew"
    assert found not in lines
    assert found in run(tmp_path, "small").stdout.splitlines()
    assert lines[-1] == "passed"


def test_a_claim_that_does_not(tmp_path: Path) -> None:
    write(tmp_path, score=0.25)
    result = run(tmp_path, "small")
    assert result.exit_code == 1
    assert "FAIL  median_score.dreamer-1.5 in [0.5, inf]: 0.25 (now)" in result.stdout
    assert result.stdout.splitlines()[-1] == "failed"
    assert run(tmp_path, "small", "--committed").exit_code == 0


def test_miniatures_have_checks_of_their_own(tmp_path: Path) -> None:
    write(tmp_path)
    assert "small has no miniature" in refused(tmp_path, "small", "--miniature")
    assert "give it or --miniature" in refused(tmp_path, "small", "--miniature", "--committed")
    said = json.loads((tmp_path / "claims" / "small.json").read_text())
    small = {key: said[key] for key in ("commands", "result")}
    checks = [{"value": "median_score.dreamer-1.5", "interval": [0.8, 0.9]}]
    write(tmp_path, miniature=small | {"checks": checks, "minutes": 1})
    result = run(tmp_path, "small", "--miniature")
    assert result.exit_code == 1
    assert "FAIL  median_score.dreamer-1.5 in [0.8, 0.9]: 0.75 (miniature)" in result.stdout
    listing = CliRunner().invoke(cli, ["reproduce", "--list", "--claims", str(tmp_path / "claims")])
    assert listing.stdout == "small  it learns (3 min, miniature 1 min)\n"


def test_lists_and_differences() -> None:
    document = {"dream": [1.0, 2.0], "still": [2.0, 1.5], "runs": {"a": [{"score": 4}]}}
    where = Path("x.json")
    check = Check("dream", "still", None, 0.0)
    assert check.measure(document, where) == [-1.0, 0.5]
    assert not check.holds([-1.0, 0.5])
    assert check.holds([-1.0, 0.0])
    assert not check.holds([float("nan")])
    assert Check("runs.a.0.score", None, 4.0, 4.0).measure(document, where) == [4.0]
    assert check.describe() == "dream - still in [-inf, 0.0]"


def test_slips_are_one_line(tmp_path: Path) -> None:
    assert "holds no claims" in refused(tmp_path, "small")
    write(tmp_path)
    assert "unknown claim 'smal'; did you mean small?" in refused(tmp_path, "smal")
    write(tmp_path, "other", checks=[{"value": "median_score.x", "interval": [0, 1]}])
    assert "kept.json has no number, nor a list of numbers, at 'median_score.x'" in refused(tmp_path, "other")
    write(tmp_path, "other", commands=["rm -r {out}"])
    assert "other.json is not a claim (ValueError: commands begin with reverie or python" in refused(tmp_path, "small")
    write(tmp_path, "other", commands=["python 'x {out}"])
    assert "other.json is not a claim (ValueError: No closing quotation)" in refused(tmp_path, "small")
    write(tmp_path, "other", commands=["python -c 'raise SystemExit(3)'"])
    assert "ended with code 3" in refused(tmp_path, "other")
    write(tmp_path, "other", committed="gone.json")
    assert "gone.json cannot be read" in refused(tmp_path, "other", "--committed")
    (tmp_path / "o").rmdir()
    (tmp_path / "o").touch()
    result = run(tmp_path, "small")
    assert (result.exit_code, result.stderr) == (2, f"reverie: error: File exists: {tmp_path / 'o'}\n")


@pytest.mark.parametrize("name", sorted(path.stem for path in OURS.glob("*.json")))
def test_our_claims_hold_of_what_is_committed(name: str, tmp_path: Path) -> None:
    lines: list[str] = []
    assert reproduce(claims(OURS)[name], tmp_path, committed=True, say=lines.append), "\n".join(lines)


def test_there_are_claims() -> None:
    assert {"catch-dreamerv2", "catch-dreams"} <= set(claims(OURS))
