"""Planning against the optimum of a linear-quadratic task, which a Riccati recursion gives: TD-MPC, TD-MPC2, PlaNet.

::

    x' = A x + B a        cost x'^T Q x' + r a^2        least cost from x on: x^T P x, of which no planner is told but
                                                         as the value after its horizon

    S = Q + P,    K = B^T S A / (r + B^T S B),    P <- A^T S A - A^T S B K        until it stays
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.plan import PLANET, TDMPC, PlanConfig, plan, plan_noise
from reverie.data.rows import State
from reverie.nets.actions import make_actions

A, B = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([0.05, 0.4])
Q, R = np.diag([1.0, 0.1]), 0.3
SCALE = 10.0
"""rewards per cost: weights of elites are exp(return / 2)"""
STEPS = 8
BOX = make_actions(spaces.Box(-1.0, 1.0, (1,)))
STARTS = np.array([[0.7, 0.0], [-0.7, 0.3], [0.4, -0.6], [0.0, 0.7], [-0.3, -0.4], [0.8, -0.7]])
PLANNERS = {
    "tdmpc": replace(TDMPC, candidates=512, policy_candidates=0),
    "tdmpc2": PlanConfig(policy_candidates=0),
    "planet": PLANET,
}


@cache
def riccati() -> tuple[np.ndarray, np.ndarray]:
    """P, and the gain K of the best action -K x."""
    p, k = np.zeros((2, 2)), np.zeros(2)
    for _ in range(500):
        s = Q + p
        k = B @ s @ A / (R + B @ s @ B)
        p = A.T @ s @ A - np.outer(A.T @ s @ B, k)
    return p, k


class Linear:
    """The task as a model of itself."""

    noise = 0

    def __init__(self) -> None:
        self.a, self.b, self.q, self.p = (torch.from_numpy(m).float() for m in (A, B, Q, riccati()[0]))

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        x = state["x"] @ self.a.T + action * self.b
        cost = ((x @ self.q) * x).sum(-1) + R * action.square().sum(-1)
        return {"x": x}, -SCALE * cost, torch.ones_like(cost)

    def value(self, state: State) -> Tensor:
        return -SCALE * ((state["x"] @ self.p) * state["x"]).sum(-1)


def excess(config: PlanConfig) -> float:
    """Cost above the optimum, as a share of it, of `STEPS` decisions from all starts and the best ones after them.

    MPPI begins each search at its last plan, CEM anew. No noise is added to what is decided.
    """
    p, _ = riccati()
    x, cost, before = STARTS.copy(), np.zeros(len(STARTS)), None
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        u = torch.rand(len(x), plan_noise(config, BOX), generator=generator)
        action, planned = plan(Linear(), {"x": torch.from_numpy(x).float()}, BOX, config, u, before)
        before = planned if config.method == "mppi" else None
        a = action.double().numpy()
        x = x @ A.T + a * B
        cost += np.einsum("ni,ij,nj->n", x, Q, x) + R * a[:, 0] ** 2
    cost += np.einsum("ni,ij,nj->n", x, p, x)
    return float(cost.sum() / np.einsum("ni,ij,nj->n", STARTS, p, STARTS).sum() - 1.0)


def test_the_optimum_is_one() -> None:
    """No action in its neighbourhood is better, and all of the best are within the bounds."""
    p, k = riccati()
    for x in STARTS:
        best = float(-k @ x)
        assert abs(best) < 1.0
        worth = []
        for a in (best - 0.01, best, best + 0.01):
            after = A @ x + B * a
            worth.append(after @ (Q + p) @ after + R * a * a)
        assert worth[1] == pytest.approx(x @ p @ x)
        assert worth[1] < min(worth[0], worth[2])


@pytest.mark.parametrize("name", list(PLANNERS))
def test_a_planner_comes_within_one_percent_of_the_optimum(name: str) -> None:
    """With the published numbers. One iteration of them is not enough."""
    config = PLANNERS[name]
    assert -1e-6 < excess(config) < 0.01
    assert excess(replace(config, iterations=1)) > 0.01
