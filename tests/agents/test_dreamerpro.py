"""DreamerPro: its losses against loops in float64, the slow encoder, moved views, and what cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.dreamerpro import DreamerPro, DreamerProConfig
from reverie.agents.dreamerv2 import DreamerV2Learner
from reverie.agents.harmonydream import HarmonyDream, HarmonyDreamProConfig
from reverie.agents.prototypes import Prototypes, PrototypesConfig
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.balance import BalanceKind
from reverie.ops.translate import translated
from reverie.presets import make_config
from reverie.presets.parts import inherited
from tests.agents.test_dreamerv2 import CONFIG, CONTINUOUS, DISCRETE, batch

FEW = PrototypesConfig(count=6, size=4, frozen=2, shift=1.0)
PRO = DreamerProConfig(**inherited(CONFIG), prototypes=FEW)


def learner(env: EnvSpec = DISCRETE, **changes: Any) -> DreamerV2Learner:
    torch.manual_seed(0)
    recipe = DreamerPro(replace(PRO, prototypes=replace(FEW, **changes)), env)
    made = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    assert isinstance(made, DreamerV2Learner)
    return made


def objective(agent: DreamerV2Learner) -> Prototypes:
    assert isinstance(agent.model.objective, Prototypes)
    return agent.model.objective


def unit(x: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x]


def dots(x: list[float], rows: list[list[float]]) -> list[float]:
    return [sum(a * b for a, b in zip(x, row, strict=True)) for row in rows]


def log_softmax(x: list[float]) -> list[float]:
    total = math.log(sum(math.exp(v) for v in x))
    return [v - total for v in x]


def assigned(scores: list[list[float]], eps: float) -> list[list[float]]:
    """Sinkhorn by loops."""
    q = [[math.exp(v / eps) for v in row] for row in scores]
    for _ in range(3):
        sums = [sum(column) for column in zip(*q, strict=True)]
        q = [[v / (s * len(sums)) for v, s in zip(row, sums, strict=True)] for row in q]
        q = [[v / (sum(row) * len(q)) for v in row] for row in q]
    return [[v * len(q) for v in row] for row in q]


def test_the_losses_are_the_slow_loop() -> None:
    agent = learner(norm_scale=0.7)
    data, pro = batch(seed=2), objective(agent)
    with torch.no_grad():  # slow parts of their own
        for parameter in [*pro.slow_encoder.parameters(), *pro.slow_see.parameters()]:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    seen, rows = agent.see(data, {})
    assert rows["reward"].shape == (5, 6)
    losses = pro.losses(seen, rows)
    for parameter in agent.parameters():
        parameter.requires_grad_(False)
    clusters = [unit(row) for row in pro.prototypes.double().tolist()]
    slow_embed = pro.slow_encoder.encode(seen.observations)
    swav = temporal = norm = 0.0
    views: list[dict[str, list[list[float]]]] = [{"slow": [], "u": [], "f": []} for _ in range(2)]
    for t in range(5):
        for b in range(6):
            u = pro.see.double()(seen.embed[t, b].double()).tolist()
            f = pro.remember.double()(seen.features[t, b].double()).tolist()
            for x in (u, f):
                norm += (math.sqrt(sum(v * v for v in x)) - 1) ** 2 / 30
            if t:
                slow = pro.slow_see.double()(slow_embed[t, b].double()).tolist()
                for name, x in (("slow", slow), ("u", u), ("f", f)):
                    views[b // 3][name].append(dots(unit(x), clusters))
    targets = [assigned(view["slow"], FEW.eps) for view in views]
    for v in range(2):
        for n in range(12):
            p_u, p_f = (log_softmax([s / FEW.temperature for s in views[v][name][n]]) for name in ("u", "f"))
            swav -= 0.5 * sum(q * p for q, p in zip(targets[1 - v][n], p_u, strict=True)) / 12
            temporal -= 0.5 * sum(q * p for q, p in zip(targets[v][n], p_f, strict=True)) / 12
    assert losses["swav"].item() == pytest.approx(swav, rel=1e-4)
    assert losses["temporal"].item() == pytest.approx(temporal, rel=1e-4)
    assert losses["norm"].item() == pytest.approx(0.7 * norm, rel=1e-4)
    assert set(learner(norm_scale=0.0).model.objective.losses(seen, rows)) == {"swav", "temporal"}


def test_likenesses_are_in_full_precision_under_autocast() -> None:
    agent = learner()
    part = objective(agent)
    y = torch.randn(3, 4, part.prototypes.shape[1], generator=torch.Generator().manual_seed(0))
    plain = part.scores(y, part.prototypes)
    with torch.autocast("cpu", torch.bfloat16):
        cast = part.scores(y, part.prototypes)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def test_views_are_moved_each_by_its_own_and_the_same_for_all_rows() -> None:
    pro = objective(learner(shift=2.0))
    images = torch.rand(5, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    u = torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(1))
    moved = pro.augment({"image": images, "other": images}, u)
    assert torch.equal(moved["other"], images)
    for t in range(5):
        assert torch.allclose(moved["image"][t], translated(images[t], (2 * u[0] - 1) * 2.0))
    assert not torch.equal(moved["image"][0], images[0])
    assert (pro.views, pro.noise, pro.tells) == (2, 2, False)


def test_the_slow_encoder_follows_and_prototypes_wait() -> None:
    agent = learner(frozen=2, follow=0.05)
    pro, encoder = objective(agent), agent.model.encoder
    first = pro.prototypes.detach().clone()
    assert torch.allclose(first.norm(dim=-1), torch.ones(6))
    agent.update(batch(seed=0))
    assert all(torch.equal(a, b) for a, b in zip(pro.slow_encoder.parameters(), encoder.parameters(), strict=True))
    before = [p.clone() for p in pro.slow_encoder.parameters()]
    agent.update(batch(seed=1))
    for slow, old, fast in zip(pro.slow_encoder.parameters(), before, encoder.parameters(), strict=True):
        assert torch.allclose(slow, old + 0.05 * (fast - old), atol=1e-7)
    assert torch.allclose(pro.prototypes, first, atol=1e-6)
    agent.update(batch(seed=2))
    assert not torch.allclose(pro.prototypes, first, atol=1e-6)
    assert torch.allclose(pro.prototypes.norm(dim=-1), torch.ones(6), atol=1e-6)
    trained = {id(p) for p in agent.model.trained_parameters()}
    assert not trained & {id(p) for p in [*pro.slow_encoder.parameters(), *pro.slow_see.parameters()]}


def test_gradients_reach_encoder_and_memory_and_no_slow_part() -> None:
    agent = learner(frozen=0)
    seen, rows = agent.see(batch(), {})
    reached: dict[str, set[str]] = {}
    for name, loss in objective(agent).losses(seen, rows).items():
        agent.zero_grad()
        loss.backward(retain_graph=True)
        parts = {"encoder": agent.model.encoder, "rssm": agent.model.rssm, "slow": objective(agent).slow_encoder}
        reached[name] = {
            k for k, m in parts.items() if any(p.grad is not None and p.grad.any() for p in m.parameters())
        }
    assert reached["swav"] == {"encoder"}
    assert reached["temporal"] == {"encoder", "rssm"}


def test_without_decoder_in_grad_heads_prototypes_shape_neither_encoder_nor_memory() -> None:
    agent = learner(frozen=0)
    agent.model.config = replace(agent.model.config, grad_heads=("reward", "discount"))
    seen, rows = agent.see(batch(), {})
    agent.zero_grad()
    losses = agent.model.head_losses(seen, rows)
    torch.stack([loss for (group, _), loss in losses.items() if group == "observation"]).sum().backward()
    for part in (agent.model.encoder, agent.model.rssm):
        assert not any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert any(p.grad is not None and p.grad.any() for p in objective(agent).see.parameters())


def test_save_and_restore_are_exact() -> None:
    agent, other = learner(), learner()
    for seed in range(3):
        agent.update(batch(seed=seed))
    saved = agent.save()
    assert {"model.objective.prototypes", "model.objective.slow_see.weight"} <= set(saved["tensors"])
    assert not any("online" in name for name in saved["tensors"])
    other.restore(saved)
    one, two = (each.update(batch(seed=9)).metrics for each in (agent, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_harmony_weighs_all_of_the_objective_as_one_group() -> None:
    config = HarmonyDreamProConfig(**inherited(PRO, "balance"))
    recipe = HarmonyDream(config, DISCRETE)
    agent = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    metrics: dict[str, Tensor] = agent.update(batch()).metrics
    parts = sum(metrics[f"{name}_loss"] for name in ("swav", "temporal", "norm"))
    assert metrics["balance/observation_loss"].item() == pytest.approx(float(parts), rel=1e-6)


@pytest.mark.parametrize("kind", get_args(BalanceKind))
def test_every_balancer_weighs_its_losses(kind: BalanceKind) -> None:
    config = replace(HarmonyDreamProConfig(**inherited(PRO, "balance")), balance=kind)
    recipe = HarmonyDream(config, DISCRETE)
    agent = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    for seed in range(3):
        metrics: dict[str, Tensor] = agent.update(batch(seed=seed)).metrics
    assert all(torch.isfinite(value) for value in metrics.values())
    products = {}
    for group in ("observation", "reward", "dynamics"):
        loss, weight, product = (metrics[f"balance/{group}_{part}"].item() for part in ("loss", "weight", "product"))
        assert product == pytest.approx(weight * loss, rel=1e-5)
        products[group] = product
    moved = [name for name, parameter in agent.model.named_parameters() if "balancer" in name and parameter.any()]
    assert bool(moved) == (kind in ("harmony", "harmony-unrectified", "uw"))


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(ValueError, match="no image among the observations"):
        DreamerPro(PRO, CONTINUOUS)
    masked = EnvSpec("test", {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}, spaces.Discrete(3), action_mask=True)
    with pytest.raises(ValueError, match="cannot tell which actions a mask allows"):
        HarmonyDream(HarmonyDreamProConfig(**inherited(PRO, "balance")), masked)


def test_presets_are_the_released_numbers() -> None:
    plain, distracting = make_config("dreamerpro", "dmc-vision"), make_config("dreamerpro", "dmc-distracting")
    pro = plain.agent.prototypes
    assert (pro.count, pro.size, pro.temperature, pro.eps, pro.iterations) == (2500, 32, 0.1, 0.0125, 3)
    assert (pro.frozen, pro.follow, pro.shift) == (10_000, 0.05, 3.0)
    assert (pro.norm_scale, distracting.agent.prototypes.norm_scale) == (0.0, 1.0)
    assert (plain.agent.reward_scale, distracting.agent.reward_scale) == (1.0, 1000.0)
    assert (plain.agent.rssm.latent, plain.agent.rssm.stoch, plain.agent.rssm.std) == ("gaussian", 32, "sigmoid2")
    assert (plain.replay.batch, plain.replay.window.learn, plain.run.train_ratio) == (50, 51, 50 * 51 / 5)
    assert (plain.agent.actor_grad, plain.agent.continuous, plain.agent.kl_free) == ("dynamics", "tanh_normal", 1.0)
    assert plain.agent.horizon == 14  # 15 states with the start
    assert make_config("harmonydream", "dmc-distracting", base="dreamerpro").agent.balance == "harmony"
