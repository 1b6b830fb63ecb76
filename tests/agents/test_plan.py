"""Planning: toys whose best action is known, an iteration by hand, streams apart and together, bounds, warm starts."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.plan import PLANET, Plan, PlanConfig, plan, plan_noise
from reverie.agents.plan_search import Spread, make_search
from reverie.agents.plan_worth import imagined_returns
from reverie.data.rows import State
from reverie.nets.actions import Actions, make_actions
from tests.agents.test_static import WAITING, Watch

CEM = replace(PLANET, horizon=4, iterations=6, candidates=200, elites=20)
MPPI = PlanConfig(horizon=4, iterations=6, candidates=200, elites=20, temperature=20.0, policy_candidates=0)
METHODS = pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])
BOX = make_actions(spaces.Box(-1.0, 1.0, (1,)))


class Quadratic:
    """x' = x + a / 2, reward -(x'^2 + a^2 / 10), discount 0.9; value -x^2. sign: -1 models the opposite."""

    noise = 0
    discount = 0.9

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        assert noise is None
        x = state["x"] + 0.5 * action
        reward = -(x.square() + 0.1 * action.square()).sum(-1)
        return {"x": x}, self.sign * reward, torch.full_like(reward, self.discount)

    def value(self, state: State) -> Tensor:
        return -self.sign * state["x"].square().sum(-1)


def riccati(horizon: int) -> float:
    """k of the best first action -k x: V(x) = -p x^2, backwards from p = 1.

    Minimise (x + a/2)^2 (1 + 0.9 p) + a^2 / 10: with c = 1 + 0.9 p, a = -(c/2) x / (c/4 + 0.1).
    """
    p, k = 1.0, 0.0
    for _ in range(horizon):
        c = 1.0 + 0.9 * p
        k = (c / 2) / (c / 4 + 0.1)
        p = c * (1 - k / 2) ** 2 + 0.1 * k**2
    return k


class Lock:
    """Opens digit by digit: reward 1 for every step in which all digits so far are right."""

    noise = 0

    def __init__(self, code: list[list[int]], actions: Actions, sign: float = 1.0) -> None:
        digits = torch.tensor(code)
        self.code = actions.encode(digits[:, 0] if digits.shape[1] == 1 else digits)
        self.factors, self.sign = digits.shape[1], sign

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        right = (action * self.code[state["step"].clamp(max=len(self.code) - 1)]).sum(-1)
        opened = state["open"] * torch.eq(right, self.factors)
        return {"step": state["step"] + 1, "open": opened}, self.sign * opened, torch.ones_like(opened)

    def value(self, state: State) -> Tensor:
        return torch.zeros_like(state["open"])

    def begin(self, streams: int) -> State:
        return {"step": torch.zeros(streams, dtype=torch.int64), "open": torch.ones(streams)}


class Noisy(Quadratic):
    """Its reward is the mean of its noise."""

    noise = 2

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        assert noise is not None
        assert noise.shape == (len(action), 2)
        state, _, discount = super().imagine(state, action, None)
        return state, noise.mean(-1), discount


def uniform(config: PlanConfig, actions: Actions, streams: int, noise: int = 0, seed: int = 0) -> Tensor:
    return torch.rand(streams, plan_noise(config, actions, noise), generator=torch.Generator().manual_seed(seed))


# The best action is known


@METHODS
def test_the_best_action_of_a_quadratic_toy(config: PlanConfig) -> None:
    x = torch.tensor([[0.4], [-0.3], [0.0], [0.2]])
    best = (-riccati(4) * x).tolist()
    u = uniform(config, BOX, 4)
    action, planned = plan(Quadratic(), {"x": x}, BOX, config, u)
    assert action.shape == (4, 1)
    assert planned.mean[:, 0].tolist() == [pytest.approx(each, abs=0.05) for each in best]
    assert action.tolist() == [pytest.approx(each, abs=0.15) for each in best]
    crippled, _ = plan(Quadratic(-1.0), {"x": x}, BOX, config, u)
    assert ((crippled - torch.tensor(best)).abs() > 0.5).all(), "a model of the opposite leads astray"


@METHODS
def test_the_value_after_the_horizon_counts(config: PlanConfig) -> None:
    """One step ahead the best action weighs the reward and the value; without discount the value is not seen."""
    config, x = replace(config, horizon=1), torch.tensor([[0.4]])
    _, planned = plan(Quadratic(), {"x": x}, BOX, config, uniform(config, BOX, 1))
    assert planned.mean.item() == pytest.approx(-riccati(1) * 0.4, abs=0.03)
    blind = Quadratic()
    blind.discount = 0.0
    _, planned = plan(blind, {"x": x}, BOX, config, uniform(config, BOX, 1))
    assert planned.mean.item() == pytest.approx(-0.5 / 0.35 * 0.4, abs=0.03)
    assert riccati(1) * 0.4 - 0.5 / 0.35 * 0.4 > 0.06


@METHODS
@pytest.mark.parametrize(
    ("space", "code"),
    [
        (spaces.Discrete(3), [[2], [0], [1], [2]]),
        (spaces.MultiDiscrete([3, 2]), [[2, 1], [0, 1], [1, 0], [2, 0]]),
    ],
)
def test_the_one_right_sequence_of_four(config: PlanConfig, space: spaces.Space, code: list[list[int]]) -> None:
    """Of 3^4 or 6^4 sequences one opens the lock; it is found at once and carried out with warm starts."""
    actions = make_actions(space)
    lock, crippled = Lock(code, actions), Lock(code, actions, -1.0)
    action, planned = plan(lock, lock.begin(2), actions, config, uniform(config, actions, 2))
    for stream in range(2):
        assert torch.equal(make_search(actions, config).mode(planned.mean[stream]), lock.code)
        assert torch.equal(action[stream], lock.code[0])
    astray, _ = plan(crippled, lock.begin(2), actions, config, uniform(config, actions, 2))
    assert not (astray == lock.code[0]).all(-1).any()
    state, before = lock.begin(2), None
    for step in range(4):
        action, before = plan(lock, state, actions, config, uniform(config, actions, 2, seed=step), before)
        state, reward, _ = lock.imagine(state, action, None)
        assert reward.tolist() == [1.0, 1.0]


# By hand


def slow_returns(x: float, sequence: list[float]) -> float:
    total, weight = 0.0, 1.0
    for action in sequence:
        x += 0.5 * action
        total -= weight * (x * x + 0.1 * action * action)
        weight *= 0.9
    return total - weight * x * x


def normal_quantile(u: float) -> float:
    return float(torch.special.ndtri(torch.tensor(u, dtype=torch.float64)))


@METHODS
@pytest.mark.parametrize("momentum", [0.0, 0.1])
def test_two_iterations_against_a_loop(config: PlanConfig, momentum: float) -> None:
    config = replace(config, horizon=2, iterations=2, candidates=6, elites=3, momentum=momentum)
    u, start = uniform(config, BOX, 1), 0.4
    action, planned = plan(Quadratic(), {"x": torch.tensor([[start]])}, BOX, config, u)
    numbers = iter(u[0].tolist())
    mean, std = [0.0, 0.0], [config.start_std] * 2
    for _ in range(2):
        sequences = [
            [min(max(mean[t] + std[t] * normal_quantile(next(numbers)), -1.0), 1.0) for t in range(2)] for _ in range(6)
        ]
        elites = sorted(sequences, key=lambda s: slow_returns(start, s), reverse=True)[:3]
        returns = [slow_returns(start, s) for s in elites]
        weights = [math.exp(config.temperature * (each - returns[0])) for each in returns]
        weights = [w / sum(weights) for w in weights]
        assert config.method == "mppi" or weights == [1 / 3] * 3
        for t in range(2):
            new = sum(w * s[t] for w, s in zip(weights, elites, strict=True))
            variance = sum(w * (s[t] - new) ** 2 for w, s in zip(weights, elites, strict=True))
            std[t] = math.sqrt(variance + 1e-6) if config.method == "cem" else max(math.sqrt(variance), 0.05)
            mean[t] = momentum * mean[t] + (1 - momentum) * new
    assert planned.mean[0, :, 0].tolist() == pytest.approx(mean, abs=1e-5)
    assert planned.std[0, :, 0].tolist() == pytest.approx(std, abs=1e-5)
    assert planned.value.item() == pytest.approx(sum(w * r for w, r in zip(weights, returns, strict=True)), abs=1e-5)
    expected, choice = mean[0], next(numbers)
    if config.method == "mppi":
        cumulative = [sum(weights[: i + 1]) for i in range(3)]
        expected = elites[next(i for i in range(3) if cumulative[i] > choice)][0]
    assert action.item() == pytest.approx(expected, abs=1e-5)
    assert next(numbers, None) is None


@METHODS
def test_one_iteration_of_discrete_actions_against_a_loop(config: PlanConfig) -> None:
    config = replace(config, horizon=2, iterations=1, candidates=5, elites=2, mix=0.1)
    actions = make_actions(spaces.MultiDiscrete([3, 2]))
    lock = Lock([[2, 1], [0, 1]], actions)
    # In thirds and halves: candidates 21 01, 21 10, 00 00, 20 01, 11 11; of these 21 01 and 21 10 are worth 2 and 1.
    digits = [[2, 1, 0, 1], [2, 1, 1, 0], [0, 0, 0, 0], [2, 0, 0, 1], [1, 1, 1, 1]]
    numbers = [(d + 0.5) / n for each in digits for d, n in zip(each, (3, 2, 3, 2), strict=True)]
    action, planned = plan(lock, lock.begin(1), actions, config, torch.tensor([[*numbers, 0.0]]))
    first = 0.5 if config.method == "cem" else 1 / (1 + math.exp(-config.temperature))
    frequencies = [[0, 0, 1, 0, 1], [first, 1 - first, 0, 1 - first, first]]
    mixed = [[0.9 * f + 0.1 / n for f, n in zip(row, (3, 3, 3, 2, 2), strict=True)] for row in frequencies]
    assert planned.mean[0].tolist() == [pytest.approx(row) for row in mixed]
    assert planned.std[0].tolist() == [pytest.approx([math.sqrt(p * (1 - p)) for p in row]) for row in mixed]
    assert planned.value.item() == pytest.approx(2 * first + 1 * (1 - first))
    assert action.tolist() == [[0, 0, 1, 0, 1]]


def test_candidates_are_drawn_with_the_probabilities() -> None:
    search = make_search(make_actions(spaces.MultiDiscrete([3, 2])), Spread())
    mean = torch.tensor([[[0.2, 0.3, 0.5, 0.9, 0.1]]])
    drawn = search.draw(mean, mean, torch.rand(1, 20_000, 1, 2, generator=torch.Generator().manual_seed(0)))
    assert drawn.sum(-1).eq(2).all()
    assert drawn.mean((0, 1, 2)).tolist() == pytest.approx([0.2, 0.3, 0.5, 0.9, 0.1], abs=0.01)


def test_returns_are_discounted_by_what_the_model_says() -> None:
    class Ends(Quadratic):
        """Reward 1, 2, 4; discounts 0.5, then 0: what comes after the end is not counted."""

        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            reward = state["x"][:, 0]
            return {"x": 2 * state["x"]}, reward, torch.where(reward < 2.0, 0.5, action[:, 0])

    sequences = torch.tensor([0.0, 0.25]).view(1, 2, 1, 1).expand(1, 2, 3, 1)
    returns = imagined_returns(Ends(), {"x": torch.ones(1, 1)}, sequences, torch.zeros(1, 2, 3, 0))
    assert returns.tolist() == [[1 + 0.5 * 2, 1 + 0.5 * 2 + 0.125 * 4 - 0.03125 * 64]]


# Streams, noise, policy


def clone(x: Any) -> Any:
    return {name: value.clone() for name, value in x.items()}


@METHODS
@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (2,)), spaces.MultiDiscrete([3, 2])])
def test_streams_together_are_streams_apart(config: PlanConfig, space: spaces.Space) -> None:
    actions = make_actions(space)
    if isinstance(space, spaces.Box):
        model: Any = Quadratic()
        state = {"x": torch.tensor([[0.4, -0.2], [0.1, 0.0], [-0.3, 0.3]])}
    else:
        model = Lock([[2, 1], [0, 1], [1, 0], [2, 0]], actions)
        state = model.begin(3) | {"step": torch.tensor([0, 1, 2])}
    u, begun = uniform(config, actions, 3), clone(state)
    before = plan(model, state, actions, config, uniform(config, actions, 3, seed=1))[1]
    first = torch.tensor([False, True, False])
    action, planned = plan(model, state, actions, config, u, before, first)
    assert all(torch.equal(state[name], begun[name]) for name in state)
    for i in range(3):
        one = slice(i, i + 1)
        alone = Plan(before.mean[one], before.std[one], before.value[one])
        apart, own = plan(
            model, {name: x[one] for name, x in state.items()}, actions, config, u[one], None if i == 1 else alone
        )
        assert torch.equal(apart, action[one])
        assert torch.equal(own.mean, planned.mean[one])
        assert torch.equal(own.std, planned.std[one])
        assert torch.equal(own.value, planned.value[one])


def test_noise_reaches_the_model_once_each() -> None:
    config = replace(MPPI, horizon=2, iterations=3, candidates=4, elites=4, policy_candidates=1)
    used: list[Tensor] = []

    class Recorder(Noisy):
        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            assert noise is not None
            used.append(noise.flatten())
            return super().imagine(state, action, noise)

    proposed: list[Tensor] = []

    def policy(state: State, u: Tensor) -> Tensor:
        proposed.append(u.flatten())
        return 2 * u - 1

    u = uniform(config, BOX, 2, Recorder.noise)
    # 3 iterations of 3 drawn sequences, 1 proposed; the model steps 3 * 4 * 2 times for them and 2 for the policy.
    assert u.shape[1] == 3 * 3 * 2 + 2 + 2 * (3 * 4 * 2 + 2) + 1
    plan(Recorder(), {"x": torch.zeros(2, 1)}, BOX, config, u, policy=policy)
    seen = torch.cat([*used, *proposed]).tolist()
    assert len(seen) == len(set(seen)), "no number is used twice"
    assert set(seen) <= set(u.flatten().tolist())
    # Left are the candidates' own, the choice, and the policy's last step, after which nothing is imagined.
    assert len(seen) == u.numel() - 2 * (3 * 3 * 2 + 1 + 2)


@METHODS
def test_a_policys_candidates_are_followed_in_the_model_and_win_if_they_are_best(config: PlanConfig) -> None:
    """The search is too narrow to leave 0, so that the best action can only come from the policy."""
    config = replace(config, policy_candidates=20, start_std=0.06, min_std=0.05, iterations=2)
    gain = riccati(4)
    visited: list[Tensor] = []

    def policy(state: State, u: Tensor) -> Tensor:
        visited.append(state["x"])
        return -gain * state["x"] + 0.01 * (u - 0.5)

    x = torch.tensor([[0.4], [-0.3]])
    action, planned = plan(Quadratic(), {"x": x}, BOX, config, uniform(config, BOX, 2), policy=policy)
    assert action.tolist() == [pytest.approx(each, abs=0.02) for each in (-gain * x).tolist()]
    assert [each.shape for each in visited] == [(40, 1)] * 4
    assert visited[1][:20].flatten().tolist() == pytest.approx([0.4 * (1 - gain / 2)] * 20, abs=0.01)
    without, _ = plan(Quadratic(), {"x": x}, BOX, replace(config, policy_candidates=0), uniform(CEM, BOX, 2)[:, :1601])
    assert without.abs().max() < 0.3
    assert planned.value.shape == (2,)


# Bounds and warm starts


@METHODS
def test_actions_are_clipped_and_stds_kept_in_bounds(config: PlanConfig) -> None:
    seen: list[Tensor] = []

    class Watched(Quadratic):
        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            seen.append(action)
            return super().imagine(state, action, noise)

    config = replace(config, min_std=0.3, start_std=1.0, max_std=1.0, iterations=10)
    x = torch.tensor([[50.0], [-50.0], [0.0]])
    action, planned = plan(Watched(), {"x": x}, BOX, config, uniform(config, BOX, 3))
    every = torch.cat(seen)
    assert every.min() == -1.0
    assert every.max() == 1.0
    assert action[:2].tolist() == [pytest.approx([-1.0], abs=0.05), pytest.approx([1.0], abs=0.05)]
    assert planned.std.min() >= 0.3
    assert planned.std.max() <= 1.0
    # All elites at the bound: the std would be 0.
    assert planned.std[0, 0].item() == pytest.approx(0.3, abs=0.02)
    narrow = replace(config, min_std=0.0, start_std=0.2, max_std=0.2, iterations=1, elites=200)
    search = make_search(BOX, narrow)
    _, std = search.refit(torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), torch.tensor([[0.5, 0.5]]), torch.zeros(1, 1, 1))
    assert std.item() == pytest.approx(0.2)


def test_probabilities_of_discrete_actions_are_kept_above_their_share() -> None:
    actions = make_actions(spaces.Discrete(3))
    lock, config = Lock([[2], [0], [1], [2]], actions), replace(CEM, mix=0.3, iterations=12)
    _, planned = plan(lock, lock.begin(1), actions, config, uniform(config, actions, 1))
    assert planned.mean.min().item() == pytest.approx(0.1)
    assert planned.mean.sum(-1).flatten().tolist() == pytest.approx([1.0] * 4)


def test_a_warm_start_is_shifted_and_begins_anew_where_an_episode_does() -> None:
    search, last = make_search(BOX, MPPI), torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).unsqueeze(-1)
    device = torch.device("cpu")
    mean, std = search.start(2, 3, device, last, None)
    assert mean.squeeze(-1).tolist() == [pytest.approx([0.2, 0.3, 0.0]), pytest.approx([0.5, 0.6, 0.0])]
    assert std.flatten().tolist() == [2.0] * 6
    mean, _ = search.start(2, 3, device, last, torch.tensor([True, False]))
    assert mean.squeeze(-1).tolist() == [[0.0, 0.0, 0.0], pytest.approx([0.5, 0.6, 0.0])]
    mean, _ = search.start(2, 3, device, None, None)
    assert mean.squeeze(-1).tolist() == [[0.0] * 3] * 2


def test_a_warm_start_of_discrete_actions_is_shifted_and_half_uniform() -> None:
    search = make_search(make_actions(spaces.Discrete(2)), MPPI)
    last = torch.tensor([[[1.0, 0.0], [0.2, 0.8], [0.0, 1.0]]])
    mean, _ = search.start(1, 3, torch.device("cpu"), last, None)
    assert mean[0].tolist() == [pytest.approx([0.35, 0.65]), pytest.approx([0.25, 0.75]), [0.5, 0.5]]


def test_a_warm_start_finds_what_a_short_search_does_not() -> None:
    """One iteration with a narrow std stays near where it begins: near 0 if anew, near the last plan if not."""
    config = replace(MPPI, iterations=1, start_std=0.05)
    state, u = {"x": torch.tensor([[0.4], [0.4]])}, uniform(config, BOX, 2)
    before = Plan(torch.full((2, 4, 1), -0.5), torch.zeros(2, 4, 1), torch.zeros(2))
    _, planned = plan(Quadratic(), state, BOX, config, u, before, torch.tensor([False, True]))
    assert planned.mean[0, 0].item() == pytest.approx(-0.5, abs=0.15)
    assert planned.mean[1, 0].item() == pytest.approx(0.0, abs=0.15)


# NaN, static shapes, refusals


@METHODS
def test_candidates_without_a_return_rank_last(config: PlanConfig) -> None:
    class Holes(Quadratic):
        """NaN where the first action is positive, which is where the best one of x = -0.3 is."""

        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            state, reward, discount = super().imagine(state, action, noise)
            return state, torch.where(action[:, 0] > 0.0, torch.nan, reward), discount

    config = replace(config, horizon=1)
    x = torch.tensor([[0.4], [-0.3]])
    action, planned = plan(Holes(), {"x": x}, BOX, config, uniform(config, BOX, 2))
    assert planned.mean[0].item() == pytest.approx(-riccati(1) * 0.4, abs=0.05)
    assert action[1].item() == pytest.approx(0.0, abs=0.2)
    assert planned.value.isfinite().all()


def test_elites_without_a_return_weigh_nothing_with_mppi_and_spoil_a_mean_of_cem() -> None:
    class Hole(Quadratic):
        """NaN but for first actions beyond 0.95, which few candidates of the first iteration have."""

        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            state, reward, discount = super().imagine(state, action, noise)
            return state, torch.where(action[:, 0] < 0.95, torch.nan, reward), discount

    state = {"x": torch.tensor([[-0.5]])}
    config = replace(MPPI, horizon=1, iterations=1, elites=190)
    action, planned = plan(Hole(), state, BOX, config, uniform(config, BOX, 1))
    assert action.item() >= 0.95
    assert planned.mean.item() >= 0.95
    assert planned.value.isfinite().all()
    config = replace(CEM, horizon=1, iterations=1, elites=190)
    action, planned = plan(Hole(), state, BOX, config, uniform(config, BOX, 1))
    assert action.isnan().all()
    assert planned.value.isnan().all()


@METHODS
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(2)])
def test_a_broken_model_is_seen(config: PlanConfig, iterations: int, space: spaces.Space) -> None:
    class Broken(Quadratic):
        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            rows = torch.full((len(action),), torch.nan)
            return state, rows, rows

    actions, config = make_actions(space), replace(config, iterations=iterations)
    state = {"x": torch.zeros(2, 1)}
    action, planned = plan(Broken(), state, actions, config, uniform(config, actions, 2))
    assert action.isnan().all()
    assert planned.value.isnan().all()


@METHODS
@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (2,)), spaces.MultiDiscrete([3, 2])])
def test_planning_is_static_and_never_waits(config: PlanConfig, space: spaces.Space) -> None:
    actions, model = make_actions(space), Quadratic()
    traces, before = [], None
    for seed in range(4):
        size = actions.size
        state = {"x": torch.randn(2, size, generator=torch.Generator().manual_seed(seed))}
        u = uniform(config, actions, 2, seed=seed)
        with Watch() as watch:
            _, before = plan(model, state, actions, config, u, before, torch.tensor([True, False]))
        traces.append(watch.trace)
    assert len(traces[1]) > 100
    assert traces[1] == traces[2] == traces[3]
    assert [name for name, _ in traces[1] if name in WAITING] == []


def test_no_gradient_is_kept() -> None:
    x = torch.tensor([[0.4]], requires_grad=True)
    action, planned = plan(Quadratic(), {"x": x}, BOX, CEM, uniform(CEM, BOX, 1))
    assert not action.requires_grad
    assert not planned.mean.requires_grad


def test_the_papers_settings() -> None:
    assert (PLANET.horizon, PLANET.iterations, PLANET.candidates, PLANET.elites) == (12, 10, 1000, 100)
    assert (PLANET.start_std, PLANET.min_std**2, PLANET.floor) == (1.0, pytest.approx(1e-6), "added")
    default = PlanConfig()
    assert (default.horizon, default.iterations, default.candidates, default.elites) == (3, 6, 512, 64)
    assert (default.temperature, default.policy_candidates, default.momentum) == (0.5, 24, 0.0)
    assert (default.start_std, default.min_std, default.max_std, default.floor) == (2.0, 0.05, 2.0, "clamp")
    assert plan_noise(PLANET, BOX) == 10 * 1000 * 12 + 1


def test_what_does_not_fit_is_refused() -> None:
    state, u = {"x": torch.zeros(2, 1)}, uniform(CEM, BOX, 2)
    with pytest.raises(ValueError, match=r"u must be \[B, 4801\]"):
        plan(Quadratic(), state, BOX, CEM, u[:, 1:])
    with pytest.raises(ValueError, match="2 streams"):
        plan(Quadratic(), {"x": torch.zeros(1, 1)}, BOX, CEM, u)
    with pytest.raises(ValueError, match="no policy with policy_candidates 5"):
        plan(Quadratic(), state, BOX, replace(CEM, policy_candidates=5), u[:, : 6 * 195 * 4 + 5 * 4 + 1])
    with pytest.raises(ValueError, match="a policy with policy_candidates 0"):
        plan(Quadratic(), state, BOX, CEM, u, policy=lambda state, u: u)
    with pytest.raises(ValueError, match="last plan"):
        plan(Quadratic(), state, BOX, CEM, u, Plan(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), torch.zeros(2)))

    class Wide(Quadratic):
        def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
            state, reward, discount = super().imagine(state, action, noise)
            return state, reward.unsqueeze(-1), discount

    with pytest.raises(ValueError, match="rewards and discounts"):
        plan(Wide(), state, BOX, CEM, u)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "random"}, "method"),
        ({"horizon": 0}, "horizon"),
        ({"iterations": 0}, "iterations"),
        ({"elites": 0}, "elites"),
        ({"elites": 513}, "elites"),
        ({"policy_candidates": 512}, "policy_candidates"),
        ({"policy_candidates": -1}, "policy_candidates"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"method": "cem"}, "temperature"),
        ({"min_std": -0.1}, "min_std"),
        ({"start_std": 3.0}, "start_std"),
        ({"start_std": 0.0, "min_std": 0.0}, "start_std"),
        ({"floor": "soft"}, "floor"),
        ({"momentum": 1.0}, "momentum"),
        ({"mix": 1.5}, "mix"),
    ],
)
def test_what_no_plan_can_be_made_with(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PlanConfig(), **change)


# Values that are drawn


class Drawn(Quadratic):
    """Its value is the first of its own numbers, times the sum of those that a stream's candidates share."""

    value_noise = (2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Tensor, Tensor]] = []

    def drawn_value(self, state: State, own: Tensor, shared: Tensor) -> Tensor:
        self.asked.append((own, shared))
        return own[:, 0] * shared.sum(-1)


def test_values_are_drawn_anew_in_every_iteration_and_share_within_a_stream() -> None:
    config, model, x = replace(MPPI, horizon=2, iterations=3, candidates=8, elites=2), Drawn(), torch.zeros(2, 1)
    plain, all_noise = plan_noise(config, BOX), plan_noise(config, BOX, 0, model.value_noise)
    assert all_noise == plain + 3 * 8 * 2 + 3 * 3
    u = torch.rand(2, all_noise, generator=torch.Generator().manual_seed(0))
    plan(model, {"x": x}, BOX, config, u)
    assert len(model.asked) == 3
    numbers = []
    for own, shared in model.asked:
        assert own.shape == (16, 2)
        assert shared.shape == (16, 3)
        each = shared.view(2, 8, 3)
        assert torch.equal(each, each[:, :1].expand(-1, 8, -1))
        numbers += [*own.flatten().tolist(), *each[:, 0].flatten().tolist()]
    assert len(set(numbers)) == len(numbers) == 3 * (32 + 6)
    with pytest.raises(ValueError, match=f"u must be .B, {all_noise}. uniform numbers"):
        plan(model, {"x": x}, BOX, config, u[:, :plain])


def test_a_drawn_value_is_part_of_the_return() -> None:
    """r_1 + d r_2 + d^2 V with V of the numbers: of two streams apart and together."""
    model, x = Drawn(), torch.tensor([[0.4], [-0.2]])
    g = torch.Generator().manual_seed(1)
    candidates, own, shared = torch.rand(2, 3, 2, 1, generator=g), torch.rand(2, 3, 2, generator=g), torch.rand(2, 3)
    found = imagined_returns(model, {"x": x}, candidates, None, own, shared)
    for b in range(2):
        for n in range(3):
            y, total, weight = float(x[b]), 0.0, 1.0
            for a in candidates[b, n, :, 0].tolist():
                y += a / 2
                total -= weight * (y**2 + 0.1 * a**2)
                weight *= 0.9
            total += weight * float(own[b, n, 0] * shared[b].sum())
            assert found[b, n].item() == pytest.approx(total, abs=1e-5)
