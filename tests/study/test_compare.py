"""`reverie compare`: what it runs and what it leaves alone, what it writes, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from reverie.cli import cli
from reverie.errors import UserError
from reverie.report.comparison import markdown, summary, write_comparison
from reverie.report.record import FILE
from reverie.run.configure import configure
from reverie.run.offline import for_dataset
from reverie.run.saved_config import load_config, save_config
from reverie.study.compare import SET_BY, Comparison, Variant, _evaluated, compare, curve, finished
from reverie.study.jobs import Failed, Jobs
from tests.run.tiny_runs import SMALL

SCORES = {"low": 1.0, "high": 3.0}


class Fakes:
    """Stands in for the subprocesses: what was called, and run directories as the real commands leave them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.fail: set[str] = set()
        self.stop: set[str] = set()
        self.mute: set[str] = set()
        """commands that end well and write nothing, as where the disk is full"""
        monkeypatch.setattr(Jobs, "call", lambda jobs, words, log: self.call(list(words)))

    def call(self, words: list[str]) -> None:
        self.calls.append(words[:2])
        run_dir = Path(words[words.index("--logdir") + 1] if words[0] == "train" else words[1])
        if run_dir.name in self.fail:
            raise Failed(f"{run_dir.name} broke")
        if words[0] == "train":
            seed = words[words.index("--seed") + 1]
            given = words[words.index("--logdir") + 2 :]
            preset = words[words.index("--preset") + 1]
            config = configure(words[1], preset, "toy/catch", given, {"seed": seed, "frames": "100"})
            run_dir.mkdir(parents=True)
            save_config(config, run_dir)
        if words[0] in ("train", "resume"):
            self.write(run_dir, -1 if run_dir.name in self.stop else 100)
        if words[0] in self.mute:
            return
        if words[0] == "eval":
            score = SCORES[run_dir.name.split("-")[0]] + int(run_dir.name.split("-")[1])
            found = {"score": score, "score_std": 0.5, "env_steps": 100, "seed": 0}
            (run_dir / "evaluation.json").write_text(json.dumps(found | {"episodes": int(words[-1])}))
        if words[0] == "report":
            out = Path(words[words.index("--out") + 1])
            out.mkdir(parents=True, exist_ok=True)
            threshold = float(words[words.index("--threshold") + 1]) if "--threshold" in words else 0.25
            found = {"hallucination": {"false_rate": threshold}, "env_steps": 100}
            found |= {"reward": {"mean_error": 0.5, "calibration": {"error": 0.1}}}
            (out / "prediction.json").write_text(json.dumps(found))

    def write(self, run_dir: Path, finished_at: int) -> None:
        folder = run_dir / "checkpoints" / "100"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"tree": {"finished_at": finished_at, "env_steps": 100}}))
        counts = {"env_steps": 100, "frames": 100, "learner_steps": 7, "time/elapsed_s": 120.0}
        (run_dir / FILE).write_text(json.dumps(counts | {"episode/score": 0.5}) + "\n")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


def request(folder: Path, **changes: Any) -> Comparison:
    variants = (Variant("low", "dreamerv2"), Variant("high", "dreamerv2", ("agent.gamma=0.5",)))
    given: dict[str, Any] = {"preset": "cpu", "frames": 100, "jobs": 2, "command": "the command"}
    given |= {"env": "toy/catch", "variants": variants, "seeds": (0, 1, 2)}
    return Comparison(work=folder / "runs", out=folder / "out" / "c", **(given | changes))


def quiet(line: str) -> None: ...


def test_only_what_is_missing_is_run(fakes: Fakes, tmp_path: Path) -> None:
    compare(request(tmp_path, seeds=(0,)), quiet)
    assert sorted(fakes.calls) == [
        ["eval", f"{tmp_path}/runs/high-0"],
        ["eval", f"{tmp_path}/runs/low-0"],
        ["train", "dreamerv2"],
        ["train", "dreamerv2"],
    ]
    fakes.calls.clear()
    compare(request(tmp_path, seeds=(0,)), quiet)
    assert fakes.calls == []
    fakes.write(tmp_path / "runs" / "low-0", finished_at=-1)  # as if it had been killed before its end
    (tmp_path / "runs" / "high-0" / "evaluation.json").write_text('{"score": 1')  # as if it had been killed here
    compare(request(tmp_path, seeds=(0,)), quiet)
    assert sorted(fakes.calls) == [["eval", f"{tmp_path}/runs/high-0"], ["resume", f"{tmp_path}/runs/low-0"]]
    fakes.calls.clear()
    compare(request(tmp_path, seeds=(0,), episodes=7), quiet)  # another evaluation, no other run
    assert [call[0] for call in fakes.calls] == ["eval", "eval"]


def test_a_variant_may_have_a_preset_of_its_own(fakes: Fakes, tmp_path: Path) -> None:
    variants = (Variant("low", "dreamerv2"), Variant("high", "dreamerv2", ("preset=cpu-toy", "agent.gamma=0.5")))
    document = compare(request(tmp_path, seeds=(0,), variants=variants), quiet)
    assert (document["preset"], document["presets"]) == ("cpu", {"low": "cpu", "high": "cpu-toy"})
    made = load_config(tmp_path / "runs" / "high-0")
    assert (made.preset, made.agent.gamma) == ("cpu-toy", 0.5)
    assert "presets" not in compare(request(tmp_path / "other", seeds=(0,)), quiet)


@pytest.mark.parametrize("text", ["", "[]", '{"episodes": 100}', '{"episodes": 100, "seed": 0, "env_steps": 100}'])
def test_an_evaluation_that_lacks_something_is_repeated(fakes: Fakes, tmp_path: Path, text: str) -> None:
    compare(request(tmp_path, seeds=(0,)), quiet)
    fakes.calls.clear()
    (tmp_path / "runs" / "low-0" / "evaluation.json").write_text(text)
    compare(request(tmp_path, seeds=(0,)), quiet)
    assert fakes.calls == [["eval", f"{tmp_path}/runs/low-0"]]


def test_reports_are_made_once_for_each_threshold(fakes: Fakes, tmp_path: Path) -> None:
    def rates(**changes: Any) -> list[float]:
        fakes.calls.clear()
        document = compare(request(tmp_path, seeds=(0,), context=2, **changes), quiet)
        assert document["report"] == {"context": 2, "threshold": changes.get("threshold")}
        return [runs[0]["prediction"]["false_rate"] for runs in document["runs"].values()]

    assert rates() == [0.25, 0.25]
    assert rates(threshold=0.5) == [0.5, 0.5]
    assert [call[0] for call in fakes.calls] == ["report", "report"]
    assert rates() == [0.25, 0.25]
    assert fakes.calls == []
    assert compare(request(tmp_path, seeds=(0,)), quiet)["report"] is None


OLD = '{"hallucination": null, "env_steps": 50, "reward": {"mean_error": 1, "calibration": {"error": 1}}}'
"""of the run when it was shorter"""


@pytest.mark.parametrize("text", ["", '{"hallu', "{}", "[]", '{"hallucination": null, "reward": null}', OLD])
def test_a_report_that_was_cut_is_made_again(fakes: Fakes, tmp_path: Path, text: str) -> None:
    compare(request(tmp_path, seeds=(0,), context=2), quiet)
    fakes.calls.clear()
    (tmp_path / "runs" / "low-0" / "report" / "random-play-2" / "prediction.json").write_text(text)
    document = compare(request(tmp_path, seeds=(0,), context=2), quiet)
    assert fakes.calls == [["report", f"{tmp_path}/runs/low-0"]]
    assert document["runs"]["low"][0]["prediction"]["false_rate"] == 0.25


def test_runs_from_a_dataset_go_on(tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.run.offline.open_dataset", lambda _: SimpleNamespace(streams=[0, 1, 2]))
    asked = request(tmp_path, seeds=(0,), overrides=("dataset.path=rows",))
    compare(asked, quiet)
    for run_dir in (tmp_path / "runs").glob("*-0"):  # as `reverie train` leaves it
        config = load_config(run_dir)
        (run_dir / "config.json").unlink()
        save_config(for_dataset(config), run_dir)
    fakes.calls.clear()
    compare(asked, quiet)
    assert fakes.calls == []


def test_what_is_written(fakes: Fakes, tmp_path: Path) -> None:
    document = compare(request(tmp_path), quiet)
    written = json.loads((tmp_path / "out" / "c.json").read_text())
    assert written == json.loads(json.dumps(document))
    # What earlier documents have too.
    assert written["median_score"] == {"low": 2.0, "high": 4.0}
    assert written["variants"] == {"low": [], "high": ["agent.gamma=0.5"]}
    assert [run["seed"] for run in written["runs"]["low"]] == [0, 1, 2]
    assert written["runs"]["low"][1]["curve"] == {"frames": [99.2], "score": [0.5]}
    assert written["summary"]["high"]["iqm"] == 4.0
    low, high = written["summary"]["high"]["interval"]
    assert 3.0 <= low < 4.0 < high <= 5.0
    with (tmp_path / "out" / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"], row["score"]) for row in rows][2:4] == [
        ("low", "2", "3.0"),
        ("high", "0", "3.0"),
    ]
    lines = (tmp_path / "out" / "c.md").read_text().splitlines()
    assert lines[0] == "| variant | runs | score (IQM) | 95 % interval | seeds | minutes | env_steps/s |"
    assert lines[2].startswith("| `high` | 3 | 4.000 |")
    assert lines[2].endswith("| 3.00, 4.00, 5.00 | 2.0 | 0.8 |")
    assert (tmp_path / "out" / "c.png").stat().st_size > 10_000


def test_another_run_in_the_way_is_refused_before_anything_starts(fakes: Fakes, tmp_path: Path) -> None:
    compare(request(tmp_path, seeds=(2,)), quiet)
    fakes.calls.clear()
    variants = (Variant("low", "dreamerv2"), Variant("high", "dreamerv2", ("agent.gamma=0.5", "agent.lam=0.5")))
    with pytest.raises(UserError, match=r"high-2 holds another run \(agent.lam is 0.95 there, 0.5 here\)"):
        compare(request(tmp_path, variants=variants), quiet)
    with pytest.raises(UserError, match=r"unknown key 'agent\.gama'"):
        compare(request(tmp_path, overrides=("agent.gama=1",)), quiet)
    assert fakes.calls == []


def test_a_failed_run_does_not_stop_the_others(fakes: Fakes, tmp_path: Path) -> None:
    fakes.fail, fakes.stop = {"low-1"}, {"high-0"}
    with pytest.raises(UserError, match=r"2 of 6 runs failed, the first: .*(low-1 broke|high-0 was stopped)"):
        compare(request(tmp_path), quiet)
    assert len([call for call in fakes.calls if call[0] == "eval"]) == 4
    assert not (tmp_path / "out").exists()
    fakes.fail = fakes.stop = set()
    fakes.calls.clear()
    compare(request(tmp_path), quiet)
    assert sorted(call[0] for call in fakes.calls) == ["eval", "eval", "resume", "train"]


@pytest.mark.parametrize("left", [None, '{"score": 9, "score_std": 0, "episodes": 3, "seed": 1, "env_steps": 100}'])
def test_an_evaluation_that_was_not_written_is_none(fakes: Fakes, tmp_path: Path, left: str | None) -> None:
    compare(request(tmp_path, seeds=(0,)), quiet)
    evaluation = tmp_path / "runs" / "low-0" / "evaluation.json"
    whole = evaluation.read_text()
    evaluation.unlink() if left is None else evaluation.write_text(left)
    fakes.mute = {"eval", "report"}
    with pytest.raises(UserError, match=r"was evaluated, but that is not in its evaluation.json"):
        compare(request(tmp_path, seeds=(0,)), quiet)
    evaluation.write_text(whole)
    with pytest.raises(UserError, match=r"the report of .* is not in"):
        compare(request(tmp_path, seeds=(0,), context=2), quiet)


def test_an_evaluation_has_as_many_episodes_of_each_task(fakes: Fakes, tmp_path: Path) -> None:
    compare(request(tmp_path, seeds=(0,)), quiet)
    evaluation = tmp_path / "runs" / "low-0" / "evaluation.json"
    evaluation.write_text(json.dumps(json.loads(evaluation.read_text()) | {"episodes": 200}))
    asked = request(tmp_path, seeds=(0,))
    assert not _evaluated(asked, evaluation.parent)
    assert _evaluated(replace(asked, env="toy/catch,toy/maze"), evaluation.parent)


@pytest.mark.parametrize(
    ("metrics", "message"), [(None, "has no metrics.jsonl"), ("", "is empty"), ("{\n{}\n", "low-0: .*metrics.jsonl")]
)
def test_damaged_metrics_do_not_stop_the_others(
    fakes: Fakes, tmp_path: Path, metrics: str | None, message: str
) -> None:
    compare(request(tmp_path, seeds=(0,)), quiet)
    path = tmp_path / "runs" / "low-0" / FILE
    path.unlink() if metrics is None else path.write_text(metrics)
    said: list[str] = []
    with pytest.raises(UserError, match="1 of 4 runs failed"):
        compare(request(tmp_path, seeds=(0, 1)), said.append)
    (line,) = [line for line in said if line.startswith("failed: ")]
    assert re.search(message, line)
    assert len(said) == 4 + 1  # and what their replays take together


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ()}, "nothing to compare"),
        ({"variants": (Variant("a/b", "dreamerv2"),)}, "variant 'a/b' names a directory"),
        ({"variants": (Variant("a", "dreamerv2"), Variant("a", "r2d2"))}, "two variants are called 'a'"),
        ({"seeds": (1, 1)}, "repeat"),
        ({"overrides": ("run.seed=3",)}, r"run\.seed is the same for the whole comparison; set it by --seeds"),
        ({"overrides": ("--run.frames", "9")}, r"run\.frames .* by --frames"),
        ({"variants": (Variant("a", "dreamerv2", ("run.env_steps=9",)),)}, r"run\.env_steps .* by --frames"),
        ({"overrides": ("run.threads=2",)}, r"run\.threads .* by --threads"),
        ({"overrides": ("--env.id=CartPole-v1",)}, r"env\.id .* by --env"),
        ({"threshold": 0.5}, "add --report"),
        ({"threshold": float("nan"), "context": 2}, "threshold nan must be positive"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        request(tmp_path, **changes)


def test_a_population_is_no_variant(tmp_path: Path) -> None:
    many = Variant("many", "impala", ("population.size=4",))
    with pytest.raises(UserError, match=r"many is a population, .* population\.size=0"):
        compare(request(tmp_path, variants=(many,)), quiet)


def test_finished_means_a_checkpoint_at_the_end(tmp_path: Path) -> None:
    assert not finished(tmp_path)
    (tmp_path / "checkpoints" / "100").mkdir(parents=True)
    (tmp_path / "checkpoints" / "100" / "state.json").write_text("{")
    with pytest.raises(Failed, match="unreadable"):
        finished(tmp_path)


def test_summaries_of_predictions(tmp_path: Path) -> None:
    def run(seed: int, rate: float | None) -> dict[str, Any]:
        numbers = {"false_rate": rate, "reward_error": 0.1 * seed}
        about = {"seed": seed, "score": 1.0, "score_std": 0.0, "minutes": 1.0, "env_steps": 90, "learner_steps": 1}
        about["env_steps_per_s"] = 1.5
        return {**about, "curve": {"frames": [], "score": []}, "prediction": numbers}

    runs = {"a": [run(1, 0.5), run(2, None)], "b": [run(1, 0.25), run(2, 0.75)]}
    found = {name: summary(each) for name, each in runs.items()}
    assert found["a"]["prediction"]["false_rate"] is None
    assert found["b"]["prediction"]["false_rate"]["mean"] == 0.5
    assert found["b"]["interval"] is None
    document = {"env": "e", "preset": "p", "agents": {"a": "x", "b": "x"}, "runs": runs, "summary": found}
    assert markdown(document)[2] == "| `a` | 2 | 1.000 | - | 1.00, 1.00 | 1.0 | 1.5 | - | 0.15 (-) |"
    with write_comparison(document, tmp_path / "c")["csv"].open(newline="") as file:
        assert [row["false_rate"] for row in csv.DictReader(file)] == ["0.5", "", "0.25", "0.75"]


def test_curves_are_means_of_equal_parts() -> None:
    found = curve([(10.0, 1.0), (20.0, 3.0), (100.0, 5.0)], points=2)
    assert found == {"frames": [25.0, 75.0], "score": [2.0, 5.0]}
    assert curve([]) == {"frames": [], "score": []}


def program(body: str) -> Sequence[str]:
    return (sys.executable, "-c", body)


def test_jobs_report_failures_and_keep_to_their_limit(tmp_path: Path) -> None:
    jobs = Jobs(2, program=program("import sys, time; print('said'); time.sleep(0.2); sys.exit(int(sys.argv[1]))"))
    most = 0

    def task(code: int) -> int:
        nonlocal most
        jobs.call([str(code)], tmp_path / f"{code}.log")
        most = max(most, len(jobs.running) + 1)
        return code

    results = list(jobs.each([partial(task, code) for code in (0, 3, 0, 0)]))
    assert [result for result in results if not isinstance(result, Failed)] == [0, 0, 0]
    (failed,) = [result for result in results if isinstance(result, Failed)]
    assert str(failed) == f"`reverie 3` ended with code 3: said (see {tmp_path / '3.log'})"
    assert most <= 2


def test_ending_early_asks_what_runs_to_end_and_begins_nothing_more(tmp_path: Path) -> None:
    body = (
        "import signal, sys, time, pathlib\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "def save(*_): out.with_suffix('.saved').touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save); out.touch(); time.sleep(60)\n"
    )
    jobs = Jobs(1, program=program(body))
    tasks = [partial(jobs.call, [str(tmp_path / name)], tmp_path / "log") for name in ("one", "two")]

    def terminate() -> None:
        while not (tmp_path / "one").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    with pytest.raises(KeyboardInterrupt):
        list(jobs.each(tasks))
    assert (tmp_path / "one.saved").exists()
    assert not (tmp_path / "two").exists()
    assert not jobs.running


def test_a_real_comparison_and_its_continuation(tmp_path: Path) -> None:
    small = [f"{key}={value}" for key, value in SMALL.items() if key not in {"run.eval_episodes", *SET_BY}]
    command = ["compare", "--agents", "dreamerv2", "--env", "toy/catch", "--seeds", "1,", "--frames", "200"]
    command += ["--episodes", "4", "--report", "2", "--threshold", "0.5", "--out", str(tmp_path)]
    command += ["run.eval_episodes=0", *small]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "comparison.json").read_text())
    (run,) = document["runs"]["dreamerv2"]
    assert (run["seed"], run["env_steps"]) == (1, 200)
    assert run["learner_steps"] > 10
    assert run["prediction"]["reward_error"] > 0
    report = tmp_path / "runs" / "dreamerv2-1" / "report" / "random-play-2-threshold-0.5" / "prediction.json"
    assert json.loads(report.read_text())["hallucination"]["threshold"] == 0.5
    assert "| `dreamerv2` | 1 |" in result.output
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
