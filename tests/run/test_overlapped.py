"""Learning beside acting in one process: as many updates, exact order and resumption, and really at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_value_resume import config as value_config
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, config, lines

import reverie
from reverie import overrides
from reverie.envs.env import Step
from reverie.envs.faults import EnvFault
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run.beside import Beside
from reverie.run.overlapped import Overlapped
from reverie.run.room import NONE_LEFT
from reverie.run.train import beside


class Counted(gymnasium.Env[np.ndarray, np.int64]):
    """Four env_steps an episode; what a step does is the subclass's."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        self.happens()
        return np.full(3, self.count / 4, np.float32), 1.0, self.count == 4, False, {}

    def happens(self) -> None:
        """Whatever a step does."""


class Waits(Counted):
    """Waits up to a fifth of a second for an update while it is stepped."""

    learner: Any = None
    met = 0

    def happens(self) -> None:
        made = Waits.learner.learner_steps
        if wait_for(lambda: Waits.learner.learner_steps > made):
            Waits.met += 1


class Breaks(Counted):
    """Raises in its 30th step."""

    steps = 0

    def happens(self) -> None:
        Breaks.steps += 1
        if Breaks.steps >= 30:
            raise RuntimeError("the arm is stuck")


class Slow(Counted):
    """Takes a fifth of a second."""

    def happens(self) -> None:
        time.sleep(0.2)


def wait_for(what: Callable[[], bool], seconds: float = 0.2) -> bool:
    """Whether something comes to be within some seconds."""
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.001)
    return what()


def settings(**changes: Any) -> Any:
    """Prioritised DQN with two streams, an update a round."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return overrides.apply(value_config("dqn"), {"run.overlap": 2, "run.train_ratio": 2.0, **dotted})


def test_a_run_is_repeated_bit_for_bit_and_is_not_the_one_without(tmp_path: Path) -> None:
    for name in ("one", "other"):
        begin(settings(), tmp_path / name).train(Never())
    assert_same_run(tmp_path / "one", tmp_path / "other")
    begin(settings(run__overlap=0), tmp_path / "without").train(Never())
    assert lines(tmp_path / "one") != lines(tmp_path / "without")


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_trained_rows_per_env_step_are_the_same(tmp_path: Path, ratio: float) -> None:
    made = {}
    for overlap in (0, 3):
        run = begin(settings(run__overlap=overlap, run__train_ratio=ratio), tmp_path / str(overlap))
        run.train(Never())
        made[overlap] = (run.run.clock.env_steps, run.learner.learner_steps)
    assert made[0] == made[3]


@pytest.mark.parametrize("overlap", [1, 7])
def test_no_decision_is_made_with_older_parameters_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: int
) -> None:
    """With 13 updates a round, and an actor that waits for those that are made beside it, and a little longer."""
    between = {"run__checkpoint_every": 1000, "run__eval_every": 0}  # nothing, for which a decision would wait
    asked = settings(run__overlap=overlap, run__train_ratio=26.0, run__env_steps=60, **between)
    run = begin(asked, tmp_path / "run")
    decide, ages = run.actor.decide, []

    def slowly(seat: Any, version: int) -> Step:
        if run.learner.learner_steps:
            wait_for(lambda: run.learner.learner_steps >= version + overlap, 5.0)
            time.sleep(0.05)  # for one more, if there could be one
        ages.append(run.learner.learner_steps - version)
        return decide(seat, version)

    monkeypatch.setattr(run.actor, "decide", slowly)
    run.train(Never())
    assert run.learner.learner_steps > 100
    assert max(ages) == overlap


def test_parameters_are_as_late_as_asked_for(tmp_path: Path) -> None:
    begin(settings(run__publish_every=6), tmp_path / "run").train(Never())
    ages = [line["actor/parameter_age"] for line in read_metrics(tmp_path / "run") if "actor/parameter_age" in line]
    assert 2 < max(ages) <= 6 + 1  # taken over before a decision, logged after the updates that follow it


@pytest.mark.parametrize(("overlap", "together"), [(1, True), (0, False)])
def test_it_acts_while_it_learns(tmp_path: Path, overlap: int, together: bool) -> None:
    asked = config(
        f"{__name__}:Waits", env__num_envs=1, run__overlap=overlap, run__prefill=8, run__env_steps=24,
        run__train_ratio=8.0, run__eval_episodes=0
    )  # fmt: skip
    run = begin(asked, tmp_path / "run")
    Waits.learner, Waits.met = run.learner, 0
    run.train(Never())
    assert (Waits.met > 6) if together else Waits.met == 0


@pytest.mark.parametrize("env_steps", [41, 98])
def test_what_was_crashed_anywhere_goes_on_from_its_checkpoint_exactly(tmp_path: Path, env_steps: int) -> None:
    asked = settings()
    begin(asked, tmp_path / "alone").train(Never())
    run = begin(asked, tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, env_steps, crash=True))
    head = run.run.checkpoints.head()
    assert head is not None
    assert head["env_steps"] == env_steps // 20 * 20
    again(asked, tmp_path / "run").train(Never())
    assert_same_run(tmp_path / "alone", tmp_path / "run")


@pytest.mark.parametrize("changes", [{"run__ahead": 2}, {"run__publish_every": 5}])
def test_with_batches_drawn_ahead_and_old_parameters_it_goes_on_exactly_too(
    tmp_path: Path, changes: dict[str, int]
) -> None:
    """A checkpoint has what was drawn ahead learned from, in order, and the actor follow."""
    asked = settings(**changes)
    begin(asked, tmp_path / "alone").train(Never())
    for env_steps in (41, 98, 138):
        run = begin(asked, tmp_path / "run") if env_steps == 41 else again(asked, tmp_path / "run")
        with pytest.raises(Crash):
            run.train(Stop(run, env_steps, crash=True))
    tree = run.run.checkpoints.load()
    if "run__ahead" in changes:
        assert not tree["held"]
        assert tree["follower"]["version"] == tree["learner_steps"]
    else:
        assert tree["held"]
        assert tree["follower"]["version"] // 5 == (tree["learner_steps"] - 1) // 5
    again(asked, tmp_path / "run").train(Never())
    assert_same_run(tmp_path / "alone", tmp_path / "run")


def test_the_first_update_of_several_that_is_not_finite_is_named(tmp_path: Path) -> None:
    run = begin(settings(run__overlap=3, run__train_ratio=6.0), tmp_path / "run")
    update = run.trainer.update

    def breaks(batch: Any) -> Any:
        if run.learner.learner_steps == 7:
            with torch.no_grad():
                next(run.learner.parameters()).fill_(float("nan"))
        return update(batch)

    run.trainer.update = breaks
    with pytest.raises(UserError, match="learner_step 8"):
        run.train(Never())


@pytest.mark.parametrize(("kind", "ratio"), [("dreamerv2", 4.0), ("dqn", 1.0), ("r2d2", 4.0)])
def test_what_was_stopped_with_updates_under_way_goes_on_exactly(tmp_path: Path, kind: str, ratio: float) -> None:
    """Also just before an evaluation, a log line and a checkpoint are due; priorities and states come later."""
    own = {"run.overlap": 2, "run.train_ratio": ratio}
    tiny = config("toy/catch") if kind == "dreamerv2" else value_config(kind)
    asked = overrides.apply(tiny, own)
    begin(asked, tmp_path / "alone").train(Never())
    run, flying, held = begin(asked, tmp_path / "run"), 0, 0
    for env_steps in (46, 48, 58, 60, 78, 100, 118, 131, 158):
        at_save, settle = [], run.settle

        def settles(run: Any = run, at_save: list[int] = at_save, settle: Any = settle) -> None:
            at_save.append(len(run.flight))
            settle()

        run.settle = settles
        run.train(Stop(run, env_steps))
        assert run.run.clock.env_steps == (env_steps + 1) // 2 * 2
        flying, held = flying + any(at_save), held + len(run.held)
        run = again(asked, tmp_path / "run")
    run.train(Never())
    assert run.run.complete
    assert flying >= 5
    assert (held > 0) == (kind != "dreamerv2")
    assert_same_run(tmp_path / "alone", tmp_path / "run")


def test_what_is_learned_does_not_depend_on_what_comes_between_rounds(tmp_path: Path) -> None:
    """Checkpoints, evaluations and pauses only wait for updates."""
    learned = []
    for number, (checkpoint, evaluation, pauses) in enumerate(((20, 60, ()), (34, 0, ()), (500, 22, (51, 90)))):
        asked = settings(run__checkpoint_every=checkpoint, run__eval_every=evaluation)
        run = begin(asked, tmp_path / str(number))
        for until in pauses:
            run.train(Never(), until)
            run = again(asked, tmp_path / str(number))
        run.train(Never())
        told = read_metrics(tmp_path / str(number))
        learned.append([line["train/q_loss"] for line in told if "train/q_loss" in line])
    assert len(learned[0]) > 10
    assert learned[0] == learned[1] == learned[2]


@pytest.mark.parametrize("changes", [{"run__overlap": 1}, {"run__publish_every": 50}])
def test_networks_that_are_new_act_at_once(tmp_path: Path, changes: dict[str, int]) -> None:
    """As those that a member of a population has copied: their count of updates says nothing of them."""
    asked = settings(**{"run__overlap": 0, **changes})
    run = begin(asked, tmp_path / "run")
    run.train(Never(), until=70)
    run = again(asked, tmp_path / "run")
    with torch.no_grad():
        for parameter in run.learner.policy.parameters():
            parameter += 1.0
    run.renewed()
    run.start()
    run.act()
    ours, acting = run.learner.policy.parameters(), run.actor.policy.parameters()
    assert all(torch.equal(one, other) for one, other in zip(ours, acting, strict=True))
    assert run.followed() == run.run.clock.version
    run.close()


def test_no_accelerator_is_looked_for_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda.stream(None) does, and fails where it finds Apple's."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    thread: Beside[int] = Beside(torch.device("cpu"))
    thread.start(lambda: 4)
    assert thread.take() == 4
    thread.close()


def test_what_is_closed_under_way_comes_to_nothing(tmp_path: Path) -> None:
    run = begin(settings(), tmp_path / "run")
    with run.run.heeding(Never()):
        run.start()
        while not run.flight:
            run.act()
            run.learn()
    run.close()
    assert not run.air.under_way


def test_a_pause_leaves_nothing_under_way(tmp_path: Path) -> None:
    run = begin(settings(), tmp_path / "run")
    run.train(Never(), until=70)
    assert run.run.clock.env_steps == 70
    assert not run.flight
    assert run.run.clock.learner_steps == run.learner.learner_steps > 15


def test_updates_go_on_beside_as_many_decisions_as_come_before_the_next(tmp_path: Path) -> None:
    """Each takes off after the fourth decision of the one before, and is not through before three more are made."""
    asked = settings(run__overlap=1, run__train_ratio=0.5, run__eval_every=0, run__checkpoint_every=1000)
    run = begin(asked, tmp_path / "run")
    update, start, since, together = run.trainer.update, run.air.start, [0], []

    def begun(call: Any) -> None:
        since.append(run.store.env_steps)
        start(call)

    def slowly(batch: Any) -> Any:
        together.append(wait_for(lambda: run.store.env_steps >= since[-1] + 6, 5.0))
        return update(batch)

    with run.run.heeding(Never()) as whole:
        run.start()
        while not (run.flight or run.learner.learner_steps):
            run.act()
            run.learn()
        run.trainer.update, run.air.start = slowly, begun
        while not whole.finished:
            run.act()
            run.learn()
        for _ in range(3):
            run.act()
        run.land()
    run.close()
    assert len(together) > 10
    assert all(together)


def test_what_is_written_down_is_of_updates_that_are_made(tmp_path: Path) -> None:
    asked = settings(run__checkpoint_every=36, run__eval_every=54)  # logs: 10
    run = begin(asked, tmp_path / "run")
    under_way: dict[str, list[bool]] = {"log": [], "evaluate": [], "save": []}

    def watched(call: Callable[..., Any], each: list[bool]) -> Callable[..., Any]:
        def looked(*words: Any, **more: Any) -> Any:
            each.append(run.air.under_way)
            return call(*words, **more)

        return looked

    for name, each in under_way.items():
        setattr(run.run, name, watched(getattr(run.run, name), each))
    run.train(Never())
    assert {name: len(each) for name, each in under_way.items()} == {"log": 16, "evaluate": 3, "save": 6}
    assert not any(any(each) for each in under_way.values())


def test_who_asks_for_the_learner_waits_until_it_is_learned(tmp_path: Path) -> None:
    """A callback sees parameters of all updates that its lines of the log count; others are not kept waiting."""
    seen = []

    class Looks(reverie.Callback):
        def round(self, run: Any) -> None:
            counted = run.clock.learner_steps
            seen.append((counted, run.learner.learner_steps, run.clock.learner_steps))

    asked = settings()
    beside(asked)(asked, tmp_path / "run", callbacks=[Looks()]).train(Never())
    assert all(len(set(each)) == 1 for each in seen)
    assert seen[-1][0] > 40
    begin(asked, tmp_path / "other").train(Never())
    assert lines(tmp_path / "run") == lines(tmp_path / "other")


def test_a_fault_of_the_environment_is_told_and_costs_nothing(tmp_path: Path) -> None:
    Breaks.steps = 0
    asked = config(f"{__name__}:Breaks", run__overlap=1, run__eval_every=0, run__prefill=20, env__restarts=0)
    run = begin(asked, tmp_path / "run")
    with pytest.raises(EnvFault, match="the arm is stuck") as fault:
        run.train(Never())
    assert "reverie resume" in str(fault.value)
    head = run.run.checkpoints.head()
    assert head is not None
    assert head["env_steps"] == run.run.clock.env_steps == 28
    Breaks.steps = -(10**6)
    resumed = again(asked, tmp_path / "run")
    resumed.train(Never())
    assert resumed.run.finished


def test_an_error_of_the_learner_ends_the_run_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(config(f"{__name__}:Slow", run__overlap=1, run__prefill=8), tmp_path / "run")

    def fails(batch: Any) -> Any:
        raise UserError("the loss is not finite")

    monkeypatch.setattr(run.trainer, "update", fails)
    since = time.monotonic()
    with pytest.raises(UserError, match="not finite"):
        run.train(Never())
    assert time.monotonic() - since < 5 + 0.2 * 2 * 8
    assert run.run.checkpoints.head() is None


def test_memory_that_runs_out_in_the_thread_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(config(f"{__name__}:Slow", run__overlap=1, run__prefill=8), tmp_path / "run")

    def fails(batch: Any) -> Any:
        raise RuntimeError(f"DefaultCPUAllocator: {NONE_LEFT}: you tried to allocate 1 byte")

    monkeypatch.setattr(run.trainer, "update", fails)
    with pytest.raises(UserError, match="a learner_step does not fit into this machine's memory"):
        run.train(Never())


def test_a_run_that_is_asked_to_stop_does_so_within_five_seconds(tmp_path: Path) -> None:
    run = begin(config(f"{__name__}:Slow", run__overlap=1, run__prefill=8), tmp_path / "run")
    stop = Never()
    threading.Timer(3.0, stop.ask, ("SIGTERM",)).start()
    since = time.monotonic()
    run.train(stop)
    assert 3.0 <= time.monotonic() - since < 8.0
    assert run.run.saved_at == run.run.clock.env_steps > 0


def test_which_runner_acts(tmp_path: Path) -> None:
    assert beside(settings()) is Overlapped
    assert beside(settings(run__overlap=0)) is not Overlapped
    asked = overrides.apply(make_config("a3c", "cpu", "toy/catch"), {"run.overlap": 1})
    with pytest.raises(UserError, match=r"run\.overlap is 1"):
        beside(asked)(asked, tmp_path / "a3c")
    with pytest.raises(UserError, match="overlap"):
        settings(run__overlap=-1)


def test_a_setting_that_comes_in_the_middle(tmp_path: Path) -> None:
    """A run without overlap goes on with it, and the other way round."""
    for before, after in ((0, 2), (2, 0)):
        folder = tmp_path / str(before)
        run = begin(settings(run__overlap=before), folder)
        run.train(Stop(run, 80))
        assert reverie.resume(folder, {"run.overlap": after})["finished"]


def test_a_thread_makes_one_call_after_another() -> None:
    thread: Beside[int] = Beside(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="no call"):
        thread.take()
    thread.start(lambda: 1)
    with pytest.raises(RuntimeError, match="not taken"):
        thread.start(lambda: 2)
    assert thread.take() == 1
    slow = threading.Event()
    thread.start(lambda: int(slow.wait(20)))
    assert not thread.wait(0.01)
    slow.set()
    assert thread.wait()
    assert thread.take() == 1

    def fails() -> int:
        raise ValueError("no")

    thread.start(fails)
    with pytest.raises(ValueError, match="no"):
        thread.take()
    assert not thread.under_way
    thread.start(lambda: threading.get_ident())
    assert thread.take() != threading.get_ident()
    thread.close()
    thread.close()
    thread.start(lambda: 3)  # begins another
    assert thread.take() == 3
    thread.close()


def test_numbers_of_threads_are_those_of_the_process() -> None:
    """What is computed beside is computed as it would be here."""
    thread: Beside[int] = Beside(torch.device("cpu"))
    thread.start(torch.get_num_threads)
    assert thread.take() == torch.get_num_threads()
    thread.close()
