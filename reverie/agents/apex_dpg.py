"""Ape-X DPG: Ape-X for continuous actions, with the deterministic policy gradient in place of a maximum over actions.

    target_t = R_n + gamma^n (1 - terminal) Q'(o_{t+n}, pi'(o_{t+n}))
    critic   = w_t (target_t - Q(o_t, a_t))^2 / 2
    actor    : ascends clip(dQ(o_t, a)/da at a = pi(o_t), -1, 1), entry by entry, through pi
    priority = |target_t - Q(o_t, a_t)|        by the actor's own values when a row enters, by the learner's afterwards
    acting   : clip(pi(o) + N(0, 0.3^2), -1, 1), the same deviation for every stream

::

    rows     | lookback (k-1) | learn | lookahead (n) |       a window, as DQN's
    online                      Q(o_t, a_t), pi(o_t)
    target                                    Q'(o_{t+n}, pi'(o_{t+n}))

Source: Horgan et al., "Distributed Prioritized Experience Replay", ICLR 2018 (arXiv 1803.00933), section 3.2 and
appendix D; Lillicrap et al. 2016 (DDPG), algorithm 1. Parents: DDPG for its equations, `reverie.agents.apex` for its
replay.

The actor's loss is averaged over rows without importance weights, which the paper writes for neither (acme's D4PG does
the same). The paper's text names tanh after the first hidden layer only; here it follows every one.
Differs from the paper in: the oldest row of a stream goes when a new one comes; the paper trims the replay at random
by inverse priorities (exponent -0.4); until learning begins actors play at random.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Agent, Learner, placed
from reverie.agents.bellman import Bellman
from reverie.agents.dpg_policy import Actor, Critic, DPGPolicy
from reverie.agents.exploration import ActionNoise
from reverie.agents.inputs import Stacks
from reverie.agents.noise import Tape
from reverie.agents.recurrent import start_state
from reverie.agents.replayed import ReplayedConfig, average, copy_if_due, importance, windows_ahead
from reverie.data.rows import observations
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.nets.actions import ContinuousActions, make_actions
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.torsos import Torso, TorsoConfig
from reverie.ops import world
from reverie.values import Count


@dataclass(frozen=True)
class ApeXDPGConfig(ReplayedConfig):
    """Settings; defaults are the paper's (appendix D), on vectors.

    stack: frames that the networks see at a time; images only. torso: of the actor and of the critic, each its own.
    actor_units, critic_units: of the hidden layers after it. act: after each of them.
    slope_clip: bound of each entry of dQ/da (inf: none).
    explore: noise on actions in training. opt, actor_opt: of the critic and of the actor.
    """

    n_step: int = 5
    reward: str = "identity"
    target_every: int = 100
    actor_priorities: bool = True
    beta: float = 0.4
    stack: Count = 1
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(layers=0))
    actor_units: tuple[Count, ...] = (300, 200)
    critic_units: tuple[Count, ...] = (400, 300)
    act: str = "tanh"
    slope_clip: float = 1.0
    explore: ActionNoise = field(default_factory=ActionNoise)
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-8, clip=float("inf"), shrink=0.0))
    actor_opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-8, clip=float("inf"), shrink=0.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stack < 1:
            raise ValueError(f"stack must be at least 1, got {self.stack}")
        if self.slope_clip <= 0.0:
            raise ValueError(f"slope_clip must be positive, got {self.slope_clip}")


class ApeXDPGLearner(Learner):
    """Learner of two groups in one backward pass: ``critic`` and ``actor``, none of which reaches the other."""

    policy: DPGPolicy

    def __init__(
        self,
        agent: ApeXDPG,
        policy: DPGPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config, self.bellman = agent.config, policy.bellman
        self.target_actor = copy.deepcopy(policy.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(policy.critic).requires_grad_(False)
        for older in (self.target_actor, self.target_critic):  # no copy of what all read lags behind
            older.torso.statistics = policy.critic.torso.statistics
        olds = (*self.target_actor.parameters(), *self.target_critic.parameters())
        news = (*policy.actor.parameters(), *policy.critic.parameters())
        self.pairs = list(zip(olds, news, strict=True))
        self.optimisers = {
            "critic": Optimiser(policy.critic.parameters(), self.config.opt),
            "actor": Optimiser(policy.actor.parameters(), self.config.actor_opt),
        }

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Generator[dict[str, Tensor], None, Feedback]:
        """Losses of both groups at once; priorities go back to the replay."""
        rows = {name: value[self.windows.context :] for name, value in batch.rows.items()}
        self.policy.critic.torso.adapt({key: value[0] for key, value in observations(rows).items()})
        learn = self.windows.learn
        valid = self.bellman.trained(rows, learn)
        parts = self.bellman.target_parts(rows, learn, self.policy.version)
        nothing = Tape(self.policy.version.new_empty(0))
        obs, _ = self.policy.stacks.unroll(*start_state(self.policy, batch, self.windows, nothing))
        here = {name: value[:learn] for name, value in obs.items()}
        with torch.no_grad(), self.autocast():
            ahead = {name: parts.pick(value) for name, value in obs.items()}
            target = parts.earned + parts.discount * self.target_critic(ahead, self.target_actor(ahead))
        with self.autocast():
            q = self.policy.critic(here, self.policy.actions.encode(rows["action"][:learn]))
        error = target - q
        weights = importance(batch.probabilities, self.config.exponent(self.policy.version))
        critic = average(0.5 * error.square(), valid, weights)
        actor = self.actor_loss(here, valid, metrics)
        with torch.no_grad():
            error = torch.where(valid, error.detach(), 0.0)
            metrics["q"] = q.mean()
            metrics["td_error"] = world.ratio(error.abs().sum(), valid)
            metrics["importance"] = weights.mean()
        yield {"critic": critic, "actor": actor}
        copy_if_due(self.pairs, self.policy.version, self.config.target_every)
        return Feedback(batch.keys, priorities=self.bellman.priorities(error, valid))

    def actor_loss(self, obs: dict[str, Tensor], valid: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """A number whose gradient is minus the clipped slope of Q at pi(o), through pi: mean over valid rows of
        -slope . pi(o), the slope held fixed."""
        with self.autocast():
            action = self.policy.actor(obs)
            leaf = action.detach().requires_grad_()
            value = self.policy.critic(obs, leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        bound = self.config.slope_clip
        clipped = slope.clamp(-bound, bound)
        metrics["slope"] = slope.abs().mean()
        metrics["action_size"] = leaf.detach().abs().mean()
        each = torch.where(valid, -(clipped * action).sum(-1), 0.0)
        return world.ratio(each.sum(), valid)

    def metrics(self) -> dict[str, float]:
        """Numbers about the learner: its learning rates, n and beta."""
        version = self.policy.version
        own = {"n_step": int(self.bellman.steps(version)), "beta": float(self.config.exponent(version))}
        return super().metrics() | own


class ApeXDPG(Agent):
    """Recipe of Ape-X DPG, for continuous actions."""

    config: ApeXDPGConfig
    Config: ClassVar[type] = ApeXDPGConfig
    learners: ClassVar[bool] = True
    priorities: ClassVar[bool] = True
    Learner: ClassVar[type[ApeXDPGLearner]] = ApeXDPGLearner

    def __post_init__(self) -> None:
        if not isinstance(self.env.action, spaces.Box):
            raise ValueError(f"this agent needs continuous actions (a Box), got {self.env.action!r}")

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows with n rows to bootstrap from, see `windows_ahead`."""
        return windows_ahead(asked, Stacks(self.env.observation, self.config.stack), self.config.n_step)

    def policy(self) -> DPGPolicy:
        """Policy that acts with fresh networks."""
        config, observation = self.config, self.env.observation
        actions = make_actions(self.env.action)
        assert isinstance(actions, ContinuousActions)
        actor = Actor(Torso(observation, config.torso, config.stack), actions.size, config.actor_units, config.act)
        critic = Critic(Torso(observation, config.torso, config.stack), actions.size, config.critic_units, config.act)
        stacks = Stacks(observation, config.stack)
        parts = (placed(actor), placed(critic), actions, stacks)
        return DPGPolicy(*parts, config.explore, Bellman(config), config.actor_priorities)
