"""On-policy plumbing: of a run every row is learned once, in order, from the state that the actor had before it.

The counting environment and agent, through the local runner with ``replay.selector = fifo``; and what the same check
says of runs whose windows overlap, leave rows out, or are drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import Stop
from torch import Tensor

from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.dataset import open_dataset
from reverie.data.keys import split_keys
from reverie.data.selectors import FifoConfig, SelectorConfig, UniformConfig
from reverie.data.sequences import Batch, SequenceSpec
from reverie.run.local import Local
from reverie.run.train import beside
from tests.contracts.test_counting import Counting, CountingLearner, Nothing, check_rows

LEARN = 5
SEEN: list[tuple[int, int, dict[str, np.ndarray], float]] = []
"""Of each learned window: stream, start, rows, and wrong states in its batch."""


class Noting(CountingLearner):
    """Notes what it is given."""

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Any:
        result = super().losses(batch, metrics)
        with pytest.raises(StopIteration) as stop:
            next(result)
        for b, (stream, start) in enumerate(zip(*split_keys(batch.keys.numpy()), strict=True)):
            rows = {name: value[: self.windows.learn, b].numpy().copy() for name, value in batch.rows.items()}
            SEEN.append((int(stream), int(start), rows, float(metrics["wrong"])))
        return stop.value.value
        yield


@dataclass(frozen=True)
class Once(Counting):
    """The counting agent with a row to bootstrap from."""

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        return replace(asked, lookahead=1)

    def learner(self, policy: Any, windows: SequenceSpec, seed: int = 0, *where: Any) -> Noting:
        return Noting(policy, windows, False, seed)


def run(
    folder: Path,
    selector: SelectorConfig,
    period: int = LEARN,
    ratio: float | None = None,
    stops: tuple[int, ...] = (),
    overlap: int = 0,
) -> Local:
    """A run of 400 env_steps in three streams, with pauses that save and resume it."""
    SEEN.clear()
    config = Config(
        name=f"{__name__}:Once",
        preset="none",
        agent=Nothing(),
        env=EnvConfig("toy/count", 3, options={"length": 2, "max_length": 11, "end": "mixed"}),
        replay=ReplayConfig(4, WindowConfig(0, LEARN, period, "stored"), selector, StoreConfig(40_000, chunk=8)),
        run=RunConfig(
            env_steps=400,
            prefill=0,
            pretrain=0,
            train_ratio=ratio,
            overlap=overlap,
            log_every=20,
            checkpoint_every=50,
            eval_episodes=0,
        ),
    )
    for part, stop in enumerate((*stops, 400)):
        local = beside(config)(config, folder)
        assert isinstance(local, Local)
        if part:
            local.restore()
        local.train(Stop(local, stop))
    assert local.run.clock.env_steps >= 400
    return local


def check_once(local: Local, folder: Path) -> None:
    """Learned rows of each stream are its rows, one after another; at the end only what waits is left."""
    local.store.record.flush()  # type: ignore[union-attr]
    left = 0
    for stream in range(3):
        windows = [(start, rows) for number, start, rows, _ in SEEN if number == stream]
        learned = [start + k for start, rows in windows for k in range(len(rows["reward"]))]
        assert learned == list(range(len(learned)))
        written = open_dataset(folder / "replay").rows(stream)
        check_rows(written)
        for name in written:
            joined = np.concatenate([rows[name] for _, rows in windows])
            np.testing.assert_array_equal(joined, written[name][: len(learned)])
        left += len(written["reward"]) - len(learned)
    assert left <= 3 * LEARN + (4 - 1) * LEARN  # windows that are not complete, and too few complete ones for a batch
    assert not any(wrong for *_, wrong in SEEN)
    orders = [start for _, start, _, _ in SEEN]
    assert max(a - b for a, b in pairwise(orders)) <= 2 * LEARN  # streams take turns


@pytest.mark.parametrize("overlap", [0, 1], ids=["in-turns", "overlapped"])
@pytest.mark.parametrize("stops", [(), (33, 71, 130, 131, 245)], ids=["whole", "interrupted"])
def test_every_row_is_learned_once_and_in_order(tmp_path: Path, stops: tuple[int, ...], overlap: int) -> None:
    local = run(tmp_path, FifoConfig(), stops=stops, overlap=overlap)
    check_once(local, tmp_path)
    assert local.learner.learner_steps >= 15
    assert local.store.metrics()["dropped_windows"] == 0


@pytest.mark.parametrize(
    ("selector", "period", "ratio"),
    [(FifoConfig(), LEARN - 1, None), (FifoConfig(), LEARN + 1, None), (UniformConfig(), LEARN, 1.0)],
    ids=["overlap", "gap", "random"],
)
def test_the_check_can_fail(tmp_path: Path, selector: SelectorConfig, period: int, ratio: float | None) -> None:
    """The negative controls."""
    local = run(tmp_path, selector, period, ratio)
    with pytest.raises(AssertionError):
        check_once(local, tmp_path)


def test_a_state_of_another_row_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reverie.data.outbox import Outbox

    put = Outbox.put
    shift = lambda self, rows, streams, state, version: put(  # noqa: E731
        self, rows, streams, {**state, "count": state["count"] + 1}, version
    )
    monkeypatch.setattr(Outbox, "put", shift)
    local = run(tmp_path, FifoConfig())
    with pytest.raises(AssertionError):
        check_once(local, tmp_path)
