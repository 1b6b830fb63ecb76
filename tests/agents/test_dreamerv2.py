"""DreamerV2: losses against slow loops, who gets which gradient, the slow critic, exact save and restore."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Seat, Tape
from reverie.agents.behaviour import Dream
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config, DreamerV2Learner
from reverie.agents.recurrent import start_state
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig
from reverie.ops.returns import imagined_returns
from tests.agents.v3 import versions

HEAD = HeadConfig(layers=1, units=8)
CODE = EncoderConfig(depth=2, layers=1, units=8)
RSSM = RSSMConfig(deter=6, hidden=6, stoch=3, classes=4)
CONFIG = DreamerV2Config(
    encoder=CODE, decoder=CODE, rssm=RSSM, reward=HEAD, discount=HEAD, actor=HEAD, critic=HEAD, horizon=4
)
DISCRETE = EnvSpec("test", {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}, spaces.Discrete(3))
CONTINUOUS = EnvSpec("test", {"vector": spaces.Box(-1, 1, (4,), np.float32)}, spaces.Box(-1, 1, (2,), np.float32))


def learner(
    config: DreamerV2Config = CONFIG, env: EnvSpec = DISCRETE, device: torch.device | None = None, **spec: object
) -> DreamerV2Learner:
    torch.manual_seed(0)
    recipe = DreamerV2(config, env)
    return recipe.learner(recipe.policy(), SequenceSpec(**{"learn": 5, **spec}), 3, device)


def batch(env: EnvSpec = DISCRETE, time: int = 5, width: int = 3, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    rows: dict[str, Tensor] = {}
    for key, space in env.observation.items():
        shape = (time, width, *space.shape)
        image = space.dtype == np.uint8
        rows["obs." + key] = (
            torch.randint(0, 256, shape, generator=g, dtype=torch.uint8) if image else torch.randn(shape, generator=g)
        )
    for name in ("prev_action", "action"):
        if isinstance(env.action, spaces.Discrete):
            rows[name] = torch.randint(0, int(env.action.n), (time, width), generator=g)
        else:
            rows[name] = torch.rand(time, width, *env.action.shape, generator=g) * 2 - 1
    rows["reward"] = torch.randn(time, width, generator=g)
    rows["is_last"] = torch.rand(time, width, generator=g) < 0.3
    rows["is_terminal"] = rows["is_last"] & (torch.rand(time, width, generator=g) < 0.5)
    rows["is_first"] = torch.cat([torch.zeros(1, width, dtype=torch.bool), rows["is_last"][:-1]])
    return Batch(rows, None, torch.arange(width), torch.ones(width), torch.zeros(width, dtype=torch.int64))


def starting(ended: Tensor) -> dict[str, Tensor]:
    """Rows that dreams begin from, which pay nothing."""
    return {"reward": torch.zeros(len(ended)), "is_terminal": ended}


def test_world_model_loss_is_the_slow_sum() -> None:
    """Every term again, with Python loops and distributions written out."""
    agent, data = learner(), batch()
    model, rows = agent.model, data.rows
    noise = torch.Generator().manual_seed(3)
    loss, seen, seen_rows = agent.world_model_loss(data, {})
    states = seen.states
    u = torch.rand(5, 3, agent.policy.noise, generator=noise)[..., :3]
    for parameter in agent.parameters():
        parameter.requires_grad_(False)
    total = {"image": 0.0, "reward": 0.0, "discount": 0.0, "post": 0.0}
    for b in range(3):
        state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 12)}
        for t in range(5):
            first = t == 0 or bool(rows["is_first"][t, b])
            action = torch.zeros(1, 3)
            if first:
                state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 12)}
            else:
                action[0, rows["prev_action"][t, b]] = 1.0
            embed = agent.model.encoder({"image": rows["obs.image"][t, b][None]})
            state, (logits,) = model.rssm.observe_step(state, action, torch.tensor([False]), embed, u[t, b][None])
            assert torch.allclose(states["stoch"][t, b], state["stoch"][0], atol=1e-6)
            feature = torch.cat([state["stoch"], state["deter"]], -1)
            mean = model.objective.decoder(feature)["image"][0]
            target = rows["obs.image"][t, b].float().permute(2, 0, 1) / 255 - 0.5
            total["image"] += float((0.5 * (target - mean) ** 2 + 0.5 * math.log(2 * math.pi)).sum())
            error = math.tanh(float(rows["reward"][t, b])) - float(model.reward.mean(feature))
            total["reward"] += 0.5 * error**2 + 0.5 * math.log(2 * math.pi)
            p = float(model.discount.mean(feature))
            y = 0.999 * (1 - float(rows["is_terminal"][t, b]))
            total["discount"] -= y * math.log(p) + (1 - y) * math.log(1 - p)
            (prior,) = model.rssm.prior(state["deter"])
            p_post, p_prior = logits.softmax(-1)[0], prior.softmax(-1)[0]
            total["post"] += float((p_post * (p_post.log() - p_prior.log())).sum())
    n = 15
    expected = total["image"] / n + total["reward"] / n + 5.0 * total["discount"] / n + 0.1 * total["post"] / n
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(seen_rows["is_terminal"], rows["is_terminal"])


def dream(agent: DreamerV2Learner, steps: int = 4, count: int = 6) -> Dream:
    g = torch.Generator().manual_seed(5)
    features = torch.randn(steps + 1, count, agent.model.rssm.features, generator=g)
    action = torch.nn.functional.one_hot(torch.randint(0, 3, (steps, count), generator=g), 3).float()
    rest = [torch.rand(steps + 1, count, generator=g) for _ in range(3)]
    return Dream(features, action, agent.actor(features[:-1]), *rest)


def test_actor_and_critic_losses_are_the_slow_sums() -> None:
    """Indices as in the official code: a_{i+1} at s_i gets R_{i+1} - v_i, weight w_i; the last two states drop out."""
    agent = learner()
    d = dream(agent)
    horizon, count, lam = 4, 6, agent.config.lam
    returns = torch.zeros(horizon, count)
    actor = critic = 0.0
    for n in range(count):
        following = float(d.value[horizon, n])
        for i in reversed(range(horizon)):
            following = float(d.reward[i, n] + d.discount[i, n] * ((1 - lam) * d.value[i + 1, n] + lam * following))
            returns[i, n] = following
        weight = 1.0
        for i in range(horizon):
            critic += weight * (0.5 * (float(returns[i, n]) - float(agent.critic.mean(d.features[i, n]))) ** 2)
            critic += weight * 0.5 * math.log(2 * math.pi)
            if i < horizon - 1:
                p = agent.actor(d.features[i, n]).softmax(-1)
                log_prob = float((p.log() * d.actions[i, n]).sum())
                entropy = -float((p * p.log()).sum())
                advantage = float(returns[i + 1, n]) - float(d.value[i, n])
                actor -= weight * (log_prob * advantage + 1e-3 * entropy)
            weight *= float(d.discount[i, n])
    assert agent.behaviour.actor_loss(d, returns, {}).item() == pytest.approx(actor / (count * (horizon - 1)), rel=1e-5)
    assert agent.behaviour.critic_loss(d, returns, {}).item() == pytest.approx(critic / (count * horizon), rel=1e-5)


def gradients(agent: DreamerV2Learner, group: str) -> set[str]:
    """Which parts have a gradient after only that group's loss has been run backward."""
    agent.zero_grad()
    steps = agent.losses(batch(CONTINUOUS if not agent.actions.discrete else DISCRETE), {})
    losses = next(steps)
    if group != "model":
        losses = next(steps)
    losses[group].backward()
    parts = {"encoder": agent.model.encoder, "rssm": agent.model.rssm, "reward": agent.model.reward}
    parts |= {"actor": agent.actor, "critic": agent.critic, "slow": agent.slow_critic, "decoder": agent.model.objective}
    return {k for k, m in parts.items() if any(p.grad is not None and bool(p.grad.any()) for p in m.parameters())}


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("how", ["auto", "both"])
def test_each_loss_trains_its_own_part_only(env: EnvSpec, how: str) -> None:
    agent = learner(replace(CONFIG, actor_grad=how), env)
    assert gradients(agent, "model") == {"encoder", "rssm", "reward", "decoder"}
    assert gradients(agent, "actor") == {"actor"}
    assert gradients(agent, "critic") == {"critic"}


def test_dynamics_gradient_is_the_derivative_of_the_return() -> None:
    """Finite differences through the whole dream: shift one actor parameter, the mean weighted return must follow."""
    config = replace(CONFIG, entropy=0.0, rssm=replace(RSSM, latent="gaussian"), predict_discount=False)
    agent = learner(config, CONTINUOUS)
    agent.behaviour.actor_grad = "dynamics"
    start = {"deter": torch.randn(64, 6), "stoch": torch.randn(64, 3)}
    ended = torch.zeros(64, dtype=torch.bool)

    def loss() -> Tensor:
        agent.noise.generator.manual_seed(7)
        d = agent.behaviour.imagine(start, starting(ended))
        return agent.behaviour.actor_loss(d, imagined_returns(d.reward, d.discount, d.value, config.lam), {})

    # The actor reads detached features: the derivative is exact only for the last action that is trained.
    agent.config = replace(config, horizon=2)
    weight = agent.actor.out.bias
    loss().backward()
    analytic = weight.grad[0].item()
    eps = 1e-2
    with torch.no_grad():
        weight[0] += eps
        up = loss().item()
        weight[0] -= 2 * eps
        down = loss().item()
    assert analytic == pytest.approx((up - down) / (2 * eps), rel=2e-2)
    assert abs(analytic) > 1e-5


def test_terminal_starts_are_worth_their_reward_only() -> None:
    """The first discount comes from the data, gamma (1 - is_terminal), not from the head."""
    agent = learner()
    start = {"deter": torch.zeros(2, 6), "stoch": torch.zeros(2, 12)}
    d = agent.behaviour.imagine(start, starting(torch.tensor([True, False])))
    assert d.discount[0].tolist() == pytest.approx([0.0, 0.999])
    assert agent.behaviour.weights(d)[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert d.features.shape == (5, 2, 18)
    assert d.actions.shape == (4, 2, 3)


def test_reinforce_dreams_need_no_gradient_and_both_dreams_have_one() -> None:
    start = {"deter": torch.zeros(2, 6), "stoch": torch.zeros(2, 12)}
    ended = torch.tensor([False, False])
    assert not learner().behaviour.imagine(start, starting(ended)).reward.requires_grad
    assert learner(replace(CONFIG, actor_grad="both")).behaviour.imagine(start, starting(ended)).reward.requires_grad
    agent = learner(replace(CONFIG, actor_grad="both"))
    agent.behaviour.imagine(start, starting(ended))
    assert all(p.requires_grad for p in agent.model.parameters())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_actor_that_reads_all_at_once_is_the_one_that_dreamt(precision: torch.dtype) -> None:
    """Without gradients on the way the policy is computed again: the same outputs, and each weight has its gradient."""
    agent = learner()
    agent.precision = precision
    start = {"deter": torch.randn(6, 6), "stoch": torch.zeros(6, 12)}
    with agent.behaviour.dreaming():
        features, _, policy = agent.behaviour.dream(start)
        with torch.enable_grad():
            alone = torch.stack([agent.actor(feature.detach()) for feature in features[:-1]])
    assert not features.requires_grad
    assert torch.allclose(policy, alone, atol=1e-6)
    weights = list(agent.actor.parameters())
    for one, other in zip(
        torch.autograd.grad(policy.square().sum(), weights),
        torch.autograd.grad(alone.square().sum(), weights),
        strict=True,
    ):
        assert bool(one.any())
        assert (one - other).norm() < (1e-6 if precision == torch.float32 else 1e-2) * other.norm()


def test_the_actor_that_reads_all_at_once_heeds_the_masks_that_it_dreamt() -> None:
    """A mask per state of the dream: what it forbids has no probability there, and only there."""
    seen = {"vector": spaces.Box(-1, 1, (4,), np.float32), "action_mask": spaces.Box(0, 1, (3,), np.float32)}
    agent = learner(env=EnvSpec("test", seen, spaces.Discrete(3), action_mask=True))
    start = {"deter": 3 * torch.randn(40, 6), "stoch": torch.zeros(40, 12)}
    with torch.no_grad():
        for head in agent.model.objective.decoder.heads:
            head.bias.fill_(0.5)
    with agent.behaviour.dreaming():
        features, actions, policy = agent.behaviour.dream(start)
        allowed = agent.model.action_mask(features[:-1]) > 0.5
    assert torch.equal(policy > -torch.inf, allowed | ~allowed.any(-1, keepdim=True))
    assert bool(allowed.any())
    assert not bool(allowed.all())
    assert bool((policy.softmax(-1) * actions).sum(-1).gt(0.0).all())


def test_slow_critic_is_copied_after_updates_0_and_k() -> None:
    agent = learner(replace(CONFIG, target_every=3))
    same = []
    for i in range(7):
        agent.update(batch(seed=i))
        pairs = zip(agent.slow_critic.parameters(), agent.critic.parameters(), strict=True)
        same.append(all(torch.equal(a, b) for a, b in pairs))
    assert same == [True, False, False, True, False, False, True]
    assert agent.learner_steps == int(agent.policy.version) == 7


def test_save_and_restore_go_on_bit_for_bit() -> None:
    a = learner()
    for i in range(3):
        a.update(batch(seed=i))
    saved = {k: v for k, v in a.save().items()}
    saved["tensors"] = {k: v.clone() for k, v in saved["tensors"].items()}
    saved["optimisers"] = {
        group: {name: {k: v.clone() for k, v in moments.items()} for name, moments in each.items()}
        for group, each in saved["optimisers"].items()
    }
    torch.manual_seed(99)
    recipe = DreamerV2(CONFIG, DISCRETE)
    b = recipe.learner(recipe.policy(), SequenceSpec(learn=5), seed=1)
    b.restore(saved)
    for i in range(3, 6):
        first, second = a.update(batch(seed=i)).metrics, b.update(batch(seed=i)).metrics
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_what_must_not_be_read_is_not_read() -> None:
    """Poison: actions chosen at a row (the model reads prev_action), the previous action of a first row, is_last."""
    a, b = learner(), learner()
    clean = batch()
    rows = {k: v.clone() for k, v in clean.rows.items()}
    rows["action"] = torch.full_like(rows["action"], 2)
    rows["prev_action"][0] = (rows["prev_action"][0] + 1) % 3
    rows["prev_action"][rows["is_first"]] = 0
    rows["is_last"] = ~rows["is_last"]
    first, second = a.update(clean).metrics, b.update(replace(clean, rows=rows)).metrics
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_loss_parts_are_named_and_finite() -> None:
    metrics = learner(CONFIG, CONTINUOUS).update(batch(CONTINUOUS)).metrics
    wanted = {"vector_loss", "reward_loss", "discount_loss", "kl", "model_loss", "actor_loss", "critic_loss"}
    assert wanted <= set(metrics)
    assert all(torch.isfinite(v) and v.dim() == 0 for v in metrics.values())


def test_detached_heads_do_not_shape_the_memory() -> None:
    agent = learner(replace(CONFIG, grad_heads=("reward",)))
    losses = next(agent.losses(batch(), {}))
    agent.zero_grad()
    losses["model"].backward()
    assert agent.model.objective.decoder.cnns[0].linear.weight.grad.any()
    encoder = agent.model.encoder.cnns[0].convs[0].weight.grad
    attached = learner()
    next(attached.losses(batch(), {}))["model"].backward()
    full = attached.model.encoder.cnns[0].convs[0].weight.grad
    assert encoder.norm() < 0.5 * full.norm()


@pytest.mark.parametrize("state", ["zero", "stored"])
@pytest.mark.parametrize("context", [0, 2])
def test_start_states(state: str, context: int) -> None:
    """The four strategies: where the state comes from, and whether context rows warm it up without a gradient."""
    agent = learner(context=context, state=state, learn=3)
    data = batch(time=3 + context)
    given = {"deter": torch.randn(3, 6), "stoch": torch.randn(3, 12)}
    data = replace(data, start=given if state == "stored" else None)
    u = torch.rand(3 + context, 3, agent.policy.noise)
    begin, rows = start_state(agent.policy, data, agent.windows, Tape(u))
    assert len(rows["reward"]) == 3
    assert torch.equal(rows["reward"], data.rows["reward"][context:])
    source = given if state == "stored" else agent.policy.initial_state(3)
    if context == 0:
        assert all(torch.equal(begin[k], source[k]) for k in source)
        assert bool(rows["is_first"][0].all()) == (state == "zero")
    else:
        first = data.rows["is_first"].clone()
        if state == "zero":
            first[0] = True
        _, expected = agent.policy.unroll(
            source, {k: v[:context] for k, v in (data.rows | {"is_first": first}).items()}, Tape(u[:context])
        )
        assert all(torch.equal(begin[k], expected[k]) for k in expected)
        assert not begin["deter"].requires_grad


def test_policy_step_matches_unroll() -> None:
    agent = learner()
    rows = batch().rows
    u = torch.rand(5, 3, agent.policy.noise)
    states, last = agent.policy.unroll(agent.policy.initial_state(3), rows, Tape(u))
    state = agent.policy.initial_state(3)
    for t in range(5):
        seen = {k: v[t] for k, v in rows.items()}
        decision = agent.policy.step(state, seen, Tape(u[t]), Seat.alone(3, "explore"))
        action, state = decision.action, decision.state
        assert torch.allclose(state["deter"], states["deter"][t], atol=1e-6)
        assert torch.equal(state["stoch"], states["stoch"][t])
        assert action.dtype == torch.int64
        assert action.shape == (3,)
    assert torch.allclose(last["deter"], state["deter"], atol=1e-6)


def test_horizon_is_checked() -> None:
    with pytest.raises(ValueError, match="horizon must be >= 2"):
        DreamerV2Config(horizon=1)


CLASHES = ("reward", "discount", "kl", "model")


def test_observations_may_be_called_like_losses() -> None:
    """Each has a loss, a gradient and a metric of its own, and the losses they are called like keep theirs."""
    env = replace(CONTINUOUS, observation={key: spaces.Box(-1, 1, (3,), np.float32) for key in ("plain", *CLASHES)})
    agent, data = learner(CONFIG, env), batch(env)
    before = {name: value.clone() for name, value in agent.model.named_parameters()}
    metrics = agent.update(data).metrics
    changed = {name for name, value in agent.model.named_parameters() if (value - before[name]).abs().max() > 1e-5}
    decoders = {name for name in before if "decoder.heads." in name and name.endswith("weight")}
    assert len(decoders) == 5
    assert decoders <= changed
    observed = {key: metrics[f"observation/{key}_loss"].item() for key in CLASHES} | {
        "plain": metrics["plain_loss"].item()
    }
    assert len(set(observed.values())) == 5
    assert metrics["balance/observation_loss"].item() == pytest.approx(sum(observed.values()), rel=1e-6)
    assert metrics["balance/reward_loss"].item() == metrics["reward_loss"].item()
    assert metrics["balance/dynamics_loss"].item() == metrics["kl_loss"].item() == pytest.approx(metrics["kl"].item())
    weighted = sum(metrics[f"balance/{group}_product"] for group in ("observation", "reward", "dynamics"))
    assert metrics["model_loss"].item() == pytest.approx((weighted + 5.0 * metrics["discount_loss"]).item(), rel=1e-6)
    # Poisoned, each of them moves its own loss.
    for key in CLASHES:
        rows = data.rows | {f"obs.{key}": data.rows[f"obs.{key}"] + 1.0}
        moved = learner(CONFIG, env).update(replace(data, rows=rows)).metrics
        assert moved[f"observation/{key}_loss"].item() > observed[key] + 0.5


def test_a_picture_is_summed_over_pixels_and_colours() -> None:
    """192 numbers that are one off, half a square each: 96, in every Dreamer that draws."""
    env = EnvSpec("test", {"image": spaces.Box(0, 255, (8, 8, 3), np.uint8)}, spaces.Discrete(3))
    agents = {"dreamerv2": learner(env=env), **{name: make(env) for name, make in versions().items()}}
    for name, agent in agents.items():
        output = agent.model.objective.outputs["image"]
        found = output.loss(torch.zeros(2, 3, 3, 8, 8), torch.ones(2, 3, 3, 8, 8))
        halves = {"dreamerv2": 96.0 + 192 * 0.5 * math.log(2 * math.pi)}.get(name, 192.0)
        assert found.shape == (2, 3), name
        assert found[0, 0].item() == pytest.approx(halves), name


def test_the_actor_of_a_pathwise_dream_reads_states_without_their_past() -> None:
    agent = learner(replace(CONFIG, actor_grad="both", horizon=3), CONTINUOUS)
    read: list[bool] = []
    agent.actor.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].requires_grad))
    with agent.behaviour.dreaming():
        features, _, _ = agent.behaviour.dream({"deter": torch.randn(1, 6), "stoch": torch.zeros(1, 12)})
    assert features.requires_grad
    assert read == [False] * 3


def test_each_group_has_an_optimiser_of_its_own() -> None:
    rates = {"model": 1e-3, "actor": 2e-3, "critic": 3e-3}
    config = replace(CONFIG, **{f"{group}_opt": OptimConfig(lr=lr) for group, lr in rates.items()})
    assert {group: each.config.lr for group, each in learner(config).optimisers.items()} == rates


def test_both_gradients_are_mixed_by_their_share() -> None:
    agent = learner(replace(CONFIG, actor_grad="both", actor_mix=0.25, entropy=0.0))
    with torch.no_grad():
        agent.slow_critic.head.out.weight.normal_()
        agent.model.reward.head.out.weight.normal_()
    start = {"deter": torch.randn(9, 6), "stoch": torch.zeros(9, 12)}
    dream = agent.behaviour.imagine(start, starting(torch.zeros(9, dtype=torch.bool)))
    returns = agent.behaviour.returns(dream)
    found = {}
    for how in ("both", "dynamics", "reinforce"):
        agent.behaviour.actor_grad = how
        found[how] = agent.behaviour.actor_loss(dream, returns, {}).item()
    assert abs(found["dynamics"] - found["reinforce"]) > 1e-3
    assert found["both"] == pytest.approx(0.25 * found["dynamics"] + 0.75 * found["reinforce"], rel=1e-5)


def test_first_parameters_are_glorots_everywhere() -> None:
    agent = learner(replace(CONFIG, actor=HeadConfig(layers=1, units=64)))
    weight = agent.actor.out.weight
    bound = (6 / sum(weight.shape)) ** 0.5
    assert 0.8 * bound < weight.abs().max() <= bound
    assert not agent.actor.out.bias.any()
    assert not agent.critic.head.out.bias.any()
