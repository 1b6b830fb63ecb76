"""What is kept of a run's own records: every evaluation, the length of the run, and its curve."""

import json
from pathlib import Path

import pytest

from benchmarks import recorded
from reverie.presets import make_config
from reverie.run.saved_config import save_config

LINES = [
    {"env_steps": 10, "frames": 40, "learner_steps": 0, "time/elapsed_s": 1.0, "episode/score": -2.0},
    {"env_steps": 20, "frames": 80, "learner_steps": 0, "time/elapsed_s": 2.0}
    | {"speed/env_steps_per_s": 900.0, "speed/learner_steps_per_s": 0.0},
    {"env_steps": 30, "frames": 120, "learner_steps": 4, "time/elapsed_s": 3.0, "train/model_loss": 1.0}
    | {"speed/env_steps_per_s": 10.0, "speed/learner_steps_per_s": 1.5},
    {"env_steps": 40, "frames": 160, "learner_steps": 6, "time/elapsed_s": 60.0, "episode/score": 4.0},
    {"env_steps": 40, "frames": 160, "learner_steps": 6, "time/elapsed_s": 90.0, "eval/score": 5.5}
    | {"eval/score_min": 3.0, "eval/score_median": 6.0, "eval/episodes": 4},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    save_config(make_config("r2d2", "gpu", "ALE/Pong-v5"), folder)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def test_a_run_is_summed_up(run: Path) -> None:
    found = recorded.recorded(run)
    assert (found["agent"], found["preset"], found["env"], found["seed"]) == ("r2d2", "gpu", "ALE/Pong-v5", 0)
    assert (found["env_steps"], found["frames"], found["learner_steps"], found["minutes"]) == (40, 160, 6, 1.5)
    # Before there are updates the speed is that of random play.
    assert found["env_steps_per_s"] == {"median": 10.0, "highest": 10.0, "lowest": 10.0}
    assert found["evaluations"] == [
        {"env_steps": 40, "minutes": 1.5, "score": 5.5, "score_min": 3.0, "score_median": 6.0, "episodes": 4}
    ]
    assert found["curve"]["score"] == [-2.0, 4.0]


def test_the_command_writes_three_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "kept" / "run"
    words = ["recorded", str(run), "--device", "a thing", "--command", "reverie train r2d2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    recorded.main()
    document = json.loads(out.with_suffix(".json").read_text())
    assert document["title"] == "r2d2 (preset gpu) on ALE/Pong-v5, a thing"
    assert document["command"] == "reverie train r2d2"
    assert document["runs"]["one"] == recorded.recorded(run)
    assert out.with_suffix(".md").read_text().splitlines()[-1] == "| one | 40 | 1.5 | 5.50 | 3 | 6 | 4 |"
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
