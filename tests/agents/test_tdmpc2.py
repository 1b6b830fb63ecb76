"""TD-MPC2: losses by hand and against slow loops in float64, its optimisers, sizes, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Learner
from reverie.agents.tdmpc2_sizes import SIZES, Size, Tiny
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.normed import NormedLinear
from reverie.nets.outputs import TwoHot
from tests.agents.test_capture import on_gpu, outcome, same
from tests.agents.test_static import WAITING, Watch

ACTION = spaces.Box(-1, 1, (2,), np.float32)
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (3,), np.float32)}, ACTION)
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (39, 39, 1), np.uint8)}, ACTION)
SMALL = Size(encoder_units=5, encoder_layers=2, units=6, latent=8, critics=3, channels=4)
CONFIG = TDMPC2Config(size=SMALL, group=4, bins=7, limit=2.0, dropout=0.3, episode_length=100, stack=2)


def make(
    config: TDMPC2Config = CONFIG, env: EnvSpec = VECTOR, learn: int = 3, seed: int = 3, device: Any = None
) -> TDMPC2Learner:
    torch.manual_seed(0)
    agent = TDMPC2(config, env)
    return agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=learn)), seed, device)


def disturb(learner: TDMPC2Learner) -> TDMPC2Learner:
    """Other weights everywhere, slow critics included."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=g)
    return learner


def batch(learner: TDMPC2Learner, width: int = 5, seed: int = 0, ends: float = 0.25) -> Batch:
    """Random windows with ends of both kinds inside."""
    g = torch.Generator().manual_seed(seed)
    time = learner.windows.length
    rows: dict[str, Tensor] = {}
    if learner.policy.encoder.image:
        rows["obs.image"] = torch.randint(0, 256, (time, width, 39, 39, 1), generator=g, dtype=torch.uint8)
    else:
        rows["obs.vector"] = torch.randn(time, width, 3, generator=g)
    last = torch.rand(time, width, generator=g) < ends
    last[0] = False
    rows["action"] = 2 * torch.rand(time, width, 2, generator=g) - 1
    rows["prev_action"] = torch.cat([torch.zeros(1, width, 2), rows["action"][:-1]])
    rows["reward"] = torch.randn(time, width, generator=g)
    rows["is_first"] = torch.cat([torch.zeros(1, width, dtype=torch.bool), last[:-1]])
    rows["is_last"], rows["is_terminal"] = last, last & (torch.rand(time, width, generator=g) < 0.5)
    return Batch(rows, None, torch.arange(width), torch.ones(width), torch.zeros(width))


# By hand


class Fixed(nn.Module):
    """Critics that always give these logits [members, bins]."""

    units, dropout = 1, 0.0

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.members, self.logits = len(logits), nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor, u: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        logits = self.logits if chosen is None else self.logits[chosen]
        return logits.view(len(logits), *[1] * (x.dim() - 1), -1).expand(-1, *x.shape[:-1], -1)


def test_losses_by_hand() -> None:
    """Latents are observations, z' = z + a, three bins -1, 0, 1 of symlog, two critics, gamma 0.95, H = 2.

    ::

        row        0      1      2 (terminal)          consistency   ((2 - 1.5)^2 + 0.5 (2 - 3)^2) / 2
        o, h      1.0    1.5    3.0                    slow critics  symexp(1) and symexp(1/2): the least is e^0.5 - 1
        z         1.0    2.0    2.0                    target_0      0.1 + 0.95 (e^0.5 - 1), symlog of it 0.5402
        a         1.0    0.0                           target_1      -0.3, symlog of it -0.2624: 0.2624 on -1
        r                0.1   -0.3                    critics       probabilities 1/4, 1/4, 1/2
    """
    one = EnvSpec("t", {"vector": spaces.Box(-9, 9, (1,), np.float32)}, spaces.Box(-1, 1, (1,), np.float32))
    learner = make(replace(CONFIG, bins=3, limit=1.0, dropout=0.0, entropy=0.0), one, learn=2)
    model, policy = learner.policy.model, learner.policy
    policy.encoder.forward = lambda obs, u: obs["vector"]  # type: ignore[method-assign]
    model.next = lambda z, a, task: z + a  # type: ignore[method-assign]
    model.reward = Fixed([[0.0, 0.0, 0.0]])  # type: ignore[assignment]
    model.reward.forward = lambda x: torch.zeros(*x.shape[:-1], 3)
    model.act = lambda z, u, task: (0.0 * z, 0.0 * z[..., 0])  # type: ignore[method-assign]
    model.critics = Fixed([[0.0, 0.0, math.log(2.0)]] * 2)  # type: ignore[assignment]
    learner.slow_critics = Fixed([[-99.0, -99.0, 99.0], [-99.0, 99.0, 99.0]])  # type: ignore[assignment]
    column = {
        "obs.vector": [1.0, 1.5, 3.0],
        "action": [1.0, 0.0, 0.0],
        "prev_action": [0.0, 1.0, 0.0],
    }
    rows = {name: torch.tensor(values).view(3, 1, 1) for name, values in column.items()}
    rows["reward"] = torch.tensor([[7.0], [0.1], [-0.3]])
    rows["is_first"] = torch.zeros(3, 1, dtype=torch.bool)
    rows["is_last"] = rows["is_terminal"] = torch.tensor([[False], [False], [True]])
    metrics: dict[str, Tensor] = {}
    steps = learner.losses(Batch(rows, None, torch.arange(1), torch.ones(1), torch.zeros(1)), metrics)
    loss = next(steps)["model"]
    assert metrics["consistency_loss"].item() == pytest.approx(0.375)
    assert metrics["reward_loss"].item() == pytest.approx(math.log(3.0) * 1.5 / 2)
    upper = math.log1p(0.1 + 0.95 * (math.exp(0.5) - 1))
    assert upper == pytest.approx(0.5402, abs=1e-4)
    first, second = upper * math.log(2) + (1 - upper) * math.log(4), math.log(4)
    assert metrics["value_loss"].item() == pytest.approx((first + 0.5 * second) / 2, rel=1e-5)
    parts = 20 * metrics["consistency_loss"] + 0.1 * (metrics["reward_loss"] + metrics["value_loss"])
    assert loss.item() == pytest.approx(parts.item())
    # Q is symexp(1/4) everywhere, S 1: three latents weigh 1, 1/2 and 1/4.
    assert next(steps)["actor"].item() == pytest.approx(-(math.exp(0.25) - 1) * 1.75 / 3, rel=1e-5)


def test_two_hot_at_its_edges() -> None:
    """101 bins of width 0.2: what is beyond 10 counts as 10, what is on a bin has one weight, logits of 0 mean 0."""
    numbers = TwoHot.uniform(101, 10.0)
    assert numbers.bins.diff().tolist() == pytest.approx([0.2] * 100, abs=1e-5)
    assert numbers.mean(torch.zeros(101)).item() == 0.0
    logits = torch.randn(101, generator=torch.Generator().manual_seed(0))
    log_p = logits.log_softmax(-1)
    top = math.expm1(10.0)
    for target, weights in (
        (top, {100: 1.0}),
        (5 * top, {100: 1.0}),
        (-5 * top, {0: 1.0}),
        (0.0, {50: 1.0}),
        (math.expm1(0.1), {50: 0.5, 51: 0.5}),
        (-math.expm1(9.85), {0: 0.25, 1: 0.75}),
    ):
        expected = -sum(weight * log_p[k].item() for k, weight in weights.items())
        assert numbers.loss(logits, torch.tensor(target)).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("length", "gamma"), [(500, 0.99), (100, 0.95), (50, 0.95), (1000, 0.995), (4000, 0.995), (200, 0.975), (1, 0.95)]
)
def test_the_discount_follows_from_the_length_of_an_episode(length: int, gamma: float) -> None:
    assert TDMPC2Config(episode_length=length).gamma == pytest.approx(gamma)


# Against slow loops


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0.0)


def simnorm(x: np.ndarray) -> np.ndarray:
    groups = [np.exp(g - g.max()) / np.exp(g - g.max()).sum() for g in x.reshape(-1, CONFIG.group)]
    return np.concatenate(groups)


def mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(softplus(x))


def normed(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift


def array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def net(layers: Any, x: np.ndarray) -> np.ndarray:
    """A `normed_mlp` of one row."""
    for layer in layers:
        if isinstance(layer, NormedLinear):
            x = array(layer.linear.weight) @ x + array(layer.linear.bias)
            x = normed(x, array(layer.norm.weight), array(layer.norm.bias))
            x = mish(x) if "mish" in repr(layer.act) else simnorm(x)
        else:
            x = array(layer.weight) @ x + array(layer.bias)
    return x


def critic(ensemble: Any, k: int, x: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
    """Logits of one critic for one row."""
    x = x @ array(ensemble.weights[0][k]) + array(ensemble.biases[0][k, 0])
    if u is not None:
        x = np.where(u < np.float32(CONFIG.dropout), 0.0, x / (1 - CONFIG.dropout))
    x = mish(normed(x, array(ensemble.scales[0][k, 0]), array(ensemble.shifts[0][k, 0])))
    x = x @ array(ensemble.weights[1][k]) + array(ensemble.biases[1][k, 0])
    x = mish(normed(x, array(ensemble.scales[1][k, 0]), array(ensemble.shifts[1][k, 0])))
    return x @ array(ensemble.weights[2][k]) + array(ensemble.biases[2][k, 0])


BINS = np.linspace(-2.0, 2.0, 7)


def mean(logits: np.ndarray) -> float:
    p = np.exp(logits - logits.max())
    y = float((p / p.sum() * BINS).sum())
    return math.copysign(math.expm1(abs(y)), y)


def cross_entropy(logits: np.ndarray, y: float) -> float:
    y = min(max(math.copysign(math.log1p(abs(y)), y), -2.0), 2.0)
    log_p = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    weights = np.maximum(1.0 - np.abs(y - BINS) / (BINS[1] - BINS[0]), 0.0)
    return float(-(weights * log_p).sum())


def prior(model: Any, z: np.ndarray, u: Tensor) -> tuple[np.ndarray, float]:
    out = net(model.prior, z)
    m, log_std = out[:2], -10.0 + 6.0 * (np.tanh(out[2:]) + 1.0)
    e = torch.special.ndtri(u.double()).numpy()
    log_prob = float((-0.5 * e**2 - log_std - 0.5 * math.log(2 * math.pi)).sum())
    return np.tanh(m + np.exp(log_std) * e), log_prob


@pytest.mark.parametrize("episodic", [False, True])
def test_losses_against_a_slow_loop(episodic: bool) -> None:
    """Every row on its own; steps after an end inside a window count for nothing, and means are of those that count."""
    config = replace(CONFIG, episodic=episodic, entropy=0.3, tau=0.5)
    learner = disturb(make(config))
    wild = torch.Generator().manual_seed(3)
    with torch.no_grad():  # a range of values above its floor
        for parameter in (*learner.policy.model.critics.weights, *learner.policy.encoder.parameters()):
            parameter.copy_(4.0 * torch.randn(parameter.shape, generator=wild))
    model, width, horizon = learner.policy.model, 6, 3
    data, noise = batch(learner, width), torch.Generator().manual_seed(3)
    assert data.rows["is_last"][1:-1].any()
    u_ahead, u_target = torch.rand(horizon, width, 2, generator=noise), torch.rand(3, generator=noise)
    u_drop = torch.rand(3, horizon * width, 6, generator=noise).numpy()
    u_actor = torch.rand(horizon + 1, width, 2, generator=noise)
    u_pi = torch.rand(2, (horizon + 1) * width, 6, generator=noise).numpy()
    two, other = (u.argsort(descending=True)[:2].tolist() for u in (u_target, torch.rand(3, generator=noise)))
    sums = {name: np.zeros(horizon) for name in ("consistency", "reward", "value", "end", "count")}
    actor, actor_count, first_q = np.zeros(horizon + 1), np.zeros(horizon + 1), []
    chosen: list[tuple[int, float, float]] = []
    rows = {name: array(value) for name, value in data.rows.items()}
    for b in range(width):
        z = net(learner.policy.encoder.body, rows["obs.vector"][0, b])
        over = False
        for t in range(horizon + 1):
            a, log_prob = prior(model, z, u_actor[t, b])
            x = np.concatenate([z, a])
            q = [mean(critic(model.critics, k, x, u_pi[i, t * width + b])) for i, k in enumerate(other)]
            first_q += [sum(q) / 2] if t == 0 else []
            if not over:
                chosen.append((t, sum(q) / 2, log_prob))
                actor_count[t] += 1
            over = over or bool(rows["is_last"][t, b])
            if t == horizon:
                continue
            x = np.concatenate([z, rows["action"][t, b]])
            reward = rows["reward"][t + 1, b]
            h = net(learner.policy.encoder.body, rows["obs.vector"][t + 1, b])
            step = np.concatenate([h, prior(model, h, u_ahead[t, b])[0]])
            worth = min(mean(critic(learner.slow_critics, k, step)) for k in two)
            target = reward + 0.95 * (1 - rows["is_terminal"][t + 1, b]) * worth
            values = [cross_entropy(critic(model.critics, k, x, u_drop[k, t * width + b]), target) for k in range(3)]
            paid = cross_entropy(net(model.reward, x), reward)
            z = net(model.dynamics, x)
            if over:
                continue
            sums["consistency"][t] += ((z - h) ** 2).mean()
            sums["reward"][t] += paid
            sums["value"][t] += sum(values) / 3
            sums["count"][t] += 1
            if model.end is not None:
                logit, end = net(model.end, z)[0], rows["is_terminal"][t + 1, b]
                sums["end"][t] += end * softplus(-logit) + (1 - end) * softplus(logit)
    assert sums["count"].min() > 0
    assert sums["count"].max() > sums["count"].min()
    weights = 0.5 ** np.arange(horizon + 1)
    expected = {
        name: float((weights[:horizon] * sums[name] / sums["count"]).sum() / horizon)
        for name in ("consistency", "reward", "value")
    }
    total = 20 * expected["consistency"] + 0.1 * expected["reward"] + 0.1 * expected["value"]
    if episodic:
        expected["end"] = sums["end"].sum() / sums["count"].sum()
        total += expected["end"]
    metrics: dict[str, Tensor] = {}
    steps = learner.losses(data, metrics)
    loss = next(steps)["model"]
    assert {name: metrics[f"{name}_loss"].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    assert ("end_loss" in metrics) == episodic
    assert loss.item() == pytest.approx(total, rel=1e-4)
    spread = max(float(np.quantile(first_q, 0.95) - np.quantile(first_q, 0.05)), 1.0)
    assert spread > 1.2
    scale = 1.0 + 0.5 * (spread - 1.0)
    for t, q, log_prob in chosen:
        actor[t] -= q / scale + 0.3 * -2 * log_prob
    expected_actor = float((weights * actor / actor_count).sum() / (horizon + 1))
    assert next(steps)["actor"].item() == pytest.approx(expected_actor, rel=1e-4)
    assert metrics["q_range"].item() == pytest.approx(scale, rel=1e-5)
    assert metrics["actor_entropy"].item() == pytest.approx(-np.mean([p for _, _, p in chosen]), rel=1e-4)


def test_who_gets_gradients() -> None:
    """The model's loss moves all but the prior; the prior's the prior alone; targets nothing."""
    learner = disturb(make())
    steps = learner.losses(batch(learner), {})
    model, policy = learner.policy.model, learner.policy
    next(steps)["model"].backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in policy.named_parameters() if not name.startswith("model.prior")}
    policy.zero_grad()
    next(steps)["actor"].backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {f"model.prior.{name}" for name, _ in model.prior.named_parameters()}
    assert all(p.grad is None for p in learner.slow_critics.parameters())


def test_targets_follow_by_one_percent_after_both_updates() -> None:
    learner = disturb(make())
    before = [p.clone() for p in learner.slow_critics.parameters()]
    learner.update(batch(learner))
    pairs = zip(before, learner.policy.model.critics.parameters(), learner.slow_critics.parameters(), strict=True)
    for old, fast, slow in pairs:
        torch.testing.assert_close(slow, 0.99 * old + 0.01 * fast)


def test_the_encoders_rate_stays_a_share_of_the_others() -> None:
    learner = make(replace(CONFIG, opt=replace(CONFIG.opt, lr=1e-2, lr_over=4)))
    model, encoder = learner.optimisers["model"], set(learner.policy.encoder.parameters())
    for _ in range(3):
        learner.update(batch(learner))
    for group in model.rule.param_groups:
        own = encoder.intersection(group["params"])
        assert not own or len(own) == len(group["params"])
        assert group["lr"] == pytest.approx(0.3 * 0.5e-2 if own else 0.5e-2)


def test_the_optimisers_are_the_official_ones() -> None:
    learner = make(replace(CONFIG, size=SMALL))
    model, actor = learner.optimisers["model"], learner.optimisers["actor"]
    rates = {p: group["lr"] for group in model.rule.param_groups for p in group["params"]}
    encoder = set(learner.policy.encoder.parameters())
    assert {rates[p] for p in encoder} == {0.3 * 3e-4}
    assert {rate for p, rate in rates.items() if p not in encoder} == {3e-4}
    assert (model.config.eps, model.config.clip, model.config.shrink) == (1e-8, 20.0, 0.0)
    assert (actor.config.eps, actor.config.clip, actor.config.lr) == (1e-5, 20.0, 3e-4)
    assert set(actor.parameters) == set(learner.policy.model.prior.parameters())
    assert set(model.parameters) | set(actor.parameters) == set(learner.policy.parameters())


@pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])
def test_update_is_static_and_never_waits(env: EnvSpec) -> None:
    learner = make(replace(CONFIG, episodic=True), env)
    learner.update(batch(learner))
    traces = []
    for seed in range(1, 3):
        data = batch(learner, seed=seed)
        with Watch() as watch:
            learner.update(data)
        traces.append(watch.trace)
    assert traces[0] == traces[1]
    assert [name for name, _ in traces[0] if name in WAITING] == []


@pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])
def test_save_and_restore_go_on_bit_for_bit(env: EnvSpec) -> None:
    a = make(env=env)
    for i in range(2):
        a.update(batch(a, seed=i))
    saved = a.save()
    saved["tensors"] = {k: v.clone() for k, v in saved["tensors"].items()}
    saved["optimisers"] = {
        group: {name: {k: v.clone() for k, v in moments.items()} for name, moments in each.items()}
        for group, each in saved["optimisers"].items()
    }
    assert {"range.value", "slow_critics.weights.0"} <= set(saved["tensors"])
    b = make(env=env, seed=1)
    b.update(batch(b, seed=9))
    b.restore(saved)
    for i in range(2, 4):
        one, two = a.update(batch(a, seed=i)).metrics, b.update(batch(b, seed=i)).metrics
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@on_gpu
@pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])
def test_a_recorded_update_is_the_update(env: EnvSpec) -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(replace(CONFIG, episodic=True), env, device=torch.device("cuda"))
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [batch(learner, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


# Sizes


def counted(size: Size, inputs: int, actions: int, bins: int = 101) -> dict[str, int]:
    """Parameters by part, from the widths: W, b, and scale and shift of a norm."""

    def layer(i: int, o: int) -> int:
        return i * o + 3 * o

    units, both = size.units, size.latent + actions
    hidden = [inputs, *[size.encoder_units] * max(size.encoder_layers - 1, 1), size.latent]
    trunk = layer(both, units) + layer(units, units)
    reward = trunk + units * bins + bins
    return {
        "encoder": sum(layer(i, o) for i, o in pairwise(hidden)),
        "dynamics": trunk + layer(units, size.latent),
        "reward": reward,
        "prior": layer(size.latent, units) + layer(units, units) + 2 * actions * (units + 1),
        "critics": size.critics * reward,
    }


TOTALS = {"1M": 1_214_651, "5M": 4_960_618, "19M": 18_062_442, "48M": 47_208_298, "317M": 312_595_417}
"""Learned parameters for 24 observed numbers and 6 actions (walker), from the widths in the official code. An embedding
of 96 numbers of the task, which is read beside them by 12 first layers of 4096, makes 317M of the last."""


@pytest.mark.parametrize("name", list(SIZES))
def test_parameters_of_all_sizes(name: str) -> None:
    env = EnvSpec("t", {"v": spaces.Box(-1, 1, (24,), np.float32)}, spaces.Box(-1, 1, (6,), np.float32))
    with torch.device("meta"):
        policy = TDMPC2(TDMPC2Config(size=SIZES[name]()), env).policy()
    model = policy.model
    parts: dict[str, nn.Module] = {
        "encoder": policy.encoder,
        "dynamics": model.dynamics,
        "reward": model.reward,
        "prior": model.prior,
        "critics": model.critics,
    }
    found = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    assert found == counted(SIZES[name](), 24, 6)
    total = sum(p.numel() for p in policy.parameters())
    assert sum(found.values()) == total
    if name in TOTALS:
        assert total == TOTALS[name]


# Refusals


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TD-MPC2 plans continuous actions \(a Box\), got Discrete\(3\); dreamerv2"):
        TDMPC2(CONFIG, replace(VECTOR, action=spaces.Discrete(3)))
    agent = TDMPC2(CONFIG, VECTOR)
    for asked in ({"context": 2}, {"state": "stored"}, {"drift": True}):
        with pytest.raises(ValueError, match=r"TD-MPC2 has no memory: set replay.window.context = 0"):
            agent.windows(SequenceSpec(**{"learn": 3, **asked}))
    assert agent.windows(SequenceSpec(learn=3)) == SequenceSpec(learn=3, lookahead=1)
    assert TDMPC2(CONFIG, IMAGE).windows(SequenceSpec(learn=3)).context == 1
    with pytest.raises(ValueError, match=r"episode_lengths \[50\] are of several environments, here is one"):
        TDMPC2(replace(CONFIG, episode_lengths=(50,)), VECTOR)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 3}, "size.latent 8 cannot be divided into groups of 3"),
        ({"group": 8}, "size.channels 4 cannot be divided into groups of 8"),
        ({"episode_length": 0}, "expected episode_length >= 1"),
        ({"gamma_min": 0.999}, "gamma_min <= gamma_max"),
        ({"rho": 0.0}, "rho and tau must be in"),
        ({"encoder_lr": -1.0}, "encoder_lr must be at least 0 and finite, got -1"),
        ({"encoder_lr": float("nan")}, "encoder_lr must be at least 0 and finite, got nan"),
        ({"stack": 0}, "expected stack >= 1"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"log_std_min": 3.0}, "log_std_min < log_std_max"),
        ({"bins": 100}, "bins must be odd"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
    with pytest.raises(ValueError, match="critics must be at least 2"):
        Tiny(critics=1)
    with pytest.raises(ValueError, match="units must be at least 1"):
        Tiny(units=0)


def test_plans_discount_as_the_length_of_an_episode_says() -> None:
    policy = TDMPC2(replace(CONFIG, episode_length=100), VECTOR).policy()
    assert policy.foresight.gamma == pytest.approx(0.95)
    model = policy.model
    assert not model.reward(torch.randn(5, CONFIG.size.latent + 2)).any()  # the head of rewards begins at zero
