"""HarmonyDream: its parent's gradients at s = 0, every key harmonised, exact save and restore with each balancer."""

from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.agents import find
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config, DreamerV2Learner
from reverie.agents.dreamerv3 import DreamerV3
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023
from reverie.agents.harmonydream import BASES, HarmonyDream, HarmonyDreamConfig
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.nets.balance import UW_LR, BalanceKind
from reverie.presets.parts import inherited
from tests.agents.test_dreamerv2 import CODE, CONFIG, DISCRETE, HEAD, RSSM, batch, learner

KINDS: tuple[BalanceKind, ...] = get_args(BalanceKind)
MIXED = EnvSpec(
    "test",
    {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8), "vector": spaces.Box(-1, 1, (4,), np.float32)},
    spaces.Discrete(3),
)
HARMONY = HarmonyDreamConfig(
    encoder=CODE, decoder=CODE, rssm=RSSM, reward=HEAD, discount=HEAD, actor=HEAD, critic=HEAD, horizon=4
)


def harmony(config: DreamerV2Config = HARMONY, env: EnvSpec = DISCRETE) -> DreamerV2Learner:
    torch.manual_seed(0)
    recipe = HarmonyDream(config, env)
    return recipe.learner(recipe.policy(), SequenceSpec(learn=5), seed=3)


def test_the_registry_knows_it() -> None:
    assert find("harmonydream").load() is HarmonyDream
    assert HarmonyDream.Config is HarmonyDreamConfig
    assert HarmonyDreamConfig().balance == "harmony"
    assert type(HarmonyDream(HARMONY, DISCRETE).base) is DreamerV2


@pytest.mark.parametrize(
    ("name", "recipe"), [("dreamerv2", DreamerV2), ("dreamerv3-2023", DreamerV3Of2023), ("dreamerv3", DreamerV3)]
)
def test_it_is_its_base_with_another_balance(name: str, recipe: type[DreamerV2]) -> None:
    """The same settings but for `balance` and `base`, and the same networks from the same seed."""
    config = BASES[name].config()
    plain = recipe.Config()
    shared = {f.name: getattr(config, f.name) for f in fields(plain)}
    assert shared == {f.name: getattr(plain, f.name) for f in fields(plain)} | {"balance": "harmony"}
    assert (config.base, HarmonyDream.defaults({"base": name})) == (name, config)
    assert HarmonyDream.defaults({}) == HarmonyDreamConfig()
    with pytest.raises(UserError, match=r"agent\.base = .dreamerv33. cannot be harmonised; did you mean dreamerv3"):
        HarmonyDream.defaults({"base": "dreamerv33"})


@pytest.mark.parametrize("name", ["dreamerv3-2023", "dreamerv3"])
def test_at_s_0_gradients_over_dreamerv3_are_those_of_weights_of_one(name: str) -> None:
    from tests.agents.v3 import NOW, THEN

    plain = {"dreamerv3": NOW, "dreamerv3-2023": THEN}[name]
    recipe = {"dreamerv3": DreamerV3, "dreamerv3-2023": DreamerV3Of2023}[name]
    child = BASES[name].config(**inherited(plain, "balance"))
    gradients = []
    for made in (recipe(replace(plain, kl_scale=1.0), DISCRETE), HarmonyDream(child, DISCRETE)):
        torch.manual_seed(0)
        agent = made.learner(made.policy(), made.windows(SequenceSpec(learn=5)), 3)
        agent.world_model_loss(batch(), {})[0].backward()
        gradients.append({n: p.grad for n, p in agent.model.named_parameters() if p.grad is not None})
        scales = [p for n, p in agent.model.named_parameters() if n == "balancer.log_sigma"]
        assert all(p in set(next(iter(agent.optimisers.values())).parameters) for p in scales)
    assert set(gradients[1]) - set(gradients[0]) == {"balancer.log_sigma"}
    for key, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][key], atol=1e-6), key


def test_at_s_0_a_real_update_moves_the_networks_as_the_parents_with_weights_of_one() -> None:
    parent = learner(replace(CONFIG, kl_scale=1.0, reward_scale=1.0, observation_scale=1.0))
    child = harmony()
    for name, value in parent.state_dict().items():
        assert torch.equal(value, child.state_dict()[name]), name
    data = batch()
    gradients = []
    for agent in (parent, child):
        loss, _, _ = agent.world_model_loss(data, {})
        loss.backward()
        gradients.append({name: p.grad for name, p in agent.model.named_parameters() if p.grad is not None})
    ours, theirs = gradients[1], gradients[0]
    assert set(ours) - set(theirs) == {"balancer.log_sigma"}
    for name, value in theirs.items():
        assert torch.allclose(value, ours[name], atol=1e-6), name
    for agent in (parent, child):
        agent.noise.generator.manual_seed(1)
        agent.model.zero_grad()
        agent.update(data)
    for name, value in parent.model.named_parameters():
        # The scales' own gradient is in the global norm; far below the clip it changes nothing.
        assert torch.allclose(value, dict(child.model.named_parameters())[name], atol=1e-5), name


def test_the_scales_move_with_the_models_optimiser() -> None:
    agent = harmony()
    before = agent.model.balancer.log_sigma.clone()
    agent.update(batch())
    moved = (agent.model.balancer.log_sigma - before).abs()
    # Adam's first move is one learning rate, whatever the gradient.
    assert moved.tolist() == pytest.approx([agent.config.model_opt.lr] * 3, rel=1e-2)


def test_uncertainty_weighting_moves_by_its_own_learning_rate() -> None:
    agent = harmony(replace(HARMONY, balance="uw"))
    assert agent.config.model_opt.lr != UW_LR
    metrics = agent.update(batch()).metrics
    # The gradient of s is (1 - L) / 2 at s = 0; Adam's first move is one learning rate against its sign.
    losses = [float(metrics[f"balance/{group}_loss"]) for group in ("observation", "reward", "dynamics")]
    expected = [0.025 if loss > 1 else -0.025 for loss in losses]
    assert len(set(expected)) == 2
    assert agent.model.balancer.log_variance.tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_update_does_is_one_plain_adam_but_for_uncertainty_weighting(kind: BalanceKind) -> None:
    """Bit for bit, over three updates: gradient clipping, shrink, and a PyTorch Adam made here of all parameters."""
    agent, twin = harmony(replace(HARMONY, balance=kind)), harmony(replace(HARMONY, balance=kind))
    opt = twin.config.model_opt
    parameters = list(twin.model.parameters())
    adam = torch.optim.Adam(parameters, lr=opt.lr, eps=opt.eps, fused=True)
    for seed in range(3):
        agent.update(batch(seed=seed))
        loss, _, _ = twin.world_model_loss(batch(seed=seed), {})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, opt.clip)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 - opt.shrink)
        adam.step()
        adam.zero_grad()
        twin.noise.restore(agent.noise.state())  # the behaviour's dreams drew from it too
    different = [
        name
        for (name, ours), theirs in zip(agent.model.named_parameters(), parameters, strict=True)
        if not torch.equal(ours, theirs)
    ]
    assert ("balancer.log_variance" in different) == (kind == "uw")
    assert bool(different) == (kind == "uw")


@pytest.mark.parametrize("kind", KINDS)
def test_image_and_vector_keys_both_stay_in_the_loss(kind: BalanceKind) -> None:
    agent = harmony(replace(HARMONY, balance=kind), MIXED)
    metrics: dict[str, torch.Tensor] = {}
    loss, _, _ = agent.world_model_loss(batch(MIXED), metrics)
    loss.backward()
    for key, part in (("image", "cnns"), ("vector", "heads")):
        decoders = [p for name, p in agent.model.objective.decoder.named_parameters() if name.startswith(part)]
        assert decoders
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoders), key
    both = metrics["image_loss"] + metrics["vector_loss"]
    assert metrics["balance/observation_loss"].item() == pytest.approx(both.item(), rel=1e-6)
    for group in ("observation", "reward", "dynamics"):
        product = metrics[f"balance/{group}_loss"] * metrics[f"balance/{group}_weight"]
        assert metrics[f"balance/{group}_product"].item() == pytest.approx(product.item(), rel=1e-6)


def test_fixed_weights_are_the_parents_scales() -> None:
    agent = learner(replace(CONFIG, kl_scale=0.3, reward_scale=10.0, observation_scale=2.0))
    metrics: dict[str, torch.Tensor] = {}
    loss, _, _ = agent.world_model_loss(batch(), metrics)
    parts = sum(metrics[f"balance/{group}_product"] for group in ("observation", "reward", "dynamics"))
    assert loss.item() == pytest.approx((parts + 5.0 * metrics["discount_loss"]).item(), rel=1e-6)
    assert metrics["balance/reward_weight"].item() == 10.0


@pytest.mark.parametrize(
    ("kind", "asked", "kept"), [("fixed", None, True), ("harmony", None, False), ("uw", True, True)]
)
def test_the_constant_of_the_likelihood(kind: BalanceKind, asked: bool | None, kept: bool) -> None:
    """64 pixels and a reward: 0.919 nats each, kept or dropped; gradients with fixed weights do not care."""
    config = replace(HARMONY, balance=kind, likelihood_constant=asked)
    losses = []
    for constant in (asked, not kept):
        metrics: dict[str, torch.Tensor] = {}
        harmony(replace(config, likelihood_constant=constant)).world_model_loss(batch(), metrics)
        losses.append(metrics)
    sign = 1 if kept else -1
    for name, count in (("image", 64), ("reward", 1)):
        gap = losses[0][f"{name}_loss"] - losses[1][f"{name}_loss"]
        assert gap.item() == pytest.approx(sign * count * 0.9189385, rel=1e-4)


def test_the_discount_keeps_its_scale_and_has_no_sigma() -> None:
    agent = harmony()
    metrics: dict[str, torch.Tensor] = {}
    loss, _, _ = agent.world_model_loss(batch(), metrics)
    three = sum(metrics[f"balance/{group}_product"] for group in ("observation", "reward", "dynamics"))
    regulariser = 3 * np.log(2.0)
    assert loss.item() == pytest.approx((three + regulariser + 5.0 * metrics["discount_loss"]).item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_restore_go_on_bit_for_bit(kind: BalanceKind) -> None:
    config = replace(HARMONY, balance=kind)
    whole, half = harmony(config), harmony(config)
    for seed in range(3):
        whole.update(batch(seed=seed))
        half.update(batch(seed=seed))
    saved = half.save()
    again = harmony(config)
    again.restore(saved)
    for seed in range(3, 6):
        ours, theirs = again.update(batch(seed=seed)).metrics, whole.update(batch(seed=seed)).metrics
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
