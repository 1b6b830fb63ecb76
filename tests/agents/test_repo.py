"""RePo: its loss against a slow loop, the probe that shapes nothing, beta, equal weights, and what cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.agents.dreamerv1 import DreamerV1, DreamerV1Config
from reverie.agents.repo import RePo, RePoConfig, RePoLearner
from reverie.data.sequences import SequenceSpec
from reverie.nets.optim import OptimConfig
from reverie.presets import make_config
from tests.agents.test_dreamerv1 import RSSM, dream
from tests.agents.test_dreamerv2 import CODE, CONTINUOUS, DISCRETE, HEAD, batch
from tests.agents.test_static import WAITING, Watch

CONFIG = RePoConfig(
    encoder=CODE,
    decoder=CODE,
    rssm=RSSM,
    reward=HEAD,
    discount=HEAD,
    actor=HEAD,
    critic=HEAD,
    horizon=4,
    target_kl=0.1,
    beta_start=0.5,
)
ENDS = replace(CONFIG, predict_discount=True)
LOG = 0.5 * math.log(2 * math.pi)


def learner(config: RePoConfig = CONFIG, env: Any = DISCRETE, seed: int = 3) -> RePoLearner:
    torch.manual_seed(0)
    recipe = RePo(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(learn=5), seed)
    assert isinstance(made, RePoLearner)
    return made


def test_the_loss_of_the_model_is_the_slow_sum() -> None:
    """Reward, beta (KL - target) with beta = 1/2 and target 0.1, and the probe, row by row in float64."""
    agent = learner()
    metrics: dict[str, Tensor] = {}
    loss, seen, rows = agent.world_model_loss(batch(), metrics)
    reward = kl = image = 0.0
    told = agent.model.objective.decoder(seen.features)["image"].double()  # type: ignore[operator]
    for t in range(5):
        for b in range(3):
            error = rows["reward"][t, b].double() - agent.model.reward.mean(seen.features[t, b]).double()
            reward += float(0.5 * error.detach() ** 2) + LOG
            stats = (*(x[t, b].double() for x in seen.posterior), *(x[t, b].double() for x in seen.prior))
            for m, s, m0, s0 in zip(*stats, strict=True):
                kl += float((torch.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5).detach())
            error = seen.observations["image"][t, b].double() - told[t, b].detach()
            image += float((0.5 * error**2 + LOG).sum())
    assert metrics["kl"].item() == pytest.approx(kl / 15, rel=1e-5)
    assert metrics["kl_loss"].item() == pytest.approx(0.5 * (kl / 15 - 0.1), rel=1e-5)
    assert metrics["kl_weight"].item() == pytest.approx(0.5)
    assert metrics["image_loss"].item() == pytest.approx(image / 15, rel=1e-5)
    assert loss.item() == pytest.approx((reward + image) / 15 + 0.5 * (kl / 15 - 0.1), rel=1e-5)


def test_five_sixths_of_the_constraint_move_the_prior() -> None:
    """The gradient is beta (5/6 dKL(sg q || p) + 1/6 dKL(q || sg p)), whatever side the KL is of the target."""
    for target in (1e-3, 50.0):
        agent = learner(replace(CONFIG, target_kl=target))
        seen, _ = agent.see(batch(), {})
        losses = agent.model.dynamics_losses(seen, {})
        constrained = agent.constraint.penalty(losses["dynamics", "kl"])
        kl = agent.model.rssm.latent.kl
        halves = [
            kl(*(x.detach() for x in seen.posterior), *seen.prior).mean(),
            kl(*seen.posterior, *(x.detach() for x in seen.prior)).mean(),
        ]
        weights = [p for p in agent.model.rssm.parameters() if p.requires_grad]
        found, prior, post = (
            torch.autograd.grad(x, weights, retain_graph=True, allow_unused=True) for x in (constrained, *halves)
        )
        for mine, one, two in zip(found, prior, post, strict=True):
            expected = sum(share * x for share, x in ((5 / 6, one), (1 / 6, two)) if x is not None)
            assert torch.allclose(mine, 0.5 * torch.as_tensor(expected), atol=1e-7)


def reached(agent: RePoLearner, group: str) -> set[str]:
    agent.zero_grad()
    seen, rows = agent.see(batch(), {})
    losses = agent.model.losses(seen, rows, {})
    torch.stack([loss for (of, _), loss in losses.items() if of == group]).sum().backward()
    parts = {"encoder": agent.model.encoder, "rssm": agent.model.rssm, "decoder": agent.model.objective}
    return {k for k, m in parts.items() if any(p.grad is not None and bool(p.grad.any()) for p in m.parameters())}


def test_nothing_of_the_probe_reaches_the_model_and_the_twins_does() -> None:
    assert reached(learner(), "observation") == {"decoder"}
    assert reached(learner(), "reward") == {"encoder", "rssm"}
    assert reached(learner(), "dynamics") == {"encoder", "rssm"}
    twin = learner(replace(CONFIG, grad_heads=("decoder", "reward", "discount")))
    assert reached(twin, "observation") == {"decoder", "encoder", "rssm"}


def test_without_the_clip_that_they_share_the_probe_changes_no_other_network() -> None:
    free = OptimConfig(lr=1e-2, eps=1e-8, clip=math.inf, shrink=0.0)
    one, two = (learner(replace(CONFIG, observation_scale=scale, model_opt=free)) for scale in (1.0, 100.0))
    for seed in range(3):
        metrics = [agent.update(batch(seed=seed)).metrics for agent in (one, two)]
    assert torch.equal(metrics[0]["actor_loss"], metrics[1]["actor_loss"])
    theirs = dict(two.named_parameters())
    changed = {name for name, p in one.named_parameters() if not torch.equal(p, theirs[name])}
    assert changed
    assert all(name.startswith("model.objective.") for name in changed)


@pytest.mark.parametrize(("target", "sign"), [(1e-3, 1), (50.0, -1)])
def test_beta_grows_above_the_target_and_shrinks_below(target: float, sign: int) -> None:
    agent = learner(replace(CONFIG, target_kl=target))
    metrics = agent.update(batch()).metrics
    assert metrics["kl_weight"].item() == pytest.approx(0.5)  # what this update used
    assert agent.constraint.weight.item() == pytest.approx(0.5 * math.exp(sign * 1e-4), rel=1e-6)
    assert metrics["beta_loss"].item() == pytest.approx(math.log(2) * (metrics["kl"].item() - target), rel=1e-4)
    trained = {id(p) for p in agent.optimisers["model"].parameters}
    assert id(agent.constraint.log_weight) not in trained


def test_behaviour_dreams_in_the_updated_model() -> None:
    """What happens to the model between both stages is what dreams are made of."""
    agent, metrics = learner(), dict[str, Tensor]()
    stages = agent.losses(batch(), metrics)
    assert set(next(stages)) == {"model", "beta"}
    with torch.no_grad():
        agent.model.reward.head.out.bias.add_(1000.0)
    assert set(next(stages)) == {"actor", "critic"}
    assert metrics["imagined_reward"].item() == pytest.approx(1000.0, rel=0.01)


def test_all_states_of_a_dream_weigh_the_same_until_it_ends() -> None:
    agent = learner()
    d = dream(agent)
    d = replace(d, discount=torch.cat([torch.ones(1, 6), torch.full((4, 6), 0.99)]))
    assert torch.equal(agent.behaviour.weights(d), torch.ones(5, 6))
    returns = agent.behaviour.returns(d)
    entropy = agent.actions.entropy(d.policy[:-1])
    expected = -(sum(returns.flatten().tolist()) + 3e-4 * sum(entropy.flatten().tolist())) / returns.numel()
    assert agent.behaviour.actor_loss(d, returns, {}).item() == pytest.approx(expected, rel=1e-5)
    ends = learner(ENDS)
    discount = torch.tensor([[1.0, 0.0], [0.99, 0.99], [0.495, 0.99], [0.0, 0.99], [0.99, 0.99]])
    weights = ends.behaviour.weights(replace(d, discount=discount))
    expected_weights = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    assert torch.allclose(weights, expected_weights)


def test_save_and_restore_go_on_bit_for_bit() -> None:
    """The dual variable and its moments too."""
    one, other = learner(ENDS), learner(ENDS, seed=1)
    for seed in range(3):
        one.update(batch(seed=seed))
    saved = one.save()
    assert "constraint.log_weight" in saved["tensors"]
    assert set(saved["optimisers"]["beta"]) == {"constraint.log_weight"}
    saved["tensors"] = {name: value.clone() for name, value in saved["tensors"].items()}
    other.update(batch(seed=9))
    other.restore(saved)
    for seed in range(3, 5):
        first, second = (agent.update(batch(seed=seed)).metrics for agent in (one, other))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert torch.equal(one.constraint.log_weight, other.constraint.log_weight)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_update_is_static_and_never_waits(env: Any) -> None:
    agent = learner(ENDS, env)
    agent.update(batch(env))
    traces = []
    for seed in range(1, 3):
        data = batch(env, seed=seed)
        with Watch() as watch:
            agent.update(data)
        traces.append(watch.trace)
    assert traces[0] == traces[1]
    assert [name for name, _ in traces[0] if name in WAITING] == []


def test_at_a_fixed_weight_it_is_dreamer_v1_with_a_balance_and_detached_pictures() -> None:
    """The gradients of beta (KL - target) are those of a KL of that scale."""
    agent = learner()
    settings = {name: getattr(CONFIG, name) for name in DreamerV1Config.__dataclass_fields__}
    torch.manual_seed(0)
    recipe = DreamerV1(DreamerV1Config(**settings | {"kl_scale": 0.5}), DISCRETE)
    plain = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    for each in (agent, plain):
        each.world_model_loss(batch(), {})[0].backward()
    theirs = {name: p.grad for name, p in plain.model.named_parameters()}
    for name, parameter in agent.model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, theirs[name], atol=1e-7), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "harmony"}, "balance must be 'fixed', got 'harmony': RePo's constraint is what weighs the KL"),
        ({"kl_free": 1.0}, "kl_free must be 0, got 1.0"),
        ({"target_kl": 0.0}, "target_kl must be positive and finite, got 0.0"),
        ({"beta_start": 0.0}, "beta_start must be positive and finite, got 0.0"),
        ({"horizon": 1}, "horizon must be >= 2"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_small_sizes_are_dreamer_v1s() -> None:
    for preset in ("cpu-toy", "cpu-continuous", "cpu-control"):
        ours, theirs = make_config("repo", preset), make_config("dreamerv1", preset)
        assert (ours.run, ours.replay, ours.agent.rssm) == (theirs.run, theirs.replay, theirs.agent.rssm)
        assert (ours.agent.kl_balance, ours.agent.kl_scale, ours.agent.target_kl) == (5 / 6, 1.0, 3.0)
