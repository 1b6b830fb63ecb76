"""Numbers on pages are those that were measured, and nothing is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reverie.presets import presets

DOCS = Path(__file__).parents[2] / "docs"
CHOOSING = (DOCS / "choosing.md").read_text()
HOURS = re.findall(r"^\| `(\S+)` \| `(\S+)` \| .*? \| ([\d ]+) \| ([\d.]+) \| .*\((\S+json)\) \|$", CHOOSING, re.M)


@pytest.mark.parametrize(("agent", "preset", "env_steps", "minutes", "file"), HOURS)
def test_minutes_are_those_of_the_file(agent: str, preset: str, env_steps: str, minutes: str, file: str) -> None:
    measured = json.loads((DOCS / file).read_text())
    assert float(minutes) == pytest.approx(measured["median_minutes"][agent])
    asked = int(env_steps.replace(" ", ""))
    most = 63 if agent == "a3c" else 0  # its env_steps are counted when a gradient arrives, of up to 64 rows
    if "ray.actors=2" in measured["overrides"]:
        most = 2 * 20 * 4  # a report of each actor, 20 rows of its 4 streams
    assert all(0 <= run["env_steps"] - asked <= most for run in measured["runs"][agent])
    assert preset in presets()[agent]


def test_every_preset_is_measured_or_said_not_to_be() -> None:
    assert len(HOURS) >= 10
    table = {(agent, preset) for agent, preset, *_ in HOURS} | {("r2d2", "gpu")}
    rest = set(re.findall(r"`([\w-]+)`", CHOOSING.partition("**not measured**")[2].partition("How long")[0]))
    silent = [(a, p) for a, names in presets().items() for p in names if (a, p) not in table and p not in rest]
    assert silent == []
