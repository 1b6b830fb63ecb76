"""Batches of a store in shards are drawn exactly as those of one store of all streams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack_states

from reverie.config import RayConfig
from reverie.data.dataset import open_dataset
from reverie.data.inbox import Delivery, Inbox
from reverie.data.keys import split_keys
from reverie.data.limiter import Limiter
from reverie.data.replay import Replay
from reverie.data.selector import Mass
from reverie.data.selectors import (
    SELECTORS,
    EpisodeEndsConfig,
    EpisodeStartsConfig,
    PrioritisedConfig,
    RecencyConfig,
    SelectorConfig,
    UniformConfig,
)
from reverie.data.sequences import Batch, Chunk, Feedback, SequenceSpec
from reverie.data.shard import Collect, Draw, Part, Plan, Shard, Shipment
from reverie.data.store import Store
from reverie.run.draws import Draws
from reverie.run.sharded_store import ShardedStore
from reverie.run.shards import Answer, ShardHost
from tests.run.engine import Engine, EngineError, Ref

STREAMS, LENGTH, CAPACITY = 2, 6, 24
"""streams of an actor, rows of a chunk, rows of a stream that are stored"""
PARTS = (1, 2)
"""actors of each shard"""
ACTORS = sum(PARTS)


class Both:
    """The same rows and the same feedback in one store and in shards."""

    def __init__(self, selector: SelectorConfig, windows: SequenceSpec) -> None:
        self.windows, self.engine = windows, Engine()
        states = STATES if windows.keeps_states else None
        total = ACTORS * STREAMS
        replay = Replay(SPEC, windows, total, None, selector.make(), 0, states, capacity=CAPACITY * total)
        self.one = Store(replay, Limiter(None, 0))
        self.inbox = Inbox(self.one, ACTORS, STREAMS)
        plans, first = [], 0
        for number, actors in enumerate(PARTS):
            budget = budget_of(selector, windows, actors * STREAMS)
            plans.append(Plan(SPEC, windows, states, selector, number, first, actors, STREAMS, total, budget, None, 8))
            first += actors
        self.lines: list[str] = []
        self.shards = ShardedStore(
            self.engine,  # type: ignore[arg-type]
            plans,
            RayConfig(ACTORS, shards=len(PARTS)),
            Limiter(None, 0),
            7,
            self.lines.append,
            lambda: None,
        )
        self.sources = [Source(STREAMS, actor) for actor in range(ACTORS)]
        self.sequence = [0] * ACTORS
        self.counts = np.zeros((ACTORS, STREAMS), int)
        for actor in range(ACTORS):
            assert self.inbox.begin(actor)[0] == self.shards.begin(actor)[0] == 1

    def send(self, actor: int, priorities: np.random.Generator | None = None) -> None:
        """A chunk of each stream of an actor."""
        chunks = self.chunks(actor, priorities)
        delivery = Delivery(actor, 1, self.sequence[actor], chunks)
        assert self.inbox.take(delivery)
        self.ship(delivery)
        assert self.shards.env_steps == self.one.env_steps

    def ship(self, delivery: Delivery) -> None:
        """Send a delivery to the shards."""
        self.sequence[delivery.actor] += 1
        assert self.shards.take(replace(Shipment.of(delivery), rows=self.engine.put(delivery.chunks)))

    def chunks(self, actor: int, priorities: np.random.Generator | None = None) -> list[Chunk]:
        """The next chunk of each stream of an actor."""
        chunks = []
        for stream in range(STREAMS):
            start = int(self.counts[actor, stream])
            rows = [self.sources[actor].next(stream) for _ in range(LENGTH)]
            peek = self.sources[actor].next(stream)
            for kept in (self.sources[actor].first, self.sources[actor].last, self.sources[actor].terminal):
                kept[stream].pop()
            self.sources[actor].left[stream] += 1  # the peek comes again
            if peek["is_first"]:
                self.sources[actor].left[stream] = 0
            joined = {name: np.stack([row[name] for row in rows]).astype(SPEC[name].dtype) for name in SPEC}
            grid = [k for k in range(start, start + LENGTH) if k % self.windows.period == 0]
            states = stack_states([(stream, k) for k in grid]) if self.windows.keeps_states and grid else None
            given = None if priorities is None else priorities.uniform(0.1, 3.0, LENGTH)
            chunks.append(Chunk(stream, start, joined, peek, states, 0, given))
            self.counts[actor, stream] += LENGTH
        return chunks

    def learn(self, rng: np.random.Generator) -> None:
        """Draw a batch, and give priorities of its windows to both."""
        batch = self.shards.sample(9)
        feedback = Feedback(batch.keys, torch.from_numpy(rng.uniform(0.0, 5.0, 9)))
        self.shards.feedback(feedback)
        self.one.feedback(feedback)

    @property
    def bodies(self) -> list[Shard]:
        self.shards.poll()
        self.shards.shards.settle()
        return [process.handle.body.shard for process in self.shards.shards.each]


def budget_of(selector: SelectorConfig, windows: SequenceSpec, streams: int) -> int:
    """Bytes that give each stream `CAPACITY` rows."""
    row = sum(field.nbytes for field in SPEC.values())
    state = sum(field.nbytes for field in STATES.values()) if windows.keeps_states else 0
    window = state + selector.make().window_bytes()
    return int(np.ceil(streams * (CAPACITY * (row + window / windows.period) + window)))


SHORT, LONG = SequenceSpec(1, 1, 0, 1), SequenceSpec(2, 3, 1, 2, "stored")
CASES: dict[str, tuple[SelectorConfig, SequenceSpec]] = {
    "uniform": (UniformConfig(), LONG),
    "uniform with void windows": (UniformConfig(), SHORT),
    "recency": (RecencyConfig(0.7, 3), LONG),
    "recency with void windows": (RecencyConfig(0.6, 4, "linear"), SHORT),
    "prioritised": (PrioritisedConfig(0.9), LONG),
    "prioritised with void windows": (PrioritisedConfig(0.6), SHORT),
    "prioritised whole": (PrioritisedConfig(0.6, whole=True), SequenceSpec(0, 3, 1, 1)),
    "episodes": (EpisodeStartsConfig(), SequenceSpec(0, 4, 0, 1)),
    "ends": (EpisodeEndsConfig(), SequenceSpec(0, 4, 0, 1)),
    "ends with void windows": (EpisodeEndsConfig(True, True), SHORT),
}


def filled(name: str) -> Both:
    """Streams of unequal lengths, overwritten in part, some of them learned from."""
    both, rng = Both(*CASES[name]), np.random.default_rng(0)
    for turn in range(13):
        both.send((0, 1, 1, 2, 1, 1, 0)[turn % 7], rng if turn % 2 else None)
        if turn > 2:
            both.learn(rng)
    return both


def table(batch: Batch) -> dict[int, tuple[int, float]]:
    """Key -> how often a window was drawn, and the probability that was reported."""
    keys, at, counts = np.unique(batch.keys.numpy(), return_index=True, return_counts=True)
    reported = batch.probabilities.double().numpy()[at]
    return {int(key): (int(n), float(p)) for key, n, p in zip(keys, counts, reported, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_draws_are_those_of_one_store(name: str) -> None:
    both, n = filled(name), 30_000
    one, parts = table(both.one.sample(n)), table(both.shards.sample(n))
    assert set(one) == set(parts)
    assert {int(stream) // STREAMS for stream in split_keys(np.array(list(parts)))[0]} == set(range(ACTORS))
    total = sum(p for _, p in one.values())
    for key, (_, p) in one.items():
        often, reported = parts[key]
        assert reported == pytest.approx(p, rel=2e-7)
        expected = p / total
        assert abs(often / n - expected) < 5 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_one_store(name: str) -> None:
    """In float64: of each window, of all that may be drawn, and what they are divided by."""
    both = filled(name)
    replay, bodies = both.one.replay, both.bodies
    mass, masses = replay.selector.mass(), [body.replay.selector.mass() for body in bodies]
    assert sum(each.total for each in masses) == pytest.approx(mass.total, rel=1e-12)
    assert sum(each.scale for each in masses) == pytest.approx(mass.scale, rel=1e-12)
    drawn = replay.draw(6_000)
    weights = dict(
        zip(zip(drawn.streams.tolist(), drawn.starts.tolist(), strict=True), drawn.probabilities, strict=True)
    )
    # A slow sum over all windows: void ones are never drawn, and count for nothing.
    assert sum(weights.values()) * mass.scale == pytest.approx(mass.total, rel=1e-12)
    for body in bodies:
        assert body.serve([Draw(-1, 800)]) == [body.replay.selector.mass()]
        kept = body._drawn.pop(-1)
        for stream, start, weight in zip(kept.streams, kept.starts, kept.probabilities, strict=True):
            want = weights[int(stream) + body.plan.first, int(start)]
            assert weight / sum(each.scale for each in masses) == pytest.approx(want, rel=1e-12)
    if replay.selector.takes_priorities:
        assert both.shards.largest == replay.selector.largest


@pytest.mark.parametrize("name", ["uniform", "prioritised whole"])
def test_batches_have_the_rows_states_and_ages_of_their_keys(name: str) -> None:
    both = filled(name)
    batch = both.shards.sample(40)
    streams, starts = split_keys(batch.keys.numpy())
    replay = both.one.replay
    for at, (stream, start) in enumerate(zip(streams.tolist(), starts.tolist(), strict=True)):
        chunk = replay.chunk(stream, start, start + both.windows.length)
        for field, value in batch.rows.items():
            np.testing.assert_array_equal(value[:, at].numpy(), chunk.rows[field])
        age = (replay.counts[stream] - start - both.windows.length) * ACTORS * STREAMS
        assert batch.ages[at] == age
        if batch.start is not None:
            assert batch.start["n"][at] == stream % STREAMS * 10_000 + start
    assert batch.start is not None or both.windows.state == "zero"


@pytest.mark.parametrize("name", ["uniform", "prioritised whole"])
def test_batches_that_are_collected_at_once_keep_their_own_rows(name: str) -> None:
    """More of one size than a rotation has buffers, and of many sizes: a shard keeps no buffer of any."""
    both = filled(name)
    body = both.bodies[0]
    sizes = [6] * 6 + [2, 3, 4, 5]
    body.serve([Draw(ticket, n) for ticket, n in enumerate(sizes)])
    parts = body.serve([Collect(ticket, n) for ticket, n in enumerate(sizes)])
    for part in parts:
        assert isinstance(part, Part)
        streams, starts = split_keys(part.keys)
        for at, (stream, start) in enumerate(zip(streams.tolist(), starts.tolist(), strict=True)):
            chunk = both.one.replay.chunk(stream, start, start + both.windows.length)
            for field, value in part.rows.items():
                np.testing.assert_array_equal(value[:, at], chunk.rows[field])
    assert not body.replay.pool._buffers


def test_a_window_that_is_overwritten_on_the_way_is_drawn_anew() -> None:
    both = filled("uniform")
    body = both.bodies[0]
    body.serve([Draw(-1, 4_000)])
    old = int(body._drawn[-1].starts.min())
    both.send(0)
    both.send(0)
    assert body is both.bodies[0]
    (part,) = body.serve([Collect(-1, 4_000)])
    assert isinstance(part, Part)
    _, starts = split_keys(part.keys)
    assert starts.min() >= body.replay.oldest.min() > old
    np.testing.assert_allclose(part.weights, 1.0)


def test_what_is_gone_and_cannot_be_replaced_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long episode may push the only windows out while a batch is on its way."""
    both = filled("uniform")
    body = both.bodies[0]
    body.serve([Draw(-1, 4_000)])
    both.send(0)
    both.send(0)
    assert body is both.bodies[0]
    with monkeypatch.context() as patch:
        patch.setattr(body.replay, "can_sample", lambda n: False)
        assert body.serve([Collect(-1, 4_000)]) == [None]
    asked: list[Any] = []
    draws = Draws(2, lambda shard, ask, then: asked.append((shard, ask, then)), lambda: (1, 1), 0)
    draws.request(8)
    (request,) = draws.requests
    for _, _, then in list(asked):
        then(Mass(1.0, 1.0))
    collected = [then for _, ask, then in asked if isinstance(ask, Collect)]
    for then, part in zip(collected, (None, object()), strict=True):
        then(part)
    assert (request.empty, request.whole) == (True, False)
    draws.draw(request)
    assert not request.empty
    assert [type(ask) for _, ask, _ in asked[-2:]] == [Draw, Draw]


def test_priorities_of_one_shard_are_known_to_the_others() -> None:
    """New windows without a priority get the largest of all shards; stale and strange ones do not count."""
    both = Both(PrioritisedConfig(1.0), SequenceSpec(0, 2, 0, 1))
    for actor in (0, 1, 2):
        both.send(actor)
    batch = both.shards.sample(4)
    values = torch.tensor([7.0, 1.0, float("nan"), 0.5])
    both.shards.feedback(Feedback(batch.keys, values))
    both.send(2)
    first, second = both.bodies
    assert first.replay.selector.largest == second.replay.selector.largest == 7.0
    stream = second.replay.streams - 1
    assert second.replay.selector.tree.get(np.array([stream * CAPACITY + 10])) == 7.0  # type: ignore[attr-defined]


def test_what_cannot_be_drawn_in_parts_says_so() -> None:
    for name, kind in SELECTORS.items():
        selector: Any = kind.make(kind())
        selector.bind(Both(UniformConfig(), SHORT).one.replay.selector.layout)
        if kind.parts:
            assert selector.mass().total == 0.0, name
        else:
            with pytest.raises(NotImplementedError, match="in parts"):
                selector.mass()
    assert {name for name, kind in SELECTORS.items() if not kind.parts} == {"fifo", "online"}


def test_feedback_on_a_lost_life_of_a_shard_is_stale() -> None:
    """Its keys may be those of other windows by now; the other shard takes its own."""
    both = filled("prioritised")
    batch = both.shards.sample(50)
    streams, _ = split_keys(batch.keys.numpy())
    lost = int((streams < PARTS[0] * STREAMS).sum())
    assert 0 < lost < 50
    before = both.shards.metrics()["stale_keys"]
    both.engine.kill(both.shards.shards.each[0].handle)
    both.shards.request(3)
    both.shards.poll()
    both.shards.shards.settle()
    assert both.shards.broken == set(range(PARTS[0]))
    assert len(both.lines) == 1
    assert both.shards.lost_rows == both.one.replay.counts[: PARTS[0] * STREAMS].sum()
    for actor in range(PARTS[0]):
        incarnation, indices = both.shards.begin(actor)
        assert not indices.any()
        both.counts[actor], both.sequence[actor] = 0, 0
        for _ in range(4):  # other rows at the same places
            both.ship(Delivery(actor, incarnation, both.sequence[actor], both.chunks(actor)))
    both.shards.feedback(Feedback(batch.keys, torch.full((50,), 9.0)))
    both.shards.poll()
    both.shards.shards.settle()
    assert both.shards.metrics()["stale_keys"] == before + lost
    trees = [body.replay.selector.tree for body in both.bodies]  # type: ignore[attr-defined]
    leaves = [set(tree.get(np.arange(tree.size)).tolist()) for tree in trees]
    assert 9.0**0.9 not in leaves[0]
    assert 9.0**0.9 in leaves[1]
    assert both.shards.next() is not None


def closed(both: Both, actor: int) -> np.ndarray:
    """Rows, int64 [streams], with which the open episodes of an actor are closed: those that were seen last."""
    peeks = [both.inbox._peeks[actor * STREAMS + stream].rows for stream in range(STREAMS)]
    return np.array([int(not peek["is_first"][0]) for peek in peeks])


def test_rows_that_are_lost_on_their_way_cost_their_actor_a_life_and_the_shard_nothing() -> None:
    both = filled("uniform with void windows")
    shards, rows = both.shards, both.shards.rows

    def gone() -> None:
        raise EngineError("the machine of the actor is gone")

    head = Shipment.of(Delivery(1, 1, both.sequence[1], both.chunks(1)))
    assert shards.take(replace(head, rows=Ref(gone)))
    later = Shipment.of(Delivery(1, 1, both.sequence[1] + 1, both.chunks(1)))
    assert shards.take(replace(later, rows=both.engine.put([])))  # it was under way already
    assert len(both.bodies) == len(PARTS)
    assert shards.broken == {1}
    assert shards.lost_rows == 2 * LENGTH * STREAMS
    assert both.lines == ["reverie: rows of actor 1 were lost on their way to their shard; it begins anew"]
    assert (shards.rows, shards.shards.restarts) == (rows, 0)
    incarnation, indices = shards.begin(1)
    assert indices.tolist() == [int(count) for count in both.one.replay.counts[STREAMS : 2 * STREAMS] + closed(both, 1)]
    assert incarnation > 1
    assert not shards.broken


def test_a_new_life_of_a_shard_removes_the_files_of_rows_that_are_lost(tmp_path: Path) -> None:
    """Of its own streams alone, which have the run's numbers."""
    both = Both(UniformConfig(), LONG)
    folder, saved = tmp_path / "replay", tmp_path / "saved"
    plans = [replace(plan, folder=folder) for plan in both.shards.plans]
    hosts = [ShardHost(plan) for plan in plans]
    names: set[str] = set()
    for turn in range(6):
        if turn == 3:
            assert isinstance(hosts[1].save(str(saved)), Answer)
            names = {path.name for path in folder.iterdir()}
            counts = hosts[1].shard.replay.counts
        for actor in range(ACTORS):
            delivery = Delivery(actor, 1, turn, both.chunks(actor))
            host = hosts[int(actor >= PARTS[0])]
            if not turn:
                host.begin(actor, 0)
            assert isinstance(host.take(Shipment.of(delivery), delivery.chunks, 0.0), Answer)
    assert {path.name[:5] for path in folder.iterdir()} == {f"{stream:05d}" for stream in range(ACTORS * STREAMS)}
    life = ShardHost(plans[1])
    answer = life.load(str(saved))
    assert isinstance(answer, Answer)
    np.testing.assert_array_equal(answer.value, counts)
    there = {path.name for path in folder.iterdir()}
    life.trim()
    first = PARTS[0] * STREAMS
    left = {path.name for path in folder.iterdir()}
    assert left == {name for name in there if int(name[:5]) < first or name in names} < there
    life.complete()
    data = open_dataset(folder)
    for stream, count in enumerate(counts.tolist()):
        assert len(data.rows(first + stream)["reward"]) == count
