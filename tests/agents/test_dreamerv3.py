"""Both DreamerV3s: losses against slow loops, who gets which gradient, what begins at zero, what goes on exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents import find
from reverie.agents.agent import Seat, Tape
from reverie.agents.behaviour import Dream
from reverie.agents.dreamer import DreamerLearner
from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023, DreamerV3Of2023Config
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.nets.balance import BalanceKind
from reverie.nets.outputs import TwoHot
from reverie.presets import make_config
from tests.agents.test_dreamerv2 import CONTINUOUS, DISCRETE, batch, starting
from tests.agents.test_harmonydream import KINDS
from tests.agents.v3 import MIXED, NOW, THEN, now, shuffle_outputs, then, versions, warm

EACH = pytest.mark.parametrize("make", list(versions().values()), ids=list(versions()))
GAMMA = 1 - 1 / 333


def valid(env: EnvSpec, **given: int) -> Batch:
    """A batch whose indices are in their range, and whose windows begin with a state."""
    made = batch(env, **given)
    rows = dict(made.rows)
    for key, space in env.observation.items():
        if isinstance(space, spaces.Discrete):
            rows[f"obs.{key}"] = (rows[f"obs.{key}"] * 10).long() % int(space.n)
    return replace(made, rows=rows)


def stored(data: Batch, agent: DreamerLearner, seed: int = 5) -> Batch:
    """The batch with start states as an actor could have left them."""
    g = torch.Generator().manual_seed(seed)
    zero = agent.policy.initial_state(data.rows["is_first"].shape[1])
    start = {"deter": torch.rand(zero["deter"].shape, generator=g) * 2 - 1}
    latent = agent.model.rssm.latent
    logits = torch.randn(*zero["stoch"].shape, generator=g).unflatten(-1, (latent.stoch, latent.classes))  # type: ignore[attr-defined]
    return replace(data, start=start | {"stoch": latent.mode((logits,)).detach()})


def symlog(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


def cross_entropy(logits: Tensor, target: float, bins: list[float]) -> float:
    """Towards the two bins around a target, in the bins' own space."""
    log_p = logits.log_softmax(-1).tolist()
    k = max(i for i in range(len(bins) - 1) if bins[i] <= target)
    share = (target - bins[k]) / (bins[k + 1] - bins[k])
    return -(1 - share) * log_p[k] - share * log_p[k + 1]


def bins_of(agent: DreamerLearner) -> tuple[list[float], bool]:
    output = agent.critic.output
    assert isinstance(output, TwoHot)
    return output.bins.tolist(), output.squashed


def value_of(agent: DreamerLearner, logits: Tensor) -> float:
    bins, squashed = bins_of(agent)
    mean = sum(p * b for p, b in zip(logits.softmax(-1).tolist(), bins, strict=True))
    return math.copysign(math.expm1(abs(mean)), mean) if squashed else mean


def test_the_two_spaces_of_bins() -> None:
    """255 bins: equally spaced from -20 to 20 in symlog space in 2023, and symexp of them in the raw space since."""
    (then_bins, squashed), (now_bins, raw) = bins_of(then(DISCRETE)), bins_of(now(DISCRETE))
    assert (squashed, raw) == (True, False)
    assert len(then_bins) == len(now_bins) == 255
    assert then_bins[128] - then_bins[127] == pytest.approx(20 / 127)
    assert now_bins[128] == pytest.approx(math.expm1(20 / 127))
    assert now_bins[-1] == pytest.approx(math.expm1(20.0), rel=1e-5)
    assert now_bins[:127] == [-b for b in reversed(now_bins[128:])]


@EACH
@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_world_model_loss_is_the_slow_sum(make: Any, env: EnvSpec) -> None:
    """Every term again, with Python loops and distributions written out; stored start states for the current line."""
    is_now = make is now
    agent = make(env, state="stored") if is_now else make(env)
    shuffle_outputs(agent)
    data = stored(valid(env), agent) if is_now else valid(env)
    model, rows = agent.model, data.rows
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.discount.head.out.bias.fill_(3.0)  # so that gamma in its target can be seen
    metrics: dict[str, Tensor] = {}
    loss, seen, _ = agent.world_model_loss(data, metrics)
    u = torch.rand(5, 3, agent.policy.noise, generator=noise)[..., :3]
    agent.requires_grad_(False)
    bins, squashed = bins_of(agent)
    total = {"observation": 0.0, "reward": 0.0, "end": 0.0, "kl": 0.0}
    for b in range(3):
        for t in range(5):
            first = torch.tensor([bool(rows["is_first"][t, b]) or (t == 0 and not is_now)])
            if t == 0:
                given = data.start or agent.policy.initial_state(3)
                state = {name: value[b][None] for name, value in given.items()}
            obs = {key: rows[f"obs.{key}"][t, b][None] for key in env.observation}
            action = agent.actions.encode(rows["prev_action"][t, b][None])
            state, (logits,) = model.rssm.observe_step(state, action, first, model.encoder(obs), u[t, b][None])
            assert torch.allclose(seen.states["deter"][t, b], state["deter"][0], atol=1e-5)
            assert torch.equal(seen.states["stoch"][t, b], state["stoch"][0])
            feature = torch.cat([state["deter"], state["stoch"]], -1)
            decoded = model.objective.decoder(feature)
            if "image" in obs:
                target = obs["image"].float().permute(0, 3, 1, 2) / 255 - 0.5
                total["observation"] += float(((decoded["image"] - target) ** 2).sum())
            else:
                target = torch.tensor([symlog(x) for x in obs["vector"][0].tolist()])
                total["observation"] += float(((decoded["vector"][0] - target) ** 2).sum())
            reward = float(rows["reward"][t, b])
            total["reward"] += cross_entropy(
                model.reward.head(feature)[0], symlog(reward) if squashed else reward, bins
            )
            p = float(torch.sigmoid(model.discount.head(feature)))
            y = (1 - float(rows["is_terminal"][t, b])) * (GAMMA if is_now else 1.0)
            total["end"] -= y * math.log(p) + (1 - y) * math.log(1 - p)
            (prior,) = model.rssm.prior(state["deter"])
            p_post, p_prior = logits.softmax(-1)[0], prior.softmax(-1)[0]
            kl = max(float((p_post * (p_post.log() - p_prior.log())).sum()), 1.0)
            total["kl"] += (1.0 + 0.1) * kl if is_now else (0.5 + 0.1) * kl
    assert loss.item() == pytest.approx(sum(total.values()) / 15, rel=1e-4)
    assert metrics["discount_loss"].item() == pytest.approx(total["end"] / 15, rel=1e-4)
    assert metrics["reward_loss"].item() == pytest.approx(total["reward"] / 15, rel=1e-4)


def dream(agent: DreamerLearner, steps: int = 4, count: int = 6) -> Dream:
    g = torch.Generator().manual_seed(5)
    features = torch.randn(steps + 1, count, agent.model.rssm.features, generator=g)
    action = torch.nn.functional.one_hot(torch.randint(0, 3, (steps, count), generator=g), 3).float()
    rest = [torch.rand(steps + 1, count, generator=g) for _ in range(3)]
    return Dream(features, action, agent.actor(features[:-1]), 100 * rest[0], *rest[1:])


@EACH
def test_actor_and_critic_losses_are_the_slow_sums(make: Any) -> None:
    """All actions from the start on: a_{i+1} at s_i gets (R_i - v_i) / S; R_i begins with r_{i+1}."""
    agent = make(DISCRETE)
    shuffle_outputs(agent)
    d = dream(agent)
    horizon, count, lam = 4, 6, 0.95
    returns = agent.behaviour.returns(d)
    bins, squashed = bins_of(agent)
    flat = sorted(float(x) for x in returns.flatten())
    low, high = (flat[int(q)] + (q - int(q)) * (flat[int(q) + 1] - flat[int(q)]) for q in (0.05 * 23, 0.95 * 23))
    scale = max(1.0, 0.01 * (high - low))
    assert scale > 1.0
    actor = critic = 0.0
    for n in range(count):
        weight = 1.0
        slow = [float(d.value[horizon, n])]
        for i in reversed(range(horizon)):
            bootstrap = (1 - lam) * d.value[i + 1, n] + lam * slow[0]
            slow.insert(0, float(d.reward[i + 1, n] + d.discount[i + 1, n] * bootstrap))
        for i in range(horizon):
            assert returns[i, n].item() == pytest.approx(slow[i], rel=1e-5)
            # 2023: gamma c_j, all over gamma; now: the discount of every state up to s_i.
            weight *= float(d.discount[i, n])
            w = weight / GAMMA if make is then else weight
            logits = agent.actor(d.features[i, n])
            p = 0.99 * logits.softmax(-1) + 0.01 / 3 if make is then else logits.softmax(-1)
            log_prob, entropy = float((p.log() * d.actions[i, n]).sum()), -float((p * p.log()).sum())
            actor -= w * (log_prob * (slow[i] - float(d.value[i, n])) / scale + 3e-4 * entropy)
            x, followed = agent.critic.head(d.features[i, n]), agent.slow_critic.head(d.features[i, n])
            for target in (slow[i], value_of(agent, followed)):
                critic += w * cross_entropy(x, symlog(target) if squashed else target, bins)
    metrics: dict[str, Tensor] = {}
    assert agent.behaviour.actor_loss(d, returns, metrics).item() == pytest.approx(actor / (count * horizon), rel=1e-4)
    assert metrics["return_range"].item() == pytest.approx(scale, rel=1e-5)
    assert agent.behaviour.critic_loss(d, returns, {}).item() == pytest.approx(critic / (count * horizon), rel=1e-4)


def test_the_critic_learns_returns_of_replayed_rows() -> None:
    """By hand, with a time limit, a true end and an open window; dreams that begin at a row are its bootstrap."""
    agent = now(DISCRETE)
    shuffle_outputs(agent)
    data = valid(DISCRETE)
    rows = dict(data.rows)
    rows["is_last"] = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    rows["is_terminal"] = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.bool)
    rows["is_first"] = torch.cat([torch.zeros(1, 3, dtype=torch.bool), rows["is_last"][:-1]])
    _, seen, seen_rows = agent.world_model_loss(replace(data, rows=rows), {})
    boot = torch.randn(5, 3) * 3
    bins, _ = bins_of(agent)
    total, r = 0.0, rows["reward"]
    for b in range(3):
        target = float(boot[4, b])
        for t in reversed(range(4)):
            last, terminal = bool(rows["is_last"][t + 1, b]), bool(rows["is_terminal"][t + 1, b])
            c = 0.0 if last else 0.95
            live = 0.0 if terminal else GAMMA
            target = float(r[t + 1, b] + live * ((1 - c) * boot[t + 1, b] + c * target))
            if not rows["is_last"][t, b]:
                x, followed = agent.critic.head(seen.features[t, b]), agent.slow_critic.head(seen.features[t, b])
                total += cross_entropy(x, target, bins) + cross_entropy(x, value_of(agent, followed), bins)
    returns = torch.cat([boot.flatten()[None], torch.full((3, 15), math.nan)])
    loss = agent.behaviour.replay_critic_loss(seen, seen_rows, returns)
    assert loss.item() == pytest.approx(total / 12, rel=1e-4)
    agent.zero_grad()
    loss.backward()
    parts = {"encoder": agent.model.encoder, "rssm": agent.model.rssm, "critic": agent.critic}
    assert all(any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts.values())
    assert all(p.grad is None for p in [*agent.actor.parameters(), *agent.slow_critic.parameters()])


PARTS = ("encoder", "rssm", "reward", "actor", "critic", "slow", "decoder", "discount")


def with_gradient(agent: DreamerLearner, loss: Tensor) -> set[str]:
    agent.zero_grad()
    loss.backward()
    modules = (
        agent.model.encoder,
        agent.model.rssm,
        agent.model.reward,
        agent.actor,
        agent.critic,
        agent.slow_critic,
        agent.model.objective,
        agent.model.discount,
    )
    pairs = zip(PARTS, modules, strict=True)
    return {k for k, m in pairs if any(p.grad is not None and bool(p.grad.any()) for p in m.parameters())}


@EACH
@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_loss_trains_its_own_part_only(make: Any, env: EnvSpec) -> None:
    agent = make(env)
    shuffle_outputs(agent)
    loss, seen, rows = agent.world_model_loss(valid(env), {})
    losses = agent.behaviour_losses(seen, rows, {})
    assert with_gradient(agent, losses["actor"]) == {"actor"}
    assert with_gradient(agent, losses["critic"]) == {"critic"}
    assert with_gradient(agent, loss) == {"encoder", "rssm", "reward", "decoder", "discount"}
    assert set(losses) == ({"actor", "critic", "replay_critic"} if make is now else {"actor", "critic"})


def test_continuous_actors_learn_through_the_dream_in_2023_and_by_reinforce_since() -> None:
    start = then(CONTINUOUS).policy.initial_state(2)
    ended = torch.zeros(2, dtype=torch.bool)
    agent = then(CONTINUOUS)
    shuffle_outputs(agent)
    assert agent.behaviour.imagine(start, starting(ended)).reward.requires_grad
    assert agent.behaviour.imagine(start, starting(ended)).value.requires_grad
    assert all(p.requires_grad for p in agent.critic.parameters())
    assert (
        not then(DISCRETE)
        .behaviour.imagine(then(DISCRETE).policy.initial_state(2), starting(ended))
        .reward.requires_grad
    )
    for env in (DISCRETE, CONTINUOUS):
        assert not now(env).behaviour.imagine(now(env).policy.initial_state(2), starting(ended)).reward.requires_grad


def test_terminal_starts_weigh_nothing_in_2023_and_what_the_model_says_since() -> None:
    ended = torch.tensor([True, False])
    agent = then(DISCRETE)
    agent.model.discount.head.out.bias.data.fill_(5.0)  # going on is likelier everywhere
    d = agent.behaviour.imagine(agent.policy.initial_state(2), starting(ended))
    assert d.discount[0].tolist() == pytest.approx([0.0, GAMMA])
    assert d.discount[1:].flatten().tolist() == pytest.approx([GAMMA] * 8)
    weights = agent.behaviour.weights(d)
    assert weights[:, 0].tolist() == [0.0] * 5
    assert weights[:, 1].tolist() == pytest.approx([GAMMA**i for i in range(5)])
    agent.model.discount.head.out.bias.data.fill_(-5.0)
    assert agent.behaviour.imagine(agent.policy.initial_state(2), starting(ended)).discount[1:].abs().max() == 0.0
    current = now(DISCRETE)
    d = current.behaviour.imagine(current.policy.initial_state(2), starting(ended))
    p = torch.sigmoid(current.model.discount.head(d.features))
    assert torch.allclose(d.discount, p, atol=1e-6)
    assert torch.allclose(current.behaviour.weights(d)[1], p[0] * p[1], atol=1e-6)


@EACH
def test_rewards_and_values_begin_at_exactly_0(make: Any) -> None:
    agent = make(DISCRETE)
    features = torch.randn(7, agent.model.rssm.features)
    for part in (agent.model.reward, agent.critic, agent.slow_critic):
        assert part.mean(features).tolist() == [0.0] * 7
    policy = agent.actor(features)
    assert (policy.abs().max() < 0.05) == (make is now)


def test_the_slow_critic_follows() -> None:
    for make in (then, now):
        agent = make(DISCRETE, warm()) if make is now else make(DISCRETE)
        before = [p.clone() for p in agent.slow_critic.parameters()]
        agent.update(valid(DISCRETE))
        pairs = list(zip(agent.slow_critic.parameters(), agent.critic.parameters(), strict=True))
        if make is then:  # copied whole after the first
            assert all(torch.equal(slow, fast) for slow, fast in pairs)
        else:
            assert all(
                torch.allclose(slow, old + 0.02 * (fast - old), atol=1e-6)
                for (slow, fast), old in zip(pairs, before, strict=True)
            )
        before = [p.clone() for p in agent.slow_critic.parameters()]
        agent.update(valid(DISCRETE, seed=1))
        assert all(
            torch.allclose(slow, old + 0.02 * (fast - old), atol=1e-6)
            for (slow, fast), old in zip(pairs, before, strict=True)
        )


def test_one_optimiser_of_everything_whose_first_update_moves_nothing() -> None:
    agent = now(MIXED, state="stored")
    assert list(agent.optimisers) == ["agent"]
    learned = {p for part in (agent.model, agent.actor, agent.critic) for p in part.parameters()}
    assert set(agent.optimisers["agent"].parameters) == learned
    before = [p.clone() for p in agent.parameters()]
    metrics = agent.update(stored(valid(MIXED), agent)).metrics
    assert all(torch.equal(a, b) for a, b in zip(before, agent.parameters(), strict=True))
    parts = sum(metrics[f"{name}_loss"] for name in ("model", "actor", "critic", "replay_critic"))
    assert metrics["agent_loss"].item() == pytest.approx(parts.item(), rel=1e-6)
    agent.update(stored(valid(MIXED, seed=1), agent))
    moved = sum(not torch.equal(a, b) for a, b in zip(before, agent.parameters(), strict=True))
    # Everything: only behind weights that were 0 there was no gradient yet.
    assert moved > 0.7 * len(before)


def test_states_of_the_update_go_back_and_change_the_next_start_exactly() -> None:
    agent = now(DISCRETE, warm(), state="stored", learn=5)
    data = stored(valid(DISCRETE), agent)
    noise = agent.noise.state()
    feedback = agent.update(data).feedback
    assert feedback is not None
    assert feedback.states is not None
    twin = now(DISCRETE, warm(), state="stored", learn=5)
    twin.noise.restore(noise)
    _, seen, _ = twin.world_model_loss(data, {})
    for name, value in seen.states.items():
        assert torch.equal(feedback.states[name], value.flatten(0, 1))
    assert feedback.keys.tolist() == [key + k + 1 for k in range(5) for key in range(3)]
    # The state after row 1 is where a window that begins at row 2 begins: it sees what the whole window saw.
    rest = {name: value[2:] for name, value in data.rows.items()}
    start = {name: feedback.states[name].unflatten(0, (5, 3))[1] for name in feedback.states}
    u = torch.rand(3, 3, agent.policy.noise)
    whole, _ = agent.policy.unroll({n: v[1] for n, v in seen.states.items()}, rest, Tape(u))
    part, _ = agent.policy.unroll(start, rest, Tape(u))
    assert all(torch.equal(part[name], whole[name]) for name in whole)
    assert now(DISCRETE).update(valid(DISCRETE)).feedback is None


@EACH
def test_evaluation_samples(make: Any) -> None:
    agent = make(DISCRETE)
    rows = {name: value[0, :1].expand(400, *value.shape[2:]) for name, value in valid(DISCRETE).rows.items()}
    u = Tape(torch.rand(400, agent.policy.noise, generator=torch.Generator().manual_seed(0)))
    state = agent.policy.initial_state(400)
    greedy = agent.policy.step(state, rows, u, Seat.alone(400, "greedy")).action
    assert torch.equal(greedy, agent.policy.step(state, rows, u, Seat.alone(400, "explore")).action)
    assert len(greedy.unique()) == 3


@EACH
@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS, MIXED], ids=["discrete", "continuous", "mixed"])
def test_save_and_restore_go_on_bit_for_bit(make: Any, env: EnvSpec) -> None:
    options = {"config": warm(), "state": "stored"} if make is now else {}
    whole, half = make(env, **options), make(env, **options)

    def data(seed: int) -> Batch:
        made = valid(env, seed=seed)
        return stored(made, whole, seed) if make is now else made

    for seed in range(2):
        whole.update(data(seed))
        half.update(data(seed))
    again = make(env, **options)
    again.restore(half.save())
    for seed in range(2, 4):
        ours, theirs = again.update(data(seed)), whole.update(data(seed))
        assert ours.metrics.keys() == theirs.metrics.keys()
        assert all(torch.equal(ours.metrics[name], theirs.metrics[name]) for name in theirs.metrics)
        if make is now:
            assert torch.equal(ours.feedback.states["deter"], theirs.feedback.states["deter"])
    assert all(torch.equal(v, again.state_dict()[name]) for name, v in whole.state_dict().items())
    assert {"range.low", "range.high"} <= set(whole.save()["tensors"])


@EACH
def test_policy_step_matches_unroll(make: Any) -> None:
    agent = make(DISCRETE)
    rows = valid(DISCRETE).rows
    u = torch.rand(5, 3, agent.policy.noise)
    states, _ = agent.policy.unroll(agent.policy.initial_state(3), rows, Tape(u))
    state = agent.policy.initial_state(3)
    for t in range(5):
        seen = {k: v[t] for k, v in rows.items()}
        state = agent.policy.step(state, seen, Tape(u[t]), Seat.alone(3, "explore")).state
        assert torch.allclose(state["deter"], states["deter"][t], atol=1e-6)
        assert torch.equal(state["stoch"], states["stoch"][t])


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_every_balancer_weighs_every_version(make: Any, kind: BalanceKind) -> None:
    """Through the one hook: three groups, the continuation apart, learned scalars in the model's optimiser."""
    base = warm() if make is now else THEN
    agent = make(MIXED, replace(base, balance=kind))
    metrics = agent.update(valid(MIXED)).metrics
    both = metrics["image_loss"] + metrics["vector_loss"] + metrics["index_loss"]
    assert metrics["balance/observation_loss"].item() == pytest.approx(both.item(), rel=1e-6)
    weighed = sum(metrics[f"balance/{group}_product"] for group in ("observation", "reward", "dynamics"))
    rest = {"harmony": 3 * math.log(2.0)}.get(kind, 0.0)
    assert metrics["model_loss"].item() == pytest.approx((weighed + metrics["discount_loss"]).item() + rest, rel=1e-5)
    if kind == "harmony":
        moved = agent.model.balancer.log_sigma.detach().abs().tolist()
        lr = base.opt.lr if isinstance(base, DreamerV3Config) else base.model_opt.lr
        assert moved == pytest.approx([lr] * 3, rel=1e-2)


@EACH
def test_observations_may_be_called_like_losses(make: Any) -> None:
    names = ("reward", "model", "actor", "critic", "replay_critic", "agent")
    env = replace(CONTINUOUS, observation={key: spaces.Box(-1, 1, (3,)) for key in names})
    metrics = make(env).update(valid(env)).metrics
    reserved = set(names) - ({"replay_critic", "agent"} if make is then else set())
    assert {f"observation/{key}_loss" for key in reserved} <= set(metrics)
    total = sum(value for name, value in metrics.items() if name.startswith("observation/") and name.endswith("_loss"))
    total = total + sum(metrics[f"{key}_loss"] for key in set(names) - reserved)
    assert metrics["balance/observation_loss"].item() == pytest.approx(float(total), rel=1e-6)


def test_settings_are_the_published_ones() -> None:
    current, first = DreamerV3Config(), DreamerV3Of2023Config()
    for config in (current, first):
        assert (config.gamma, config.lam, config.horizon, config.entropy) == (GAMMA, 0.95, 15, 3e-4)
        assert (config.kl_free, config.kl_free_per, config.slow_fraction) == (1.0, "each", 0.02)
    # Weights of the dynamics and of the representation loss.
    assert current.kl_scale * current.kl_balance == pytest.approx(1.0)
    assert current.kl_scale * (1 - current.kl_balance) == pytest.approx(0.1)
    assert first.kl_scale * first.kl_balance == pytest.approx(0.5)
    assert first.kl_scale * (1 - first.kl_balance) == pytest.approx(0.1)
    assert (DreamerV3.Config, DreamerV3Of2023.Config) == (DreamerV3Config, DreamerV3Of2023Config)
    assert (NOW.replay_scale, NOW.opt.agc, NOW.opt.warmup, NOW.opt.lr) == (0.3, 0.3, 1000, 4e-5)


LEARNER = ["draw", "initialise", "make_optimisers", "losses", "world_model_loss", "feedback"]
BEHAVIOUR = [
    "networks",
    "drawn",
    "begin",
    "losses",
    "imagine",
    "returns",
    "weights",
    "actor_loss",
    "critic_loss",
    "update_slow_critic",
]
RECIPE = ["actions", "encoder", "rssm", "actor", "policy_of", "objective", "reward", "discount", "critic"]


@pytest.mark.parametrize(("preset", "envs"), [("atari100k", 1), ("dmc-vision", 4), ("atari", 8)])
def test_that_of_2023_begins_with_1024_windows_of_64_rows(preset: str, envs: int) -> None:
    config = make_config("dreamerv3-2023", preset)
    assert config.env.num_envs == envs
    assert config.run.prefill - 63 * envs == 1024


@pytest.mark.parametrize("agent", ["dreamerv1", "dreamerv2", "dreamerv3-2023", "dreamerv3"])
def test_siblings_have_their_methods_in_one_order(agent: str) -> None:
    """So that `diff` between two of them reads as the later paper's list of changes."""
    recipe = find(agent).load()
    classes = (recipe.Learner, LEARNER, 1), (recipe.Behaviour, BEHAVIOUR, 5), (recipe, RECIPE, 4)  # type: ignore[attr-defined]
    for cls, order, least in classes:
        own = [name for name in vars(cls) if name in order]
        assert own == sorted(own, key=order.index)
        assert len(own) >= least
