"""Returns against hand-worked values, slow loops over random streams, and each other."""

import math

import pytest
import torch
from torch import Tensor

from reverie.ops import returns as R

NAN = float("nan")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def stream(seed: int, rows: int = 13, batch: int = 8, poison: bool = True) -> dict[str, Tensor]:
    """Random rows with terminal ends and time limits; what must not be read is NaN."""
    generator = seeded(seed)
    kind = torch.rand(rows, batch, generator=generator)
    terminal, last = kind < 0.12, kind < 0.3
    reward = torch.randn(rows, batch, generator=generator, dtype=torch.float64)
    value = torch.randn(rows, batch, generator=generator, dtype=torch.float64)
    if poison:
        reward[0] = NAN
        reward[1:][last[:-1]] = NAN
        value[terminal] = NAN
    return {"reward": reward, "is_last": last, "is_terminal": terminal, "value": value}


def every(rows: dict[str, Tensor], cell) -> Tensor:
    """cell(reward, is_last, is_terminal, value, t) of plain lists, for every target; 0 where is_last."""
    columns = []
    for b in range(rows["reward"].shape[1]):
        lists = [rows[k][:, b].tolist() for k in ("reward", "is_last", "is_terminal", "value")]
        columns.append([0.0 if lists[1][t] else cell(*lists, t) for t in range(len(lists[0]) - 1)])
    return torch.tensor(columns, dtype=torch.float64).T


def slow_n_step(reward, is_last, is_terminal, value, t, gamma, n):
    total, k = 0.0, 0
    while k < n and t + k < len(reward) - 1:
        total += gamma**k * reward[t + k + 1]
        k += 1
        if is_last[t + k]:
            break
    return total if is_terminal[t + k] else total + gamma**k * value[t + k]


def slow_lambda(reward, is_last, is_terminal, value, t, gamma, lam):
    """The forward view: (1 - lam) sum_n lam^(n-1) G^(n), the longest return taking the remaining weight."""
    length = 1
    while t + length < len(reward) - 1 and not is_last[t + length]:
        length += 1
    total = lam ** (length - 1) * slow_n_step(reward, is_last, is_terminal, value, t, gamma, length)
    for n in range(1, length):
        total += (1 - lam) * lam ** (n - 1) * slow_n_step(reward, is_last, is_terminal, value, t, gamma, n)
    return total


# --- by hand --------------------------------------------------------------------------------------


def hand() -> dict[str, Tensor]:
    # A time limit at row 3; row 4 opens the next episode.
    return {
        "reward": column(NAN, 1.0, 2.0, 3.0, NAN, 5.0),
        "is_last": column(0, 0, 0, 1, 0, 0).bool(),
        "is_terminal": column(0, 0, 0, 0, 0, 0).bool(),
        "value": column(10.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    }


def n_step(rows: dict[str, Tensor], gamma: float, n: int) -> Tensor:
    return R.n_step_returns(rows["reward"], rows["is_last"], rows["is_terminal"], rows["value"], gamma, n)


def test_n_step_by_hand():
    expected = column(1 + 0.5 * 2 + 0.25 * 30, 2 + 0.5 * 3 + 0.25 * 40, 3 + 0.5 * 40, 0, 5 + 0.5 * 60)
    torch.testing.assert_close(n_step(hand(), 0.5, 2), expected)


def test_n_step_does_not_bootstrap_a_terminal_row():
    rows = hand() | {"is_terminal": hand()["is_last"]}
    rows["value"][3] = NAN
    expected = column(1 + 0.5 * 2 + 0.25 * 30, 2 + 0.5 * 3, 3, 0, 5 + 0.5 * 60)
    torch.testing.assert_close(n_step(rows, 0.5, 2), expected)


def test_lambda_returns_and_gae_by_hand():
    rows = hand()
    g2 = 3 + 0.5 * 40
    g1 = 2 + 0.5 * (0.2 * 30 + 0.8 * g2)
    g0 = 1 + 0.5 * (0.2 * 20 + 0.8 * g1)
    expected = column(g0, g1, g2, 0, 5 + 0.5 * 60)
    torch.testing.assert_close(R.lambda_returns(**rows, gamma=0.5, lam=0.8), expected)
    advantages, returns = R.gae(**rows, gamma=0.5, lam=0.8)
    torch.testing.assert_close(returns, expected)
    torch.testing.assert_close(advantages, column(g0 - 10, g1 - 20, g2 - 30, 0, 35 - 50))


def test_imagined_returns_by_hand():
    reward, discount = column(1.0, 2.0, NAN), column(0.9, 0.5, NAN)
    value = column(NAN, 10.0, 20.0)
    r1 = 2 + 0.5 * 20
    r0 = 1 + 0.9 * (0.25 * 10 + 0.75 * r1)
    torch.testing.assert_close(R.imagined_returns(reward, discount, value, 0.75), column(r0, r1))


def test_trajectory_weights_by_hand():
    discount = column(0.9, 0.5, 0.0, NAN).requires_grad_()
    weights = R.trajectory_weights(discount)
    torch.testing.assert_close(weights, column(1.0, 0.9, 0.45, 0.0))
    assert not weights.requires_grad


def test_vtrace_published_example():
    # One column of the reference implementation's own test: v - V for discounts 0, .89, .85, .99.
    ratio = torch.tensor([0.47515, 22.31222, 0.03876, 3.2207], dtype=torch.float64)
    reward, discount = [-1.3, -1.3, 2.3, 42.0], [0.0, 0.89, 0.85, 0.99]
    value = [2.1, 1.1, -3.1, 0.0, 8.4]
    # Discounts vary there, so evaluate it on rewards and values scaled by the running discount, which is equivalent
    # for gamma = 1; a zero discount ends an episode.
    scale = [1.0, 1.0, 0.89, 0.89 * 0.85, 0.89 * 0.85 * 0.99]
    tail = torch.tensor([scale[t] * value[t] for t in range(1, 5)], dtype=torch.float64).unsqueeze(1)
    rewards = torch.tensor([0.0] + [scale[t] * reward[t] for t in range(1, 4)], dtype=torch.float64).unsqueeze(1)
    flags = torch.zeros(4, 1, dtype=torch.bool)
    log_ratio = ratio[1:].log().unsqueeze(1)
    zeros = torch.zeros_like(log_ratio)
    targets, _ = R.vtrace(zeros, log_ratio, rewards, flags, flags, tail, 1.0)
    unscaled = (targets - tail[:-1]) / torch.tensor(scale[1:4], dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(unscaled[:, 0].tolist(), [-3.49732, 1.86705, 50.316], atol=1e-3, rtol=1e-4)
    # Row 0 of the example alone: its discount is 0, the next row is terminal.
    end = torch.tensor([[False], [True]])
    first, _ = R.vtrace(
        torch.zeros(1, 1, dtype=torch.float64),
        ratio[:1].log().unsqueeze(1),
        torch.tensor([[NAN], [reward[0]]], dtype=torch.float64),
        end,
        end,
        torch.tensor([[value[0]], [NAN]], dtype=torch.float64),
        discount[1],
    )
    torch.testing.assert_close(first.item() - value[0], -1.61551, atol=1e-4, rtol=0.0)


# --- slow loops over random streams ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 40])
@pytest.mark.parametrize("seed", range(4))
def test_n_step_against_loop(seed: int, n: int):
    rows = stream(seed)
    slow = every(rows, lambda r, last, term, v, t: slow_n_step(r, last, term, v, t, 0.9, n))
    torch.testing.assert_close(n_step(rows, 0.9, n), slow)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_lambda_returns_and_gae_against_loop(seed: int, lam: float):
    rows = stream(seed)
    slow = every(rows, lambda r, last, term, v, t: slow_lambda(r, last, term, v, t, 0.9, lam))
    torch.testing.assert_close(R.lambda_returns(**rows, gamma=0.9, lam=lam), slow)
    advantages, _ = R.gae(**rows, gamma=0.9, lam=lam)

    def slow_advantage(reward, is_last, is_terminal, value, t):
        total, k = 0.0, 0
        while True:
            after = 0.0 if is_terminal[t + k + 1] else value[t + k + 1]
            total += (0.9 * lam) ** k * (reward[t + k + 1] + 0.9 * after - value[t + k])
            k += 1
            if is_last[t + k] or t + k == len(reward) - 1:
                return total

    torch.testing.assert_close(advantages, every(rows, slow_advantage))


@pytest.mark.parametrize(("rho_bar", "c_bar", "lam"), [(1.0, 1.0, 1.0), (2.0, 0.7, 1.0), (math.inf, 1.5, 0.8)])
@pytest.mark.parametrize("seed", range(4))
def test_vtrace_against_the_sum_of_equation_1(seed: int, rho_bar: float, c_bar: float, lam: float):
    rows = stream(seed)
    generator = seeded(100 + seed)
    mu, pi = torch.randn(2, *rows["reward"].shape, generator=generator, dtype=torch.float64) - 1.0
    ratios = (pi - mu).exp().T.tolist()
    mu[rows["is_last"]] = NAN
    pi[rows["is_last"]] = NAN
    mu[-1] = pi[-1] = NAN
    gamma = 0.9

    def target(reward, is_last, is_terminal, value, t, ratio):
        """V_s + sum_t gamma^(t-s) (prod c) rho_t (r + gamma V(t+1) - V(t)); the value itself at an end."""
        if is_terminal[t]:
            return 0.0
        total, product, k = value[t], 1.0, 0
        while t + k < len(reward) - 1 and not is_last[t + k]:
            after = 0.0 if is_terminal[t + k + 1] else value[t + k + 1]
            step = reward[t + k + 1] + gamma * after - value[t + k]
            total += gamma**k * product * min(rho_bar, ratio[t + k]) * step
            product *= lam * min(c_bar, ratio[t + k])
            k += 1
        return total

    def advantage(reward, is_last, is_terminal, value, t, ratio):
        after = target(reward, is_last, is_terminal, value, t + 1, ratio)
        return min(rho_bar, ratio[t]) * (reward[t + 1] + gamma * after - value[t])

    targets, advantages = R.vtrace(mu, pi, **rows, gamma=gamma, rho_bar=rho_bar, c_bar=c_bar, lam=lam)
    for fast, slow in ((targets, target), (advantages, advantage)):
        for b, ratio in enumerate(ratios):
            one = {name: x[:, b : b + 1] for name, x in rows.items()}
            torch.testing.assert_close(fast[:, b : b + 1], every(one, lambda *a, s=slow, q=ratio: s(*a, q)))
    short, _ = R.vtrace(mu[:-1], pi[:-1], **rows, gamma=gamma, rho_bar=rho_bar, c_bar=c_bar, lam=lam)
    torch.testing.assert_close(short, targets)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_imagined_returns_against_loop(lam: float):
    generator = seeded(1)
    reward, discount, value = torch.rand(3, 16, 7, generator=generator, dtype=torch.float64)
    returns = R.imagined_returns(reward, discount, value, lam)
    for b in range(7):
        later = value[15, b].item()
        for i in reversed(range(15)):
            later = reward[i, b] + discount[i, b] * ((1 - lam) * value[i + 1, b] + lam * later)
            torch.testing.assert_close(returns[i, b], later)


# --- identities -----------------------------------------------------------------------------------


def test_lambda_zero_is_td_zero_is_one_step():
    rows = stream(7)
    torch.testing.assert_close(R.lambda_returns(**rows, gamma=0.97, lam=0.0), n_step(rows, 0.97, 1))


@pytest.mark.parametrize("ends", [True, False])
def test_lambda_one_is_n_step_at_full_length(ends: bool):
    rows = stream(8)
    rows = (
        rows if ends else stream(8, poison=False) | {k: torch.zeros(13, 8).bool() for k in ("is_last", "is_terminal")}
    )
    torch.testing.assert_close(R.lambda_returns(**rows, gamma=0.97, lam=1.0), n_step(rows, 0.97, 12))


def test_lambda_one_of_a_finished_episode_is_monte_carlo():
    reward = column(NAN, 1.0, -2.0, 4.0)
    end = column(0, 0, 0, 1).bool()
    value = column(99.0, -99.0, 77.0, NAN)
    expected = column(1 - 2 * 0.5 + 4 * 0.25, -2 + 4 * 0.5, 4)
    torch.testing.assert_close(R.lambda_returns(reward, end, end, value, 0.5, 1.0), expected)


@pytest.mark.parametrize("lam", [1.0, 0.7])
def test_vtrace_on_policy_is_the_lambda_return(lam: float):
    rows = stream(9)
    log_prob = torch.randn(13, 8, generator=seeded(), dtype=torch.float64)
    targets, advantages = R.vtrace(log_prob, log_prob, **rows, gamma=0.9, lam=lam)
    torch.testing.assert_close(targets, R.lambda_returns(**rows, gamma=0.9, lam=lam))
    if lam == 1.0:
        torch.testing.assert_close(advantages, R.gae(**rows, gamma=0.9, lam=1.0)[0])


def test_vtrace_fixed_point_of_a_bandit():
    # pi = (.9, .1), mu = (.5, .5), rewards (1, 0): the fixed point is .8333 for rho_bar 1 and .9 for rho_bar 2.
    pi, mu = torch.tensor([0.9, 0.1]).double(), torch.tensor([0.5, 0.5]).double()
    reward = torch.tensor([[NAN, NAN], [1.0, 0.0]]).double()
    end = torch.tensor([[False, False], [True, True]])
    for rho_bar, fixed_point in ((1.0, 5 / 6), (2.0, 0.9)):
        value = torch.full((2, 2), fixed_point).double()
        targets, _ = R.vtrace(mu.log()[None], pi.log()[None], reward, end, end, value, 0.9, rho_bar=rho_bar)
        torch.testing.assert_close((mu * (targets[0] - fixed_point)).sum().item(), 0.0, atol=1e-6, rtol=0.0)


def test_imagined_returns_equal_row_returns_with_the_reward_moved():
    # The same trajectory told both ways: value with the reward on arrival is w_i = r_i + gamma v_i.
    generator = seeded(3)
    reward, value = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    gamma = torch.full_like(reward, 0.9)
    flags = torch.zeros(9, 5, dtype=torch.bool)
    rows = R.lambda_returns(reward, flags, flags, value, 0.9, 0.8)
    arrival = R.imagined_returns(reward, gamma, reward + 0.9 * value, 0.8)
    torch.testing.assert_close(arrival[1:], reward[1:-1] + 0.9 * rows[1:])


# --- gradients, dtypes, errors, compilation -------------------------------------------------------


def test_imagined_returns_pass_gradients():
    reward, discount, value = torch.rand(3, 4, 2, generator=seeded(), dtype=torch.float64).unbind(0)
    inputs = [x.clone().requires_grad_() for x in (reward, discount, value)]
    assert torch.autograd.gradcheck(lambda r, d, v: R.imagined_returns(r, d, v, 0.95), inputs)


def test_vtrace_carries_no_gradient():
    rows = stream(0, poison=False)
    rows["value"].requires_grad_()
    log_prob = torch.randn(13, 8, generator=seeded(), dtype=torch.float64, requires_grad=True)
    targets, advantages = R.vtrace(log_prob.detach(), log_prob, **rows, gamma=0.9)
    assert not targets.requires_grad
    assert not advantages.requires_grad


def test_poison_does_not_reach_gradients():
    rows = stream(11)
    value = rows.pop("value").requires_grad_()
    n_step(rows | {"value": value}, 0.9, 3).sum().backward()
    assert value.grad is not None
    assert value.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    rows = {k: x.bfloat16() if x.is_floating_point() else x for k, x in stream(2).items()}
    assert n_step(rows, 0.99, 3).dtype == torch.float32
    assert R.lambda_returns(**rows, gamma=0.99, lam=0.9).dtype == torch.float32


def test_misaligned_rows_and_bad_n_are_refused():
    rows = stream(0)
    with pytest.raises(ValueError, match="aligned"):
        R.lambda_returns(rows["reward"], rows["is_last"], rows["is_terminal"], rows["value"][:-1], 0.9, 0.9)
    with pytest.raises(ValueError, match="n must be"):
        n_step(rows, 0.9, 0)
    with pytest.raises(ValueError, match="log-probabilities"):
        R.vtrace(rows["reward"][:3], rows["reward"][:3], **rows, gamma=0.9)


def test_compiles_without_graph_breaks():
    rows = stream(5)
    log_prob = torch.randn(13, 8, generator=seeded(), dtype=torch.float64)

    def everything(rows: dict[str, Tensor]) -> tuple[Tensor, ...]:
        positive = rows["reward"].abs()
        return (
            n_step(rows, 0.9, 3),
            *R.gae(**rows, gamma=0.9, lam=0.9),
            *R.vtrace(log_prob, log_prob, **rows, gamma=0.9),
            R.imagined_returns(positive, positive, positive, 0.9),
            R.trajectory_weights(positive),
        )

    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    for fast, slow in zip(compiled(rows), everything(rows), strict=True):
        torch.testing.assert_close(fast, slow, equal_nan=True)


def test_future_returns_begin_with_the_next_reward() -> None:
    """R_1 = 3 + 0.5 * 10 = 8;  R_0 = 2 + 0.9 (0.2 * 4 + 0.8 * 8) = 8.48. What belongs to state 0 is not read."""
    reward = torch.tensor([[math.nan], [2.0], [3.0]])
    discount = torch.tensor([[math.nan], [0.9], [0.5]])
    value = torch.tensor([[math.nan], [4.0], [10.0]])
    assert R.future_returns(reward, discount, value, 0.8).flatten().tolist() == pytest.approx([8.48, 8.0])
    with pytest.raises(ValueError, match="must be aligned"):
        R.future_returns(reward, discount[1:], value, 0.8)
