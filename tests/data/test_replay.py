"""The replay against a slow model that keeps every row and every priority in dictionaries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from counting import SPEC, STATES, Source, stack, stack_states
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.agents.recurrent import written_back
from reverie.data.keys import split_keys, window_keys
from reverie.data.replay import Replay
from reverie.data.selectors import EpisodeEnds, EpisodeStarts, Fifo, Prioritised, Recency, Selector, Uniform
from reverie.data.sequences import Batch, Chunk, Feedback, SequenceSpec
from reverie.errors import UserError

SELECTORS = ["uniform", "prioritised", "recency"]


def make_selector(kind: str) -> Selector:
    by_kind = {"uniform": Uniform(), "prioritised": Prioritised(0.7), "recency": Recency(0.5, 4), "fifo": Fifo()}
    by_episode = {"ends": EpisodeEnds(), "ongoing": EpisodeEnds(ongoing=True), "episodes": EpisodeStarts()}
    return (by_kind | by_episode)[kind]


class Model:
    """What the replay should do, said slowly."""

    def __init__(self, source: Source, sequence: SequenceSpec, streams: int, capacity: int) -> None:
        self.source, self.sequence, self.capacity = source, sequence, capacity
        self.counts = [0] * streams
        self.priorities: dict[tuple[int, int], float] = {}
        self.states: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self.largest = 1.0

    def add(self, stream: int, priority: float) -> None:
        self.counts[stream] += 1
        for window in set(self.legal()) - set(self.priorities):
            given = self.largest if np.isnan(priority) or self.void(window) else max(priority, 1e-6)
            self.priorities[window] = given
            self.largest = max(self.largest, self.priorities[window])
        self.priorities = {window: self.priorities[window] for window in self.legal()}

    def legal(self) -> list[tuple[int, int]]:
        return [
            (stream, start)
            for stream, count in enumerate(self.counts)
            for start in range(max(0, count - self.capacity), count - self.sequence.length + 1)
            if start % self.sequence.period == 0
        ]

    def void(self, window: tuple[int, int]) -> bool:
        """Its one learned row closes an episode."""
        stream, start = window
        return self.sequence.learn == 1 and self.source.last[stream][start + self.sequence.context]

    def drawable(self) -> list[tuple[int, int]]:
        return [window for window in self.legal() if not self.void(window)]

    def update(self, window: tuple[int, int], priority: float) -> None:
        if window in self.priorities and not self.void(window):
            self.priorities[window] = max(priority, 1e-6)
            self.largest = max(self.largest, priority)


def check_batch(replay: Replay, model: Model, batch_size: int) -> None:
    """Every drawn window is legal, every field of every row is the row it should be."""
    batch = replay.sample(batch_size)
    streams, starts = split_keys(batch.keys.numpy())
    legal = set(model.drawable())
    period = model.sequence.period
    for b, (stream, start) in enumerate(zip(streams.tolist(), starts.tolist(), strict=True)):
        assert (stream, start) in legal
        want = stack([model.source.row(stream, start + t) for t in range(model.sequence.length)])
        for name, value in batch.rows.items():
            np.testing.assert_array_equal(value[:, b].numpy(), want[name], err_msg=name)
        age = (model.counts[stream] - start - model.sequence.length) * len(model.counts)
        assert batch.ages[b] == age
        if batch.start is not None:
            assert start % period == 0
            want_state = model.states.get((stream, start)) or {
                k: v[0] for k, v in stack_states([(stream, start)]).items()
            }
            for name, value in batch.start.items():
                np.testing.assert_array_equal(value[b].numpy(), want_state[name], err_msg=name)
    if isinstance(replay.selector, Prioritised):
        mass = {window: model.priorities[window] ** 0.7 for window in legal}
        total = sum(mass.values())
        want_p = [mass[(s, i)] / total for s, i in zip(streams.tolist(), starts.tolist(), strict=True)]
        np.testing.assert_allclose(batch.probabilities.numpy(), want_p, rtol=1e-5)
    if type(replay.selector) is Uniform:
        np.testing.assert_allclose(batch.probabilities.numpy(), 1 / len(legal), rtol=1e-6)


def check_distribution(replay: Replay, model: Model) -> None:
    """The selector's windows are the legal ones, all of them."""
    low, high, period = replay.selector.low, replay.selector.high, model.sequence.period
    held = [(s, q * period) for s in range(len(low)) for q in range(int(low[s]), int(high[s]))]
    assert held == model.legal()
    void = [window for window in held if replay.selector.is_void(*map(np.array, zip(window, strict=True)))[0]]
    assert void == [window for window in model.legal() if model.void(window)]
    assert replay.selector.voids == len(void)
    if isinstance(replay.selector, Prioritised):
        leaves = replay.selector.tree.get(np.arange(replay.selector.tree.size))
        width = replay.selector.layout.windows
        want = np.zeros_like(leaves)
        for stream, start in model.drawable():
            want[stream * width + start // period % width] = model.priorities[stream, start] ** 0.7
        np.testing.assert_allclose(leaves, want, rtol=1e-12)
        np.testing.assert_allclose(replay.selector.tree.total(), want.sum(), rtol=1e-12)


shapes = st.fixed_dictionaries(
    {
        "streams": st.integers(1, 3),
        "context": st.integers(0, 3),
        "learn": st.integers(1, 4),
        "lookahead": st.integers(0, 2),
        "period": st.integers(1, 5),
        "spare": st.integers(0, 12),
        "kind": st.sampled_from(SELECTORS),
        "stored": st.booleans(),
    }
)


def build(shape: dict, seed: int = 3) -> tuple[Replay, Model]:
    state = "stored" if shape["stored"] else "zero"
    sequence = SequenceSpec(shape["context"], shape["learn"], shape["lookahead"], shape["period"], state)
    capacity, streams = sequence.length + shape["spare"], shape["streams"]
    replay = Replay(
        SPEC, sequence, streams, None, make_selector(shape["kind"]), seed, states=STATES, capacity=capacity * streams
    )
    return replay, Model(Source(streams), sequence, streams, capacity)


def add(replay: Replay, model: Model, streams: list[int], priorities: list[float] | None = None) -> None:
    rows = model.source.batch(streams)
    places = [(stream, model.counts[stream]) for stream in streams]
    given = None if priorities is None else np.array(priorities)
    replay.add(rows, np.array(streams), stack_states(places), given)
    for stream in streams:
        model.states.pop((stream, model.counts[stream]), None)
    # All windows of one add are new at once: they get the largest priority from before it.
    largest = model.largest
    for i, stream in enumerate(streams):
        before, model.largest = model.largest, largest
        model.add(stream, np.nan if priorities is None else priorities[i])
        model.largest = max(before, model.largest)


def add_chunk(replay: Replay, model: Model, stream: int, length: int) -> None:
    start = model.counts[stream]
    rows = stack([model.source.next(stream) for _ in range(length)])
    states = None
    if start % model.sequence.period == 0:
        states = stack_states([(stream, i) for i in range(start, start + length, model.sequence.period)])
    elif replay.state_spec:
        for i in range(length):
            replay.add(
                {k: v[i : i + 1] for k, v in rows.items()}, np.array([stream]), stack_states([(stream, start + i)])
            )
            model.add(stream, np.nan)
        return
    replay.add_chunk(Chunk(stream, start, rows, states=states))
    for _ in range(length):
        model.add(stream, np.nan)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(shape=shapes, data=st.data())
def test_any_order_of_operations_agrees_with_the_slow_model(shape: dict, data: st.DataObject) -> None:
    replay, model = build(shape)
    streams = list(range(shape["streams"]))
    seen_keys: list[int] = []
    operations = st.sampled_from(["add", "add", "add", "some", "chunk", "sample", "feedback", "states", "truncate"])
    for operation in data.draw(st.lists(operations, min_size=5, max_size=40)):
        if operation == "add":
            for _ in range(data.draw(st.integers(1, 6))):
                add(replay, model, streams)
        elif operation == "some":
            chosen = data.draw(st.lists(st.sampled_from(streams), unique=True, min_size=1))
            add(replay, model, chosen, [data.draw(st.sampled_from([0.0, 0.5, 3.0, np.nan])) for _ in chosen])
        elif operation == "chunk":
            add_chunk(replay, model, data.draw(st.sampled_from(streams)), data.draw(st.integers(1, 25)))
        elif operation == "truncate":
            stream = data.draw(st.sampled_from(streams))
            replay.truncate(stream)
            model.source.truncate(stream)
        elif not replay.can_sample(4):
            assert not model.drawable()
        elif operation == "sample":
            check_batch(replay, model, 6)
            seen_keys += replay.sample(2).keys.tolist()
        elif operation == "feedback" and seen_keys:
            keys = data.draw(st.lists(st.sampled_from(seen_keys), min_size=1, max_size=5))
            values = [float(data.draw(st.sampled_from([0.0, 0.25, 2.0, 9.0]))) for _ in keys]
            stale = replay.stale_keys
            replay.feedback(Feedback(torch.tensor(keys), torch.tensor(values)))
            windows = [tuple(int(x) for x in split_keys(np.int64(key))) for key in keys]
            late = sum(window not in model.priorities for window in windows)
            assert replay.stale_keys - stale == (late if replay.selector.takes_priorities else 0)
            for window, value in zip(windows, values, strict=True):
                model.update(window, value)
        elif operation == "states" and seen_keys and shape["stored"]:
            keys = data.draw(st.lists(st.sampled_from(seen_keys), min_size=1, max_size=5))
            fresh = {"h": torch.rand(len(keys), 3), "n": torch.arange(len(keys)) - 50}
            replay.feedback(Feedback(torch.tensor(keys), states=fresh))
            for i, key in enumerate(keys):
                place = tuple(int(x) for x in split_keys(np.int64(key)))
                model.states[place] = {name: value[i].numpy() for name, value in fresh.items()}
        check_distribution(replay, model)
        assert len(replay) == sum(min(count, model.capacity) for count in model.counts)
        assert replay.inserted == sum(model.counts)
    if replay.can_sample(30):
        check_batch(replay, model, 30)


@pytest.mark.parametrize("kind", SELECTORS)
@pytest.mark.parametrize("period", [1, 3])
def test_every_legal_window_is_drawn_and_no_other(kind: str, period: int) -> None:
    shape = dict(streams=2, context=1, learn=3, lookahead=1, period=period, spare=14, kind=kind, stored=True)
    replay, model = build(shape)
    for _ in range(31):
        add(replay, model, [0, 1])
    for _ in range(4):
        add(replay, model, [1])
    streams, starts = split_keys(replay.sample(2000).keys.numpy())
    assert sorted(set(zip(streams.tolist(), starts.tolist(), strict=True))) == model.legal()


def test_the_newest_row_is_in_the_newest_window() -> None:
    shape = dict(streams=1, context=0, learn=4, lookahead=0, period=1, spare=0, kind="uniform", stored=False)
    replay, model = build(shape)
    for count in range(4):
        assert not replay.can_sample()
        with pytest.raises(RuntimeError, match="cannot give 1 windows"):
            replay.sample(1)
        assert len(replay) == count
        add(replay, model, [0])
    assert replay.sample(1).rows["obs.count"][:, 0, 1].tolist() == [0, 1, 2, 3]
    add(replay, model, [0])
    assert replay.sample(1).rows["obs.count"][:, 0, 1].tolist() == [1, 2, 3, 4]


def test_priorities_of_windows_that_are_not_complete_are_stale() -> None:
    """Stream 0 has rows 0 to 5, stream 1 has 0 to 4: windows of 4 rows begin at 2 and at 1 at the latest."""
    shape = dict(streams=2, context=1, learn=2, lookahead=1, period=1, spare=8, kind="prioritised", stored=False)
    replay, model = build(shape)
    for _ in range(5):
        add(replay, model, [0, 1])
    add(replay, model, [0])
    streams, starts = np.array([0, 0, 1, 1, 1, 0]), np.array([2, 3, 1, 2, 4, 9])
    priorities = torch.tensor([0.25, 7.0, 0.5, 8.0, 9.0, 10.0])
    replay.feedback(Feedback(torch.from_numpy(window_keys(streams, starts)), priorities))
    assert replay.stale_keys == 4
    model.update((0, 2), 0.25)
    model.update((1, 1), 0.5)
    check_distribution(replay, model)
    drawn_streams, drawn_starts = split_keys(replay.sample(500).keys.numpy())
    assert set(zip(drawn_streams.tolist(), drawn_starts.tolist(), strict=True)) == set(model.legal())
    # Once complete, they begin like any new window: with the largest priority, 1 so far.
    add(replay, model, [0, 1])
    assert model.priorities[0, 3] == model.priorities[1, 2] == 1.0
    check_distribution(replay, model)


def test_states_of_an_update_are_where_later_windows_begin() -> None:
    """Windows of 3 rows out of 5: states after rows 1, 2, 3 are written back, and stand before rows 2, 3, 4."""
    shape = dict(streams=2, context=0, learn=3, lookahead=0, period=1, spare=8, kind="uniform", stored=True)
    replay, model = build(shape)
    for _ in range(5):
        add(replay, model, [0, 1])
    windows = replay.sequence
    keys = torch.from_numpy(window_keys(np.array([0, 1]), np.array([1, 2])))
    batch = Batch({}, None, keys, torch.ones(2), torch.zeros(2))
    states = {"h": torch.arange(18.0).view(3, 2, 3) + 100, "n": torch.arange(6).view(3, 2) + 100}
    feedback = written_back(batch, windows, states)
    assert feedback is not None
    assert feedback.priorities is None
    replay.feedback(feedback)
    # Stream 1's window ends at its newest row: the state after it stands before a row that is not there yet.
    assert replay.stale_keys == 0
    stored = replay._states.get(np.array([0, 0, 0, 0, 1, 1, 1]), np.array([1, 2, 3, 4, 2, 3, 4]))
    assert stored is not None
    assert stored["n"].tolist() == [1, 100, 102, 104, 10_002, 101, 103]
    assert torch.equal(stored["h"][[1, 2, 3]], states["h"][:, 0])
    assert torch.equal(stored["h"][[5, 6]], states["h"][:2, 1])
    for _ in range(200):
        drawn = replay.sample(1)
        if drawn.keys.item() == int(window_keys(np.array([0]), np.array([2]))[0]):
            break
    assert drawn.start is not None
    assert torch.equal(drawn.start["h"][0], states["h"][0, 0])
    add(replay, model, [0, 1])
    assert int(replay._states.get(np.array([1]), np.array([5]))["n"]) == 10_005  # type: ignore[index]


@pytest.mark.parametrize(("period", "rows"), [(1, [2, 3, 4, 5]), (2, [2, 4]), (4, [4]), (8, [])])
def test_only_states_on_the_grid_are_written_back(period: int, rows: list[int]) -> None:
    windows = SequenceSpec(context=1, learn=4, period=period, state="stored")
    batch = Batch({}, None, torch.tensor([0, 1000]), torch.ones(2), torch.zeros(2))
    feedback = written_back(batch, windows, {"n": torch.arange(16).view(4, 4)})  # two views of two windows
    if not rows:
        assert feedback is None
        return
    assert feedback is not None
    assert feedback.keys.tolist() == [key for row in rows for key in (row, 1000 + row)]
    # Row `row` follows learned row row - 2; the second view's columns are left out.
    assert feedback.states["n"].tolist() == [n for row in rows for n in (4 * (row - 2), 4 * (row - 2) + 1)]  # type: ignore[index]
    assert written_back(batch, SequenceSpec(learn=4), {"n": torch.zeros(4, 2)}) is None


def test_refreshed_states_reach_any_row_of_a_window() -> None:
    shape = dict(streams=1, context=0, learn=4, lookahead=0, period=2, spare=8, kind="uniform", stored=True)
    replay, model = build(shape)
    for _ in range(8):
        add(replay, model, [0])
    key = window_keys(np.array([0]), np.array([2]))[0]
    fresh = {"h": torch.full((2, 3), 7.0), "n": torch.tensor([20, 40])}
    replay.feedback(Feedback(torch.tensor([key, key + 2]), states=fresh))
    batch = replay.sample(50)
    assert batch.start is not None
    found = dict(zip((batch.keys & 0xFF).tolist(), batch.start["n"].tolist(), strict=True))
    assert found == {0: 0, 2: 20, 4: 40}
    # Of an entry that occurs twice the last counts.
    twice = {"h": torch.zeros(3, 3), "n": torch.tensor([1, 2, 3])}
    replay.feedback(Feedback(torch.tensor([key, key + 2, key + 2]), states=twice))
    batch = replay.sample(50)
    assert batch.start is not None
    assert dict(zip((batch.keys & 0xFF).tolist(), batch.start["n"].tolist(), strict=True)) == {0: 0, 2: 1, 4: 3}
    assert len(replay.state_dict()["refreshed"]["slots"]) == 2
    with pytest.raises(ValueError, match="multiples of the period 2"):
        replay.feedback(Feedback(torch.tensor([key + 1, key]), states=fresh))
    for _ in range(12):
        add(replay, model, [0])
    assert len(replay.state_dict()["refreshed"]["slots"]) == 0, "states of new rows are not refreshed ones"


def test_batches_live_until_the_pool_comes_round() -> None:
    shape = dict(streams=1, context=0, learn=3, lookahead=0, period=1, spare=20, kind="uniform", stored=False)
    replay, model = build(shape)
    for _ in range(20):
        add(replay, model, [0])
    batches, copies = [], []
    for i in range(12):
        batches.append(replay.sample(4))
        copies.append(batches[-1].rows["action"].clone())
        replay.sample(5)
        for back in (1, 2):
            if i >= back:
                assert torch.equal(batches[i - back].rows["action"], copies[i - back])
    assert batches[0].rows["action"].data_ptr() == batches[3].rows["action"].data_ptr()
    assert batches[0].rows["obs.image"].is_contiguous()


def test_episode_order_is_checked() -> None:
    shape = dict(streams=2, context=0, learn=2, lookahead=0, period=1, spare=9, kind="uniform", stored=False)
    replay, model = build(shape)
    replay.truncate(0)
    add(replay, model, [0, 1])
    open_stream = 0 if not model.source.last[0][-1] else 1
    replay.truncate(open_stream)
    row = {name: value[None] for name, value in model.source.row(open_stream, 0).items()}
    row["is_first"] = np.array([False])
    with pytest.raises(ValueError, match=rf"row 1 of stream {open_stream} has is_first=False.*is_last=True"):
        replay.add(row, np.array([open_stream]))
    row["is_first"] = np.array([True])
    replay.add(row | {"is_last": np.array([False])}, np.array([open_stream]))
    with pytest.raises(ValueError, match="is_first=True, but the row before it has is_last=False"):
        replay.add(row, np.array([open_stream]))


def test_wrong_rows_are_refused_with_their_name() -> None:
    shape = dict(streams=2, context=0, learn=2, lookahead=0, period=1, spare=9, kind="uniform", stored=True)
    replay, model = build(shape)
    rows = model.source.batch([0, 1])
    with pytest.raises(ValueError, match=r"missing \['reward'\]"):
        replay.add({name: value for name, value in rows.items() if name != "reward"})
    with pytest.raises(ValueError, match=r"obs.image: expected shape \(2, 2, 3, 1\)"):
        replay.add(rows | {"obs.image": rows["obs.image"][:, 0]})
    with pytest.raises(ValueError, match=r"reward: expected .* float32, got .* float64"):
        replay.add(rows | {"reward": rows["reward"].astype(np.float64)})
    with pytest.raises(ValueError, match="the sequence stores states"):
        replay.add(rows)
    with pytest.raises(ValueError, match="one row per stream"):
        replay.add(rows, np.array([1, 1]), stack_states([(1, 0), (1, 0)]))
    with pytest.raises(ValueError, match="expects row 0 next, the chunk starts at 5"):
        replay.add_chunk(Chunk(0, 5, rows))


def test_the_budget_holds_and_is_used() -> None:
    sequence = SequenceSpec(2, 4, 0, 3, "stored")
    for budget in (20_000, 54_321, 1_000_000):
        replay = Replay(SPEC, sequence, 3, budget, Prioritised(), 0, states=STATES)
        assert 0.9 * budget < replay.nbytes <= budget
    with pytest.raises(
        UserError, match=r"budget of 900 bytes holds 5 rows in each of 3 streams, but a window has 6"
    ) as e:
        Replay(SPEC, sequence, 3, 900, Uniform(), 0, states=STATES)
    enough = int(str(e.value).split()[-1])
    assert Replay(SPEC, sequence, 3, enough, Uniform(), 0, states=STATES).rows_per_stream >= 6
    with pytest.raises(UserError, match=r"capacity of 17 rows holds 5 .* at least 18"):
        Replay(SPEC, sequence, 3, None, Uniform(), 0, states=STATES, capacity=17)
    with pytest.raises(ValueError, match="exactly one"):
        Replay(SPEC, sequence, 3, 900, Uniform(), 0, states=STATES, capacity=17)


def test_the_saved_state_is_plain_and_another_shape_is_refused() -> None:
    shape = dict(streams=2, context=0, learn=2, lookahead=0, period=2, spare=9, kind="prioritised", stored=True)
    replay, model = build(shape)
    for _ in range(9):
        add(replay, model, [0, 1])
    state = replay.state_dict()

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, np.ndarray):
            return value.tolist()
        assert type(value) in (int, float, str)
        return value

    json.dumps(plain(state))
    other, _ = build(shape | {"spare": 10})
    with pytest.raises(UserError, match="rows_per_stream = 11, this run 12"):
        other.load_state_dict(state)
    twin, _ = build(shape, seed=8)
    twin.load_state_dict(state)
    with pytest.raises(RuntimeError, match="cannot give"):
        twin.sample(1)


def test_the_same_seed_draws_the_same_windows() -> None:
    shape = dict(streams=2, context=0, learn=2, lookahead=0, period=1, spare=9, kind="uniform", stored=False)
    keys = []
    for seed in (3, 3, 4):
        replay, model = build(shape, seed)
        for _ in range(9):
            add(replay, model, [0, 1])
        keys.append(replay.sample(20).keys.tolist())
    assert keys[0] == keys[1] != keys[2]


def test_the_path_for_other_devices_stores_the_same_rows() -> None:
    shape = dict(streams=2, context=1, learn=3, lookahead=0, period=2, spare=9, kind="uniform", stored=True)
    replay, model = build(shape)
    # Without numpy views the rings are written as tensors, as on a GPU.
    replay._rings._numpy.clear()
    replay._states._rings._numpy.clear()
    for _ in range(31):
        add(replay, model, [0, 1])
    check_batch(replay, model, 30)
    if torch.cuda.is_available():
        sequence = model.sequence
        on_gpu = Replay(SPEC, sequence, 2, None, Uniform(), 3, STATES, capacity=2 * model.capacity, device="cuda")
        gpu_model = Model(Source(2), sequence, 2, model.capacity)
        for _ in range(31):
            add(on_gpu, gpu_model, [0, 1])
        batch = on_gpu.sample(30)
        assert all(value.is_cuda for value in batch.rows.values())
        streams, starts = split_keys(batch.keys.numpy())
        want = streams * 10_000 + starts + np.arange(sequence.length)[:, None]
        np.testing.assert_array_equal(batch.rows["action"].cpu().numpy(), want)


@pytest.mark.parametrize("kind", SELECTORS)
@pytest.mark.parametrize("context", [0, 2])
def test_a_closing_row_is_never_the_one_learned_row(kind: str, context: int) -> None:
    """It has no action and no loss; every row with an action can be drawn. Of two learned rows one may close."""
    shape = dict(streams=2, context=context, learn=1, lookahead=1, period=1, spare=60, kind=kind, stored=False)
    replay, model = build(shape)
    for _ in range(50):
        add(replay, model, [0, 1])
    assert 5 < len(model.legal()) - len(model.drawable()) < 60
    count = len(model.drawable()) if kind == "fifo" else 3000
    batch = replay.sample(count)
    assert not batch.rows["is_last"][context].any()
    streams, starts = split_keys(batch.keys.numpy())
    assert sorted(set(zip(streams.tolist(), starts.tolist(), strict=True))) == model.drawable()
    assert not (replay.can_sample() if kind == "fifo" else False)
    wider, model = build({**shape, "learn": 2})
    for _ in range(50):
        add(wider, model, [0, 1])
    assert wider.sample(20 if kind == "fifo" else 500).rows["is_last"][context].any()


@pytest.mark.parametrize(("context", "lookahead"), [(0, 1), (2, 1), (1, 0)])
def test_windows_of_one_episode_only(context: int, lookahead: int) -> None:
    """Of a selector that is whole: every learned row has an action; every such window is drawn, and no other."""
    shape = dict(streams=2, context=context, learn=3, lookahead=lookahead, period=1, spare=60, stored=False)
    _, model = build({**shape, "kind": "prioritised"})
    capacity = 2 * model.capacity
    replay = Replay(SPEC, model.sequence, 2, None, Prioritised(0.6, whole=True), 0, capacity=capacity)
    for _ in range(50):
        add(replay, model, [0, 1], [0.5, 0.7])
    replay.truncate(0)
    model.source.truncate(0)

    def whole(stream: int, start: int) -> bool:
        return not any(model.source.last[stream][start + context : start + context + 3])

    legal = model.legal()
    expected = sorted(window for window in legal if whole(*window))
    assert 5 < len(expected) < len(legal) - 5
    assert replay.selector.voids == len(legal) - len(expected)
    every = np.array(legal)
    replay.selector.update(every[:, 0], every[:, 1], np.full(len(legal), 9.0))
    streams, starts = split_keys(replay.sample(3000).keys.numpy())
    assert sorted(set(zip(streams.tolist(), starts.tolist(), strict=True))) == expected


@pytest.mark.parametrize(("kind", "context"), [("ends", 1), ("ongoing", 1), ("episodes", 0)])
def test_an_episode_that_is_void_as_a_whole_is_not_drawn(kind: str, context: int) -> None:
    """Its only window is; the replay says so, and takes up the next episode that has more."""
    shape = dict(streams=1, context=context, learn=1, lookahead=0, period=1, spare=20, kind=kind, stored=False)
    replay, model = build(shape)
    for last in (False, True) if context else (True,):
        model.source.left[0] = 1 if last else 2
        model.source.first[0].append(not model.source.last[0])
        model.source.last[0].append(last)
        model.source.terminal[0].append(last)
        replay.add(stack([model.source.row(0, len(model.source.last[0]) - 1)]))
    assert replay.selector.voids == 1
    assert not replay.can_sample()


def test_a_selector_of_the_newest_windows_says_what_to_change() -> None:
    shape = dict(streams=1, context=0, learn=1, lookahead=0, period=1, spare=20, kind="uniform", stored=False)
    _, model = build(shape)
    replay = Replay(SPEC, model.sequence, 1, None, Recency(1.0, 1, "linear"), 0, capacity=20)
    add(replay, model, [0])
    while not model.source.last[0][-1] or model.counts[0] < 2:
        add(replay, model, [0])
    with pytest.raises(UserError, match="a larger horizon"):
        replay.sample(1)


def test_the_priority_of_a_void_window_is_not_the_largest() -> None:
    shape = dict(streams=1, context=0, learn=1, lookahead=0, period=1, spare=20, kind="prioritised", stored=False)
    replay, model = build(shape)
    for _ in range(30):
        add(replay, model, [0], [99.0 if model.source.left[0] == 1 else 0.5])
    assert isinstance(replay.selector, Prioritised)
    assert replay.selector.voids > 0
    assert replay.selector.max_priority == 1.0


def test_a_replay_of_closing_rows_only_gives_nothing() -> None:
    shape = dict(streams=1, context=0, learn=1, lookahead=0, period=1, spare=0, kind="uniform", stored=False)
    replay, model = build(shape)
    add(replay, model, [0])
    if not model.source.last[0][0]:
        assert replay.can_sample()
        replay.truncate(0)
        model.source.truncate(0)
    assert not replay.can_sample()
    add(replay, model, [0])
    assert replay.can_sample() == (not model.source.last[0][1])


@pytest.mark.parametrize("kind", SELECTORS)
def test_void_windows_are_saved(kind: str) -> None:
    shape = dict(streams=2, context=1, learn=1, lookahead=1, period=1, spare=20, kind=kind, stored=False)
    replay, model = build(shape)
    for _ in range(40):
        add(replay, model, [0, 1])
    twin, _ = build(shape)
    twin.selector.load_state_dict(replay.selector.state_dict())
    assert twin.selector.voids == replay.selector.voids > 0
    one, other = (np.random.default_rng(7) for _ in range(2))
    mine, theirs = replay.selector.draw(15, one), twin.selector.draw(15, other)
    np.testing.assert_array_equal(mine.starts, theirs.starts)
    np.testing.assert_array_equal(mine.streams, theirs.streams)


def test_a_state_that_comes_too_late_overwrites_no_other_rows() -> None:
    shape = {"streams": 1, "context": 0, "learn": 2, "lookahead": 0, "period": 1, "spare": 2}
    replay, model = build({**shape, "kind": "uniform", "stored": True})
    for _ in range(6):  # rows 2 to 5 are stored, in places of which row 1 had one
        add(replay, model, [0])
    late = torch.from_numpy(window_keys(np.array([0]), np.array([1])))
    replay.feedback(Feedback(late, states={"h": torch.full((1, 3), -1.0), "n": torch.tensor([-1])}))
    assert replay._states.get(np.zeros(4, int), np.arange(2, 6))["n"].tolist() == [2, 3, 4, 5]


def test_a_row_that_became_the_last_of_its_episode_is_no_longer_learned_alone() -> None:
    replay = Replay(SPEC, SequenceSpec(learn=1), 1, None, Uniform(), 0, capacity=10)
    source = Source(1)
    rows = stack([source.next(0) for _ in range(3)])
    rows["is_last"][:] = False
    replay.add_chunk(Chunk(0, 0, rows))
    replay.truncate(0)
    assert set(split_keys(replay.sample(200).keys.numpy())[1].tolist()) == {0, 1}
