"""`reverie play`: what is said, in one line, where it cannot be done, and how it ends."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner
from page_runs import dreamer, serving

from reverie.cli import cli
from reverie.play.page.server import address, is_local, listen
from reverie.play.page.subject import Subject


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dreamer("toy/catch", tmp_path_factory.mktemp("played") / "run", **{"run.checkpoint_every": 30})


def said(*words: str) -> str:
    """The one line on standard error of a command that fails with code 2."""
    result = CliRunner().invoke(cli, ["play", *words])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("reverie: error: ")
    return result.stderr


def test_what_is_no_run_is_refused(tmp_path: Path, run_dir: Path) -> None:
    assert "is not a run directory" in said(str(tmp_path))
    shutil.copyfile(run_dir / "config.json", tmp_path / "config.json")
    assert "has no checkpoint yet" in said(str(tmp_path), "--no-browser")
    assert "has no checkpoint '7'; it has latest, " in said(str(run_dir), "--checkpoint", "7", "--no-browser")
    assert "unknown device 'gpu'" in said(str(run_dir), "--device", "gpu", "--no-browser")


def test_a_run_without_a_replay_has_nothing_to_start_from(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "replay")
    line = said(str(tmp_path / "run"), "--start", "replay", "--no-browser")
    assert "has no replay to start from; leave --start out" in line


def test_a_port_that_is_taken_is_said(run_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = said(str(run_dir), "--port", str(port), "--no-browser")
    assert f"cannot listen on 127.0.0.1, port {port} (Address already in use); name another --port" in line
    assert "--host no.such.host" in said(str(run_dir), "--host", "no.such.host", "--no-browser")


def test_a_browser_that_is_asked_for_must_be_there(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(using: str | None = None) -> webbrowser.BaseBrowser:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", get)
    assert "there is no browser to open here; leave --browser out" in said(str(run_dir), "--browser")


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "websockets"])
def test_a_missing_package_is_named_with_its_extra(run_dir: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    line = said(str(run_dir), "--no-browser")
    assert f"the page needs {module}; install it with: pip install 'reverie-rl[play]'" in line


def test_a_folder_that_is_a_runs_replay_is_not_recorded_into(run_dir: Path) -> None:
    line = said(str(run_dir), "--record", str(run_dir / "replay"), "--no-browser")
    assert "has rows that were not recorded here" in line


def test_a_run_that_is_trained_meanwhile_is_played_from_its_newest_checkpoint(run_dir: Path) -> None:
    newest = Subject(run_dir).env_steps
    assert newest == 60
    older = sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdigit())[0]
    assert Subject(run_dir, str(older)).env_steps == older < newest
    # Files of the replay come and go meanwhile.
    (run_dir / "replay" / "00000-000000000000.chunk.tmp").write_bytes(b"half")
    assert Subject(run_dir).threshold == 0.5


def test_a_browser_is_opened_and_ctrl_c_ends_it(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, opened = tmp_path / "browse", tmp_path / "opened"
    script.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(script))
    with serving(run_dir, tmp_path, "--start", "replay", "--browser") as served:
        until = time.monotonic() + 20
        while not (opened.exists() and opened.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        assert opened.read_text().strip() == served.url
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(20) == 0
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            host, port = served.host.split(":")
            again.bind((host, int(port)))


def test_addresses() -> None:
    assert is_local("127.0.0.1")
    assert is_local("::1")
    assert is_local("localhost")
    assert not is_local("0.0.0.0")
    assert not is_local("192.168.0.1")
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address(listening, "127.0.0.1", "k") == f"http://127.0.0.1:{port}/?key=k"
        assert address(listening, "::1", "k") == f"http://[::1]:{port}/?key=k"
        assert address(listening, "0.0.0.0", "k") == f"http://{socket.gethostname()}:{port}/?key=k"
