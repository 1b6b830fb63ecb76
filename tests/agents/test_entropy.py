"""The scale of the actor's entropy over a run, in every Dreamer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from reverie.nets.schedule import Length, resolve
from tests.agents import test_dreamerv1, test_dreamerv2, v3
from tests.agents.test_dreamerv1 import dream
from tests.agents.test_dreamerv2 import DISCRETE, batch
from tests.agents.test_dreamerv3 import stored

AGENTS: dict[str, tuple[Any, Any]] = {
    "dreamerv1": (test_dreamerv1.CONFIG, lambda config: test_dreamerv1.learner(config)),
    "dreamerv2": (test_dreamerv2.CONFIG, lambda config: test_dreamerv2.learner(config, DISCRETE)),
    "dreamerv3-2023": (v3.THEN, lambda config: v3.then(DISCRETE, config)),
    "dreamerv3": (v3.NOW, lambda config: v3.now(DISCRETE, config, state="stored")),
}


@pytest.mark.parametrize("name", AGENTS)
def test_it_goes_from_one_scale_to_the_other_over_learner_steps(name: str) -> None:
    config, make = AGENTS[name]
    falls = make(replace(config, entropy=0.5, entropy_end=0.1, entropy_over=4))
    d = dream(falls)
    returns = falls.behaviour.returns(d)
    for steps, scale in ((0, 0.5), (1, 0.4), (3, 0.2), (4, 0.1), (9, 0.1)):
        falls.policy.version.fill_(steps)
        still = make(replace(config, entropy=scale))
        assert torch.allclose(falls.behaviour.actor_loss(d, returns, {}), still.behaviour.actor_loss(d, returns, {}))
    other = make(replace(config, entropy=0.6)).behaviour.actor_loss(d, returns, {})
    assert not torch.allclose(other, falls.behaviour.actor_loss(d, returns, {}))


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_knows_its_number(name: str) -> None:
    """The update after 2 of 4 steps has the scale in the middle."""
    config, make = AGENTS[name]
    falls = make(replace(config, entropy=2.0, entropy_end=0.0, entropy_over=4))
    scales = []
    for seed in range(5):
        scales.append(float(falls.behaviour.entropy_scale))
        data = batch(DISCRETE, seed=seed)
        falls.update(stored(data, falls) if name == "dreamerv3" else data)
    assert scales == [2.0, 1.5, 1.0, 0.5, 0.0]


def test_shares_of_a_run_become_counts() -> None:
    for config, make in AGENTS.values():
        whole = replace(config, entropy_over=1.0)
        assert resolve(whole, Length(1000, 80)).entropy_over == 80
        with pytest.raises(ValueError, match=r"entropy_over is the share 1\.0 of a run"):
            make(whole)
        with pytest.raises(ValueError, match="entropy_over must be 0, a share of the run"):
            replace(config, entropy_over=1.5)
