"""Files for those who package, cite or contribute: what they name is there, and versions agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import reverie

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_versions_and_licences_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == reverie.__version__ == PROJECT["version"]
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")
    assert {"cff-version", "title", "message", "authors"} <= set(citation)


def test_the_container_copies_what_is_there_and_installs_extras_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.+)$", text, re.M) for word in line.split()[:-1]]
    assert sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", text, re.M)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert 'ENTRYPOINT ["reverie"]' in text
    assert "reverie" in PROJECT["scripts"]


def test_the_page_on_installing_names_every_extra() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.M)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    assert named == set(PROJECT["optional-dependencies"])
