"""Schedules: shares of a run become counts, counts stay, and what nobody resolved is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from reverie.agents.dqn import DQNConfig
from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.agents.exploration import Exploration
from reverie.agents.policy import Seat
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.schedule import Length, check, ends, resolve, schedule

LENGTH = Length(env_steps=40_000, learner_steps=19_500)


@dataclass(frozen=True)
class Own:
    """An agent's configuration with a schedule of its own."""

    warm_over: float = schedule("learner_steps", 0.5)
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr_over=1.0))

    def __post_init__(self) -> None:
        check(self)


def test_shares_become_counts_of_their_unit_and_counts_stay() -> None:
    config = DQNConfig(
        n_step=3,
        n_step_over=0.5,
        beta_over=700,
        explore=Exploration(over=0.2, after=0.1),
        opt=OptimConfig(lr_over=1.0),
    )
    counted = resolve(config, LENGTH)
    assert (counted.n_step_over, counted.beta_over, counted.opt.lr_over) == (9750, 700, 19_500)
    assert (counted.explore.over, counted.explore.after) == (8000, 4000)
    assert resolve(counted, Length(7, 7)) == counted
    assert replace(counted, n_step_over=0.5, explore=config.explore, opt=config.opt) == config


def test_every_optimiser_of_a_dreamer_and_fields_of_ones_own_are_found() -> None:
    dreamer = resolve(DreamerV2Config(actor_opt=OptimConfig(lr_over=0.25)), LENGTH)
    assert (dreamer.model_opt.lr_over, dreamer.actor_opt.lr_over) == (0, 4875)
    own = resolve(Own(), LENGTH)
    assert (own.warm_over, own.opt.lr_over) == (9750, 19_500)
    assert resolve(None, LENGTH) is None


def test_a_share_of_nothing_is_still_a_schedule() -> None:
    assert resolve(OptimConfig(lr_over=1.0), Length(10, 0)).lr_over == 2
    assert resolve(OptimConfig(lr_over=0.0), Length(10, 10)).lr_over == 0


def test_ends_are_where_the_schedules_end() -> None:
    anneal = DQNConfig(n_step_over=100, explore=Exploration(over=0.2, after=0.1), opt=OptimConfig(lr_over=1.0))
    assert sorted(ends(anneal, LENGTH)) == [
        ("explore.over", 12_000, "env_steps"),
        ("n_step_over", 100, "learner_steps"),
        ("opt.lr_over", 19_500, "learner_steps"),
    ]
    assert list(ends(DQNConfig(explore=Exploration(kind="ladder")), LENGTH)) == []


@pytest.mark.parametrize("value", [-1, -0.5, 1.5, float("inf"), float("nan")])
def test_neither_a_share_nor_a_count(value: float) -> None:
    message = f"must be 0, a share of the run in .* a whole number of learner_steps, got {value}"
    with pytest.raises(ValueError, match=f"lr_over {message}"):
        OptimConfig(lr_over=value)
    with pytest.raises(ValueError, match=f"warm_over {message}"):
        Own(warm_over=value)


def test_what_nobody_resolved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lr_over is the share 0\.5 of a run"):
        Optimiser([nn.Parameter(torch.zeros(1))], OptimConfig(lr_over=0.5))
    with pytest.raises(ValueError, match=r"after is the share 0\.5 of a run"):
        Exploration(over=10, after=0.5).epsilons(Seat.alone(1, "explore"))
