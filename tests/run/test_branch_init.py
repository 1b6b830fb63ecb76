"""Runs that begin from others: branches, and warm starts with all networks or some."""

from __future__ import annotations

import errno
import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from test_change import begun, command, small
from tiny_runs import Crash, Stop, files, final, lines

from reverie.config import Config
from reverie.errors import UserError
from reverie.run.branch import branch
from reverie.run.checkpoint import Checkpoints
from reverie.run.local import Local
from reverie.run.saved_config import load_chain, save_config
from reverie.run.train import resume, train


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 120 env_steps, with checkpoints at 80 and at its end."""
    folder = tmp_path_factory.mktemp("source") / "run"
    train(small(), folder)
    return folder


def tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    tree: dict[str, Any] = Checkpoints(run_dir).load()
    found: dict[str, torch.Tensor] = tree["trainer"]["learner"]["tensors"]
    return found


def fresh(config: Config, run_dir: Path) -> Local:
    local = Local(config, run_dir)
    local.begin()
    return local


def test_a_branch_equals_the_run_that_went_on_and_leaves_it_alone(source: Path, tmp_path: Path) -> None:
    before = files(source)
    branch(source, tmp_path / "branch", {"run.env_steps": 200})
    assert files(source) == before
    shutil.copytree(source, tmp_path / "copy")
    resume(tmp_path / "copy", {"run.env_steps": 200})
    assert final(tmp_path / "branch") == final(tmp_path / "copy")
    assert lines(tmp_path / "branch") == lines(tmp_path / "copy")
    assert load_chain(tmp_path / "branch").lines() == [
        f"at 120 env_steps: branched off {source}, run.env_steps 120 -> 200"
    ]
    assert not list(tmp_path.glob(".*"))


def test_a_branch_off_an_older_checkpoint_has_its_log_and_goes_on_otherwise(source: Path, tmp_path: Path) -> None:
    done = command(
        "branch", str(source), str(tmp_path / "b"), "--checkpoint", "80", "--agent.gamma", "0.5", "--seed", "3"
    )
    assert done.exit_code == 0, done.output
    chain = load_chain(tmp_path / "b")
    assert chain.lines() == [f"at 80 env_steps: branched off {source}, agent.gamma 0.99 -> 0.5, run.seed 0 -> 3"]
    early = [line for line in lines(source) if json.loads(line.split("'env_steps': ")[1].split(",")[0]) < 80]
    assert lines(tmp_path / "b")[: len(early)] == early
    assert final(tmp_path / "b") != final(source)
    # A later change, from the very checkpoint that it was branched off at, keeps the branch in the chain.
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "120")
    resume(tmp_path / "b", {"agent.gamma": 0.6})
    assert load_chain(tmp_path / "b").lines() == [
        f"at 80 env_steps: branched off {source}, agent.gamma 0.99 -> 0.6, run.seed 0 -> 3"
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--checkpoint", "70"], "has no checkpoint '70'; it has latest, 80, 120, best"),
        (["--checkpoint", "best"], "has networks only, no rows to go on with; begin a new run with them"),
        (["--device", "quantum"], "unknown device 'quantum'"),
        (["--env.num_envs", "4"], "env.num_envs cannot change"),
        (["--agent.hidden", "8"], "cannot go on with another agent.hidden: networks have other shapes: policy"),
    ],
)
def test_a_branch_that_cannot_be_leaves_nothing(source: Path, tmp_path: Path, words: list[str], why: str) -> None:
    done = command("branch", str(source), str(tmp_path / "b"), *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert why in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_whose_rows_are_gone_can_only_be_begun_from(source: Path, tmp_path: Path) -> None:
    """As those of more than two that are kept, once the replay has gone over their rows."""
    shutil.copytree(source, tmp_path / "run")
    min((tmp_path / "run" / "replay").iterdir()).unlink()
    done = command("branch", str(tmp_path / "run"), str(tmp_path / "b"), "--checkpoint", "80")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "the rows of checkpoint 80 are not in" in done.stderr
    assert f"--init {tmp_path / 'run'} --init.checkpoint 80" in done.stderr
    assert not (tmp_path / "b").exists()


def test_a_disk_that_fills_while_a_branch_is_copied_has_nothing_of_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reverie.run.branch.link", full)
    done = command("branch", str(source), str(tmp_path / "b"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device; name another place" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_branch_needs_a_new_directory(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        branch(source, tmp_path)
    with pytest.raises(UserError, match="already holds a run"):
        branch(source, source)
    with pytest.raises(UserError, match="mine is a file; name a folder that does not exist yet"):
        branch(source, tmp_path / "mine")
    (tmp_path / "here").mkdir()
    with chdir(tmp_path / "here"), pytest.raises(UserError, match="is the current directory"):
        branch(source, ".")
    assert (tmp_path / "here").is_dir()


def test_all_networks_begin_as_they_were_and_nothing_else(source: Path, tmp_path: Path) -> None:
    local = fresh(small(init__run=str(source), run__seed=5), tmp_path / "run")
    saved = tensors(source)
    own = local.learner.save()
    assert len(own["tensors"]) > 8
    for name, value in own["tensors"].items():
        assert torch.equal(value, torch.zeros_like(value) if name.endswith("version") else saved[name]), name
    assert own["learner_steps"] == 0
    assert all(moments == {} for group in own["optimisers"].values() for moments in group.values())


def test_parts_begin_as_they_were_and_the_rest_is_fresh(source: Path, tmp_path: Path) -> None:
    changes = {"env__id": "Acrobot-v1", "agent__torso__units": 4}
    with pytest.raises(UserError) as caught:  # six numbers are observed in place of four, and three actions are there
        fresh(small(init__run=str(source), **changes), tmp_path / "run")
    assert "do not fit this run: policy.network.torso" in str(caught.value)
    same = small(init__run=str(source), init__parts=["torso"], run__seed=5)
    local, untouched = fresh(same, tmp_path / "a"), fresh(small(run__seed=5), tmp_path / "b")
    saved, begun_with = tensors(source), untouched.learner.save()["tensors"]
    for name, value in local.learner.save()["tensors"].items():
        expected = saved if ".torso." in name else begun_with
        assert torch.equal(value, expected[name]), name


def test_what_fits_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"head.*parts that fit: torso; choose some with --init.parts"):
        fresh(small(init__run=str(source), agent__hidden=8), tmp_path / "run")
    with pytest.raises(UserError, match=r"no network here is called 'encodr'"):
        fresh(small(init__run=str(source), init__parts=["encodr"]), tmp_path / "run")
    with pytest.raises(UserError, match=r"has no checkpoint '3'; it has latest, 80, 120, best"):
        fresh(small(init__run=str(source), init__checkpoint="3"), tmp_path / "run")


def test_a_warm_start_survives_a_kill_and_the_loss_of_what_it_began_from(source: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(source, first)
    config = small(init__run=str(first), run__seed=2)
    train(config, tmp_path / "whole")
    cut = tmp_path / "cut"
    cut.mkdir()
    local = Local(config, cut)
    local.begin()
    save_config(config, cut)
    with pytest.raises(Crash):
        local.train(Stop(local, 10, crash=True))  # before the first checkpoint of its own accord
    shutil.rmtree(first)
    resume(cut)
    assert lines(cut) == lines(tmp_path / "whole")
    assert final(cut) == final(tmp_path / "whole")


def test_the_command_line_begins_and_resumes_a_warm_start(source: Path, tmp_path: Path) -> None:
    words = begun(tmp_path / "run", "--env_steps", "60", "--init", str(source), "--init.parts", "torso")
    done = command(*words)
    assert done.exit_code == 0, done.output
    said = f"begins with torso of {source} after 120 env_steps; fresh: policy.network.head, target.network.head\n"
    assert said in done.output
    again = command(*words)
    assert again.exit_code == 0, again.output
    assert "begins with" not in again.output
    refused = command(*begun(tmp_path / "other", "--init.parts", "torso"))
    assert refused.exit_code == 2
    assert "init.run names, which is missing" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_rows_that_lie_in_a_directory_are_not_written_over(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "replay", tmp_path / "data" / "replay")
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*.chunk")}
    assert before
    changes: dict[str, Any]
    for changes in ({}, {"dataset__path": str(tmp_path / "data" / "replay")}):
        with pytest.raises(UserError, match="replay holds rows, which a new run would write over"):
            train(small(**changes), tmp_path / "data")
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"init__checkpoint": "best"}, "init.checkpoint is of the run that init.run names, which is missing"),
        ({"dataset__rewards": "played"}, "dataset.rewards are of the rows that dataset.path names, which is missing"),
    ],
)
def test_words_about_what_is_not_named_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        small(**changes)
