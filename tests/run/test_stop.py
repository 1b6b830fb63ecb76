"""Nothing keeps a run from being saved: not an evaluation without an end, not a signal, not a closed output."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from kills import server
from test_roles import Plus, Script
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, config, lines

import reverie
from reverie.config import RunConfig
from reverie.errors import UserError
from reverie.report.log import read_metrics
from reverie.run.callback import Callback
from reverie.run.checkpoint import Checkpoints
from reverie.run.local import Local
from reverie.run.lock import interruptible
from reverie.run.roles import Evaluator, Stopped


class Corridor(gymnasium.Env):
    """Ends at the far right only."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, far: int = 6) -> None:
        self.far = far

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.at = max(0, self.at + (1 if action else -1))
        return np.full(2, self.at / self.far, np.float32), 1.0, self.at >= self.far, False, {}


ENDLESS = f"{__name__}:Corridor"


def corridor(**changes: Any) -> Any:
    return config("toy/catch", env__id=ENDLESS, env__options={"far": 10**9}, **changes)


# Learner_steps


@pytest.mark.parametrize("asked", ["pretrain", "round", "last"])
def test_a_run_ends_between_two_learner_steps_and_makes_the_others_first_when_it_goes_on(
    tmp_path: Path, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("toy/catch", run__pretrain=6, run__train_ratio=32.0, run__env_steps=64, run__eval_every=32)
    whole = begin(settings, tmp_path / "whole")
    whole.train(Never())
    # 32 rows per env_step, 2 env_steps a round, 8 rows a learner_step: 8 of them a round, after those of pretrain.
    total = whole.learner.learner_steps
    assert total == 7 + 12 * 8
    at = {"pretrain": 3, "round": 6 + 5 * 8 + 3, "last": total - 1}[asked]

    class Asked(Never):
        def __call__(self) -> bool:
            if run.learner.learner_steps >= at:
                self.ask("SIGTERM")
            return super().__call__()

    cut = tmp_path / "cut"
    run = begin(settings, cut)
    result = run.train(Asked())
    assert run.learner.learner_steps == at
    assert not result["finished"]
    said = capsys.readouterr().err
    assert f"saved after {run.run.clock.env_steps} env_steps, " in said
    assert ("its last learner_steps to go" in said) == (asked == "last")
    tree = Checkpoints(cut).load()
    assert tree["learner_steps"] == at
    assert tree["cut_since"] == tree["env_steps"] - 2
    again(settings, cut).train(Never())
    assert_same_run(cut, tmp_path / "whole")


# Evaluations


@pytest.mark.parametrize("kind", ["same step", "next step"])
def test_an_episode_at_the_limit_is_cut_with_its_score(kind: str) -> None:
    played = Evaluator(Script([3, 10**9], kind), Plus(), 4, seed=0, limit=20).run()
    # Stream 1 has two episodes of 20 env_steps, which never ended; stream 0 its two, and no more than these.
    assert played["scores"] == played["lengths"] == [3, 20, 3, 20]
    assert played["cut"] == 2


def test_a_stream_whose_episode_was_cut_waits_for_the_others() -> None:
    env = Script([10**9, 7], "same step")
    seeds: list[int] = []
    reset = env.reset
    env.reset = lambda seed: (seeds.append(seed), reset(seed))[1]  # type: ignore[method-assign]
    played = Evaluator(env, Plus(), 4, seed=5, limit=10).run()
    assert played["scores"] == [10, 7, 10, 7]
    assert seeds == [5, 6]
    # 14 env_steps until stream 1 has played its two, then 10 more.
    assert len(env.actions) == 24


def test_an_episode_that_ends_at_the_limit_is_not_cut() -> None:
    for kind in ("same step", "next step"):
        played = Evaluator(Script([20, 5], kind), Plus(), 4, seed=0, limit=20).run()
        assert (played["scores"], played["cut"]) == ([20, 5, 20, 5], 0)


def test_only_the_episodes_that_were_asked_for_count_as_cut() -> None:
    assert Evaluator(Script([9, 9], "same step"), Plus(), 3, seed=0, limit=4).run()["cut"] == 3


def test_without_a_limit_nothing_is_cut() -> None:
    assert Evaluator(Script([50], "same step"), Plus(), 1, seed=0).run() == {
        "scores": [50.0],
        "lengths": [50],
        "info": {"twice": 100.0, "only_0": 1.0},
        "cut": 0,
    }
    assert RunConfig().eval_limit > 108_000 / 4, "Atari's longest games are cut by themselves"


def test_an_evaluation_stops_when_it_is_asked_to() -> None:
    asked = iter([False] * 7 + [True])
    env = Script([10**9], "same step")
    with pytest.raises(Stopped):
        Evaluator(env, Plus(), 1, seed=0).run(stop=lambda: next(asked))
    assert len(env.actions) == 7


def test_a_run_whose_evaluation_never_ends_is_over_at_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(corridor(run__eval_limit=30, run__env_steps=100, run__eval_every=0), tmp_path / "run")
    summary = run.train(Never())
    assert summary["finished"]
    assert summary["eval_cut"] == len(summary["eval_scores"]) == 3
    assert read_metrics(tmp_path / "run")[-1]["eval/cut"] == 3
    err = capsys.readouterr().err
    assert "3 of 3 episodes of the evaluation did not end within 30 env_steps and were cut" in err
    assert "run.eval_limit" in err


class InEvaluation(Stop):
    """Asks, or crashes, in the n-th evaluation, at its fifth env_step."""

    def __init__(self, local: Local, monkeypatch: pytest.MonkeyPatch, number: int, crash: bool = False) -> None:
        super().__init__(local, 10**9)
        self.number, self.dies, self.asked = number, crash, 0
        real = Evaluator.run

        def run(evaluator: Evaluator, watch: Any = None, stop: Any = None) -> Any:
            self.number -= 1
            return real(evaluator, watch, self.inside)

        monkeypatch.setattr(Evaluator, "run", run)

    def inside(self) -> bool:
        self.asked += self.number == 0
        if self.asked >= 5 and self.dies:
            raise Crash
        if self.asked >= 5:
            self.ask("SIGTERM")
        return self.asked >= 5

    def __call__(self) -> bool:
        return bool(self.reason)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    begin(config("toy/catch"), run_dir).train(Never())
    return run_dir


@pytest.mark.parametrize(
    ("number", "crash", "every"), [(1, False, 20), (2, True, 20), (3, False, 20), (3, True, 20), (1, False, 10_000)]
)
def test_stopped_in_an_evaluation(
    tmp_path: Path,
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    crash: bool,
    every: int,
) -> None:
    """At 60, 120 or 160 env_steps: all of it is in a checkpoint, and the evaluation is made up for."""
    settings = config("toy/catch", run__checkpoint_every=every)
    run = begin(settings, tmp_path / "run")
    with monkeypatch.context() as patch:
        stop = InEvaluation(run, patch, number, crash)
        if crash:
            with pytest.raises(Crash):
                run.train(stop)
        else:
            summary = run.train(stop)
            assert not summary["finished"]
            assert summary["env_steps"] == (60, 120, 160)[number - 1]
    last = Checkpoints(tmp_path / "run").names()
    assert last[-1] == (60, 120, 160)[number - 1]
    if not crash:
        told = capsys.readouterr().err
        assert f"SIGTERM: saved after {last[-1]} env_steps" in told
        assert f"go on with: reverie resume {tmp_path / 'run'}" in told
    again(settings, tmp_path / "run").train(Never())
    assert lines(tmp_path / "run") == lines(alone)
    if every == 20:
        assert_same_run(alone, tmp_path / "run")


def test_the_last_checkpoint_comes_before_everything_that_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("toy/catch", run__checkpoint_every=0, run__eval_every=0)
    run = begin(settings, tmp_path / "run")

    def breaks(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("in the evaluation")

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "run", breaks)
        with pytest.raises(ZeroDivisionError):
            run.train(Never())
    assert Checkpoints(tmp_path / "run").names() == [160]
    summary = again(settings, tmp_path / "run").train(Never())
    assert summary["finished"]
    assert "eval_score" in summary


def test_all_rows_of_a_run_that_was_stopped_are_a_dataset(tmp_path: Path) -> None:
    settings = config("toy/catch")
    run = begin(settings, tmp_path / "run")
    run.train(Stop(run, 100))  # 50 and more rows of each of two streams, 16 in a file
    made = reverie.open_dataset(tmp_path / "run" / "replay")
    assert len(made) >= 100
    again(settings, tmp_path / "run").train(Never())
    begin(settings, tmp_path / "whole").train(Never())
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("overlap", [0, 2])
def test_environments_and_threads_are_closed_after_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: int
) -> None:
    opened, closed, others = [0], [0], set(threading.enumerate())
    init, close = Corridor.__init__, Corridor.close
    monkeypatch.setattr(
        Corridor, "__init__", lambda self, far=6: (opened.__setitem__(0, opened[0] + 1), init(self, far))[1]
    )
    monkeypatch.setattr(Corridor, "close", lambda self: (closed.__setitem__(0, closed[0] + 1), close(self))[1])

    class Fails(Callback):
        def round(self, run: Any) -> None:
            if run.clock.learner_steps > 3:
                raise UserError("a callback of somebody's")

    settings = config("toy/catch", env__id=ENDLESS, run__eval_episodes=0, run__overlap=overlap)
    with pytest.raises(UserError, match="somebody's"):
        reverie.train(settings, tmp_path / "run", callbacks=[Fails()])
    assert closed == opened
    assert opened[0] > 0
    deadline = time.monotonic() + 20
    while any(thread.name == "beside" for thread in {*threading.enumerate()} - others):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_environment_that_cannot_be_closed_takes_nothing_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Any) -> None:
        raise RuntimeError("the simulator is gone")

    run = begin(config("CartPole-v1"), tmp_path / "run")
    monkeypatch.setattr(gymnasium.Wrapper, "close", fails)
    assert run.train(Never())["finished"]
    assert "CartPole-v1 could not be closed: RuntimeError: the simulator is gone" in capsys.readouterr().err


# Signals and a closed output, in processes of their own

WORDS = [
    "train",
    "dqn",
    "--preset",
    "cpu-vectors",
    "--env",
    "CartPole-v1",
    "--device",
    "cpu",
    "--env_steps",
    "10000000",
]
WORDS += ["--run.prefill", "60", "--run.log_every", "50", "--run.checkpoint_every", "1000000"]


def play(command: Sequence[str], stdout: str, stderr: str, ignored: Sequence[int]) -> None:
    """The command line in a process of its own, which ignores some signals."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    from reverie.cli import cli

    cli.main(list(command))


class Launched:
    """A run without an end. ignored: signals. What it says on standard error is read when it is over."""

    def __init__(self, run_dir: Path, stdout: Path, ignored: Sequence[int] = ()) -> None:
        self.run_dir, self.stderr = run_dir, run_dir.with_suffix(".err")
        arguments = ([*WORDS, "--logdir", str(run_dir)], str(stdout), str(self.stderr), ignored)
        self.process = server().Process(target=play, args=arguments, daemon=True)
        self.process.start()

    def wait_for_lines(self, more: int = 3) -> None:
        path = self.run_dir / "metrics.jsonl"
        count = more + (path.read_bytes().count(b"\n") if path.exists() else 0)
        deadline = time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < count:
            assert time.monotonic() < deadline
            assert self.process.is_alive(), self.stderr.read_text()
            time.sleep(0.02)

    def send(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def over(self) -> str:
        self.process.join(120)
        told = self.stderr.read_text()
        assert self.process.exitcode == 0, told
        assert "Traceback" not in told
        return told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_save_and_say_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run_dir = tmp_path / "my run"
    run = Launched(run_dir, tmp_path / "out")
    run.wait_for_lines()
    run.send(number)
    told = run.over()
    saved = Checkpoints(run_dir).names()
    assert len(saved) == 1
    assert f"reverie: {number.name}: saved after {saved[0]} env_steps, {10**7 - saved[0]} env_steps to go" in told
    assert f"go on with: reverie resume '{run_dir}'" in told
    assert "finished   False" in (tmp_path / "out").read_text()


def test_nohup_is_respected(tmp_path: Path) -> None:
    run = Launched(tmp_path / "run", tmp_path / "out", [signal.SIGHUP])
    run.wait_for_lines()
    run.send(signal.SIGHUP)
    run.wait_for_lines()
    run.send(signal.SIGTERM)
    assert "SIGTERM: saved" in run.over()


def test_a_closed_output_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """As of ``reverie train ... | head -1``."""
    os.mkfifo(tmp_path / "out")
    run = Launched(tmp_path / "run", tmp_path / "out")
    with (tmp_path / "out").open() as out:
        assert out.readline().startswith("dqn (cpu-vectors) on CartPole-v1")
    told = run.over()
    saved = Checkpoints(tmp_path / "run").names()
    assert f"the output was closed (Broken pipe): saved after {saved[-1]} env_steps" in told
    assert "BrokenPipe" not in told
    tree = json.loads((tmp_path / "run" / "checkpoints" / str(saved[-1]) / "state.json").read_text())["tree"]
    assert tree["offset"] == os.path.getsize(tmp_path / "run" / "metrics.jsonl")


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_says_at_once_that_it_was_heard(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    stderr = SimpleNamespace(isatty=lambda: terminal, fileno=lambda: writing)
    with interruptible() as stop, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    os.close(writing)
    told = os.read(reading, 1000)
    os.close(reading)
    said = b"\nreverie: saving what was trained; Ctrl-C again ends without\n"
    assert told == (said if terminal else b"")
