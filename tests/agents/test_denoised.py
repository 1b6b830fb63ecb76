"""Denoised MDP: its losses by hand and against a slow loop, who sees what, and Dreamer V1 where there is no noise."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.denoised import DenoisedConfig, DenoisedLearner, DenoisedMDP, FactoredModel, FactoredReward
from reverie.agents.dreamerv1 import DreamerV1, DreamerV1Config
from reverie.agents.harmonydream import HarmonyDenoisedConfig, HarmonyDream
from reverie.agents.seen import Seen
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.factored_rssm import ChainConfig, FactoredRSSM
from reverie.nets.rssm import RSSMConfig
from reverie.presets import make_config
from reverie.presets.parts import inherited
from tests.agents.test_dreamerv1 import RSSM
from tests.agents.test_dreamerv2 import CODE, CONTINUOUS, DISCRETE, HEAD, batch
from tests.agents.test_static import WAITING, Watch

NONE = ChainConfig(0, 0)
CONFIG = DenoisedConfig(
    encoder=CODE,
    decoder=CODE,
    rssm=RSSM,
    y=ChainConfig(4, 2),
    z=ChainConfig(5, 2),
    reward=HEAD,
    discount=HEAD,
    actor=HEAD,
    critic=HEAD,
    horizon=4,
    kl_free=0.05,
    beta_z=0.125,
)
ENDS = replace(CONFIG, predict_discount=True)
LOG = 0.5 * math.log(2 * math.pi)


def learner(config: DenoisedConfig = CONFIG, env: Any = DISCRETE, seed: int = 3) -> DenoisedLearner:
    torch.manual_seed(0)
    recipe = DenoisedMDP(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(learn=5), seed)
    assert isinstance(made, DenoisedLearner)
    return made


def rssm(agent: DenoisedLearner) -> FactoredRSSM:
    assert isinstance(agent.model.rssm, FactoredRSSM)
    return agent.model.rssm


def seen_of(means: list[list[float]]) -> Seen:
    """Rows whose posteriors have these means and std 1, beside priors N(0, 1): KL = sum of m^2 / 2."""
    mean = torch.tensor(means).unsqueeze(1)
    one, none = torch.ones_like(mean), torch.zeros_like(mean)
    return SimpleNamespace(posterior=(mean, one), prior=(none, one))  # type: ignore[return-value]


@pytest.mark.parametrize(("share", "expected"), [(None, 2.75), (0.25, 0.25 * 2.75 + 0.75 * 2.125), (1.0, 2.75)])
def test_the_kl_is_split_by_hand(share: float | None, expected: float) -> None:
    """x (1 variable) has 1/8 and 33/8 nats in two rows, y 2 and 0, z 1/2 and 9/2; 11/8 nats of each row of x are free.

    max(1/8, 11/8) and max(33/8, 11/8) have the mean 11/4, KL_x itself 17/8; KL_y 1, a quarter of it; KL_z 5/2.
    """
    config = replace(CONFIG, kl_free=11 / 8, beta_y=0.25, beta_z=0.5, beta_free=share)
    memory = FactoredRSSM(3, 1, RSSMConfig(2, 2, "gaussian", 1), ChainConfig(2, 1), ChainConfig(2, 1))
    model = FactoredModel.__new__(FactoredModel)
    torch.nn.Module.__init__(model)
    model.config, model.rssm = config, memory
    seen = seen_of([[0.5, 2.0, 1.0], [math.sqrt(8.25), 0.0, 3.0]])
    metrics: dict[str, Tensor] = {}
    losses = model.dynamics_losses(seen, metrics)
    found = {name: loss.item() for (_, name), loss in losses.items()}
    assert found == {"kl_x": pytest.approx(expected), "kl_y": pytest.approx(0.25), "kl_z": pytest.approx(1.25)}
    plain = {name: metrics[name].item() for name in ("kl_x", "kl_y", "kl_z", "kl")}
    assert plain == {"kl_x": pytest.approx(2.125), "kl_y": 1.0, "kl_z": 2.5, "kl": pytest.approx(5.625)}


def test_the_loss_of_the_model_is_the_slow_sum() -> None:
    """Image, reward of both parts and alpha sum of beta KL, row by row in float64, with half of KL_x's weight free."""
    agent = learner(replace(CONFIG, kl_scale=2.0, beta_x=0.75, beta_free=0.5))
    metrics: dict[str, Tensor] = {}
    loss, seen, rows = agent.world_model_loss(batch(), metrics)
    reward_head = agent.model.reward
    assert isinstance(reward_head, FactoredReward)
    assert reward_head.noise_head is not None
    total = {"image": 0.0, "reward": 0.0, "x": 0.0, "x whole": 0.0, "y": 0.0, "z": 0.0}
    with torch.no_grad():
        told = agent.model.objective.decoder(seen.features)["image"]  # type: ignore[operator]
        for t in range(5):
            for b in range(3):
                error = seen.observations["image"][t, b].double() - told[t, b].double()
                total["image"] += float((0.5 * error**2 + LOG).sum())
                features = seen.features[t, b]  # [s_x 3; h_x 6; s_y 2; h_y 4; s_z 2; h_z 5]
                mean = reward_head.head(features[:9]).double() + reward_head.noise_head(features[9:15]).double()
                total["reward"] += float(0.5 * (rows["reward"][t, b].double() - mean) ** 2) + LOG
                kl = []
                stats = [x[t, b].double().tolist() for x in (*seen.posterior, *seen.prior)]
                for m, s, m0, s0 in zip(*stats, strict=True):
                    kl.append(math.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5)
                total["x"] += max(sum(kl[:3]), 0.05)
                total["x whole"] += sum(kl[:3])
                total["y"] += sum(kl[3:5])
                total["z"] += sum(kl[5:])
    kl_x = 0.5 * total["x"] + 0.25 * total["x whole"]
    expected = total["image"] + total["reward"] + 2.0 * (kl_x + 0.25 * total["y"] + 0.125 * total["z"])
    assert loss.item() == pytest.approx(expected / 15, rel=1e-5)
    assert metrics["kl_y"].item() == pytest.approx(total["y"] / 15, rel=1e-4)
    assert metrics["kl_z_loss"].item() == pytest.approx(0.125 * total["z"] / 15, rel=1e-4)
    assert metrics["kl"].item() == pytest.approx((total["x whole"] + total["y"] + total["z"]) / 15, rel=1e-4)


def test_free_nats_are_of_each_row_of_the_signal_alone() -> None:
    """Where all rows are below them the signal's KL has no gradient, the noise's has."""
    agent = learner(replace(CONFIG, kl_free=50.0))
    seen, _ = agent.see(batch(), {})
    losses = agent.model.dynamics_losses(seen, {})
    assert losses["dynamics", "kl_x"].item() == pytest.approx(50.0)
    layer = {name: rssm(agent).chain(name).prior_out.weight for name in ("x", "y", "z")}
    torch.stack(list(losses.values())).sum().backward()
    assert {name: w.grad is not None and bool(w.grad.any()) for name, w in layer.items()} == {
        "x": False,
        "y": True,
        "z": True,
    }


def test_actor_critic_and_dreams_know_the_signal_alone() -> None:
    agent = learner(ENDS)
    seen, rows = agent.see(batch(), {})
    signal = 9
    noisy = seen.features.detach().clone()
    noisy[..., signal:] += 10.0
    for head in (agent.actor, agent.critic.head, agent.model.discount.head):  # type: ignore[union-attr]
        assert torch.equal(head(noisy), head(seen.features))
    reward = agent.model.reward
    assert isinstance(reward, FactoredReward)
    assert not torch.equal(reward.mean(noisy), reward.mean(seen.features))
    behind = noisy.clone()
    behind[..., signal + 6 :] += 10.0  # z
    assert torch.equal(reward.mean(noisy), reward.mean(behind))
    assert torch.equal(reward.signal_mean(noisy), reward.signal_mean(seen.features))
    flat = {name: rows[name].flatten() for name in ("reward", "is_terminal")}
    dream = agent.behaviour.imagine(seen.starts(), flat)
    assert dream.features.shape == (5, 15, signal)
    assert torch.equal(dream.reward, reward.output.mean(reward.head(dream.features)))
    # The same dream from other noise.
    twin, other = learner(ENDS), seen.starts()
    twin.see(batch(), {})
    other["deter"][:, 6:] += 5.0
    other["stoch"][:, 3:] -= 5.0
    again = twin.behaviour.imagine(other, flat)
    assert torch.equal(again.features, dream.features)
    assert torch.equal(again.value, dream.value)


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_loss_trains_its_own_part_only(env: Any) -> None:
    for group, expected in (("model", "model"), ("actor", "actor"), ("critic", "critic")):
        agent = learner(ENDS, env)
        stages = agent.losses(batch(env), {})
        losses = next(stages)
        assert set(losses) == {"model"}
        if group != "model":
            losses = next(stages)
        losses[group].backward()
        parts = {"model": agent.model, "actor": agent.actor, "critic": agent.critic}
        reached = {k for k, m in parts.items() if any(p.grad is not None and p.grad.any() for p in m.parameters())}
        assert reached == {expected}
        if group == "model":
            assert all(p.grad is not None for p in agent.model.parameters())


def test_without_noise_it_is_dreamer_v1() -> None:
    """Its loss and gradients on the same parameters; kl_free_per is the only setting in which the losses differ."""
    config = replace(CONFIG, y=NONE, z=NONE, kl_free_per="mean")
    agent = learner(config)
    settings = {name: getattr(config, name) for name in DreamerV1Config.__dataclass_fields__}
    recipe = DreamerV1(DreamerV1Config(**settings), DISCRETE)
    plain = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3)
    names = {"rssm.chains.x.": "rssm.", "joint.of_given": "post_deter", "joint.of_embed": "post_embed"}
    names |= {"joint.out": "post_out"}

    def theirs(name: str) -> str:
        for ours, other in names.items():
            name = name.replace(ours, other)
        return name

    values = dict(plain.model.named_parameters())
    with torch.no_grad():
        for name, parameter in agent.model.named_parameters():
            parameter.copy_(values[theirs(name)])
    one, _, _ = agent.world_model_loss(batch(), {})
    two, _, _ = plain.world_model_loss(batch(), {})
    assert one.item() == two.item()
    one.backward()
    two.backward()
    for name, parameter in agent.model.named_parameters():
        assert torch.equal(parameter.grad, values[theirs(name)].grad), name


def test_save_and_restore_go_on_bit_for_bit() -> None:
    one, other = learner(ENDS), learner(ENDS, seed=1)
    for seed in range(2):
        one.update(batch(seed=seed))
    other.update(batch(seed=9))
    other.restore(one.save())
    for seed in range(2, 4):
        first, second = (agent.update(batch(seed=seed)).metrics for agent in (one, other))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
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


def test_harmony_weighs_the_sum_of_its_kls_as_dynamics() -> None:
    recipe = HarmonyDream(HarmonyDenoisedConfig(**inherited(CONFIG, "balance")), DISCRETE)
    torch.manual_seed(0)
    metrics = recipe.learner(recipe.policy(), SequenceSpec(learn=5), 3).update(batch()).metrics
    parts = sum(metrics[f"kl_{name}_loss"] for name in "xyz")
    assert metrics["balance/dynamics_loss"].item() == pytest.approx(float(parts), rel=1e-6)
    assert metrics["balance/dynamics_weight"].item() == 1.0


def test_what_cannot_be_is_one_line() -> None:
    for changes, message in (
        ({"beta_y": 1.5}, "beta_y must be from 0 to 1, got 1.5"),
        ({"beta_free": 2.0}, r"beta_free must be from 0 to beta_x = 1\.0, got 2\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **changes)  # type: ignore[arg-type]
    masked = EnvSpec("test", {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}, spaces.Discrete(3), action_mask=True)
    with pytest.raises(ValueError, match="cannot tell which actions a mask allows"):
        DenoisedMDP(CONFIG, masked)
    with pytest.raises(ValueError, match="drift of a factored memory is not defined"):
        DenoisedMDP(CONFIG, DISCRETE).windows(SequenceSpec(learn=5, drift=True))


def test_presets_are_the_published_factorisations() -> None:
    def sizes(preset: str) -> list[tuple[int, int]]:
        agent = make_config("denoised", preset).agent
        return [(chain.deter, chain.stoch) for chain in (agent.rssm, agent.y, agent.z)]

    assert sizes("dmc-vision") == [(120, 20), (120, 20), (0, 0)]
    assert sizes("dmc-vision-xyz") == [(120, 20), (70, 10), (70, 10)]
    assert sizes("dmc-vision-x") == [(200, 30), (0, 0), (0, 0)]
    ours, theirs = make_config("denoised", "cpu-control"), make_config("dreamerv1", "cpu-control")
    assert (ours.run, ours.replay, ours.agent.rssm) == (theirs.run, theirs.replay, theirs.agent.rssm)
    assert make_config("harmonydream", "dmc-vision", base="denoised").agent.balance == "harmony"
