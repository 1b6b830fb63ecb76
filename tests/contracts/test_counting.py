"""A counting agent tests the plumbing from environment to batch, without any learning.

`toy/count` shows in every row how many env_steps its episode is old, and the agent's recurrent state must be that same
number: a row or a state that is lost, doubled, shifted or swapped on its way through actor, replay, chunk files,
start states and feedback is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tiny_runs import Stop
from torch import Tensor

from reverie.agents.agent import Agent, Decision, Learner, Noise, Policy, Seat, Tape
from reverie.agents.recurrent import start_state
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.dataset import open_dataset
from reverie.data.feed import Feed
from reverie.data.keys import split_keys
from reverie.data.limiter import Limiter
from reverie.data.outbox import Outbox
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.rows import Field, Rows, State, row_spec
from reverie.data.selectors import Uniform
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.data.store import Store
from reverie.envs.env import VectorEnv
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector
from reverie.envs.toys import Count
from reverie.run.local import Local
from reverie.run.overlapped import Overlapped
from reverie.run.roles import Actor, Trainer
from reverie.run.train import beside

OBS = "obs.vector"
STATE = {"count": Field((), np.dtype(np.int64)), "copy": Field((2,), np.dtype(np.float32))}


class CountingPolicy(Policy):
    """State: rows of the episode before this one. Action: a function of that and of the episode's number."""

    noise = 1

    def __init__(self, extras: bool) -> None:
        super().__init__()
        if extras:
            self.extras = {"count": Field((), np.dtype(np.float32))}

    def initial_state(self, batch: int) -> State:
        return {"count": torch.zeros(batch, dtype=torch.int64), "copy": torch.zeros(batch, 2)}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        u = noise.uniform(len(rows["is_first"]), self.noise)
        count = torch.where(rows["is_first"], 0, state["count"])
        action = (3 * count + rows[OBS][:, 1].long()) % 4
        after = {"count": count + 1, "copy": torch.stack([count + 1.0, -(count + 1.0)], -1)}
        if seat.play == "random":
            action = (u[:, 0] * 4).long()
        return Decision(action, after, {"count": count.float()} if self.extras else {})

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[list[State], State]:
        """The states before every row, and the one after the last."""
        before = []
        u = noise.uniform(*rows["is_first"].shape, self.noise)
        for t in range(len(rows["is_first"])):
            before.append(state)
            row = {name: value[t] for name, value in rows.items()}
            state = self.step(state, row, Tape(u[t]), Seat.alone(u.shape[1])).state
        return before, state


class CountingLearner(Learner):
    """Counts in ``wrong`` the rows and states of a batch that are not where they belong; writes states back."""

    def __init__(self, policy: CountingPolicy, windows: SequenceSpec, strict: bool, seed: int = 0) -> None:
        super().__init__(policy, windows, seed)
        self.strict = strict

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Generator[dict[str, Tensor], None, Feedback | None]:
        spec, rows = self.windows, batch.rows
        length, width = rows["is_first"].shape
        assert length == spec.length
        for b in range(width):
            window = {name: value[:, b].numpy() for name, value in rows.items()}
            check_rows(window) if self.strict else assert_well_formed(window)
        tape = self.noise.tape(length, width, 1)
        state, learned = start_state(self.policy, batch, spec, tape)
        seen = learned[OBS][0, :, 0].long()
        expected = seen if spec.state == "stored" else seen.clamp(max=spec.context)
        inside = ~learned["is_first"][0]
        wrong = (state["count"] != expected) & inside
        wrong |= (state["copy"] != torch.stack([expected, -expected], -1)).any(-1) & inside
        metrics["wrong"] = wrong.sum()
        before, _ = self.policy.unroll(state, learned, tape[spec.context :])
        return self.write_back(batch, before)
        yield

    def write_back(self, batch: Batch, before: list[State]) -> Feedback | None:
        """The states before the learned rows, for the rows that replay keeps states of."""
        if batch.start is None:
            return None
        keys, states = [], []
        _, starts = split_keys(batch.keys.numpy())
        for k, state in enumerate(before, self.windows.context):
            kept = torch.from_numpy((starts + k) % self.windows.period == 0)
            keys.append((batch.keys + k)[kept])
            states.append({name: value[kept] for name, value in state.items()})
        joined = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return Feedback(torch.cat(keys), states=joined)


@dataclass(frozen=True)
class Nothing:
    """Settings of an agent that has none."""


@dataclass(frozen=True)
class Counting(Agent):
    """The recipe, as a run finds it: ``test_counting:Counting``."""

    Config: ClassVar[type] = Nothing

    def policy(self) -> CountingPolicy:
        return CountingPolicy(extras=False)

    def learner(self, policy: Any, windows: SequenceSpec, seed: int = 0, *where: Any) -> CountingLearner:
        return CountingLearner(policy, windows, False, seed)


def check_rows(rows: Rows, policy_from: int = 0) -> None:
    """Consecutive rows [T, ...] of one stream agree with the counter. policy_from: the first row not acted randomly."""
    count, episode = rows[OBS][:, 0], rows[OBS][:, 1]
    first, last = rows["is_first"], rows["is_last"]
    action, prev = rows["action"], rows["prev_action"]
    np.testing.assert_array_equal(rows["reward"], count)
    np.testing.assert_array_equal(first, count == 0)
    np.testing.assert_array_equal(first[1:], last[:-1])
    np.testing.assert_array_equal(count[1:], np.where(last[:-1], 0, count[:-1] + 1))
    np.testing.assert_array_equal(episode[1:], episode[:-1] + last[:-1])
    np.testing.assert_array_equal(prev[1:], np.where(first[1:], 0, action[:-1]))
    assert not prev[first].any()
    assert not action[last].any()
    assert not (rows["is_terminal"] & ~last).any()
    chosen = np.where(last, 0, (3 * count + episode) % 4)
    np.testing.assert_array_equal(action[policy_from:], chosen[policy_from:])
    if "extra.count" in rows:
        np.testing.assert_array_equal(rows["extra.count"][~last], count[~last])
        assert set(rows["extra.count"][last] - count[last]) <= {0.0, *-count[last]}


def assert_well_formed(rows: Rows) -> None:
    """As `check_rows`, but actions may be random, and the numbers of episodes begin anew where a run was resumed."""
    ends = np.flatnonzero(rows["is_last"]) + 1
    for part in np.split(np.arange(len(rows["reward"])), ends):
        if len(part):
            check_rows({name: value[part] for name, value in rows.items()}, policy_from=len(part))
    np.testing.assert_array_equal(rows["is_first"][1:], rows["is_last"][:-1])
    lengths = rows[OBS][ends - 1, 0]
    assert (lengths <= 11).all()
    assert (lengths >= 1).all()


def same_step(streams: int) -> VectorEnv:
    return make_env("toy/count", num_envs=streams, length=2, max_length=11, end="mixed")


def next_step(streams: int) -> VectorEnv:
    made: list[Callable[[], gymnasium.Env]] = [lambda: Count(2, 11, "mixed")] * streams
    return NativeVector("counts", SyncVectorEnv(made, autoreset_mode=AutoresetMode.NEXT_STEP))


class Plumbing:
    """Environment, actor, replay, writer and trainer, connected as a runner connects them."""

    def __init__(
        self,
        env: VectorEnv,
        folder: Path,
        spec: SequenceSpec,
        capacity: int = 60,
        shift: Callable[..., Any] | None = None,
        chunk: int = 0,
    ) -> None:
        extras = {"count": Field((), np.dtype(np.float32))}
        fields = row_spec(env.spec.observation, env.spec.action, extras)
        self.learner = CountingLearner(CountingPolicy(extras=True), spec, True)
        self.replay = Replay(fields, spec, env.num_envs, None, Uniform(), 1, STATE, capacity=capacity * env.num_envs)
        self.record = Record(folder, self.replay, 8)
        self.store = Store(self.replay, Limiter(None, 0), self.record)
        self.outbox = Outbox(self.store, fields, spec, env.num_envs, length=chunk)
        self.actor = Actor(env, self.learner.policy, self.send, 3)
        self.trainer = Trainer(self.learner, Feed(self.store, 5, self.learner.device))
        self.shift = shift or (lambda state: state)
        self.folder = folder
        self.decisions = 0

    def send(self, rows: Rows, streams: np.ndarray | None, state: State, version: int) -> None:
        self.decisions += int((~rows["is_last"]).sum())
        self.outbox.put(rows, streams, self.shift(state), version)

    def run(self, decisions: int, random: int = 0) -> float:
        """Play and train; returns the mean number of wrong states in a batch."""
        self.ended = self.actor.start()
        for decision in range(decisions):
            seat = Seat.alone(self.actor.env.num_envs, "random" if decision < random else "explore")
            self.ended += self.actor.step(seat)
            if decision >= random + 30 and self.store.may_sample(5):
                batch = self.trainer.feed.next()
                assert batch is not None
                self.trainer.step(batch)
        self.outbox.flush()
        assert self.learner.learner_steps > decisions // 2
        return self.trainer.meter.flush()["wrong"]


SPECS = [
    SequenceSpec(0, 6, 0, period=1, state="stored"),
    SequenceSpec(0, 6, 0, period=4, state="stored"),
    SequenceSpec(4, 5, 2, period=1, state="stored"),
    SequenceSpec(3, 6, 1, period=4, state="stored"),
    SequenceSpec(0, 6, 0, period=1, state="zero"),
    SequenceSpec(4, 5, 2, period=4, state="zero"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"context{s.context}-period{s.period}-{s.state}")
@pytest.mark.parametrize("source", [same_step, next_step])
def test_every_row_and_state_is_where_it_belongs(
    tmp_path: Path, source: Callable[[int], VectorEnv], spec: SequenceSpec
) -> None:
    plumbing = Plumbing(source(3), tmp_path, spec)
    assert plumbing.run(160) == 0.0
    plumbing.record.flush()
    data = open_dataset(tmp_path)
    decisions, scores = 0, []
    for stream in range(3):
        rows = data.rows(stream)
        assert len(rows["reward"]) == plumbing.replay.counts[stream]
        np.testing.assert_array_equal(rows[OBS][0], [0, 0])
        check_rows(rows)
        assert rows["is_terminal"].any()
        assert (rows["is_last"] & ~rows["is_terminal"]).any()
        decisions += int((~rows["is_last"]).sum())
        lasts = np.flatnonzero(rows["is_last"])
        scores += [(stream, n * (n + 1) / 2, n) for n in rows[OBS][lasts, 0].astype(int)]
        for chunk in data.chunks(stream) if spec.state == "stored" else []:
            assert chunk.states is not None
            grid = np.arange(0, len(chunk), spec.period)
            assert chunk.start % spec.period == 0
            inside = ~chunk.rows["is_first"][grid]
            counted = chunk.rows[OBS][grid, 0]
            np.testing.assert_array_equal(chunk.states["count"][inside], counted[inside])
            np.testing.assert_array_equal(chunk.states["copy"][inside, 1], -counted[inside])
            if chunk.peek is not None:
                assert chunk.peek["prev_action"] == chunk.rows["action"][-1]
                assert chunk.peek[OBS][0] in (0, chunk.rows[OBS][-1, 0] + 1)
    assert decisions == plumbing.store.env_steps == plumbing.decisions
    # An episode whose last row was seen but not passed on yet has ended, too: a next-step source keeps it a decision.
    assert set(scores) <= set(plumbing.ended)
    assert len(plumbing.ended) - len(scores) <= 3
    assert all(score == n * (n + 1) / 2 for _, score, n in plumbing.ended)


def test_random_actions_are_stored_as_taken(tmp_path: Path) -> None:
    plumbing = Plumbing(same_step(2), tmp_path, SequenceSpec(0, 6, state="stored"))
    plumbing.learner.losses = lambda batch, metrics: iter(())  # type: ignore[method-assign]
    plumbing.actor.start()
    for _ in range(60):
        plumbing.actor.step(Seat.alone(2, "random"))
    plumbing.record.flush()
    for stream in range(2):
        rows = open_dataset(tmp_path).rows(stream)
        check_rows(rows, policy_from=len(rows["reward"]))
        taken = rows["action"][~rows["is_last"]]
        assert set(taken.tolist()) == {0, 1, 2, 3}
        assert (taken != ((3 * rows[OBS][:, 0] + rows[OBS][:, 1]) % 4)[~rows["is_last"]]).mean() > 0.5


def later(state: State) -> State:
    return {"count": state["count"] + 1, "copy": state["copy"]}


def swapped(state: State) -> State:
    return {name: value.roll(1, 0) for name, value in state.items()}


class Delayed:
    """Passes on the state that came with the rows before."""

    def __init__(self) -> None:
        self.last: State | None = None

    def __call__(self, state: State) -> State:
        now, self.last = self.last or state, state
        return now if len(now["count"]) == len(state["count"]) else state


@pytest.mark.parametrize("shift", [lambda: later, lambda: swapped, Delayed], ids=["ahead", "swapped", "behind"])
@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3]], ids=["plain", "context-period"])
def test_a_wrong_state_is_noticed(tmp_path: Path, spec: SequenceSpec, shift: Callable[[], Any]) -> None:
    """The negative control: the same run with states shifted on the way."""
    # Resets and the learner's own feedback mend most of them in time.
    assert Plumbing(same_step(3), tmp_path, spec, shift=shift()).run(120) > 0.05


@pytest.mark.parametrize("field", ["prev_action", "reward", OBS, "action"])
def test_a_shifted_field_is_noticed(field: str, tmp_path: Path) -> None:
    plumbing = Plumbing(same_step(1), tmp_path, SPECS[0])
    plumbing.run(80)
    plumbing.record.flush()
    rows = open_dataset(tmp_path).rows(0)
    check_rows(rows)
    with pytest.raises(AssertionError):
        check_rows(rows | {field: np.roll(rows[field], 1, 0)})
    with pytest.raises(AssertionError):
        check_rows({name: np.delete(value, 40, 0) for name, value in rows.items()})


def configuration(env: str, streams: int, spec: SequenceSpec, options: dict[str, Any]) -> Config:
    return Config(
        name=f"{__name__}:Counting",
        preset="none",
        agent=Nothing(),
        env=EnvConfig(env, streams, options=options),
        replay=ReplayConfig(
            4, WindowConfig(spec.context, spec.learn, spec.period, spec.state), store=StoreConfig(8_000, chunk=8)
        ),
        run=RunConfig(
            env_steps=400, prefill=60, pretrain=2, train_ratio=4.0, log_every=20, checkpoint_every=50, eval_episodes=0
        ),
    )


def native_counts(num_envs: int) -> NativeVector:
    """A factory as a user writes it: a vector environment that cannot be brought back."""
    return next_step(num_envs)  # type: ignore[return-value]


@pytest.mark.parametrize("overlap", [0, 2], ids=["in-turns", "overlapped"])
@pytest.mark.parametrize("spec", [SPECS[1], SPECS[2]], ids=["period", "context"])
@pytest.mark.parametrize(
    ("env", "options"),
    [("toy/count", {"length": 2, "max_length": 11, "end": "mixed"}), (f"{__name__}:native_counts", {})],
    ids=["replayed", "truncated"],
)
def test_the_local_runner_counts_right_across_interruptions(
    tmp_path: Path, env: str, options: dict[str, Any], spec: SequenceSpec, overlap: int
) -> None:
    """With a replay that evicts: 8 kB are fewer rows than the run makes."""
    config = configuration(env, 3, spec, options)
    config = replace(config, run=replace(config.run, overlap=overlap))
    wrong = []
    for part, stop in enumerate((0, 33, 71, 130, 131, 245, 300, 400)):
        run = beside(config)(config, tmp_path)
        assert isinstance(run, Overlapped if overlap else Local)
        if part:
            run.restore()
        flush = run.trainer.meter.flush

        def note(flush: Any = flush) -> dict[str, float]:
            means: dict[str, float] = flush()
            wrong.append(means.get("wrong", 0.0))
            return means

        run.trainer.meter.flush = note  # type: ignore[method-assign]
        run.train(Stop(run, stop))
    assert run.run.clock.env_steps >= 400
    assert run.learner.learner_steps > 50
    assert len(wrong) >= 15
    assert not any(wrong)
    run.store.record.flush()
    data = open_dataset(tmp_path / "replay")
    evicted = 0
    for stream in range(3):
        rows = data.rows(stream)
        evicted += int(run.store.replay.counts[stream]) - len(rows["reward"])
        if options:
            check_rows(rows, policy_from=len(rows["reward"]))
        else:
            assert_well_formed(rows)
    assert evicted > 0
