"""TD-MPC: losses by hand and against a slow loop in float64, annealing, priorities, a refit with momentum, acting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.agents.agent import Seat, Tape
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.latent_policy import LATENT, Foresight
from reverie.agents.plan import Limits, Plan, PlanConfig, plan
from reverie.agents.plan_worth import imagined_returns
from reverie.agents.tdmpc import TDMPC, TDMPCConfig, TDMPCLearner
from reverie.agents.tdmpc_policy import Annealing
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.actions import make_actions
from tests.agents.test_capture import on_gpu, outcome, same
from tests.agents.test_static import WAITING, Watch
from tests.agents.test_tdmpc2 import VECTOR, array, batch, disturb
from tests.agents.test_tdmpc2_acting import decide, numbers, rows_at

IMAGE = replace(VECTOR, observation={"image": spaces.Box(0, 255, (47, 49, 1), np.uint8)})
SEARCH = PlanConfig(horizon=4, iterations=2, candidates=10, elites=4, policy_candidates=3, momentum=0.1)
CONFIG = TDMPCConfig(stack=2, encoder_units=5, channels=3, latent=4, units=6, gamma=0.9, beta=0.5, plan=SEARCH)
BOTH = pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])


def make(
    config: TDMPCConfig = CONFIG, env: EnvSpec = VECTOR, learn: int = 3, seed: int = 3, device: Any = None
) -> TDMPCLearner:
    torch.manual_seed(0)
    agent = TDMPC(config, env)
    return agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=learn)), seed, device)


def losses(learner: TDMPCLearner, data: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor], Feedback]:
    """Of the model and of the prior, without a step; metrics and feedback."""
    metrics: dict[str, Tensor] = {}
    steps = learner.losses(data, metrics)
    model, actor = next(steps)["model"], next(steps)["actor"]
    with pytest.raises(StopIteration) as stop:
        next(steps)
    return model, actor, metrics, stop.value.value


# By hand


class Values(nn.Module):
    """Two critics, the columns of x [..., 2] times these numbers."""

    def __init__(self, *rows: tuple[float, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T).movedim(-1, 0)


def by_hand(**changes: Any) -> tuple[TDMPCLearner, Batch]:
    """Latents are observations, those of the slow encoder twice as large, z' = z + a, the prior says 0.5.

    ::

        row        0      1      2 (terminal)          consistency   (2 - 3)^2 + 0.5 (2 - 6)^2 = 9
        o          1.0    1.5    3.0                   rewards       z / 2 + a: 1.5 and 1.0
        z          1.0    2.0    2.0                   critics       z + a: 2, 2        2 z: 2, 4
        a          1.0    0.0                          slow ones     3 z    4 z - a, the least at h_1: 4.5
        r                 1.0   -1.0                   targets       1 + 0.9 * 4.5 = 5.05, and -1
    """
    one = EnvSpec("t", {"vector": spaces.Box(-9, 9, (1,), np.float32)}, spaces.Box(-1, 1, (1,), np.float32))
    learner = make(replace(CONFIG, latent=1, **changes), one, learn=2)
    model = learner.model
    learner.policy.encoder.forward = lambda obs, u: obs["vector"]  # type: ignore[method-assign]
    learner.slow_encoder.forward = lambda obs, u: 2 * obs["vector"]  # type: ignore[method-assign]
    model.next = lambda z, a, task=None: z + a  # type: ignore[method-assign]
    model.pays = lambda z, a, task=None: (0.5 * z + a).squeeze(-1)  # type: ignore[method-assign]
    model.propose = lambda z, u, task=None: torch.full_like(z, 0.5)  # type: ignore[method-assign]
    model.critics = Values((1.0, 1.0), (2.0, 0.0))  # type: ignore[assignment]
    learner.slow_critics = Values((3.0, 0.0), (4.0, -1.0))  # type: ignore[assignment]
    learner.pairs = []
    columns = {"obs.vector": [1.0, 1.5, 3.0], "action": [1.0, 0.0, 0.0], "prev_action": [0.0, 1.0, 0.0]}
    rows = {name: torch.tensor(values).view(3, 1, 1).repeat(1, 2, 1) for name, values in columns.items()}
    rows["reward"] = torch.tensor([[7.0], [1.0], [-1.0]]).repeat(1, 2)
    rows["is_first"] = torch.zeros(3, 2, dtype=torch.bool)
    rows["is_last"] = rows["is_terminal"] = torch.tensor([[False], [False], [True]]).repeat(1, 2)
    return learner, Batch(rows, None, torch.tensor([7, 8]), torch.tensor([0.1, 0.4]), torch.zeros(2))


def test_losses_by_hand() -> None:
    """Two windows alike, of which the second is drawn four times as often: with beta 1/2 it weighs half."""
    learner, data = by_hand()
    learner.follow = lambda: None  # type: ignore[method-assign]
    model, actor, metrics, feedback = losses(learner, data)
    consistency, reward = 1.0 + 0.5 * 16.0, 0.25 + 0.5 * 4.0
    value = 2 * (2 - 5.05) ** 2 + 0.5 * ((2 + 1) ** 2 + (4 + 1) ** 2)
    assert (consistency, reward, value) == (9.0, 2.25, pytest.approx(35.605))
    found = {name: metrics[f"{name}_loss"].item() for name in ("consistency", "reward", "value")}
    assert found == pytest.approx({"consistency": consistency, "reward": reward, "value": value})
    assert model.item() == pytest.approx(0.75 * (2 * consistency + 0.5 * reward + 0.1 * value) / 2)
    assert metrics["importance"].item() == pytest.approx(0.75)
    assert metrics["q"].item() == pytest.approx(2.5)
    assert metrics["td_error"].item() == pytest.approx((3.05 + 3.05 + 3 + 5) / 4)
    assert feedback.keys.tolist() == [7, 8]
    assert feedback.priorities is not None
    assert feedback.priorities.tolist() == [pytest.approx(2 * 3.05 + 0.5 * (3 + 5))] * 2
    # The lesser of z + 0.5 and 2 z at 1, 2 and 2, which weigh 1, 1/2 and 1/4.
    assert actor.item() == pytest.approx(-(1.5 + 0.5 * 2.5 + 0.25 * 2.5))


def test_a_loss_counts_up_to_its_limit_and_a_priority_too() -> None:
    learner, data = by_hand(limit=5.0)
    learner.follow = lambda: None  # type: ignore[method-assign]
    model, _, metrics, feedback = losses(learner, data)
    assert model.item() == pytest.approx(0.75 * (2 * 5.0 + 0.5 * 2.25 + 0.1 * 5.0) / 2)
    assert metrics["value_loss"].item() == pytest.approx(35.605)
    assert feedback.priorities is not None
    assert feedback.priorities.tolist() == [5.0, 5.0]


def test_a_refit_with_momentum_by_hand() -> None:
    """Of four candidates three are elites, with weights 4 : 2 : 1; the mean keeps a tenth of 0.2, the std of none.

    ::

        first action       1       1/2     -1/2      -1
        return          2 ln 4    2 ln 2      0      -9        temperature 1/2

        m = (4 + 1 - 1/2) / 7 = 9/14,  s^2 = (4 (1 - m)^2 + 2 (1/2 - m)^2 + (1/2 + m)^2) / 7
    """

    class Table:
        noise = 0

        def imagine(self, state: Any, action: Tensor, noise: Any) -> Any:
            first = action.squeeze(-1)
            paid = torch.tensor([[1.0, 2 * math.log(4)], [0.5, 2 * math.log(2)], [-0.5, 0.0], [-1.0, -9.0]])
            reward = (torch.eq(first.unsqueeze(-1).round(decimals=3), paid[:, 0]) * paid[:, 1]).sum(-1)
            return {"t": state["t"] + 1}, torch.where(state["t"] == 0, reward, 0.0), torch.ones_like(reward)

        def value(self, state: Any) -> Tensor:
            return torch.zeros_like(state["t"])

    config = replace(SEARCH, horizon=2, iterations=1, candidates=4, elites=3, policy_candidates=0)
    phi = torch.distributions.Normal(0.0, 1.0).cdf
    first = [phi(torch.tensor((a - 0.2) / 2)).item() for a in (1.0, -1.0, 0.5, -0.5)]
    draws = [number for each in first for number in (each, 0.5)]
    last = torch.tensor([[[0.9], [0.2]]])
    u = torch.tensor([[*draws, 0.6]])
    actions = make_actions(spaces.Box(-1.0, 1.0, (1,)))
    before = Plan(last, last, last[:, 0, 0])
    action, planned = plan(Table(), {"t": torch.zeros(1)}, actions, config, u, before)  # type: ignore[arg-type]
    m = 9 / 14
    std = math.sqrt((4 * (1 - m) ** 2 + 2 * (0.5 - m) ** 2 + (0.5 + m) ** 2) / 7)
    assert planned.mean.flatten().tolist() == pytest.approx([0.1 * 0.2 + 0.9 * m, 0.0], abs=1e-5)
    assert planned.std.flatten().tolist() == pytest.approx([std, 0.05], abs=1e-5)
    assert planned.value.item() == pytest.approx((4 * 2 * math.log(4) + 2 * 2 * math.log(2)) / 7, abs=1e-5)
    assert action.item() == pytest.approx(0.5), "4/7 < 0.6 < 6/7: the second elite"
    # While it is annealed a refit is no narrower than the schedule says, and one step of two may count.
    limits = Limits(torch.tensor(1), torch.tensor(0.6))
    _, planned = plan(Table(), {"t": torch.zeros(1)}, actions, config, u, before, limits=limits)  # type: ignore[arg-type]
    assert std < 0.6
    assert planned.std.flatten().tolist() == pytest.approx([0.6, 0.6])
    assert planned.mean.flatten().tolist() == pytest.approx([0.1 * 0.2 + 0.9 * m, 0.0], abs=1e-5)


@pytest.mark.parametrize(
    ("version", "horizon", "std"),
    [
        (0, 1, 0.5),
        (6249, 1, 0.387518),
        (6250, 2, 0.3875),
        (12_500, 3, 0.275),
        (24_999, 4, 0.050018),
        (25_000, 5, 0.05),
        (10**7, 5, 0.05),
    ],
)
def test_the_published_annealing(version: int, horizon: int, std: float) -> None:
    policy = TDMPC(TDMPCConfig(encoder_units=2, units=2), VECTOR).policy()
    policy.version.fill_(version)
    limits = policy.limits()
    assert limits is not None
    assert limits.horizon.item() == horizon
    assert limits.min_std.item() == pytest.approx(std, abs=1e-6)
    assert policy.metrics(Seat.alone(1)) == {"plan_horizon": horizon, "plan_std": pytest.approx(std, abs=1e-6)}


def test_without_annealing_the_search_is_that_of_its_settings() -> None:
    policy = TDMPC(replace(CONFIG, anneal=Annealing(over=0)), VECTOR).policy()
    assert policy.limits() is None
    assert policy.metrics(Seat.alone(1)) == {"plan_horizon": 4, "plan_std": 0.05}
    with pytest.raises(ValueError, match=r"over is the share 0.5 of a run"):
        TDMPC(replace(CONFIG, anneal=Annealing(over=0.5)), VECTOR).policy()


# Against slow loops


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def net(layers: Any, x: np.ndarray) -> np.ndarray:
    """A sequence of layers, of one row."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = array(layer.weight) @ x + array(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * array(layer.weight) + array(layer.bias)
        else:
            assert isinstance(layer, nn.ELU | nn.Tanh)
            x = elu(x) if isinstance(layer, nn.ELU) else np.tanh(x)
    return x


def prior(learner: TDMPCLearner, z: np.ndarray, u: Tensor) -> np.ndarray:
    noise = np.clip(0.05 * torch.special.ndtri(u.double()).numpy(), -0.3, 0.3)
    return np.clip(np.tanh(net(learner.model.prior, z)) + noise, -1 + 1e-6, 1 - 1e-6)


def lesser(critics: Any, z: np.ndarray, a: np.ndarray) -> float:
    return min(float(net(member, np.concatenate([z, a]))[0]) for member in critics.members)


def test_losses_against_a_slow_loop() -> None:
    """Every row on its own; steps after an end inside a window count for nothing."""
    learner = disturb(make())
    data, model, horizon, width = batch(learner), learner.model, 3, 5
    data = replace(data, probabilities=torch.tensor([0.1, 0.2, 0.3, 0.05, 0.35]))
    rows = {name: array(value) for name, value in data.rows.items()}
    noise = learner.noise
    kept = noise.state()
    noise.uniform(horizon + 1, width, 0)
    u_ahead, u_actor = noise.uniform(horizon, width, 2), noise.uniform(horizon + 1, width, 2)
    noise.restore(kept)
    sums: dict[str, np.ndarray] = {name: np.zeros(width) for name in ("consistency", "reward", "value", "priority")}
    actor, reached = np.zeros(horizon + 1), np.zeros(horizon + 1)
    for b in range(width):
        z = net(learner.policy.encoder.body, rows["obs.vector"][0, b])
        over = False
        for t in range(horizon + 1):
            if not over:
                actor[t] += lesser(model.critics, z, prior(learner, z, u_actor[t, b]))
                reached[t] += 1
            over = over or bool(rows["is_last"][t, b])
            if t == horizon or over:
                if t < horizon:
                    z = net(model.dynamics, np.concatenate([z, rows["action"][t, b]]))
                continue
            x, reward = np.concatenate([z, rows["action"][t, b]]), rows["reward"][t + 1, b]
            seen = rows["obs.vector"][t + 1, b]
            h, g = net(learner.policy.encoder.body, seen), net(learner.slow_encoder.body, seen)
            worth = lesser(learner.slow_critics, h, prior(learner, h, u_ahead[t, b]))
            target = reward + 0.9 * (1 - rows["is_terminal"][t + 1, b]) * worth
            errors = [float(net(member, x)[0]) - target for member in model.critics.members]
            z, rho = net(model.dynamics, x), 0.5**t
            sums["consistency"][b] += rho * ((z - g) ** 2).mean()
            sums["reward"][b] += rho * float(net(model.reward, x)[0] - reward) ** 2
            sums["value"][b] += rho * sum(e * e for e in errors)
            sums["priority"][b] += rho * sum(abs(e) for e in errors)
    assert reached.min() < width, "an end cuts a window"
    w = array(data.probabilities) ** -0.5
    total = 2 * sums["consistency"] + 0.5 * sums["reward"] + 0.1 * sums["value"]
    learner.follow = lambda: None  # type: ignore[method-assign]
    found, found_actor, metrics, feedback = losses(learner, data)
    assert found.item() == pytest.approx((w / w.max() * total).mean() / horizon, rel=1e-4)
    assert found_actor.item() == pytest.approx(-(0.5 ** np.arange(horizon + 1) * actor / reached).sum(), rel=1e-4)
    for name in ("consistency", "reward", "value"):
        assert metrics[f"{name}_loss"].item() == pytest.approx(sums[name].mean(), rel=1e-4)
    assert feedback.priorities is not None
    np.testing.assert_allclose(array(feedback.priorities), sums["priority"], rtol=1e-4)


def test_the_worth_of_a_sequence_against_a_loop_of_so_many_steps_as_count() -> None:
    """r_1 + g r_2 + ... + g^h min of both critics at z_h, for every horizon h; what comes after h is not seen."""
    learner = disturb(make())
    model, g = learner.model, torch.Generator().manual_seed(0)
    foresight = Foresight(model, 0.9)
    z, candidates = torch.randn(2, 4, generator=g), 2 * torch.rand(2, 6, 4, 2, generator=g) - 1
    own, shared = torch.rand(2, 6, 2, generator=g), None
    for horizon in (1, 2, 4):
        poisoned = candidates.clone()
        poisoned[:, :, horizon:] = torch.nan
        with torch.no_grad():
            found = imagined_returns(foresight, {LATENT: z}, poisoned, None, own, shared, torch.tensor(horizon))
        for b in range(2):
            for n in range(6):
                now, total = array(z[b]), 0.0
                for t in range(horizon):
                    x = np.concatenate([now, array(candidates[b, n, t])])
                    total += 0.9**t * float(net(model.reward, x)[0])
                    now = net(model.dynamics, x)
                total += 0.9**horizon * lesser(model.critics, now, prior(learner, now, own[b, n]))
                assert found[b, n].item() == pytest.approx(total, abs=1e-4)


# Learning


def test_who_gets_gradients_and_who_follows() -> None:
    learner = disturb(make())
    policy, model = learner.policy, learner.model
    steps = learner.losses(batch(learner), {})
    next(steps)["model"].backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in policy.named_parameters() if not name.startswith("model.prior")}
    policy.zero_grad()
    next(steps)["actor"].backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {f"model.prior.{name}" for name, _ in model.prior.named_parameters()}
    assert all(slow.grad is None for slow, _ in learner.pairs)
    for update in range(3):
        before = [slow.clone() for slow, _ in learner.pairs]
        learner.update(batch(learner, seed=update))
        share = 0.01 * (update % 2)
        for old, (slow, fast) in zip(before, learner.pairs, strict=True):
            torch.testing.assert_close(slow, old + share * (fast - old))


def test_optimisers_and_first_weights_are_the_official_ones() -> None:
    learner = make(replace(TDMPCConfig(), units=16))
    for group in learner.optimisers.values():
        opt = group.config
        assert (opt.lr, opt.eps, opt.clip, opt.shrink, opt.kind) == (1e-3, 1e-8, 10.0, 0.0, "adam")
    model, actor = learner.optimisers["model"], learner.optimisers["actor"]
    assert set(actor.parameters) == set(learner.model.prior.parameters())
    assert set(model.parameters) | set(actor.parameters) == set(learner.policy.parameters())
    x = torch.randn(7, 52)
    assert not learner.model.critics(x).any()
    assert not learner.model.reward(x).any()
    weight = learner.model.dynamics[2].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=1e-5, rtol=0)


@BOTH
def test_update_is_static_and_never_waits(env: EnvSpec) -> None:
    learner = make(env=env)
    learner.update(pictured(learner, 0))
    traces = []
    for seed in range(1, 3):
        data = pictured(learner, seed)
        with Watch() as watch:
            learner.update(data)
        traces.append(watch.trace)
    assert traces[0] == traces[1]
    assert [name for name, _ in traces[0] if name in WAITING] == []


def pictured(learner: TDMPCLearner, seed: int) -> Batch:
    """Random windows, with images of this file's size where images are seen."""
    data = batch(learner, seed=seed)
    if learner.policy.encoder.image:
        g = torch.Generator().manual_seed(seed)
        time = data.rows["reward"].shape[0]
        data.rows["obs.image"] = torch.randint(0, 256, (time, 5, 47, 49, 1), generator=g, dtype=torch.uint8)
    return data


@BOTH
def test_save_and_restore_go_on_bit_for_bit(env: EnvSpec) -> None:
    a = make(env=env)
    for i in range(2):
        a.update(pictured(a, i))
    saved = a.save()
    saved["tensors"] = {k: v.clone() for k, v in saved["tensors"].items()}
    saved["optimisers"] = {
        group: {name: {k: v.clone() for k, v in moments.items()} for name, moments in each.items()}
        for group, each in saved["optimisers"].items()
    }
    assert {"slow_encoder.body.0.weight", "slow_critics.members.1.0.weight"} <= set(saved["tensors"])
    b = make(env=env, seed=1)
    b.update(pictured(b, 9))
    b.restore(saved)
    for i in range(2, 4):
        one, two = a.update(pictured(a, i)), b.update(pictured(b, i))
        assert one.metrics.keys() == two.metrics.keys()
        assert all(torch.equal(one.metrics[k], two.metrics[k]) for k in one.metrics)
        assert one.feedback is not None
        assert two.feedback is not None
        torch.testing.assert_close(one.feedback.priorities, two.feedback.priorities, rtol=0, atol=0)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@on_gpu
@BOTH
def test_a_recorded_update_is_the_update(env: EnvSpec) -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(env=env, device=torch.device("cuda"))
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [pictured(learner, seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


# Acting


def test_it_acts_with_a_plan_within_the_limits_of_its_age() -> None:
    learner = disturb(make(replace(CONFIG, anneal=Annealing(over=100))))
    policy, rows = learner.policy, rows_at(learner, 1)
    policy.version.fill_(40)  # two steps of four count
    state, u = {"plan": torch.full((4, 4, 2), 0.3)}, numbers(policy)
    greedy, explore = (decide(policy, state, rows, u, play) for play in ("greedy", "explore"))
    with torch.no_grad():
        z, last = {LATENT: policy.encoder({"vector": rows["obs.vector"]}, None)}, state["plan"]
        parts = (policy.foresight, z, policy.actions, SEARCH, u[:, :-2], Plan(last, last, last[:, 0, 0]))
        std = torch.tensor(0.5 - 0.4 * 0.45)
        action, planned = plan(*parts, policy=policy._propose, limits=Limits(torch.tensor(2), std))
        other, _ = plan(*parts, policy=policy._propose)
    assert torch.equal(greedy.action, action)
    assert not torch.equal(other, action)
    assert torch.equal(greedy.state["plan"], planned.mean)
    assert planned.mean[:, :2].all()
    assert not planned.mean[:, 2:].any()
    assert planned.std.min().item() == pytest.approx(std.item())
    noisy = (greedy.action + planned.std[:, 0] * torch.special.ndtri(u[:, -2:])).clamp(-1, 1)
    torch.testing.assert_close(explore.action, noisy)
    random = decide(policy, state, rows, u, "random")
    assert not random.state["plan"].any()


def test_without_planning_it_acts_as_the_prior_does() -> None:
    learner = disturb(make(replace(CONFIG, mpc=False)))
    policy, rows, u = learner.policy, rows_at(learner, 1), torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    assert policy.noise == 2
    greedy, explore = (decide(policy, policy.initial_state(4), rows, u, play) for play in ("greedy", "explore"))
    with torch.no_grad():
        mean = torch.tanh(policy.model.prior(policy.encoder({"vector": rows["obs.vector"]}, None)))
    assert torch.equal(greedy.action, mean)
    noise = (0.05 * torch.special.ndtri(u)).clamp(-0.3, 0.3)
    torch.testing.assert_close(explore.action, (mean + noise).clamp(-1 + 1e-6, 1 - 1e-6))
    assert not explore.state["plan"].any()


def test_images_are_shifted_in_learning_only() -> None:
    """Every row has a shift of its own there, and the slow encoder sees what the learned one sees; 0 is black."""
    learner = make(replace(CONFIG, shift=4), IMAGE)
    policy = learner.policy
    assert (policy.encoder.noise, policy.unroll_noise, policy.lookback) == (2, 0, 1)
    data, seen = pictured(learner, 0), []
    for encoder in (policy.encoder, learner.slow_encoder):
        encoder.body.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    rows, obs, u = learner.see(data)
    with torch.no_grad():
        learner.targets(rows, obs, u)
        learner.roll_out(rows, obs, u)
        here, slow, first = seen
        assert torch.equal(here, slow)
        assert here.shape == (15, 2, 47, 49)
        expected = torch.cat([obs["image"][1:].flatten(0, 1), obs["image"][0]])
        pixels, offsets = torch.cat([here, first]), torch.cat([u[1:].flatten(0, 1), u[0]])
        for row in range(20):
            down, right = ((offsets[row] * 9).long() - 4).tolist()
            for y, x in ((0, 0), (20, 30), (46, 48)):
                at = expected[row, min(max(y + down, 0), 46), min(max(x + right, 0), 48)]
                assert torch.equal(pixels[row, :, y, x], at.float() * (1 / 255))
        seen.clear()
        state = policy.initial_state(5)
        now = {name: value[0] for name, value in data.rows.items()}
        u_step = torch.rand(5, policy.noise, generator=torch.Generator().manual_seed(0))
        policy.step(state, now, Tape(u_step), Seat.alone(5))
        assert torch.equal(seen[0][:, 1], now["obs.image"].squeeze(-1).float() * (1 / 255))
    policy.encoder.body[-1].weight.data.zero_()
    latents, _ = policy.unroll(policy.initial_state(5), data.rows, Tape(torch.zeros(len(data.rows["reward"]), 5, 0)))
    assert not latents.any()


@pytest.mark.parametrize("side", [39, 64, 84])
def test_the_encoder_of_images_ends_in_a_layer(side: int) -> None:
    """84 pixels leave 39, 18, 8 and 3; 64 leave 29, 13, 6 and 2; 39 leave 17, 7, 3 and 1."""
    env = replace(VECTOR, observation={"image": spaces.Box(0, 255, (side, side, 3), np.uint8)})
    body = TDMPC(TDMPCConfig(), env).policy().encoder.body
    assert body[-1].weight.shape == (50, 32 * {39: 1, 64: 4, 84: 9}[side])
    assert [type(layer).__name__ for layer in body] == [*["Conv2d", "ReLU"] * 4, "Flatten", "Linear"]
    assert body[0].weight.shape == (32, 9, 7, 7)


# Refusals


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TD-MPC plans continuous actions \(a Box\), got Discrete\(3\); dreamerv2"):
        TDMPC(CONFIG, replace(VECTOR, action=spaces.Discrete(3)))
    agent = TDMPC(CONFIG, VECTOR)
    for asked in ({"context": 2}, {"state": "stored"}, {"drift": True}):
        with pytest.raises(ValueError, match=r"TD-MPC has no memory: set replay.window.context = 0"):
            agent.windows(SequenceSpec(**{"learn": 3, **asked}))
    small = replace(VECTOR, observation={"image": spaces.Box(0, 255, (38, 64, 3), np.uint8)})
    with pytest.raises(ValueError, match="both sides >= 39 for this agent's encoder, got 38x64"):
        TDMPC(CONFIG, small).policy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 0}, "latent must be at least 1"),
        ({"target_every": 0}, "target_every must be at least 1"),
        ({"gamma": 1.1}, r"gamma and beta must be in \[0, 1\]"),
        ({"prior_std": -0.1}, "prior_std and prior_clip >= 0"),
        ({"limit": 0.0}, "a positive limit"),
        ({"rho": 0.0}, "rho and tau must be in"),
        ({"shift": -1}, "expected stack >= 1 and shift >= 0"),
        ({"anneal": Annealing(first_horizon=5)}, "must be at most plan.horizon 4"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
    with pytest.raises(ValueError, match="expected first_horizon >= 1"):
        Annealing(first_horizon=0)
