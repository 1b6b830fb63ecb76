"""The four-way experiment: what its runs have in common, how they are summed up, and a miniature from end to end."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import r2d2_state_strategies as experiment


def record(env_steps: int, **metrics: float) -> dict[str, float]:
    return {"env_steps": env_steps, "learner_steps": env_steps // 8, "time/elapsed_s": env_steps / 10} | metrics


def test_mazes_hide_their_cues_where_they_say() -> None:
    window = experiment.BURN_IN + experiment.LEARN
    # A window of n rows reaches n - 1 rows back from its last.
    assert experiment.TASKS["far"]["length"] > window
    for row in range(experiment.BURN_IN, window):  # wherever among the trained rows the junction is
        assert 0 <= row - experiment.TASKS["near"]["length"] < experiment.BURN_IN


def test_strategies_differ_in_start_state_and_burn_in_alone() -> None:
    configs = [experiment.configure("far", name, 3, 2500) for name in experiment.STRATEGIES]
    found = {(config.replay.window.state, config.replay.window.context) for config in configs}
    assert found == {("zero", 0), ("zero", 4), ("stored", 0), ("stored", 4)}
    blank = {"replay.window.state": "zero", "replay.window.context": 0}
    assert len({repr(experiment.overrides.apply(config, blank)) for config in configs}) == 1
    # 2000 env_steps after the prefill, 32 trained_rows each, in batches of 64 windows of 4 rows: 250 updates.
    assert configs[0].agent.opt.lr_over == 250
    assert not configs[0].agent.feed


def test_measure_takes_the_last_evaluation_and_the_median_of_the_second_half() -> None:
    drifts = [(9.0, 8.0), (7.0, 6.0), (0.5, 0.25), (0.1, 0.75)]
    records = [
        record(100 * k, **{"train/drift_first": first, "train/drift_last": last})
        for k, (first, last) in enumerate(drifts, start=1)
    ]
    records += [record(200, **{"eval/score": -1.0}), record(400, **{"eval/score": 0.5})]
    found = experiment.measure(records, seed=7)
    assert found["seed"] == 7
    assert found["success"] == 0.75
    assert found["drift_first"] == pytest.approx(0.3)
    assert found["drift_last"] == pytest.approx(0.5)
    assert (found["env_steps"], found["learner_steps"], found["minutes"]) == (400, 50, 0.67)
    assert found["curves"]["success"] == {"env_steps": [200, 400], "value": [0.0, 0.75]}
    assert found["curves"]["drift_last"]["value"] == [8.0, 6.0, 0.25, 0.75]


def test_summary_and_ordering() -> None:
    def runs(success: list[float], first: float, last: float) -> list[dict[str, Any]]:
        return [{"success": value, "drift_first": first, "drift_last": last} for value in success]

    found = {
        "zero": experiment.summarise(runs([0.4, 0.5, 0.9, 0.5, 0.3], 5.0, 3.0)),
        "stored": experiment.summarise(runs([1.0, 1.0, 0.0, 1.0, 1.0], 0.0, 4.0)),
    }
    # Interquartile mean of 5: the middle three.
    assert found["zero"]["success"]["iqm"] == pytest.approx((0.4 + 0.5 + 0.5) / 3)
    assert found["zero"]["success"]["mean"] == pytest.approx(0.52)
    assert (found["stored"]["success"]["min"], found["stored"]["success"]["max"]) == (0.0, 1.0)
    low, high = found["stored"]["success"]["interval"]
    assert low < found["stored"]["success"]["iqm"] == high == 1.0
    assert experiment.ordering(found, "success") == ["zero", "stored"]
    assert experiment.ordering(found, "drift_first") == ["zero", "stored"]
    assert experiment.ordering(found, "drift_last") == ["stored", "zero"]
    assert experiment._chain(["stored", "zero"], found, "drift_last", " > ") == "stored > zero"
    assert experiment._chain(["zero", "zero"], found, "success", " < ") == "zero = zero"


def test_miniature_writes_what_it_says_and_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--tasks", "near", "--strategies", "zero", "stored", "--seeds", "0", "--env-steps", "720"]
    monkeypatch.setattr(sys, "argv", ["it", *words, "--work", str(tmp_path / "runs"), "--out", str(tmp_path / "four")])
    experiment.main()
    document = json.loads((tmp_path / "four.json").read_text())
    (run,) = document["runs"]["near"]["stored"]
    assert run["env_steps"] == 720
    assert run["drift_first"] < 1e-6 < document["runs"]["near"]["zero"][0]["drift_first"]
    assert len(run["curves"]["drift_last"]["value"]) == len(run["curves"]["drift_first"]["value"]) > 3
    assert "| stored |" in (tmp_path / "four.md").read_text()
    assert (tmp_path / "four.png").stat().st_size > 10_000
    monkeypatch.setattr(experiment, "train", None)
    experiment.main()
    assert json.loads((tmp_path / "four.json").read_text())["runs"] == document["runs"]
