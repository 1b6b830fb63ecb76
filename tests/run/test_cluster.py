"""Connections to Ray that cannot be made are one line each, and nothing is connected by accident."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from reverie.cli import cli
from reverie.config import RayConfig
from reverie.errors import UserError
from reverie.run.cluster import LOOPBACK, connected


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    words = ["train", "dqn", "--env", "toy/catch", "--actors", "2", "--logdir", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "reverie: error: runs with actors need Ray: pip install 'reverie-rl[ray]'"
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_ray_that_could_not_be_told_to_stay_on_loopback_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda *words, **more: started.append(words))
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv(LOOPBACK, raising=False)
    with (
        pytest.raises(UserError, match="imported before it could be told to listen on loopback only"),
        connected(RayConfig(2)),
    ):
        pass
    assert not started


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **options: object) -> None:
        raise ConnectionError(f"Could not find any running Ray instance at {address}.\nMore about it.")

    ended: list[bool] = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "ray", fake)
    with (
        pytest.raises(UserError, match=r"cannot connect to Ray at 'auto': Could not find .* at auto\.$"),
        connected(RayConfig(2, address="auto")),
    ):
        pass
    assert ended


def test_a_cluster_that_does_not_start_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init(address: str, **options: object) -> None:
        raise Exception("The current node timed out during startup.")

    ended: list[bool] = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: ended.append(True))
    monkeypatch.setattr("reverie.run.cluster.import_ray", lambda _: fake)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(UserError, match=r"cannot connect to Ray at 'local': The current node timed out"),
        connected(RayConfig(2)),
    ):
        pass
    assert ended
    assert not list(tmp_path.iterdir())


def test_a_connection_that_is_there_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fake = SimpleNamespace(is_initialized=lambda: True, init=calls.append, shutdown=lambda: calls.append("shutdown"))
    monkeypatch.setitem(sys.modules, "ray", fake)
    with connected(RayConfig(2)) as ray:
        assert ray is fake
    assert not calls


def test_a_cluster_whose_sockets_would_have_too_long_names_is_kept_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("a" * 60)
    deep.mkdir()
    folders: list[str] = []

    def init(address: str, _temp_dir: str, **options: object) -> None:
        folders.append(_temp_dir)
        raise OSError("AF_UNIX path length cannot exceed 107 bytes: ...")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv(LOOPBACK, "0")
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(UserError, match="cannot connect to Ray at 'local': AF_UNIX path"), connected(RayConfig(2)):
        pass
    assert folders[0].startswith("/tmp/reverie-")
    assert not Path(folders[0]).exists()
