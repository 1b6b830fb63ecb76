"""Runs that several files of tests play with."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_runs import CATCH, once


@pytest.fixture(scope="session")
def catch_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A DreamerV2 whose model knows Catch, on a small board."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    return once(shared / "catch-to-play", "dreamerv2", "toy/catch", CATCH)
