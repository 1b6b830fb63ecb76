"""What only a log line carries, recomputed from the run's configuration, its draws, its rows and its other lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import config

from reverie.data.dataset import open_dataset
from reverie.data.selector import Drawn
from reverie.data.selectors import Uniform
from reverie.report.log import Record, read_metrics
from reverie.run.train import train

STREAMS, BATCH, LEARN, PREFILL, PRETRAIN = 2, 2, 4, 40, 2
SECONDS_PER_DRAW = 1000.0
"""By which the clock is put forward at every draw, so that the seconds that really pass do not count."""


@dataclass(frozen=True)
class Logged:
    """A run's lines and, for every batch drawn, the ages of its windows in rows of all streams."""

    run_dir: Path
    records: list[Record]
    ages: list[np.ndarray]

    @property
    def lines(self) -> list[Record]:
        """The lines of means, one every 10 env_steps."""
        return [record for record in self.records if "replay/rows" in record]

    def ended(self, line: Record) -> int:
        """Episodes of training that had ended before this line; each has one row more than it has env_steps."""
        before = self.records[: self.records.index(line)]
        return sum("episode/length" in record for record in before)


def row_bytes(run_dir: Path) -> int:
    """Bytes of one row, from the arrays that were recorded."""
    rows = open_dataset(run_dir / "replay").rows(0)
    return sum(value[0].nbytes for value in rows.values())


def record_run(run_dir: Path, **changes: int) -> Logged:
    """Train Catch for 160 env_steps; every draw is noted and takes `SECONDS_PER_DRAW` of the run's clock."""
    ages: list[np.ndarray] = []
    skipped = 0.0
    draw, clocks = Uniform.sample, {name: getattr(time, name) for name in ("perf_counter", "monotonic")}

    def noted(self: Uniform, n: int, rng: np.random.Generator) -> Drawn:
        nonlocal skipped
        drawn = draw(self, n, rng)
        # Windows begin at every row: as many rows came after a window as there are windows after it in its stream.
        ages.append((self.high[drawn.streams] - 1 - drawn.starts) * STREAMS)
        skipped += SECONDS_PER_DRAW
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Uniform, "sample", noted)
        for name, clock in clocks.items():
            patch.setattr(time, name, lambda clock=clock: clock() + skipped)
        train(config("toy/catch", run__eval_episodes=0, **changes), run_dir)
    return Logged(run_dir, read_metrics(run_dir), ages)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return record_run(tmp_path_factory.mktemp("runs") / "catch")


def test_lines_come_every_ten_env_steps(logged: Logged) -> None:
    assert [line["env_steps"] for line in logged.lines] == list(range(10, 161, 10))
    # 120 env_steps after the prefill, 8 trained rows a learner_step, one of them at once, and two before all others.
    assert logged.lines[-1]["learner_steps"] == len(logged.ages) == 120 // (BATCH * LEARN) + 1 + PRETRAIN


def test_age_is_the_mean_over_the_batches_since_the_line_before(logged: Logged) -> None:
    trained = 0
    for line in logged.lines:
        since = logged.ages[trained : line["learner_steps"]]
        trained = line["learner_steps"]
        assert ("train/age" in line) == bool(since)
        if since:
            assert line["train/age"] == pytest.approx(np.mean(since))
    assert len({line.get("train/age") for line in logged.lines}) > 8


def test_rows_are_decisions_and_closing_rows_and_bytes_are_those_of_their_fields(logged: Logged) -> None:
    size = row_bytes(logged.run_dir)
    for line in logged.lines:
        assert line["replay/rows"] == line["env_steps"] + logged.ended(line)
        assert line["replay/bytes"] == line["replay/rows"] * size
    assert logged.ended(logged.lines[-1]) > 10


def test_a_full_replay_has_as_many_rows_as_fit_into_its_budget(logged: Logged, tmp_path: Path) -> None:
    size, rows = row_bytes(logged.run_dir), 30
    full = record_run(tmp_path / "full", replay__store__budget=STREAMS * rows * size + size)
    for line in full.lines:
        come = line["env_steps"] + full.ended(line)
        if come <= rows:
            assert line["replay/rows"] == come
        if line["env_steps"] >= 2 * rows + 20:
            assert line["replay/rows"] == STREAMS * rows
        assert line["replay/bytes"] == line["replay/rows"] * size <= STREAMS * rows * size
    # The windows of full streams are at most as old as the rows that they hold.
    assert 0 < max(age.max() for age in full.ages) <= (rows - LEARN) * STREAMS
    assert full.lines[-1]["train/age"] < logged.lines[-1]["train/age"]


def test_ratio_is_trained_rows_per_env_step_since_the_prefill(logged: Logged) -> None:
    for line in logged.lines:
        since, paced = line["env_steps"] - PREFILL, line["learner_steps"] - PRETRAIN
        assert line["replay/ratio"] == pytest.approx(paced * BATCH * LEARN / since if since > 0 else 0.0)


def test_speeds_are_counts_since_the_line_before_over_the_seconds_between(logged: Logged) -> None:
    env_steps, learner_steps = 0, 0
    for line in logged.lines:
        made, trained = line["env_steps"] - env_steps, line["learner_steps"] - learner_steps
        env_steps, learner_steps = line["env_steps"], line["learner_steps"]
        if not trained:
            assert line["speed/learner_steps_per_s"] == 0
            assert line["speed/env_steps_per_s"] > 2 * made / SECONDS_PER_DRAW
            continue
        seconds = trained * SECONDS_PER_DRAW
        assert line["speed/learner_steps_per_s"] == pytest.approx(trained / seconds, rel=0.02)
        assert line["speed/env_steps_per_s"] == pytest.approx(made / seconds, rel=0.02)
