"""Platforms without what POSIX has: everything is imported, and training is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HIDE = """
import os, signal, sys
for module in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[module] = None
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE"):
    delattr(signal, name)
for name in ("fork", "pread", "pwrite", "getuid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""
"""hides what Python lacks on Windows"""

EVERYTHING = """
import importlib, pkgutil, reverie
for module in pkgutil.walk_packages(reverie.__path__, "reverie."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

TRAIN = """
from reverie.cli import main
sys.argv = ["reverie", "train", "dqn", "--env", "toy/catch", "--logdir", "run"]
main()
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDE + code], cwd=folder, capture_output=True, text=True)


def test_without_posix_everything_is_imported_and_training_refused_in_one_line(tmp_path: Path) -> None:
    done = python(EVERYTHING + TRAIN, tmp_path)
    assert done.stderr == (
        "reverie: error: training needs Linux or macOS (it locks and syncs its run directory); "
        "on Windows use WSL 2 or a container\n"
    )
    assert done.returncode == 2
    assert not (tmp_path / "run").exists()
