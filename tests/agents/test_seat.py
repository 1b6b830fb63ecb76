"""Seats: how a policy acts depends on the seat alone, and extras belong to the action that is taken."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.agents.agent import Decision, Seat, Tape
from reverie.agents.exploration import Exploration
from tests.agents.value import IMAGE, VECTOR, batch, decide, make

LADDER = Exploration(kind="ladder", base=0.9, alpha=1.0, evaluation=0.0)


def rows_of(learner: Any, streams: int) -> dict[str, Tensor]:
    return {name: value[0] for name, value in batch(learner, width=streams).rows.items()}


def test_a_seat_of_its_own_has_all_streams() -> None:
    assert Seat.alone(3) == Seat(range(3), 3, 0, "greedy")
    assert Seat.alone(3, "explore", 7) == Seat(range(3), 3, 7, "explore")
    with pytest.raises(FrozenInstanceError):
        Seat.alone(3).play = "random"  # type: ignore[misc]


def test_the_same_seat_explores_the_same_whatever_was_played_before() -> None:
    policy = make("dqn", VECTOR, explore=LADDER).policy
    rows, u = rows_of(make("dqn", VECTOR), 64), torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    first = decide(policy, rows, u, "explore").action
    greedy = decide(policy, rows, u, "greedy").action
    assert torch.equal(decide(policy, rows, u, "explore").action, first)
    assert not torch.equal(first, greedy)
    state = policy.state_dict()
    policy.step({}, rows, Tape(u), Seat(range(64, 128), 999, 10**6))
    assert all(torch.equal(value, state[name]) for name, value in policy.state_dict().items())


def test_streams_of_a_part_act_as_they_would_in_the_whole() -> None:
    """Streams 2 to 4 of eight, as one of several actors has them, with the same rows and numbers."""
    learner = make("dqn", VECTOR, explore=LADDER)
    parted, shifted = 0, 0
    for seed in range(40):
        rows = {name: value[0] for name, value in batch(learner, width=8, seed=seed).rows.items()}
        u = torch.rand(8, 2, generator=torch.Generator().manual_seed(seed))
        whole = learner.policy.step({}, rows, Tape(u), Seat(range(8), 8)).action
        few = {name: value[2:5] for name, value in rows.items()}
        part = learner.policy.step({}, few, Tape(u[2:5]), Seat(range(2, 5), 8)).action
        parted += int((whole[2:5] != part).sum())
        shifted += int((learner.policy.step({}, few, Tape(u[2:5]), Seat(range(3), 8)).action != part).sum())
    assert parted == 0
    assert shifted > 0  # other places on the ladder show


def same_but_for_the_action(one: Decision, other: Decision) -> None:
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[name], value) for name, value in other.state.items())
    assert torch.equal(one.extras["q"], other.extras["q"])


@pytest.mark.parametrize("env", [IMAGE, VECTOR])
def test_random_play_tells_the_values_and_the_state_of_its_rows(env: Any) -> None:
    """Actions follow from the second number; what goes with them is what the network said of the very rows."""
    learner = make("r2d2", env, units=5, stack=2)
    policy, rows = learner.policy, rows_of(learner, 300)
    u = torch.rand(300, 2, generator=torch.Generator().manual_seed(0))
    random, greedy = decide(policy, rows, u, "random"), decide(policy, rows, u, "greedy")
    assert torch.equal(random.action, (3 * u[:, 1]).long())
    assert torch.equal(greedy.action, greedy.extras["q"].argmax(-1))
    assert (random.action != greedy.action).any()
    same_but_for_the_action(random, greedy)
    assert greedy.extras["q"].std(0).min() > 1e-3  # rows differ, and so do their values
    together = policy.unroll(policy.initial_state(300), {n: v[None] for n, v in rows.items()}, Tape(u[None]))
    assert torch.allclose(random.extras["q"], together[0][0], atol=1e-6)


def test_exploring_tells_the_same_where_it_acts_at_random() -> None:
    learner = make("r2d2", VECTOR, units=5, explore=Exploration(kind="ladder", base=1.0, alpha=0.0))
    rows, u = rows_of(learner, 20), torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    explore, random = decide(learner.policy, rows, u, "explore"), decide(learner.policy, rows, u, "random")
    assert torch.equal(explore.action, random.action)
    same_but_for_the_action(explore, random)


@pytest.mark.parametrize("agent", ["dqn", "rainbow", "iqn", "drqn", "r2d2"])
def test_a_decision_asks_for_noise_once_and_for_all_of_it(agent: str) -> None:
    policy = make(agent, VECTOR).policy
    rows = rows_of(make(agent, VECTOR), 5)
    for play in ("explore", "random", "greedy"):
        with pytest.raises(ValueError, match="was asked for"):
            decide(policy, rows, torch.rand(5, policy.noise + 1), play)
        assert decide(policy, rows, torch.rand(5, policy.noise), play).action.shape == (5,)
