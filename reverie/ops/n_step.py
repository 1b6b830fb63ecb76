"""Uncorrected n-step targets in parts: what was earned, and where and with which weight to bootstrap.

`reverie.ops.returns` gives finished targets. A distribution, or a value on another scale, needs the parts::

    target_t = earned_t + discount_t * boot[t + ahead_t]

    row        t      t+1     t+2     t+3             n = 3
    reward     .      r_1     r_2     r_3             earned_t = r_1 + gamma r_2 + gamma^2 r_3
                                      boot            ahead_t = 3, discount_t = gamma^3
    is_last    0       0       1                      ahead_t = 2, discount_t = gamma^2, or 0 if that row is_terminal
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from reverie.ops.precision import full


@dataclass(frozen=True)
class NStep:
    """Parts of n-step targets of `rows` rows, each [rows, B]; of rows with is_last they mean nothing.

    earned: discounted rewards before the bootstrap. discount: weight of the bootstrap, 0 if the episode really ended.
    ahead: int64, rows from t to the row that is bootstrapped from.
    """

    earned: Tensor
    discount: Tensor
    ahead: Tensor

    def pick(self, values: Tensor) -> Tensor:
        """The entries of values [T+1, B, ...] at the rows to bootstrap from, [rows, B, ...]."""
        rows, batch = self.ahead.shape
        return values.flatten(0, 1).index_select(0, self._places).unflatten(0, (rows, batch))

    @cached_property
    def _places(self) -> Tensor:
        """Of the rows to bootstrap from among rows laid end to end, int64 [rows * B]."""
        rows, batch = self.ahead.shape
        # Row t of stream b is entry t * B + b, and so is row t + ahead, ahead * B entries later.
        here = torch.arange(rows * batch, device=self.ahead.device)
        return here + batch * self.ahead.flatten()


def n_step(
    reward: Tensor,
    is_last: Tensor,
    is_terminal: Tensor,
    gamma: float,
    n: int,
    rows: int,
    fewer: Tensor | None = None,
) -> NStep:
    """Parts of the targets of the first `rows` rows; earned + discount * boot is `n_step_returns`.

    reward, is_last (bool), is_terminal (bool): [T+1, B], reward[t] earned on arriving at row t and not read where the
    row before is_last. gamma: in [0, 1]. n: at least 1; returns end at is_last rows and at row T at the latest.
    fewer: int64 [], in 1..n: as many steps instead, without a change of shapes (None: n).
    Raises ValueError if the shapes differ, n < 1, or rows > T.
    Source: Hessel et al. 2018 (Rainbow), "Multi-step learning"; Kapturowski et al. 2019 (R2D2), section 2.3.
    """
    shapes = {tuple(x.shape) for x in (reward, is_last, is_terminal)}
    if len(shapes) > 1:
        raise ValueError(f"rows must be aligned, all of one shape [T+1, B]; got {sorted(shapes)}")
    time = reward.shape[0] - 1
    if n < 1 or not 1 <= rows <= time:
        raise ValueError(f"expected n >= 1 and 1 <= rows <= {time}, got n = {n} and rows = {rows}")
    reward, n = full(reward), min(n, time)
    alive = (~is_terminal.bool()).to(reward.dtype)
    if n == 1 and fewer is None:
        goes = ~is_last.bool()[:rows]
        earned, ahead = torch.where(goes, reward[1 : rows + 1], 0.0), goes.long()
        parts = NStep(earned, torch.where(goes, reward.new_full((), gamma), 1.0), ahead)
        return replace(parts, discount=parts.discount * parts.pick(alive))
    # From row T nothing goes on. goes[t, :, k]: the step from row t + k to the next is among those of row t.
    ends = torch.cat([is_last.bool()[:-1], torch.ones_like(is_last[:1], dtype=torch.bool).expand(n, -1)])
    goes = ends.unfold(0, n, 1)[:rows].cumsum(-1) == 0
    if fewer is not None:
        goes = goes & (torch.arange(n, device=goes.device) < fewer)
    powers = gamma ** torch.arange(n + 1, dtype=reward.dtype, device=reward.device)
    arrived = torch.cat([reward[1:], torch.zeros_like(reward[:1]).expand(n, -1)]).unfold(0, n, 1)[:rows]
    earned = (torch.where(goes, arrived, 0.0) * powers[:n]).sum(-1)
    ahead = goes.sum(-1)
    parts = NStep(earned, powers[ahead], ahead)
    return replace(parts, discount=parts.discount * parts.pick(alive))
