"""Returns, advantages and targets over row-aligned tensors, time first.

Streams of an environment come as T + 1 rows; reward[t] was earned on arriving at row t. The shift happens here, once::

    row             0        1        2        3        4        5   (= T)
    reward          .       r_1      r_2      r_3       .       r_5      . is never read: the row before it is_last
    is_last         0        0        0        1        0        0
    value          v_0      v_1      v_2      v_3      v_4      v_5      v_3 is read unless row 3 is_terminal
    target         G_0      G_1      G_2       0       G_4               T rows

A return is cut at the first is_last row after t, and at the window's last row T, and bootstraps there from that row's
own value: a time limit and the end of a window stop the data, not the world. Where the row is_terminal it bootstraps
nothing. Rows with is_last have no action and hence no target: theirs is 0. What must not be read may be NaN.
Gradients pass through unless said otherwise; detach targets as the loss wants.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.ops.precision import full


def _check(**rows: Tensor) -> None:
    shapes = {name: tuple(x.shape) for name, x in rows.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"rows must be aligned, all of one shape [T+1, B]; got {shapes}")


def imagined_returns(reward: Tensor, discount: Tensor, value: Tensor, lam: float) -> Tensor:
    """Lambda-returns of imagined states, with the reward on arrival counted in the state's own value.

    R_i = r_i + d_i ((1 - lam) v_{i+1} + lam R_{i+1}),   R_H = v_H,   i = 0 ... H-1.

    reward: [H+1, N] predicted at state i. discount: [H+1, N] predicted gamma times continuation of state i.
    value: [H+1, N] of state i, where the value of a state includes the state's reward. lam: in [0, 1].
    Row H of reward and discount and row 0 of value are not read. Returns [H, N]; gradients pass to all three.
    Source: Hafner et al. 2021 (DreamerV2), equation 4.
    """
    _check(reward=reward, discount=discount, value=value)
    reward, discount, value = full(reward), full(discount), full(value)
    one_step = torch.addcmul(reward[:-1], discount[:-1], value[1:], value=1.0 - lam).unbind(0)
    decay = (discount[:-1] * lam).unbind(0)
    later = value[-1]
    returns: list[Tensor] = []
    for reward_and_value, weight in zip(reversed(one_step), reversed(decay), strict=True):
        later = torch.addcmul(reward_and_value, weight, later)
        returns.append(later)
    return torch.stack(returns[::-1])


def future_returns(reward: Tensor, discount: Tensor, value: Tensor, lam: float) -> Tensor:
    """Lambda-returns of imagined states whose value begins with the reward *after* them.

    R_i = r_{i+1} + d_{i+1} ((1 - lam) v_{i+1} + lam R_{i+1}),   R_H = v_H,   i = 0 ... H-1.

    reward, discount, value: [H+1, N] of state i, as in `imagined_returns`; row 0 of each is not read. Returns [H, N].
    Source: Hafner et al. 2023 (DreamerV3), "Critic learning".
    """
    _check(reward=reward, discount=discount, value=value)
    return imagined_returns(torch.cat([reward[1:], reward[-1:]]), torch.cat([discount[1:], discount[-1:]]), value, lam)


def trajectory_weights(discount: Tensor) -> Tensor:
    """Probability, discounted, that an imagined trajectory still runs at state i: w_0 = 1, w_i = d_0 ... d_{i-1}.

    discount: [H+1, N]; its last row is not read. Returns [H+1, N] without gradient.
    Source: Hafner et al. 2021 (DreamerV2), section 2.2: loss terms are weighted by the cumulative predicted discounts.
    """
    discount = full(discount).detach()
    return torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0)


def n_step_returns(
    reward: Tensor, is_last: Tensor, is_terminal: Tensor, bootstrap: Tensor, gamma: float, n: int
) -> Tensor:
    """Uncorrected n-step targets.

    G_t = sum_{k < m} gamma^k r_{t+k+1} + gamma^m boot_{t+m} (1 - is_terminal_{t+m}),
    m = min(n, rows to the next is_last, rows to the window's end).

    reward, is_last (bool), is_terminal (bool), bootstrap: [T+1, B]; bootstrap is the value of row t under the policy to
    be evaluated (max_a Q, Q of the online arg max, V). gamma: in [0, 1]. n: at least 1.
    Returns [T, B], 0 where is_last.
    Raises ValueError if the shapes differ or n < 1.
    Source: Hessel et al. 2018 (Rainbow), "Multi-step learning"; Kapturowski et al. 2019 (R2D2), section 2.3.
    """
    _check(reward=reward, is_last=is_last, is_terminal=is_terminal, bootstrap=bootstrap)
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    reward, last = full(reward), is_last.bool()[:-1]
    end = torch.where(is_terminal.bool(), 0.0, full(bootstrap))
    # After k rounds: the k-step return. Rows with is_last and row T keep their own value, as if they led to themselves.
    returns = end
    for _ in range(min(n, reward.shape[0] - 1)):
        returns = torch.cat([torch.where(last, end[:-1], reward[1:] + gamma * returns[1:]), end[-1:]])
    return torch.where(last, 0.0, returns[:-1])


def lambda_returns(
    reward: Tensor, is_last: Tensor, is_terminal: Tensor, value: Tensor, gamma: float, lam: float
) -> Tensor:
    """TD(lambda) targets from the value of the row itself.

    G_t = r_{t+1} + gamma ((1 - lam) v_{t+1} + lam G_{t+1}),   where G_{t+1} is v_{t+1} at an is_last row and at the
    window's end, and both count as 0 at an is_terminal row.

    reward, is_last (bool), is_terminal (bool), value: [T+1, B]. gamma, lam: in [0, 1]. Returns [T, B], 0 where is_last.
    Raises ValueError if the shapes differ.
    Source: Sutton & Barto 2018, equation 12.2 in its recursive form.
    """
    _check(reward=reward, is_last=is_last, is_terminal=is_terminal, value=value)
    last = is_last.bool()
    end = torch.where(is_terminal.bool(), 0.0, full(value))
    one_step = full(reward)[1:] + (gamma * (1.0 - lam)) * end[1:]
    later = end[-1]
    returns: list[Tensor] = []
    for t in range(reward.shape[0] - 2, -1, -1):
        later = torch.where(last[t], end[t], one_step[t] + (gamma * lam) * later)
        returns.append(later)
    return torch.where(last[:-1], 0.0, torch.stack(returns[::-1]))


def gae(
    reward: Tensor, is_last: Tensor, is_terminal: Tensor, value: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and the lambda-returns they are advantages of.

    A_t = G_t - v_t = sum_k (gamma lam)^k delta_{t+k},   delta_t = r_{t+1} + gamma v_{t+1} - v_t.

    Arguments as in `lambda_returns`. Returns (advantages, returns), both [T, B], 0 where is_last.
    Source: Schulman et al. 2016, equation 16.
    """
    returns = lambda_returns(reward, is_last, is_terminal, value, gamma, lam)
    return torch.where(is_last.bool()[:-1], 0.0, returns - full(value)[:-1]), returns


def vtrace(
    behaviour_log_prob: Tensor,
    target_log_prob: Tensor,
    reward: Tensor,
    is_last: Tensor,
    is_terminal: Tensor,
    value: Tensor,
    gamma: float,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    lam: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace targets and policy-gradient advantages for actions taken by an older policy.

    rho_t = min(rho_bar, pi/mu),   c_t = lam min(c_bar, pi/mu),
    v_t = V_t + rho_t (r_{t+1} + gamma V_{t+1} - V_t) + gamma c_t (v_{t+1} - V_{t+1}),   v = V at is_last and row T,
    A_t = rho_t (r_{t+1} + gamma v_{t+1} - V_t);   V_{t+1} and v_{t+1} count as 0 where row t+1 is_terminal.

    behaviour_log_prob, target_log_prob: [T+1, B] log-probability of row t's action under mu (acted) and pi (learns);
    row T is not read, nor are rows with is_last, and [T, B] will do.
    reward, is_last (bool), is_terminal (bool), value: [T+1, B]. gamma, lam: in [0, 1].
    rho_bar >= c_bar: truncation levels; rho_bar decides what is estimated, c_bar how fast.
    Returns (targets, advantages), both [T, B] without gradient, 0 where is_last. Raises ValueError if shapes differ.
    Source: Espeholt et al. 2018 (IMPALA), equation 1, remark 1 and 2, and section 4.2.
    """
    _check(reward=reward, is_last=is_last, is_terminal=is_terminal, value=value)
    rows = reward.shape[0] - 1
    log_ratio = (full(target_log_prob)[:rows] - full(behaviour_log_prob)[:rows]).detach()
    if log_ratio.shape != reward[1:].shape:
        raise ValueError(f"log-probabilities must have {rows} or {rows + 1} rows, got {tuple(log_ratio.shape)}")
    reward, value, last = full(reward).detach(), full(value).detach(), is_last.bool()
    terminal = is_terminal.bool()

    ratio = torch.where(last[:-1], 0.0, log_ratio.exp())
    rho, c = ratio.clamp(max=rho_bar), lam * ratio.clamp(max=c_bar)
    alive = torch.where(terminal, 0.0, value)
    delta = torch.where(last[:-1], 0.0, rho * (reward[1:] + gamma * alive[1:] - value[:-1]))
    excess = torch.zeros_like(value[0])
    excesses: list[Tensor] = [excess]
    for t in range(rows - 1, -1, -1):
        excess = delta[t] + gamma * c[t] * excess
        excesses.append(excess)
    targets = alive + torch.stack(excesses[::-1])
    advantages = rho * (reward[1:] + gamma * targets[1:] - value[:-1])
    return torch.where(last[:-1], 0.0, targets[:-1]), torch.where(last[:-1], 0.0, advantages)
