"""Ape-X DQN: many actors, each exploring in its own way, fill one prioritised replay; one learner draws from it.

    target_t = R_n + gamma^n Q'(o_{t+n}, a*),    a* = arg max_a Q(o_{t+n}, a)
    loss     = w_t 1/2 (target_t - Q(o_t, a_t))^2
    priority = |target_t - Q(o_t, a_t)|        by the actor's own values when a row enters, by the learner's afterwards
    eps_i    = eps^(1 + alpha i / (N - 1))     of stream i of N, for the whole of training

The update is DQN's with `double`, `dueling`, `n_step` and the squared error; what the paper adds is where priorities
come from and how actors differ. First priorities that are the actors' matter because most rows are drawn about once:
with "the largest so far" the newest rows would crowd out all others, whatever they are worth.

Source: Horgan, Quan, Budden, Barth-Maron, Hessel, van Hasselt, Silver, "Distributed Prioritized Experience Replay",
ICLR 2018 (arXiv 1803.00933), section 3, algorithms 1 and 2, appendix C. Parent: DQN. Hook: none but defaults.

Runs with `--actors N` as published, actors in processes of their own (docs/distributed.md), or beside the learner with
as many streams. Differs from the paper in: the replay is a ring per stream, whose oldest row goes when a new one comes,
where the paper lets it overshoot and trims it every 100 updates; until learning begins actors play at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from reverie.agents.dqn import DQN, DQNConfig
from reverie.agents.exploration import Exploration
from reverie.nets.optim import OptimConfig
from reverie.nets.values import LossKind


@dataclass(frozen=True)
class ApeXConfig(DQNConfig):
    """Defaults are the paper's (section 3.1, appendix C): three steps, the squared error, centred RMSProp, gradients
    clipped to a norm of 40.
    """

    n_step: int = 3
    gamma: float = 0.99
    double: bool = True
    loss: LossKind = "squared"
    dueling: bool = True
    target_every: int = 2500
    actor_priorities: bool = True
    beta: float = 0.4
    explore: Exploration = field(default_factory=lambda: Exploration(kind="ladder", evaluation=0.0))
    opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(kind="rmsprop", lr=2.5e-4 / 4, eps=1.5e-7, clip=40.0, shrink=0.0)
    )


class ApeX(DQN):
    """DQN's recipe with the defaults above."""

    config: ApeXConfig
    Config: ClassVar[type] = ApeXConfig
    learners: ClassVar[bool] = True
