"""Dreamer V1: losses against slow loops, gradients, the order of an update, noise, the likeliest of many, balancers."""

import inspect
import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from reverie.agents.agent import Seat, Tape
from reverie.agents.behaviour import Dream
from reverie.agents.dreamerv1 import DreamerV1, DreamerV1Config, DreamerV1Learner, likeliest
from reverie.agents.dreamerv2 import DreamerV2
from reverie.agents.exploration import ActionNoise
from reverie.data.sequences import SequenceSpec
from reverie.nets.actions import ContinuousActions
from reverie.nets.balance import BalanceKind
from reverie.nets.rssm import RSSMConfig
from tests.agents.test_dreamerv2 import CODE, CONTINUOUS, DISCRETE, HEAD, batch, starting
from tests.agents.test_static import WAITING, Watch

RSSM = RSSMConfig(6, 6, "gaussian", 3, std="softplus", cell="reset_after")
CONFIG = DreamerV1Config(
    encoder=CODE, decoder=CODE, rssm=RSSM, reward=HEAD, discount=HEAD, actor=HEAD, critic=HEAD, horizon=4, kl_free=0.1
)
ENDS = replace(CONFIG, predict_discount=True)
LOG = 0.5 * math.log(2 * math.pi)


def learner(config: DreamerV1Config = CONFIG, env: Any = DISCRETE, seed: int = 3) -> DreamerV1Learner:
    torch.manual_seed(0)
    recipe = DreamerV1(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(learn=5), seed)
    assert isinstance(made, DreamerV1Learner)
    return made


def test_world_model_loss_is_the_slow_sum() -> None:
    """Every term again, with Python loops and distributions written out."""
    agent, data = learner(replace(ENDS, kl_scale=0.7, reward_scale=2.0)), batch()
    model, rows = agent.model, data.rows
    noise = torch.Generator().manual_seed(3)
    metrics: dict[str, Tensor] = {}
    loss, seen, used = agent.world_model_loss(data, metrics)
    states, terminal = seen.states, used["is_terminal"]
    u = torch.rand(5, 3, 3, generator=noise)
    for parameter in agent.parameters():
        parameter.requires_grad_(False)
    total = {"image": 0.0, "reward": 0.0, "discount": 0.0, "kl": 0.0}
    for b in range(3):
        state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 3)}
        for t in range(5):
            action = torch.zeros(1, 3)
            if t == 0 or bool(rows["is_first"][t, b]):
                state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 3)}
            else:
                action[0, rows["prev_action"][t, b]] = 1.0
            embed = model.encoder({"image": rows["obs.image"][t, b][None]})
            u_row = u[t, b][None]
            state, (mean, std) = model.rssm.observe_step(state, action, torch.tensor([False]), embed, u_row)
            assert torch.allclose(state["stoch"], mean + std * torch.special.ndtri(u_row), atol=1e-5)
            assert torch.allclose(states["stoch"][t, b], state["stoch"][0], atol=1e-5)
            feature = torch.cat([state["stoch"], state["deter"]], -1)
            image = model.objective.decoder(feature)["image"][0]
            target = rows["obs.image"][t, b].float().permute(2, 0, 1) / 255 - 0.5
            total["image"] += float((0.5 * (target - image) ** 2 + LOG).sum())
            total["reward"] += 0.5 * (float(rows["reward"][t, b]) - float(model.reward.mean(feature))) ** 2 + LOG
            p, y = float(model.discount.mean(feature)), 0.99 * (1 - float(rows["is_terminal"][t, b]))
            total["discount"] -= y * math.log(p) + (1 - y) * math.log(1 - p)
            for m, s, m0, s0 in zip(mean[0], std[0], *(x[0] for x in model.rssm.prior(state["deter"])), strict=True):
                total["kl"] += float(torch.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5)
    n = 15
    expected = total["image"] / n + 2 * total["reward"] / n + 10 * total["discount"] / n + 0.7 * total["kl"] / n
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert metrics["kl"].item() == pytest.approx(total["kl"] / n, rel=1e-4)
    assert torch.equal(terminal, rows["is_terminal"])


def test_free_nats_are_of_the_mean_and_unbalanced() -> None:
    """Below the threshold the KL has no gradient at all, though some rows are above it; above it both sides do."""
    kl = learner().update(batch()).metrics["kl"].item()
    below, above = learner(replace(CONFIG, kl_free=kl + 0.01)), learner(replace(CONFIG, kl_free=kl - 0.01))
    for agent, reaches in ((below, False), (above, True)):
        metrics: dict[str, Tensor] = {}
        seen, _ = agent.see(batch(), metrics)
        rows = agent.model.rssm.latent.kl(*seen.posterior, *seen.prior)
        assert rows.max() > kl + 0.01 > kl - 0.01 > rows.min()
        loss = agent.model.dynamics_losses(seen, metrics)["dynamics", "kl"]
        assert loss.item() == pytest.approx(max(kl, agent.config.kl_free), rel=1e-5)
        loss.backward()
        for layer in (agent.model.rssm.prior_out, agent.model.rssm.post_out):
            assert bool(layer.weight.grad.any()) == reaches


def dream(agent: DreamerV1Learner, steps: int = 4, count: int = 6) -> Dream:
    g = torch.Generator().manual_seed(5)
    features = torch.randn(steps + 1, count, agent.model.rssm.features, generator=g)
    action = torch.nn.functional.one_hot(torch.randint(0, 3, (steps, count), generator=g), 3).float()
    rest = [torch.rand(steps + 1, count, generator=g) for _ in range(3)]
    return Dream(features, action, agent.actor(features[:-1]), *rest)


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_actor_and_critic_losses_are_the_slow_sums(scale: float) -> None:
    """Indices as in the official code: its arrays are rows 1..H of ours, its cumulative product begins with 1."""
    agent = learner(replace(CONFIG, entropy=scale))
    d = dream(agent)
    d = replace(d, discount=torch.cat([torch.ones(1, 6), d.discount[1:]]))
    horizon, count, lam = 4, 6, agent.config.lam
    actor = critic = 0.0
    for n in range(count):
        reward, discount, value = (list(map(float, x[1:, n])) for x in (d.reward, d.discount, d.value))
        returns, following = [0.0] * (horizon - 1), value[-1]
        for i in reversed(range(horizon - 1)):
            following = reward[i] + discount[i] * ((1 - lam) * value[i + 1] + lam * following)
            returns[i] = following
        weight = 1.0
        for i in range(horizon - 1):
            p = agent.actor(d.features[i, n]).softmax(-1).detach()  # of the action that led to s_{i+1}
            actor -= weight * (returns[i] - scale * float((p * p.log()).sum()))
            prediction = float(agent.critic.mean(d.features[i + 1, n]).detach())
            critic += weight * (0.5 * (returns[i] - prediction) ** 2 + LOG)
            weight *= discount[i]
    found = agent.behaviour.returns(d)
    assert agent.behaviour.actor_loss(d, found, {}).item() == pytest.approx(actor / (count * (horizon - 1)), rel=1e-5)
    assert agent.behaviour.critic_loss(d, found, {}).item() == pytest.approx(critic / (count * (horizon - 1)), rel=1e-5)


@pytest.mark.parametrize(("config", "expected"), [(CONFIG, [1.0, 1.0]), (ENDS, [0.0, 1.0])])
def test_rows_that_ended_begin_no_dream_where_ends_are_predicted(
    config: DreamerV1Config, expected: list[float]
) -> None:
    agent = learner(config)
    start = {"deter": torch.zeros(2, 6), "stoch": torch.zeros(2, 3)}
    d = agent.behaviour.imagine(start, starting(torch.tensor([True, False])))
    weights = agent.behaviour.weights(d)[1:]
    assert weights[0].tolist() == expected
    assert torch.allclose(weights[1], weights[0] * d.discount[1])
    assert torch.allclose(weights[2], weights[1] * d.discount[2])
    assert d.features.shape == (5, 2, 9)
    assert d.actions.shape == (4, 2, 3)


def gradients(agent: DreamerV1Learner, env: Any, group: str) -> set[str]:
    agent.zero_grad()
    next(agent.losses(batch(env), {}))[group].backward()
    parts = {"encoder": agent.model.encoder, "rssm": agent.model.rssm, "reward": agent.model.reward}
    parts |= {"actor": agent.actor, "critic": agent.critic, "decoder": agent.model.objective}
    return {k for k, m in parts.items() if any(p.grad is not None and bool(p.grad.any()) for p in m.parameters())}


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_loss_trains_its_own_part_only(env: Any) -> None:
    agent = learner(ENDS, env)
    assert gradients(agent, env, "model") == {"encoder", "rssm", "reward", "decoder"}
    assert gradients(agent, env, "actor") == {"actor"}
    assert gradients(agent, env, "critic") == {"critic"}
    assert all(p.requires_grad for p in agent.parameters())


def test_the_actors_gradient_is_the_derivative_of_the_returns() -> None:
    """Finite differences through the dream of r_1 + d_1 v_2.

    Only the bias of the actor's output speaks, so that no action depends on what an earlier one led to: of that
    dependence actors get no gradient, because they read detached features.
    """
    agent = learner(replace(CONFIG, horizon=2), CONTINUOUS)
    g = torch.Generator().manual_seed(0)
    start = {"deter": torch.randn(256, 6, generator=g), "stoch": torch.randn(256, 3, generator=g)}

    def loss() -> Tensor:
        agent.noise.generator.manual_seed(7)
        d = agent.behaviour.imagine(start, starting(torch.zeros(256, dtype=torch.bool)))
        return agent.behaviour.actor_loss(d, agent.behaviour.returns(d), {})

    with torch.no_grad():
        agent.actor.out.weight.zero_()
    bias = agent.actor.out.bias
    loss().backward()
    analytic = bias.grad.clone()
    assert analytic.abs().min() > 1e-6
    for i in range(len(bias)):
        with torch.no_grad():
            bias[i] += 1e-2
            up = loss().item()
            bias[i] -= 2e-2
            down = loss().item()
            bias[i] += 1e-2
        assert analytic[i].item() == pytest.approx((up - down) / 2e-2, rel=3e-2, abs=1e-6)


def test_behaviour_dreams_in_the_model_as_it_was_before_the_update() -> None:
    """One batch, one dream: losses of the update are those of the old parameters, all three steps come after."""
    agent, twin = learner(), learner()
    metrics = agent.update(batch()).metrics
    model_loss, seen, rows = twin.world_model_loss(batch(), {})
    losses = twin.behaviour_losses(seen, rows, {})
    assert metrics["model_loss"].item() == model_loss.item()
    assert metrics["actor_loss"].item() == losses["actor"].item()
    assert metrics["critic_loss"].item() == losses["critic"].item()
    assert not hasattr(agent, "slow_critic")
    assert not torch.equal(agent.model.reward.head.out.weight, twin.model.reward.head.out.weight)


def test_v1_and_v2_read_in_the_same_order() -> None:
    """So that a diff of the two files is the second paper's list of changes."""
    hooks = ["world_model_loss", "imagine", "returns", "weights", "actor_loss", "critic_loss"]
    for recipe in (DreamerV1, DreamerV2):
        both = [*vars(recipe.Learner).items(), *vars(recipe.Behaviour).items()]
        defined = [name for name, value in both if inspect.isfunction(value)]
        assert [name for name in defined if name in hooks] == hooks


def test_save_and_restore_go_on_bit_for_bit() -> None:
    a = learner(ENDS)
    for i in range(3):
        a.update(batch(seed=i))
    saved = a.save()
    saved["tensors"] = {k: v.clone() for k, v in saved["tensors"].items()}
    saved["optimisers"] = {
        group: {name: {k: v.clone() for k, v in moments.items()} for name, moments in each.items()}
        for group, each in saved["optimisers"].items()
    }
    b = learner(ENDS, seed=1)
    b.update(batch(seed=9))
    b.restore(saved)
    for i in range(3, 6):
        first, second = a.update(batch(seed=i)).metrics, b.update(batch(seed=i)).metrics
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


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


@pytest.mark.parametrize("kind", get_args(BalanceKind))
def test_every_balancer_weighs_its_losses(kind: BalanceKind) -> None:
    agent = learner(replace(CONFIG, balance=kind))
    for i in range(3):
        metrics = agent.update(batch(seed=i)).metrics
    assert all(torch.isfinite(value) for value in metrics.values())
    for group in ("observation", "reward", "dynamics"):
        loss, weight, product = (metrics[f"balance/{group}_{part}"].item() for part in ("loss", "weight", "product"))
        assert product == pytest.approx(weight * loss, rel=1e-5)


def test_harmony_at_s_0_has_the_gradients_of_weights_of_one() -> None:
    plain = learner(replace(CONFIG, reward_scale=1.0, kl_scale=1.0))
    harmonious = learner(replace(CONFIG, balance="harmony"))
    for agent in (plain, harmonious):
        agent.world_model_loss(batch(), {})[0].backward()
    theirs = {name: p.grad for name, p in harmonious.model.named_parameters() if p.grad is not None}
    for name, parameter in plain.model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, theirs[name], atol=1e-6), name


# Acting


def act(agent: DreamerV1Learner, env: Any, u: Tensor, play: str, env_steps: int = 0) -> Tensor:
    rows = {name: value[0] for name, value in batch(env).rows.items()}
    state = agent.policy.initial_state(3)
    return agent.policy.step(state, rows, Tape(u), Seat(range(3), 3, env_steps, play)).action


def test_policy_step_matches_unroll() -> None:
    """The unroll takes the memory's numbers only."""
    agent = learner()
    rows = batch().rows
    assert (agent.policy.unroll_noise, agent.policy.noise) == (3, 3 + 1 + 2)
    u = torch.rand(5, 3, agent.policy.noise)
    states, last = agent.policy.unroll(agent.policy.initial_state(3), rows, Tape(u[..., :3]))
    state = agent.policy.initial_state(3)
    for t in range(5):
        seen = {k: v[t] for k, v in rows.items()}
        state = agent.policy.step(state, seen, Tape(u[t]), Seat.alone(3, "explore")).state
        assert torch.allclose(state["deter"], states["deter"][t], atol=1e-6)
        assert torch.allclose(state["stoch"], states["stoch"][t], atol=1e-6)
    assert torch.allclose(last["deter"], state["deter"], atol=1e-6)


def test_exploration_adds_a_clipped_gaussian_to_the_sampled_action() -> None:
    agent = learner(replace(CONFIG, explore=ActionNoise(0.3, half=100, least=0.01)), CONTINUOUS)
    assert agent.policy.noise == 3 + 2 + 2 + 100 * 2
    u = torch.rand(3, agent.policy.noise, generator=torch.Generator().manual_seed(0))
    still = u.clone()
    still[:, 5:7] = 0.5  # Phi^-1(1/2) = 0
    plain = act(agent, CONTINUOUS, still, "explore")
    shift = torch.special.ndtri(u[:, 5:7])
    assert torch.allclose(act(agent, CONTINUOUS, u, "explore"), (plain + 0.3 * shift).clamp(-1, 1), atol=1e-5)
    halved = (plain + 0.15 * shift).clamp(-1, 1)
    assert torch.allclose(act(agent, CONTINUOUS, u, "explore", 100), halved, atol=1e-5)
    least = (plain + 0.01 * shift).clamp(-1, 1)
    assert torch.allclose(act(agent, CONTINUOUS, u, "explore", 10**6), least, atol=1e-5)
    assert torch.allclose(act(agent, CONTINUOUS, u, "random"), 2 * u[:, 3:5] - 1)
    assert agent.policy.metrics(Seat.alone(3, "explore", 100)) == {"action_noise": pytest.approx(0.15)}


def test_exploration_replaces_discrete_actions_with_that_probability() -> None:
    agent = learner(replace(CONFIG, explore=ActionNoise(0.4)))
    u = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    u[:, 4] = torch.tensor([0.1, 0.5, 0.9])  # the random action 0, 1, 2
    u[:, 5] = 0.41
    chosen = act(agent, DISCRETE, u, "explore")
    u[:, 5] = 0.39
    assert act(agent, DISCRETE, u, "explore").tolist() == [0, 1, 2]
    other = torch.cat([u[:, :3], torch.rand(3, 3)], 1)  # evaluation draws latents, no actions
    assert act(agent, DISCRETE, u, "greedy").tolist() == act(agent, DISCRETE, other, "greedy").tolist()
    assert chosen.tolist() != [0, 1, 2]


def test_noise_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= least <= amount"):
        ActionNoise(0.1, least=0.2)
    with pytest.raises(ValueError, match="share"):
        ActionNoise(0.3, half=0.5).now(Seat.alone(1, "explore"))


def test_the_likeliest_of_draws_by_hand() -> None:
    """Densities of tanh x, x ~ N(m, s^2), written out for each draw."""
    actions = ContinuousActions(2, "tanh_normal", 1e-4, 5.0)
    g = torch.Generator().manual_seed(0)
    out, u = torch.randn(3, 4, generator=g), torch.rand(3, 9, 2, generator=g)
    found = likeliest(actions, out, u)
    for b in range(3):
        best, place = -math.inf, None
        for k in range(9):
            density, draw = 0.0, []
            for a in range(2):
                mean = 5 * math.tanh(float(out[b, a]) / 5)
                std = math.log1p(math.exp(float(out[b, 2 + a]) + math.log(math.exp(5) - 1))) + 1e-4
                x = mean + std * float(torch.special.ndtri(u[b, k, a]))
                y = min(max(math.tanh(x), -1 + 1e-6), 1 - 1e-6)
                x = math.atanh(y)
                density += -0.5 * ((x - mean) / std) ** 2 - math.log(std) - LOG - math.log(1 - y * y)
                draw.append(y)
            if density > best:
                best, place = density, draw
        assert found[b].tolist() == pytest.approx(place, abs=1e-5)


def test_a_wide_actor_begins_wide() -> None:
    """softplus(0 + softplus^-1(5)) + 1e-4; and without it as in DreamerV2's code."""
    for init_std, expected in ((5.0, 5.0 + 1e-4), (0.0, math.log(2) + 1e-4)):
        actions = ContinuousActions(1, "tanh_normal", 1e-4, init_std)
        mean, std = actions._stats(torch.tensor([0.7, 0.0]))
        assert std.item() == pytest.approx(expected, rel=1e-6)
        assert mean.item() == pytest.approx(5 * math.tanh(0.7 / 5), rel=1e-6)
    for kind, init_std in (("trunc_normal", 5.0), ("tanh_normal", -1.0)):
        with pytest.raises(ValueError, match="init_std must be 0, or positive with tanh_normal"):
            ContinuousActions(1, kind, 0.1, init_std)


def test_evaluation_plays_the_likeliest_draw() -> None:
    agent = learner(CONFIG, CONTINUOUS)
    u = torch.rand(3, agent.policy.noise, generator=torch.Generator().manual_seed(0))
    rows = {name: value[0] for name, value in batch(CONTINUOUS).rows.items()}
    decision = agent.policy.step(agent.policy.initial_state(3), rows, Tape(u), Seat.alone(3))
    out = agent.actor(agent.model.rssm.feature(decision.state))
    assert torch.equal(decision.action, likeliest(agent.actions, out, u[:, 7:].view(3, 100, 2)))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="horizon must be >= 2"):
        DreamerV1Config(horizon=1)
    with pytest.raises(ValueError, match="samples must be >= 1"):
        DreamerV1Config(samples=0)
