"""The runner whose store is in shards, on an engine of the tests: every row once and in order, whoever is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engine import Engine

from reverie.cli import cli
from reverie.report.log import read_metrics
from reverie.run.saved_config import save_config
from reverie.run.sharded_store import ShardedStore
from tests.contracts.test_counting import SPECS
from tests.run.test_distributed import Recorder, config_of

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"


def store_of(recorder: Recorder) -> ShardedStore:
    assert isinstance(recorder.runner.store, ShardedStore)
    return recorder.runner.store


def hear(recorder: Recorder) -> None:
    """What shards say comes to the recorder too."""
    store_of(recorder)._say = recorder.lines.append


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("spec", [SPECS[1], SPECS[2]], ids=["period", "context"])
def test_every_row_once_and_in_order(tmp_path: Path, spec: Any, shards: int) -> None:
    recorder = Recorder(config_of(spec, shards=shards), tmp_path, Engine())
    hear(recorder)
    recorder.train()
    recorder.check(tmp_path)
    assert not recorder.lines
    store = store_of(recorder)
    assert store.dropped == store.lost_rows == 0
    assert store.rows == sum(min(int(count), 10**9) for count in np.minimum(store.counts, rows_per_stream(store)))
    logged = {name for line in read_metrics(tmp_path) for name in line if name.startswith(("actor/", "replay/"))}
    assert {"replay/shard_memory", "replay/shard_queue"} <= logged
    save_config(recorder.runner.config, tmp_path)
    told = CliRunner().invoke(cli, ["status", str(tmp_path)])
    assert told.exit_code == 0, told.output
    state = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path), "--json"]).stdout)
    assert [shard["shard"] for shard in state["shards"]] == list(range(shards))
    assert sum(shard["rows"] for shard in state["shards"]) == store.rows
    for name in state["shards"][0]:
        assert f"`{name}`" in DOCS.read_text()


def rows_per_stream(store: ShardedStore) -> int:
    tally = store.shards.each[0].tally
    assert tally is not None
    return tally.rows_per_stream
