"""Writers and callbacks: found by name, path or argument; told what a run does; and the run is the same with them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import Crash, Never, again, assert_same_run, begin, config, lines
from tiny_runs import Stop as StopAt

import reverie
from reverie.config import LogConfig
from reverie.errors import UserError
from reverie.report.log import Record, comparable, read_metrics
from reverie.report.writer import Apart, Opening
from reverie.run import companions
from reverie.run.local import Local
from reverie.run.saved_config import save_config

ALL = {"log__callbacks": "[dreams,histograms]"} | {
    f"log__options__{name}__{key}": value
    for name, options in {
        "dreams": {"every": 60, "context": 2, "horizon": 3, "sequences": 2},
        "histograms": {"every": 80},
    }.items()
    for key, value in options.items()
}


class Told(reverie.Callback):
    """Keeps what it is told, a count in checkpoints, and asks for the end at a score that is always reached."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.rounds, self.stop_at = 0, stop_at
        self.events: list[Any] = []

    def begin(self, run: Any) -> None:
        self.events.append(("begin", run.clock.env_steps, self.rounds))

    def round(self, run: Any) -> None:
        self.rounds += 1
        if run.passed(60):
            run.record({"mine/rounds": self.rounds})
        if run.clock.env_steps >= self.stop_at:
            run.stop.ask("enough")

    def record(self, run: Any, record: Record) -> None:
        run.record({"mine/nested": 1})  # told to nobody: otherwise there would be no end
        self.events.append(sorted(comparable(record))[0])

    def saved(self, run: Any, folder: Path) -> None:
        assert (folder / "state.json").exists()
        self.events.append(("saved", folder.name))

    def end(self, run: Any) -> None:
        self.events.append(("end", run.clock.env_steps))

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rounds = state["rounds"]


class Lines(reverie.Writer):
    """Keeps what it is given; breaks on request."""

    def __init__(self, every: int = 1, broken: str = "") -> None:
        self.every, self.broken = every, broken
        self.given: list[Any] = []

    def begin(self, opening: Opening) -> None:
        self.given.append(opening)
        if self.broken == "begin":
            raise ConnectionError("no such\nserver")

    def write(self, record: Record) -> None:
        self.given.append(record)
        if self.broken == "write":
            raise ConnectionError("server\nis gone")

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        self.given.append((name, pictures.shape, at["env_steps"]))

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        self.given.append((name, values.shape, at["env_steps"]))

    def close(self) -> None:
        self.given.append("closed")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without company."""
    run_dir = tmp_path_factory.mktemp("plain") / "run"
    begin(config("toy/catch"), run_dir).train(Never())
    return run_dir


def test_dreams_and_histograms_are_shown_and_the_run_is_the_same(tmp_path: Path, plain: Path) -> None:
    writer = Lines()
    settings = config("toy/catch", **ALL)
    (tmp_path / "run").mkdir()
    save_config(settings, tmp_path / "run")
    Local(settings, tmp_path / "run", writers=[writer]).train(Never())
    assert_same_run(tmp_path / "run", plain)
    films = [entry for entry in writer.given if isinstance(entry, tuple) and entry[0] == "dreams/image"]
    assert [at for *_, at in films] == [60, 120]
    assert {shape[0] for _, shape, _ in films} <= {3, 4, 5}  # two rows seen, one to three dreamed
    assert {shape[-1] for _, shape, _ in films} == {3}
    histograms = {entry[0]: entry[1:] for entry in writer.given if isinstance(entry, tuple) and entry[2] == 80}
    learner = Local(settings, tmp_path / "run").learner
    expected = {f"parameters/{n}": ((p.numel(),), 80) for n, p in learner.named_parameters() if p.requires_grad}
    assert histograms == expected
    assert writer.given[-1] == "closed"

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"images": 0, "histograms": 0}).Reload()
    assert [event.step for event in events.Images("dreams/image")] == [60, 120]
    assert events.Images("dreams/image")[0].encoded_image_string.startswith(b"GIF89a")
    name, parameter = next((n, p) for n, p in learner.named_parameters() if p.requires_grad)
    last = events.Histograms(f"parameters/{name}")[-1]
    assert (last.step, last.histogram_value.num) == (160, parameter.numel())
    hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"agent.horizon" in hparams
    assert b"log.options.dreams.every" in hparams


def test_a_callback_is_told_and_goes_on_with_its_state_after_a_crash(tmp_path: Path) -> None:
    settings = config("toy/catch", run__eval_every=0, run__eval_episodes=0)
    whole = Told()
    straight = begin(settings, tmp_path / "straight")
    straight.run.companions.callbacks.append(whole)
    straight.train(Never())
    assert whole.events[0] == ("begin", 0, 0)
    assert whole.events[-2:] == [("saved", "160"), ("end", 160)]
    saved = dict.fromkeys(event for event in whole.events if event[0] == "saved")
    assert list(saved) == [("saved", str(n)) for n in range(20, 161, 20)]
    assert whole.rounds == 80

    first, second = Told(), Told()
    crashed = begin(settings, tmp_path / "crashed")
    crashed.run.companions.callbacks.append(first)
    with pytest.raises(Crash):
        crashed.train(StopAt(crashed, 110, crash=True))
    assert first.events[-1][0] != "end"
    resumed = Local(settings, tmp_path / "crashed", callbacks=[second])
    resumed.restore()
    resumed.train(Never())
    assert second.events[0][:2] == ("begin", 100)
    assert second.rounds == whole.rounds
    assert lines(tmp_path / "crashed") == lines(tmp_path / "straight")
    mine = [record["mine/rounds"] for record in read_metrics(tmp_path / "straight") if "mine/rounds" in record]
    assert len(mine) == 2
    assert all(
        "mine/rounds" not in comparable(r) or set(r) >= {"env_steps"} for r in read_metrics(tmp_path / "crashed")
    )


def test_a_callback_ends_a_run_which_is_saved(tmp_path: Path) -> None:
    settings = config("toy/catch", run__eval_episodes=0)
    summary = reverie.train(settings, tmp_path / "run", callbacks=[Told(stop_at=50)])
    assert (summary["finished"], summary["stopped"], summary["env_steps"]) == (False, "enough", 50)
    assert (tmp_path / "run" / "checkpoints" / "50").exists()
    assert reverie.resume(tmp_path / "run")["finished"]


def test_a_writer_that_fails_is_left_out_in_one_line(
    tmp_path: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, sound = Lines(broken="write"), Lines()
    reverie.train(config("toy/catch"), tmp_path / "run", writers=[broken, sound])
    assert lines(tmp_path / "run") == lines(plain)
    assert capsys.readouterr().err.splitlines() == [
        "reverie: writer Lines failed (ConnectionError: server is gone); the run goes on without it"
    ]
    assert len(broken.given) == 2
    opening, *rest, closed = sound.given
    assert (opening.run_dir, opening.name, opening.resumed_at) == (tmp_path / "run", "dreamerv2 on toy/catch", None)
    assert opening.config["agent.rssm.deter"] == 8
    assert [repr(comparable(record)) for record in rest] == lines(plain)
    assert closed == "closed"
    with pytest.raises(UserError, match="writer Lines cannot begin: ConnectionError: no such server"):
        reverie.train(config("toy/catch"), tmp_path / "other", writers=[Lines(broken="begin")])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    here = f"{__name__}:"
    points = {
        "reverie.writers": [EntryPoint("lines", here + "Lines", ""), EntryPoint("wandb", "no:Thing", "")],
        "reverie.callbacks": [EntryPoint("told", here + "Told", "")],
    }
    monkeypatch.setattr(companions, "entry_points", lambda group: points[group])
    companions._registered.cache_clear()
    yield
    companions._registered.cache_clear()


@pytest.mark.usefixtures("registered")
def test_others_are_found_by_entry_point_and_by_path() -> None:
    path = f"{__name__}:Told"
    log = LogConfig(("lines", "tensorboard"), ("told", path), {"lines": {"every": 7}, "Told": {"stop_at": 3}})
    found = companions.gather(log)
    writer, board = found.writers
    assert isinstance(writer, Apart)
    assert isinstance(writer._writer, Lines)
    assert writer._writer.every == 7
    assert not isinstance(board, Apart)
    by_name, by_path = found.callbacks
    assert isinstance(by_name, Told)
    assert isinstance(by_path, Told)
    assert (by_name.stop_at, by_path.stop_at) == (10**9, 3)
    (ours,) = companions.gather(LogConfig(("wandb",))).writers
    assert isinstance(ours, Apart)
    assert type(ours._writer).__module__ == "reverie.report.to_wandb"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (LogConfig(("tensorbord",)), r"unknown writer 'tensorbord'; did you mean tensorboard\?"),
        (LogConfig(callbacks=("dream",)), r"unknown callback 'dream'; did you mean dreams\?"),
        (LogConfig(("tensorboard",), (), {"wandb": {}}), "log.options.wandb is of nobody in log.writers"),
        (LogConfig((), ("dreams",), {"dreams": {"evry": 3}}), "dreams has no option 'evry'; did you mean every"),
        (LogConfig((), ("dreams",), {"dreams": {"every": "often"}}), "dreams: every 'often' must be an int"),
        (LogConfig((), ("dreams",), {"dreams": {"every": 0}}), "dreams: every must be at least 1, got 0"),
        (LogConfig((), ("histograms",), {"histograms": {"every": 0}}), "histograms: every must be at least 1, got 0"),
        (LogConfig((), ("dreams",), {"dreams": 3}), "log.options.dreams holds the options of dreams, got 3"),
        (LogConfig(("reverie.errors:UserError",)), "is no writer: expected a class that inherits reverie.Writer"),
        (LogConfig(callbacks=("reverie.errors:Nothing",)), "is no callback: expected a class that inherits"),
        (LogConfig(("nowhere:Thing",)), "nowhere:Thing: there is no module 'nowhere'"),
    ],
)
def test_slips_are_one_line(log: LogConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        companions.gather(log)


def test_dreams_need_a_world_model_and_pictures(tmp_path: Path) -> None:
    dreams = {"log.callbacks": "dreams", "run.env_steps": 100, "run.prefill": 4}
    for name, (agent, env, message) in enumerate(
        (("dqn", "toy/catch", "dqn has no world model to dream with"), ("dreamerv2", "CartPole-v1", "has no image"))
    ):
        settings = reverie.overrides.apply(reverie.make_config(agent, None, env), dreams)
        with pytest.raises(UserError, match=message):
            reverie.train(settings, tmp_path / str(name))


def test_a_run_whose_companion_cannot_begin_leaves_the_place_free(tmp_path: Path) -> None:
    settings = reverie.overrides.apply(config("CartPole-v1"), {"log.callbacks": "dreams"})
    with pytest.raises(UserError, match="has no image"):
        reverie.train(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    mended = reverie.overrides.apply(settings, {"log.callbacks": "[]", "run.env_steps": 60})
    assert reverie.train(mended, tmp_path / "run")["finished"]


def test_a_run_that_has_recorded_something_keeps_its_place(tmp_path: Path) -> None:
    class Broken(reverie.Callback):
        def record(self, run: Any, record: Record) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        reverie.train(config("CartPole-v1"), tmp_path / "run", callbacks=[Broken()])
    assert (tmp_path / "run" / "config.json").exists()
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size


def test_companions_in_python_are_looked_at_before_anything_is_there(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"callbacks": [Told]}, "is no callback: expected an object of a child of reverie.Callback"),
        ({"callbacks": Told()}, "callbacks is .* it must be a list"),
        ({"writers": [3]}, "3 is no writer: expected an object of a child of reverie.Writer"),
    ]
    for given, message in wrong:
        with pytest.raises(UserError, match=message):
            reverie.train(config("CartPole-v1"), tmp_path / "run", **given)
    assert not (tmp_path / "run" / "config.json").exists()


def test_random_numbers_of_the_run_are_left_alone_by_dreams(tmp_path: Path) -> None:
    local = begin(config("toy/catch", **ALL), tmp_path / "run")
    before = torch.get_rng_state()
    with local.run:
        assert torch.equal(torch.get_rng_state(), before)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    run = again(config("toy/catch"), tmp_path / "run").run
    with run:
        with pytest.raises(ValueError, match="group/name"):
            run.pictures("films", np.zeros((1, 4, 4, 3), np.uint8))
        for pictures in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)):
            with pytest.raises(ValueError, match="expected uint8"):
                run.pictures("a/films", pictures)
        run.histogram("a/b", torch.tensor([float("nan"), 1.0]))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"histograms": 0}).Reload()
    assert events.Histograms("a/b")[0].histogram_value.num == 1
    assert companions.flat_settings({"a": {"b": (1, 2)}, "c": None}) == {"a.b": [1, 2], "c": None}
