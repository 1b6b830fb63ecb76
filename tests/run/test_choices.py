"""Selectors and pacing chosen on the command line reach the objects that a run is built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reverie import overrides
from reverie.config import Config, ReplayConfig, WindowConfig
from reverie.data.selectors import SELECTORS, EpisodeEnds, EpisodeStarts, Fifo, Prioritised, Recency, Uniform
from reverie.data.store import Store
from reverie.errors import UserError
from reverie.report.record import read_metrics
from reverie.run.configure import configure
from reverie.run.local import Local
from reverie.run.saved_config import load_config, save_config
from reverie.run.train import train

SMALL = ["--replay.store.budget", "200000", "--agent.torso.units=4", "--agent.hidden=4"]


def resolved(*words: str, agent: str = "dqn") -> Config:
    return configure(agent, "cpu", "CartPole-v1", [*SMALL, *words], {})


def built(config: Config, run_dir: Path) -> Store:
    local = Local(config, run_dir)
    local.env.close()
    return local.store


@pytest.mark.parametrize(
    ("words", "kind", "settings"),
    [
        (["--replay.selector", "uniform"], Uniform, {}),
        (["--replay.selector", "fifo"], Fifo, {}),
        (["--replay.selector=episodes"], EpisodeStarts, {}),
        (["replay.selector=ends", "replay.selector.ongoing=true"], EpisodeEnds, {"favour_ends": True, "ongoing": True}),
        (["--replay.selector", "prioritised", "--replay.selector.alpha", "0.9"], Prioritised, {"alpha": 0.9}),
        (["--replay.selector.alpha", "0.9", "--replay.selector", "prioritised"], Prioritised, {"alpha": 0.9}),
        (["--replay.selector.kind", "prioritised"], Prioritised, {"alpha": 0.6, "floor": 1e-6}),
        (
            ["--replay.selector", "recency", "--replay.selector.decay=linear", "--replay.selector.horizon", "7"],
            Recency,
            {"fraction": 0.5, "horizon": 7, "decay": "linear"},
        ),
    ],
)
def test_a_selector_is_chosen_by_name_and_set_up(
    words: list[str], kind: type, settings: dict[str, Any], tmp_path: Path
) -> None:
    selector = built(resolved(*words), tmp_path / "run").replay.selector
    assert type(selector) is kind
    assert {name: getattr(selector, name) for name in settings} == settings


def test_without_a_name_the_presets_own_selector_is_changed_and_by_name_it_begins_anew() -> None:
    changed = resolved("--replay.selector.floor", "0.5", agent="rainbow")
    assert vars(changed.replay.selector) == {"alpha": 0.5, "floor": 0.5, "whole": False}
    anew = resolved("--replay.selector", "prioritised", agent="rainbow")
    assert vars(anew.replay.selector) == {"alpha": 0.6, "floor": 1e-6, "whole": False}


def test_no_pacing_reaches_the_limiter(tmp_path: Path) -> None:
    store = built(resolved("--run.train_ratio", "none", "--replay.selector", "fifo"), tmp_path / "run")
    assert store.limiter.ratio is None
    assert isinstance(store.replay.selector, Fifo)


def test_without_pacing_every_window_is_trained_on_once(tmp_path: Path) -> None:
    words = ["--run.train_ratio=none", "--replay.selector=fifo", "--replay.batch=4", "--replay.window.learn=5"]
    words += ["--replay.window.period=5", "--run.env_steps=400", "--run.prefill=40", "--run.eval_episodes=0"]
    config = resolved(*words, "--run.log_every=400")
    train(config, tmp_path / "run")
    last = read_metrics(tmp_path / "run")[-1]
    # 4 streams of 100 decisions and closing rows: at least 20 windows each, of which the last are not complete.
    assert 400 // (4 * 5) - 2 <= last["learner_steps"] <= 400 // (4 * 5) + 2


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "fifo"])
def test_no_pacing_needs_an_end_to_drawing(name: str) -> None:
    with pytest.raises(UserError, match=f"which the selector '{name}' never runs out of; set replay.selector = fifo"):
        resolved("--run.train_ratio", "none", "--replay.selector", name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--replay.selector prioritized", "replay.selector = 'prioritized' is unknown; did you mean prioritised"),
        (
            "--replay.selector uniform --replay.selector.alpha 0.9",
            "replay.selector.alpha is of replay.selector = prioritised, but it is uniform",
        ),
        ("--replay.selector recency --replay.selector.fractoin 1", "did you mean replay.selector.fraction"),
        (
            "--replay.selector prioritised --replay.selector.alpha -1",
            "replay.selector.alpha = -1: expected 0 <= alpha <= 10",
        ),
        ("--replay.selector prioritised --replay.selector.alpha x", "replay.selector.alpha = 'x' is not a float"),
        ("--replay.selector recency --replay.selector.horizon 0", "horizon >= 1"),
        ("--replay.learn 3", "unknown key 'replay.learn'; did you mean replay.window.learn"),
        ("--replay.budget 3", "unknown key 'replay.budget'; did you mean replay.store.budget"),
    ],
)
def test_slips_are_one_line(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(*words.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_is_saved_by_name_and_comes_back(name: str, tmp_path: Path) -> None:
    config = resolved("--replay.selector", name)
    assert overrides.to_dict(config)["replay"]["selector"]["kind"] == name
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


@pytest.mark.parametrize("name", ["ends", "episodes"])
def test_windows_from_any_row_need_period_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"the selector '{name}' needs period = 1, got 2"):
        ReplayConfig(window=WindowConfig(period=2), selector=SELECTORS[name]())
