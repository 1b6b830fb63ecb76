"""Faults from outside: each is one line on standard error and exit code 2, and damages nothing that was recorded."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, config, files, lines, words

from reverie.cli import cli
from reverie.report.log import read_metrics
from reverie.run.tree import FORMAT, load_tree

ENV = "toy/catch"
CHUNK = "replay/00000-000000000000.chunk"


def reverie(*command: str) -> Result:
    return CliRunner().invoke(cli, command)


def refused(*command: str) -> str:
    """The line of the error."""
    result = reverie(*command)
    assert result.exit_code == 2, f"{result.output}\n{result.exception!r}"
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("reverie: error: ")
    assert "Traceback" not in result.output
    return result.stderr


def recorded(run_dir: Path) -> dict[str, bytes]:
    """Every file of a run but TensorBoard's, of which each part of a run begins a new one."""
    return {name: data for name, data in files(run_dir).items() if not name.startswith("tensorboard")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = begin(config(ENV, run__checkpoint_every=50), tmp_path_factory.mktemp("alone") / "run")
    run.train(Never())
    return run.run.run_dir


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, at 50 and 80 env_steps, and what was written from there to a crash at 98."""
    settings = config(ENV, run__checkpoint_every=50)
    run = begin(settings, tmp_path_factory.mktemp("crashed") / "run")
    run.train(Stop(run, 80))
    run = again(settings, run.run.run_dir)
    with pytest.raises(Crash):
        run.train(Stop(run, 98, crash=True))
    saved = json.loads((run.run.run_dir / "checkpoints" / "80" / "state.json").read_text())["tree"]
    assert (run.run.run_dir / "metrics.jsonl").stat().st_size > saved["offset"]
    assert len(list((run.run.run_dir / "replay").iterdir())) > len(
        load_tree(run.run.run_dir / "checkpoints/80")["store"]["record"]["sealed"]
    )
    return run.run.run_dir


@pytest.fixture
def run_dir(tmp_path: Path, crashed: Path) -> Path:
    shutil.copytree(crashed, tmp_path / "run")
    return tmp_path / "run"


# A full disk


def full(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after(count: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The disk is full after so many calls."""
    calls = iter(range(count))
    return lambda *args, **kwargs: real(*args, **kwargs) if next(calls, None) is not None else full()


PLACES: dict[str, tuple[str, int, str]] = {
    "checkpoint": ("reverie.run.tree.save_file", 0, r"could not write checkpoint .*100: no space left"),
    "checkpoint's sync": ("reverie.run.tree.sync", 2, r"could not write checkpoint .*100: no space left"),
    "metrics": ("reverie.report.log.os.write", 3, "cannot write metrics in .*No space left"),
    "chunk": ("reverie.data.chunks.os.replace", 0, r"cannot write .*\.chunk .* bytes.*No space left"),
    "tensorboard": ("reverie.report.tensorboard.RecordWriter.write", 4, "cannot write metrics in .*No space left"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk(run_dir: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    before = recorded(run_dir)
    saved = {name: data for name, data in before.items() if name.startswith("checkpoints") or name == "config.json"}
    offset = json.loads((run_dir / "checkpoints" / "80" / "state.json").read_text())["tree"]["offset"]
    target, calls, message = PLACES[place]
    module, _, name = target.rpartition(".")
    owner = _resolve(module)
    monkeypatch.setattr(owner, name, after(calls, getattr(owner, name)))
    error = refused("resume", str(run_dir))
    monkeypatch.undo()
    assert re.search(message, error), error
    now = recorded(run_dir)
    assert {name: now.get(name) for name in saved} == saved
    assert now["metrics.jsonl"][:offset] == before["metrics.jsonl"][:offset]
    assert read_metrics(run_dir)
    # With space again, the run ends as if nothing had happened.
    result = reverie("resume", str(run_dir))
    assert result.exit_code == 0, result.output
    assert_same_run(alone, run_dir)


def _resolve(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(_resolve(module), name)


def test_a_full_disk_at_the_very_beginning(tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = words(ENV, tmp_path / "run", "--run.checkpoint_every", "50")
    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", full)
        assert "No space left" in refused(*command)
    assert reverie(*command).exit_code == 0
    assert_same_run(alone, tmp_path / "run")


# Damage


def cut(name: str) -> Callable[[Path], object]:
    def damage(run_dir: Path) -> None:
        data = (run_dir / name).read_bytes()
        (run_dir / name).write_bytes(data[: len(data) // 2])

    return damage


def flip(name: str) -> Callable[[Path], object]:
    def damage(run_dir: Path) -> None:
        data = bytearray((run_dir / name).read_bytes())
        data[-20] ^= 4
        (run_dir / name).write_bytes(bytes(data))

    return damage


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda run_dir: (run_dir / name).write_bytes(data)


def remove(name: str) -> Callable[[Path], object]:
    return lambda run_dir: (run_dir / name).unlink()


def remove_chunk_between(run_dir: Path) -> None:
    sorted((run_dir / "replay").glob("00000-*.chunk"))[1].unlink()


def setting(key: str, value: Any) -> Callable[[Path], object]:
    """Changes config.json by hand."""

    def change(run_dir: Path) -> None:
        document = json.loads((run_dir / "config.json").read_text())
        group = document["config"]
        *path, name = key.split(".")
        for part in path:
            group = group[part]
        group[name] = value
        (run_dir / "config.json").write_text(json.dumps(document))

    return change


def newer_format(run_dir: Path) -> None:
    document = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(document | {"format": 4}))


FIT = "does not fit this run's config.json"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "checkpoint's arrays cut": (cut("checkpoints/80/arrays.safetensors"), "checkpoints/80 is unreadable .* delete"),
    "checkpoint's json cut": (cut("checkpoints/80/state.json"), "checkpoints/80 is unreadable .* delete"),
    "checkpoint's arrays missing": (remove("checkpoints/80/arrays.safetensors"), "checkpoints/80 is unreadable"),
    "checkpoint of another format": (
        write("checkpoints/80/state.json", b'{"format": 7, "tree": {}}'),
        f"has format 7, this version reads {FORMAT}",
    ),
    "checkpoint empty": (write("checkpoints/80/state.json", b'{"format": %d, "tree": {}}' % FORMAT), FIT),
    "chunk flipped": (flip(CHUNK), "00000-000000000000.chunk is damaged: its checksum does not match"),
    "chunk cut": (cut(CHUNK), "chunk is damaged: .*restore it from a copy"),
    "chunk emptied": (write(CHUNK, b"x"), "chunk is damaged: it does not begin like a chunk file"),
    "first chunk missing": (remove(CHUNK), "lacks 16 rows of stream 0"),
    "chunk between missing": (remove_chunk_between, "chunk is missing: restore it from a copy"),
    "metrics cut": (cut("metrics.jsonl"), "metrics.jsonl .* is not what the checkpoint saw"),
    "metrics missing": (remove("metrics.jsonl"), "is not what the checkpoint saw"),
    "other networks": (setting("agent.rssm.deter", 16), f"{FIT}.*networks have other shapes: policy"),
    "other streams": (setting("env.num_envs", 3), "saved replay has streams = 2, this run 3"),
    "other replay": (setting("replay.store.budget", 50_000), "saved replay has rows_per_stream"),
    "other windows": (setting("replay.window.learn", 5), "saved replay has rows_per_stream|length"),
    "other environment": (setting("env.id", "toy/count"), FIT),
    "other chunks": (setting("replay.store.chunk", 32), "saved chunks have"),
    "unknown key": (setting("agent.gama", 0.9), "unknown key 'agent.gama'.*agent.gamma"),
    "unknown selector": (setting("replay.selector.kind", "uniforn"), "'uniforn' is unknown.*uniform"),
    "unknown agent": (setting("name", "dreamerv22"), "unknown agent 'dreamerv22'.*dreamerv2"),
    "unknown environment": (setting("env.id", "toy/catchh"), "unknown environment 'toy/catchh'.*toy/catch"),
    "unknown option": (setting("env.options", {"sizes": 3}), "sizes.*size"),
    "wrong type": (setting("run.prefill", "many"), "run.prefill = 'many' is not an int"),
    "impossible number": (setting("replay.window.learn", 0), "learn and period must be >= 1, got 0"),
    "config cut": (cut("config.json"), "config.json is damaged .*restore it from a copy"),
    "config not text": (write("config.json", b"\xff\xfe{}"), "config.json is damaged"),
    "config a list": (write("config.json", b"[]"), "config.json is damaged"),
    "config empty": (write("config.json", b"{}"), "config.json is damaged"),
    "config of nothing": (write("config.json", b'{"config": {}}'), "config.json is damaged"),
    "config of a newer format": (newer_format, "config.json has format 4, not 3: train anew"),
    "no config": (remove("config.json"), "is not a run directory: it has no config.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_and_not_made_worse(run_dir: Path, damage: str) -> None:
    harm, message = DAMAGES[damage]
    harm(run_dir)
    before = recorded(run_dir)
    error = refused("resume", str(run_dir))
    assert re.search(message, error), error
    # A line that is cut short is dropped when the file is opened.
    kept = before.get("metrics.jsonl", b"")
    before["metrics.jsonl"] = kept[: kept.rfind(b"\n") + 1]
    now = {"metrics.jsonl": b"", **recorded(run_dir)}
    assert sorted(now) == sorted(before)
    assert [name for name in before if now[name] != before[name]] == []


POLICY = [
    name for name in DAMAGES if name.startswith(("checkpoint", "config", "no config", "unknown", "wrong", "impos"))
]


@pytest.mark.parametrize("damage", [*POLICY, "other networks"])
@pytest.mark.parametrize("command", ["eval", "dream"])
def test_eval_and_dream_tell_it_too(run_dir: Path, command: str, damage: str) -> None:
    harm, message = DAMAGES[damage]
    harm(run_dir)
    before = recorded(run_dir)
    assert re.search(message, refused(command, str(run_dir)))
    assert recorded(run_dir) == before


def test_a_damaged_checkpoint_can_be_given_up(run_dir: Path, alone: Path) -> None:
    """The fix that the message names works: the run goes on from the checkpoint before."""
    cut("checkpoints/80/arrays.safetensors")(run_dir)
    refused("resume", str(run_dir))
    shutil.rmtree(run_dir / "checkpoints" / "80")
    result = reverie("resume", str(run_dir))
    assert result.exit_code == 0, result.output
    assert_same_run(alone, run_dir)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "Not a directory; name another --logdir" in refused(*words(ENV, tmp_path / "file" / "run"))
    assert "is a file; name a directory" in refused(*words(ENV, tmp_path / "file"))
    assert files(tmp_path) == {"file": b"mine"}


def test_two_processes_do_not_train_in_one_folder(run_dir: Path, alone: Path) -> None:
    before = recorded(run_dir)
    other = os.open(run_dir, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "another process is training" in refused("resume", str(run_dir))
    assert recorded(run_dir) == before
    assert reverie("eval", str(run_dir), "--episodes", "1").exit_code == 0
    os.close(other)
    assert reverie("resume", str(run_dir)).exit_code == 0
    assert_same_run(alone, run_dir)


@pytest.mark.parametrize("command", ["resume", "eval", "dream"])
def test_a_folder_that_is_no_run(tmp_path: Path, command: str) -> None:
    assert "is not a run directory" in refused(command, str(tmp_path / "nothing"))
    assert "is not a run directory" in refused(command, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_its_config_is_not_begun_anew(run_dir: Path) -> None:
    (run_dir / "config.json").unlink()
    before = recorded(run_dir)
    assert "no config.json; restore that file or name another directory" in refused(*words(ENV, run_dir))
    assert recorded(run_dir) == before


def test_another_run_in_the_same_folder_is_refused(run_dir: Path) -> None:
    before = recorded(run_dir)
    error = refused(*words(ENV, run_dir, "--agent.gamma", "0.5", "--run.checkpoint_every", "50"))
    assert "holds another run (agent.gamma is 0.97 there, 0.5 here)" in error
    assert recorded(run_dir) == before


def test_evaluating_before_the_first_checkpoint(tmp_path: Path) -> None:
    run = begin(config(ENV), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 11, crash=True))
    for command in ("eval", "dream"):
        assert "has no checkpoint yet" in refused(command, str(tmp_path / "run"))
    assert len(lines(tmp_path / "run")) > 0


SMALL_PICTURES = ["--env", "toy/noisy-catch", "--env.options.continuous", "true"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "dreamerv9"], "unknown agent 'dreamerv9'; did you mean dreamerv3, dreamerv2, dreamerv1?"),
        (["train", "dreamerv2", "--preset", "cpux"], "unknown preset 'cpux' for dreamerv2"),
        (["train", "dreamerv2", "--env", "toy/catsh"], "unknown environment 'toy/catsh'; did you mean toy/catch"),
        (["train", "dreamerv2", "--env", "no.module:f"], "no module 'no'"),
        (["train", "dreamerv2", "--agent.gama", "1"], "unknown key 'agent.gama'; did you mean agent.gamma"),
        (["train", "dreamerv2", "--agent.gamma", "high"], "agent.gamma = 'high' is not a float"),
        (["train", "dreamerv2", "--agent.horizon", "1"], "agent.horizon = '1' is not an int of at least 2"),
        (
            ["train", "tdmpc", *SMALL_PICTURES],
            "tdmpc cannot be built for toy/noisy-catch: images need both sides >= 39",
        ),
        (["train", "dreamerv2", "--device", "gpu"], "unknown device 'gpu'"),
        (["train", "dreamerv2", "--device", "mps"], "device 'mps' is not supported; expected auto, cpu"),
        (["train", "dreamerv2", "--device", "cpu", "--run.capture", "true"], "the device is cpu; set it to false"),
        (["train", "dreamerv2", "--replay.window.learn", "0"], "learn and period must be >= 1"),
        (["train", "dreamerv2", "--replay.store.budget", "10"], "raise it to at least"),
        (["train", "dreamerv2", "--replay.batch", "0"], "batch must be at least 1, got 0"),
        (["train", "dreamerv2", "--replay.selector=ends", "--replay.window.period=4"], "needs period = 1"),
        (["train", "dreamerv2", "--run.train_ratio", "0"], "train_ratio must be finite"),
        (["train", "dreamerv2", "--run.keep_checkpoints", "0"], "keep_checkpoints must be at least 1"),
        (["train", "dreamerv2", "--env.num_envs", "0"], "num_envs"),
        (["train", "dreamerv2", "--frames", "0"], "frames must be at least 1"),
    ],
)
def test_slips_on_the_command_line_begin_no_run(tmp_path: Path, command: list[str], message: str) -> None:
    assert message in refused(*command, "--logdir", str(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()
    assert recorded(tmp_path) == {}
