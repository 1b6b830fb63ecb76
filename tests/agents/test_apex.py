"""Ape-X: DQN whose rows are scored by the actors that made them, each of which explores in its own way."""

from __future__ import annotations

import torch

from reverie.agents.agent import Noise, Seat
from reverie.agents.dqn import DQNConfig
from reverie.presets.parts import inherited
from tests.agents.value import VECTOR, batch, make


def test_with_its_settings_dqn_learns_the_same() -> None:
    """Bit for bit: what Ape-X adds is not in the update."""
    apex = make("apex", VECTOR)
    settings = {name: value for name, value in inherited(apex.config).items() if name in DQNConfig.__dataclass_fields__}
    dqn = make("dqn", VECTOR, **settings)
    for seed in range(3):
        one, other = apex.update(batch(apex, seed=seed)), dqn.update(batch(dqn, seed=seed))
        assert one.feedback is not None
        assert other.feedback is not None
        assert torch.equal(one.feedback.priorities, other.feedback.priorities)
    for mine, theirs in zip(apex.policy.parameters(), dqn.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_streams_of_several_actors_are_on_one_ladder() -> None:
    """Two actors of four streams see the rungs that one actor of eight sees: 0.4^(1 + 7 i / 7)."""
    explore = make("apex", VECTOR).config.explore
    parts = [explore.epsilons(Seat(range(first, first + 4), 8)) for first in (0, 4)]
    torch.testing.assert_close(torch.cat(parts), torch.tensor([0.4 ** (i + 1) for i in range(8)]))


def test_an_actors_priority_is_the_learners_error_for_the_same_parameters() -> None:
    """Scored from the values that the actor stored, before any update."""
    learner = make("apex", VECTOR)
    sample = batch(learner, width=6, seed=3)
    rows = dict(sample.rows)
    q = []
    state = learner.policy.initial_state(6)
    for t in range(learner.windows.length):
        row = {name: value[t] for name, value in rows.items()}
        decision = learner.policy.step(state, row, Noise(0), Seat.alone(6, "greedy"))
        state = decision.state
        q.append(decision.extras["q"])
    scored = rows | {"extra.q": torch.stack(q)}
    learner.target.load_state_dict(learner.policy.state_dict())
    first = learner.policy.priorities(scored, learner.windows)
    feedback = learner.update(sample).feedback
    assert feedback is not None
    torch.testing.assert_close(first.float(), feedback.priorities.float(), rtol=1e-4, atol=1e-5)
