"""What a demo finds in its place: it removes what a demo left, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverie.errors import UserError
from reverie.play.demo import MARK, make_room
from reverie.run.lock import alone


def test_a_demo_removes_a_demo_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_room(run)
    (run / "config.json").touch()
    make_room(run)
    assert [path.name for path in run.iterdir()] == [MARK]
    with alone(run), pytest.raises(UserError, match="a demo is at work in"):
        make_room(run)
    (run / MARK).rename(run / "config.json")
    with pytest.raises(UserError, match="not marked as a demo's"):
        make_room(run)
    assert (run / "config.json").exists()
