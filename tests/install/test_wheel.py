"""A wheel: everything that an installed package needs is in it, far from any copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel of this copy was unpacked."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    for folder, wanted in (("reverie", "*"), ("results", "*.json")):  # as a copy has them, but without what is built
        for path in (ROOT / folder).rglob(wanted):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    done = subprocess.run([sys.executable, "-c", BUILD, str(wheels)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    return site


def reverie(site: Path, elsewhere: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of the unpacked wheel, in another folder."""
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "reverie.cli", *words]
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)


def test_a_wheel_has_every_module_and_file_of_the_package(site: Path) -> None:
    ours = {p.relative_to(ROOT) for p in (ROOT / "reverie").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert ours <= {path.relative_to(site) for path in site.rglob("*")}


def test_claims_are_listed_and_checked_from_a_wheel(site: Path, tmp_path: Path) -> None:
    listing = reverie(site, tmp_path, "reproduce", "--list")
    assert (listing.returncode, listing.stderr) == (0, "")
    claims = {path.stem for path in (ROOT / "results" / "claims").glob("*.json")}
    assert {line.split()[0] for line in listing.stdout.splitlines()} == claims
    assert reverie(site, tmp_path, "reproduce", "catch-dreamerv2", "--committed").stdout.endswith("passed\n")
    script = reverie(site, tmp_path, "reproduce", "r2d2-strategies")
    assert script.returncode == 2
    assert script.stderr.startswith(
        "reverie: error: r2d2-strategies runs benchmarks/r2d2_state_strategies.py, which is not here: go to the root"
    )
    assert not (tmp_path / "runs").exists()
