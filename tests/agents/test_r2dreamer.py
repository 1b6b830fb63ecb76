"""R2-Dreamer: DreamerV3 but for one loss, whose gradient reaches the memory, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.agents.dreamerv3 import DreamerV3Learner
from reverie.agents.r2dreamer import R2Dreamer, R2DreamerConfig
from reverie.agents.redundancy import Redundancy
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.ops.redundancy import redundancy
from reverie.presets import make_config, presets_of
from reverie.presets.parts import inherited
from tests.agents.test_dreamerv2 import CONTINUOUS, DISCRETE, batch
from tests.agents.test_dreamerv3 import valid
from tests.agents.v3 import MIXED, warm

SMALL = R2DreamerConfig(**inherited(warm(), "observation_scale"))


def learner(env: EnvSpec = DISCRETE) -> DreamerV3Learner:
    torch.manual_seed(0)
    recipe = R2Dreamer(SMALL, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    assert isinstance(made, DreamerV3Learner)
    return made


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["pictures", "vectors"])
def test_the_loss_of_the_model_is_dreamerv3s_with_redundancy_for_the_decoder(env: EnvSpec) -> None:
    agent = learner(env)
    metrics: dict[str, torch.Tensor] = {}
    loss, seen, _ = agent.world_model_loss(batch(env), metrics)
    objective = agent.model.objective
    assert isinstance(objective, Redundancy)
    told = torch.stack([seen.features[t, b] @ objective.project.weight.T for t in range(5) for b in range(3)])
    embed = torch.stack([seen.embed[t, b] for t in range(5) for b in range(3)])
    expected = redundancy(told, embed)
    assert metrics["redundancy_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    rest = metrics["reward_loss"] + metrics["discount_loss"] + 1.1 * metrics["kl_loss"]
    assert loss.item() == pytest.approx(0.05 * expected.item() + rest.item(), rel=1e-5)
    assert not objective.tells


def test_its_gradient_reaches_the_memory_and_embeddings_only_through_it() -> None:
    agent = learner()
    seen, rows = agent.see(batch(), {})
    (loss,) = agent.model.objective.losses(seen, rows).values()
    grads = torch.autograd.grad(loss, [seen.features, seen.embed], retain_graph=True, allow_unused=True)
    assert grads[0] is not None
    assert grads[0].any()
    (own,) = agent.model.objective.losses(seen.apart(), rows).values()
    assert torch.autograd.grad(own, [seen.embed], allow_unused=True)[0] is None


def test_save_and_restore_are_exact() -> None:
    agent, other = learner(MIXED), learner(MIXED)
    for seed in range(2):
        agent.update(valid(MIXED, seed=seed))
    other.restore(agent.save())
    one, two = (each.update(valid(MIXED, seed=7)).metrics for each in (agent, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_masks_are_refused_and_presets_are_dreamerv3s() -> None:
    seen = {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}
    with pytest.raises(ValueError, match="cannot tell which actions a mask allows"):
        R2Dreamer(SMALL, EnvSpec("test", seen, spaces.Discrete(3), action_mask=True))
    assert list(presets_of("r2dreamer")) == list(presets_of("dreamerv3"))
    ours, theirs = make_config("r2dreamer", "dmc-vision-paper"), make_config("dreamerv3", "dmc-vision-paper")
    assert (ours.agent.observation_scale, ours.agent.others) == (0.05, 5e-4)
    assert (ours.replay, ours.run, ours.agent.size) == (theirs.replay, theirs.run, theirs.agent.size)
