"""The glossary of metrics and the metrics that runs log are the same."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SMALL

import reverie
from reverie import overrides
from reverie.agents import AGENTS
from reverie.report.record import read_metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TABLES = PAGE.read_text().partition("## What to look at")[0]
ROWS = [line for line in TABLES.splitlines() if line.startswith("|") and not line.endswith("| unit | meaning |")]
ENTRIES = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
SHORT: dict[str, Any] = {
    "run.env_steps": 80,
    "run.prefill": 20,
    "run.log_every": 20,
    "run.checkpoint_every": 0,
    "run.eval_every": 0,
    "run.eval_episodes": 2,
}
FURTHER: dict[str, tuple[str, dict[str, Any]]] = {
    "r2d2 with a gauge, older parameters, rates that change, and games too long to be judged by": (
        "r2d2",
        {
            "run.publish_every": 2,
            "run.eval_limit": 3,
            "replay.window.drift": True,
            "agent.opt.lr_over": 0.5,
            "agent.explore.over": 0.5,
        },
    ),
    "actor-critic, first in, first out": (
        "actor_critic:ActorCritic",
        {"replay.selector": "fifo", "run.train_ratio": None, "run.prefill": 0, "replay.store.budget": 13_000},
    ),
}
TWO_TASKS = "impala on two tasks"
FURTHER[TWO_TASKS] = ("impala", {"agent.popart": True, "replay.window.period": SMALL["replay.window.learn"]})
ELSEWHERE = {
    TWO_TASKS: "toy/catch,odd_tasks:Hundred",
    "planet": "toy_control:Point",
    "apex-dpg": "toy_control:Point",
    "tdmpc": "Pendulum-v1",
    "tdmpc2": "Pendulum-v1",
}
"""Where agents run that cannot play Catch."""
END_TO_END = {"replay.window.period": SMALL["replay.window.learn"]}
SEARCH = {
    "agent.plan.iterations": 1,
    "agent.plan.candidates": 6,
    "agent.plan.elites": 2,
    "agent.plan.policy_candidates": 2,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "planet": {"agent.overshooting": 1, "agent.plan.iterations": 1, "agent.plan.candidates": 4, "agent.plan.elites": 2},
    "tdmpc": SEARCH,
    "tdmpc2": {"replay.selector": "uniform", "agent.episodic": True, **SEARCH},
    "denoised": {"agent.z.deter": 4, "agent.z.stoch": 2},
    "a2c": END_TO_END,
    "a3c": {**END_TO_END, "run.prefill": 0, "run.train_ratio": None, "agent.workers": 2, "replay.batch": 1},
    "impala": {**END_TO_END, "agent.popart": True},
}
RUNS = {**{agent: (agent, SETTINGS.get(agent, {})) for agent in AGENTS}, **FURTHER}


def pattern(entry: str) -> re.Pattern[str]:
    """Names that an entry is for: what stands in angle brackets is any part, but for a slash."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"<[^>]*>", entry)))


@cache
def logged(run: str, folder: Path) -> set[str]:
    """Names in the log of a tiny run."""
    agent, changes = RUNS[run]
    config = reverie.make_config(agent, None, ELSEWHERE.get(run, ELSEWHERE.get(agent, "toy/catch")))
    keys = overrides.flatten(config)
    small = {key: value for key, value in {**SMALL, **SHORT}.items() if key in keys}
    run_dir = folder / re.sub(r"\W", "_", run)
    reverie.train(overrides.apply(config, {**small, **changes}), run_dir)
    return {name for record in read_metrics(run_dir) for name in record}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logged")


@pytest.mark.parametrize("run", RUNS)
def test_every_metric_has_an_entry(run: str, folder: Path) -> None:
    # Losses of other packages' agents are theirs to describe; what stands around them is ours.
    names = {name for name in logged(run, folder) if ":" not in RUNS[run][0] or not name.startswith("train/")}
    assert "eval/score" in names
    exact = [entry for entry in ENTRIES if "<" not in entry]
    loose = [pattern(entry) for entry in ENTRIES if "<" in entry]
    missing = [name for name in sorted(names) if name not in exact and not any(p.fullmatch(name) for p in loose)]
    assert missing == [], f"write down in {PAGE} what these are"


def test_every_entry_is_logged_by_some_run(folder: Path) -> None:
    names = set().union(*(logged(run, folder) for run in RUNS))
    idle = [entry for entry in ENTRIES if not any(pattern(entry).fullmatch(name) for name in names)]
    # These are of environments that are not part of this test, see the tests of each.
    assert set(idle) <= {"episode/game_return"}, f"no run logs these: take them out of {PAGE}"
