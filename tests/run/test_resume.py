"""Interruptions of every kind leave no trace: metrics, parameters and rows are those of a run that was left alone."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kills import KINDS, POLL, kill_and_finish
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, config, files, final, lines, words

from reverie.data.dataset import open_dataset
from reverie.data.rows import Rows
from reverie.envs.env import ResumeError
from reverie.envs.vector import SyncVector
from reverie.report.log import read_metrics
from reverie.run.checkpoint import Checkpoints
from reverie.run.local import Local
from reverie.run.train import resume

ENVS = ("toy/catch", "CartPole-v1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each environment that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for env in ENVS:
        run = begin(config(env), folder / env)
        run.train(Never())
    return {env: folder / env for env in ENVS}


def test_a_run_logs_what_it_should(alone: dict[str, Path]) -> None:
    for env in ENVS:
        records = read_metrics(alone[env])
        evaluations = [record["env_steps"] for record in records if "eval/score" in record]
        assert evaluations == [60, 120, 160]
        trained = [record for record in records if "replay/ratio" in record]
        assert [record["env_steps"] for record in trained] == list(range(10, 161, 10))
        assert [record["replay/ratio"] for record in trained[:4]] == [0.0] * 4
        assert all(record["replay/ratio"] == pytest.approx(1.0, abs=0.81) for record in trained[4:])
        assert trained[-1]["replay/ratio"] == pytest.approx(1.0, abs=0.07)
        # 120 env_steps after the prefill, 8 trained rows each learner_step, one at once, and two of pretraining.
        assert records[-1]["learner_steps"] == 120 // 8 + 1 + 2
        assert "train/model_loss" in trained[-1]
        assert not any("train/model_loss" in record for record in trained[:3])
        assert Checkpoints(alone[env]).names() == [140, 160]


STOPS = (0, 1, 20, 33, 40, 41, 60, 61, 85, 86, 119, 158, 160)


@pytest.mark.parametrize("env", ENVS)
def test_stopped_again_and_again(tmp_path: Path, alone: dict[str, Path], env: str) -> None:
    settings = config(env)
    run = begin(settings, tmp_path / "run")
    for env_steps in (*STOPS, None):
        summary = run.train(Stop(run, env_steps) if env_steps is not None else Never())
        assert summary["finished"] == (env_steps is None)  # stopped at the end, the last evaluation is missing
        assert Checkpoints(tmp_path / "run").names()[-1] == summary["env_steps"]
        run = again(settings, tmp_path / "run")
    assert_same_run(alone[env], tmp_path / "run")


@pytest.mark.parametrize("env", ENVS)
def test_crashed_again_and_again(tmp_path: Path, alone: dict[str, Path], env: str) -> None:
    """The process disappears before learner_steps; the first times before there is any checkpoint."""
    settings = config(env)
    run = begin(settings, tmp_path / "run")
    for env_steps in (0, 1, 15, 21, 39, 52, 75, 99, 100, 131, 157):
        with pytest.raises(Crash):
            run.train(Stop(run, env_steps, crash=True))
        run = again(settings, tmp_path / "run")
        # Two streams: an odd number is passed by one. The round has not come to its checkpoint.
        assert run.run.clock.env_steps == max(0, (env_steps + 1) // 2 * 2 - 2) // 20 * 20
    run.train(Never())
    assert_same_run(alone[env], tmp_path / "run")


def learner_generator(run: Local) -> None:
    run.learner.noise.generator.manual_seed(1)


def actor_generator(run: Local) -> None:
    run.actor.noise.generator.manual_seed(1)


def replay_generator(run: Local) -> None:
    run.store.replay._rng = np.random.Generator(np.random.PCG64(1))


def recurrent_state(run: Local) -> None:
    run.actor.state = run.learner.policy.initial_state(run.env.num_envs)


def moments(run: Local) -> None:
    for parameter in run.learner.optimisers["critic"].parameters:
        run.learner.optimisers["critic"].rule.state[parameter]["exp_avg"].mul_(0.5)


def parameters(run: Local) -> None:
    with torch.no_grad():
        next(run.learner.policy.actor.parameters())[0] += 1e-6  # type: ignore[union-attr]


def slow_critic(run: Local) -> None:
    with torch.no_grad():
        next(run.learner.slow_critic.parameters()).mul_(1.01)  # type: ignore[union-attr]


def meter(run: Local) -> None:
    run.trainer.meter.flush()


def limiter(run: Local) -> None:
    run.store.replay.sampled_rows += 1


def episode_sums(run: Local) -> None:
    run.actor.episodes.score += 1


def updates(run: Local) -> None:
    run.learner.policy.version += 1


PARTS = [learner_generator, actor_generator, replay_generator, recurrent_state, moments, parameters, slow_critic, meter]
PARTS += [limiter, episode_sums, updates]


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Catch that was stopped at 88 env_steps, between a learner_step and the log line that tells of it."""
    run = begin(config("toy/catch"), tmp_path_factory.mktemp("halfway") / "run")

    class Halfway(Never):
        def __call__(self) -> bool:
            return run.run.clock.env_steps >= 88 and not run.owes()

    run.train(Halfway())
    return run.run.run_dir


@pytest.mark.parametrize("disturb", PARTS, ids=lambda part: part.__name__)
def test_everything_that_is_saved_matters(
    tmp_path: Path, alone: dict[str, Path], halfway: Path, disturb: Callable[[Local], None]
) -> None:
    """The negative control: with one part not brought back, the comparison fails."""
    shutil.copytree(halfway, tmp_path / "run")
    run = again(config("toy/catch"), tmp_path / "run")
    disturb(run)
    run.train(Never())
    assert lines(tmp_path / "run") != lines(alone["toy/catch"]) or final(tmp_path / "run") != final(alone["toy/catch"])


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, alone: dict[str, Path]) -> None:
    shutil.copytree(alone["CartPole-v1"], tmp_path / "run")
    before = files(tmp_path / "run")
    first = resume(tmp_path / "run")
    second = resume(tmp_path / "run")
    assert first == second
    assert first["finished"]
    assert first["env_steps"] == 160
    after = files(tmp_path / "run")
    assert {name: data for name, data in after.items() if not name.startswith("tensorboard")} == {
        name: data for name, data in before.items() if not name.startswith("tensorboard")
    }


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    """The line of the shorter run's last evaluation stays; all others are those of the longer run."""
    run = begin(config("toy/catch", run__env_steps=100), tmp_path / "run")
    run.train(Never())
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    document["config"]["run"]["env_steps"] = 160
    (tmp_path / "run" / "config.json").write_text(json.dumps(document))
    assert resume(tmp_path / "run")["env_steps"] == 160
    run = begin(config("toy/catch"), tmp_path / "long")
    run.train(Never())
    longer = [line for line in lines(tmp_path / "run") if not ("eval/score'" in line and "'env_steps': 100," in line)]
    assert longer == lines(tmp_path / "long")


# Environments that cannot be brought back


def test_open_episodes_of_a_vector_environment_are_closed_as_truncated(tmp_path: Path) -> None:
    settings = config(
        "CartPole-v1", env__options={"native": True}, replay__store__budget=1_000_000, replay__store__chunk=8
    )
    run = begin(settings, tmp_path / "run")
    assert run.env.spec.resume == "truncate"
    cuts = []
    for env_steps in (7, 50, 90):
        run.train(Stop(run, env_steps))
        cuts.append(run.store.replay.counts)
        written = lines(tmp_path / "run")
        run = again(settings, tmp_path / "run")
    summary = run.train(Never())
    assert summary["finished"]
    assert lines(tmp_path / "run")[: len(written)] == written
    assert run.learner.learner_steps == 120 // 8 + 1 + 2
    run.store.record.flush()
    for stream in range(2):
        rows = open_dataset(tmp_path / "run" / "replay").rows(stream)
        assert len(rows["reward"]) == run.store.replay.counts[stream]
        check_flags(rows)
        # Every row but an episode's first carries the reward of the decision before it, the closing row too.
        np.testing.assert_array_equal(rows["reward"], (~rows["is_first"]).astype(np.float32))
        for k, count in enumerate(cuts):
            # Each earlier cut has added one row.
            at = int(count[stream]) if not rows["is_last"][int(count[stream]) - 1] else int(count[stream]) - 1
            assert rows["is_last"][at], k
            assert not rows["is_terminal"][at] or rows["is_last"][at - 1]


def check_flags(rows: Rows) -> None:
    first, last = rows["is_first"], rows["is_last"]
    assert first[0]
    np.testing.assert_array_equal(first[1:], last[:-1])
    assert not (rows["is_terminal"] & ~last).any()
    assert not rows["action"][last].any()
    np.testing.assert_array_equal(rows["prev_action"][1:], np.where(first[1:], 0, rows["action"][:-1]))


def test_an_environment_that_comes_back_elsewhere_goes_on_with_new_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("CartPole-v1", replay__store__budget=1_000_000)
    run = begin(settings, tmp_path / "run")
    run.train(Stop(run, 50))
    before = run.store.replay.counts
    real = SyncVector.load_state_dict

    def elsewhere(self: SyncVector, state: dict[str, Any]) -> None:
        real(self, state)
        raise ResumeError("CartPole-v1: stream 1 is elsewhere")

    monkeypatch.setattr(SyncVector, "load_state_dict", elsewhere)
    run = again(settings, tmp_path / "run")
    assert "stream 1 is elsewhere; its open episodes are closed as truncated" in capsys.readouterr().err
    assert set((run.store.replay.counts - before).tolist()) <= {0, 1}
    assert run.run.clock.env_steps == 50
    run.train(Never())
    run.store.record.flush()
    for stream in range(2):
        check_flags(open_dataset(tmp_path / "run" / "replay").rows(stream))


# Processes


@pytest.mark.slow
@pytest.mark.parametrize(("env", "seed", "kills"), [("toy/catch", 0, 7), ("CartPole-v1", 1, 7), ("toy/catch", 2, 6)])
def test_killed_at_random(tmp_path: Path, alone: dict[str, Path], env: str, seed: int, kills: int) -> None:
    """kill -9 at some moments of a run, then the same command or `reverie resume`: 20 kills in all."""
    rng = np.random.default_rng(seed)
    run_dir = tmp_path / "run"
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))][:kills]
    kill_and_finish(words(env, run_dir), run_dir, kinds, rng, alone[env])


@pytest.mark.slow
def test_the_real_command_killed_and_terminated(tmp_path: Path, alone: dict[str, Path]) -> None:
    run_dir = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}

    def reverie(command: list[str]) -> subprocess.Popen[str]:
        start = [sys.executable, "-m", "reverie.cli", *command]
        return subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def wait_for(process: subprocess.Popen[str], env_steps: int) -> None:
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError, IndexError):
                text = (run_dir / "metrics.jsonl").read_text()
                if int(re.findall(r'"env_steps": (\d+)', text)[-1]) >= env_steps:
                    return
            time.sleep(POLL)

    process = reverie(words("toy/catch", run_dir))
    wait_for(process, 50)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    saved = Checkpoints(run_dir).names()
    assert saved

    process = reverie(words("toy/catch", run_dir))
    wait_for(process, 90)
    process.terminate()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "resuming" in out
    summary = Checkpoints(run_dir).load()
    if "finished  True" not in re.sub(" +", "  ", out):
        assert summary["env_steps"] > saved[-1]
        assert read_metrics(run_dir)[-1]["env_steps"] <= summary["env_steps"] < 160

    process = reverie(["resume", str(run_dir)])
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    assert_same_run(alone["toy/catch"], run_dir)


def test_a_resumed_run_keeps_nothing_of_its_checkpoint(
    tmp_path: Path, halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as large as the networks, their moments and the open rows, and must not live as long as the run."""
    shutil.copytree(halfway, tmp_path / "run")
    alive: list[weakref.ref[Any]] = []
    load = Checkpoints.load

    def noting(self: Checkpoints, *only: Any) -> dict[str, Any]:
        tree = load(self, *only)
        tensors = tree["trainer"]["learner"]["tensors"]
        alive.extend(weakref.ref(tensor) for tensor in tensors.values())
        alive.append(weakref.ref(tree["store"]["record"]["tail"]["obs.image"]))
        return tree

    monkeypatch.setattr(Checkpoints, "load", noting)
    local = again(config("toy/catch"), tmp_path / "run")
    gc.collect()
    assert len(alive) > 20
    assert [reference for reference in alive if reference() is not None] == []
    assert local.run.resumed is not None
