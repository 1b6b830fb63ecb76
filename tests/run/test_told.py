"""What an environment says of its episodes, in the log of a run: of each, and averaged over an evaluation's."""

from __future__ import annotations

from pathlib import Path

from tiny_runs import Never, begin, config

from reverie.report.log import read_metrics


def test_success_is_logged_in_training_and_in_evaluations(tmp_path: Path) -> None:
    changes = {"env__options__pixels": True, "env__options__length": 2, "run__env_steps": 48, "run__eval_every": 0}
    run = begin(config("toy/tmaze", **changes, run__eval_episodes=3), tmp_path / "run")
    run.train(Never())
    lines = read_metrics(run.run.run_dir)
    assert {line["episode/success"] for line in lines if "episode/score" in line} <= {0.0, 1.0}
    evaluations = [line for line in lines if "eval/score" in line]
    assert evaluations
    for line in evaluations:
        # 1 and -1 are paid, and nothing else
        assert abs(line["eval/success"] - (line["eval/score"] + 1) / 2) < 1e-9
