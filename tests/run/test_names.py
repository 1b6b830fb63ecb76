"""What an environment calls its own measures and observations never ends a run, and never takes the place of ours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny_runs import Never, begin, config, files

import reverie
from reverie.errors import UserError
from reverie.play.evaluate import evaluate
from reverie.report.log import read_metrics
from reverie.run import train
from reverie.run.saved_config import load_chain


class Talks(gymnasium.Env):
    """Episodes of five env_steps, of which it tells in names of its own."""

    observation_space = spaces.Dict({"joint angles %": spaces.Box(-1, 1, (2,), np.float32)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return {"joint angles %": np.zeros(2, np.float32)}, {}

    def step(self, action: int) -> Any:
        self.time += 1
        over = self.time == 5
        info = {"episode_info": {"score": 123.0, "length": 99.0, "success rate": 1.0}} if over else {}
        return {"joint angles %": np.full(2, self.time / 5, np.float32)}, 1.0, over, False, info


TALKS = f"{__name__}:Talks"


def test_names_of_an_environment_are_logged_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config("toy/catch", env__id=TALKS)
    begin(settings, tmp_path / "run").train(Never())
    lines = read_metrics(tmp_path / "run")
    episodes = [line for line in lines if "episode/score" in line]
    assert {(line["episode/score"], line["episode/length"]) for line in episodes} == {(5.0, 5)}
    assert {(line["episode/env_score"], line["episode/env_length"]) for line in episodes} == {(123.0, 99.0)}
    assert all(line["episode/success_rate"] == 1.0 for line in episodes)
    assert [line["eval/success_rate"] for line in lines if "eval/score" in line] == [1.0] * 3
    assert any("train/joint_angles___loss" in line for line in lines)
    assert capsys.readouterr().err.count("it is logged as episode/env_score") == 1


def test_a_directory_that_another_process_has_taken_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("toy/catch", run__env_steps=60, run__eval_episodes=0)
    real, taken = train.runner, dict[str, bytes]()

    def slowly(*given: Any) -> Any:
        monkeypatch.setattr(train, "runner", real)
        reverie.train(replace(settings, run=replace(settings.run, seed=5)), tmp_path / "run")
        taken.update(files(tmp_path / "run"))
        return real(*given)

    monkeypatch.setattr(train, "runner", slowly)
    with pytest.raises(UserError, match="already holds a run"):
        reverie.train(settings, tmp_path / "run")
    assert files(tmp_path / "run") == taken


class Broken(reverie.Writer):
    """Cannot begin."""

    def begin(self, opening: Any) -> None:
        raise UserError("no connection to the tracking server")

    def write(self, record: Any) -> None:
        """Nothing."""


def test_a_run_that_cannot_begin_again_is_as_it_was(tmp_path: Path) -> None:
    settings = config("toy/catch", run__env_steps=60, run__eval_episodes=0)
    reverie.train(settings, tmp_path / "run")
    before = files(tmp_path / "run")
    assert any(name.endswith(".chunk") for name in before)
    with pytest.raises(UserError, match="no connection"):
        reverie.resume(tmp_path / "run", {"run.env_steps": 80}, writers=[Broken()])
    after = files(tmp_path / "run")
    assert json.loads(after["config.json"]) == json.loads(before["config.json"])
    same = {name for name in before if not name.endswith((".lock", "status.json", "config.json"))}
    assert {name for name in same if after.get(name) != before[name]} == set()
    assert load_chain(tmp_path / "run").config.run.env_steps == 60
    assert reverie.resume(tmp_path / "run")["finished"]


def test_a_score_that_is_not_finite_is_no_obstacle_to_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("toy/catch", run__env_steps=60, run__eval_episodes=0)
    begin(settings, tmp_path / "run").train(Never())
    evaluate(tmp_path / "run", episodes=3)
    path = tmp_path / "run" / "evaluation.json"
    path.write_text(re.sub(r'"score": [^,]*,', '"score": null,', path.read_text(), count=1))
    evaluate(tmp_path / "run", episodes=2)
    assert "held 3 episodes of these networks, with a mean of None" in capsys.readouterr().err


class Undrawn(Talks):
    """Draws itself three times, then not any more; its pace is no number."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": "fast"}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.drawn = render_mode, 0

    def render(self) -> Any:
        self.drawn += 1
        if self.drawn > 3:
            raise ZeroDivisionError("no ink")
        return np.zeros((16, 16, 3), np.uint8)


def test_an_environment_that_cannot_draw_itself_takes_no_score_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("toy/catch", env__id=f"{__name__}:Undrawn", run__env_steps=60, run__eval_episodes=0)
    begin(settings, tmp_path / "run").train(Never())
    result = evaluate(tmp_path / "run", episodes=3, video=True)
    assert result["scores"] == [5.0] * 3
    assert "could not draw itself: ZeroDivisionError: no ink; the evaluation goes on" in capsys.readouterr().err
