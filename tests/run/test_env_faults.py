"""Runs whose environment raises: what was made is saved, one block says what happened, and the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_runs import assert_same_run

from reverie.cli import cli
from reverie.data.dataset import open_dataset
from reverie.report.log import read_metrics
from tests.envs import odd_envs
from tests.envs.odd_envs import Failing, Once

HERE = "tests.envs.odd_envs"
SMALL = {
    **{"run.env_steps": 120, "run.prefill": 20, "run.train_ratio": 1.0, "run.log_every": 10, "run.threads": 1},
    **{"run.checkpoint_every": 40, "run.eval_episodes": 2, "env.num_envs": 2, "replay.batch": 4},
    **{"replay.store.chunk": 16, "agent.torso.units": 8, "agent.torso.layers": 1},
}


@pytest.fixture(autouse=True)
def _count_anew() -> Iterator[None]:
    Failing.made = 0
    Once.here.clear()
    yield
    Once.here.clear()


def words(factory: str, run_dir: Path, *more: str) -> list[str]:
    small = [f"--{key}={value}" for key, value in SMALL.items()]
    return ["train", "dqn", "--preset", "cpu", "--env", f"{HERE}:{factory}", "--logdir", str(run_dir), *small, *more]


def reverie(*command: str) -> Result:
    return CliRunner().invoke(cli, command)


def saved(run_dir: Path) -> list[int]:
    return sorted(int(path.name) for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit())


class Stumbling(Failing):
    """Counts, and fails once in the life of this process at its 31st step, where a flag says so."""

    stumbles = False

    def step(self, action: object) -> object:
        if Stumbling.stumbles and self.steps == 30:
            Stumbling.stumbles = False
            raise ConnectionError("simulator gone")
        return super().step(action)  # type: ignore[arg-type]

    def see(self) -> object:
        return super().see()[:1].repeat(2)  # not which object it is


@pytest.fixture
def stumbling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odd_envs, "stumbling", Stumbling, raising=False)


def test_a_run_whose_environment_raised_is_saved_and_goes_on_as_if_it_had_not(tmp_path: Path, stumbling: None) -> None:
    Stumbling.stumbles = False
    assert reverie(*words("stumbling", tmp_path / "well")).exit_code == 0
    Stumbling.stumbles = True
    result = reverie(*words("stumbling", tmp_path / "run"))
    assert result.exit_code == 2
    assert saved(tmp_path / "run")[-1] == 60  # two streams, 30 steps each
    first, *block = result.stderr.splitlines()
    assert first.startswith("reverie: error: tests.envs.odd_envs:stumbling: stream 0, env_step 7 of episode 3 (seed ")
    assert "step() raised ConnectionError: simulator gone" in first
    assert f"saved after 60 env_steps, go on with: reverie resume {tmp_path / 'run'}" in first
    assert block[0].strip() == "Traceback (most recent call last):"
    assert not any("reverie/" in line for line in block)
    assert reverie("resume", str(tmp_path / "run")).exit_code == 0
    assert_same_run(tmp_path / "well", tmp_path / "run")


def test_a_fault_that_repeats_is_passed_by_restarts(tmp_path: Path) -> None:
    # Each object fails at its 25th step; and each stream makes 60.
    command = words("Failing", tmp_path / "run", "--env.options.at", "[25]")
    assert reverie(*command).exit_code == 2
    result = reverie("resume", str(tmp_path / "run"), "--env.restarts", "9")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("it is made anew") >= 2
    logged = [line["actor/env_restarts"] for line in read_metrics(tmp_path / "run") if "actor/env_restarts" in line]
    assert logged == sorted(logged)
    assert logged[-1] >= 2


def test_rows_of_a_restarted_run_are_whole_episodes(tmp_path: Path) -> None:
    command = words("Failing", tmp_path / "run", "--env.options.at", "[13]", "--env.restarts", "50")
    result = reverie(*command)
    assert result.exit_code == 0, result.output
    cut = 0
    for episode in open_dataset(tmp_path / "run" / "replay").episodes():
        objects = set(episode["obs.vector"][:, 1].tolist())
        assert len(objects) == 1
        assert episode["obs.vector"][:, 0].tolist() == list(range(len(episode["reward"])))
        assert episode["is_last"][-1]
        assert not episode["is_terminal"][-1] or len(episode["reward"]) == 9
        cut += not episode["is_terminal"][-1]
    assert cut >= 6


def test_one_that_cannot_be_closed_ends_well(tmp_path: Path) -> None:
    result = reverie(*words("CannotClose", tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "could not be closed: RuntimeError: window was closed already" in result.stderr


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Once", "odd_envs:Once: its factory raised OSError: [Errno 98] Address already in use"),
        ("shared", "odd_envs:shared: its factory returned an object that is in use already (by training"),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_found_before_the_run(tmp_path: Path, factory: str, message: str) -> None:
    command = words(factory, tmp_path / "run", "--env.num_envs", "1")
    result = reverie(*command)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[0]
    assert message in line
    assert "run.eval_episodes 0" in line
    assert not (tmp_path / "run" / "config.json").exists()
    Once.here.clear()
    result = reverie(*command, "--run.eval_episodes", "0")
    assert result.exit_code == 0, result.output


def test_an_evaluation_that_cannot_be_made_later_costs_nothing(tmp_path: Path) -> None:
    # Made before: two for the preset, one for the run, and one to see whether an evaluation can be made.
    more = ["--env.num_envs", "1", "--env.options.most", "4"]
    result = reverie(*words("scarce", tmp_path / "run", *more))
    assert result.exit_code == 2
    line = result.stderr.splitlines()[0]
    assert "evaluation: tests.envs.odd_envs:scarce: its factory raised OSError: no licence is left" in line
    assert saved(tmp_path / "run")[-1] == 120
    Failing.made = 0
    result = reverie("resume", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert [line["eval/episodes"] for line in read_metrics(tmp_path / "run") if "eval/episodes" in line] == [2]


def test_one_object_for_all_streams_is_refused(tmp_path: Path) -> None:
    result = reverie(*words("shared", tmp_path / "run"))
    assert result.exit_code == 2
    assert "its factory returned the same object for streams 0 and 1, which would step one episode" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("how", ["raises", "killed", "interrupted"])
def test_a_process_with_workers_ends(tmp_path: Path, how: str) -> None:
    """It waited for its children for ever: they had its signal handlers."""
    at = "30" if how == "raises" else "100000000"
    command = words("async_failing", tmp_path / "run", "--env.options.at", at, "--run.env_steps", "10000000")
    code = "import sys; from reverie.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    if how != "raises":
        metrics = tmp_path / "run" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") > 3):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGTERM if how == "killed" else signal.SIGINT)
    try:
        error = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (2 if how == "raises" else 0), error
    state = json.loads((tmp_path / "run" / "checkpoints" / str(saved(tmp_path / "run")[-1]) / "state.json").read_text())
    assert state["tree"]["env_steps"] > 0
    if how == "raises":
        assert error.count("simulator gone") + error.count("simulator\n") >= 1
        assert error.count("Traceback") == 1
