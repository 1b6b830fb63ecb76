"""Runs of a world model go on exactly under every balancer, whose own state is part of what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from kills import kill_and_finish
from tiny_runs import Never, Stop, again, begin, config, final, lines, words

from reverie.config import Config
from reverie.nets.balance import BalanceKind
from reverie.report.log import read_metrics

KINDS: tuple[BalanceKind, ...] = get_args(BalanceKind)
ENV = "toy/catch"
CHANGES: dict[str, Any] = {"run.train_ratio": 4.0, "run.eval_every": 0}
"""63 learner_steps, more than the 26 after which dynamic weight average has weights that are not 1."""


def settings(kind: BalanceKind) -> Config:
    changes = {key.replace(".", "__"): value for key, value in CHANGES.items()}
    return config(ENV, agent__balance=kind, **changes)


class Alone:
    """A run with each balancer that nobody interrupts, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, kind: BalanceKind) -> Path:
        run_dir = self.folder / kind
        if not run_dir.exists():
            begin(settings(kind), run_dir).train(Never())
        return run_dir


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("alone"))


def test_the_weights_move(alone: Alone) -> None:
    """So that a state which is lost can be seen."""
    for kind in KINDS:
        names = [f"train/balance/{group}_weight" for group in ("observation", "reward", "dynamics")]
        rows = [[record[name] for name in names] for record in read_metrics(alone[kind]) if names[0] in record]
        moved = len({tuple(row) for row in rows})
        assert moved == 1 if kind == "fixed" else moved > 5, kind


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("fixed", "nashmtl")])
def test_the_balancers_own_state_matters(tmp_path: Path, alone: Alone, kind: BalanceKind) -> None:
    """The negative control: with a fresh balancer in place of the saved one, the comparison fails.

    Not so for nashmtl, which has no state: its weights are those of the present gradients.
    """
    run = begin(settings(kind), tmp_path / "run")
    run.train(Stop(run, 120))
    run = again(settings(kind), tmp_path / "run")
    balancer = run.learner.model.balancer  # type: ignore[union-attr]
    with torch.no_grad():
        for name, value in type(balancer)(3).state_dict().items():  # type: ignore[operator]
            balancer.state_dict()[name].copy_(value)  # type: ignore[operator, union-attr]
    run.train(Never())
    ours, theirs = lines(tmp_path / "run"), lines(alone[kind])
    assert ours != theirs or final(tmp_path / "run") != final(alone[kind])


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind"), list(enumerate(KINDS)))
def test_killed(tmp_path: Path, alone: Alone, seed: int, kind: BalanceKind) -> None:
    """kill -9 at two moments of a run, each at least a log line after the one before."""
    run_dir = tmp_path / "run"
    changes = [f"--{key}={value}" for key, value in CHANGES.items()]
    command = words(ENV, run_dir, f"--agent.balance={kind}", *changes)
    moments = ["later", "after a checkpoint"]
    kill_and_finish(command, run_dir, moments, np.random.default_rng(seed), alone[kind])
