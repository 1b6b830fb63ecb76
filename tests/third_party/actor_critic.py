"""A small on-policy actor-critic, written as by somebody who only has the package: ``actor_critic:ActorCritic``.

Windows of L + 1 rows are used once, in the order in which they are complete (``replay.selector = fifo``, no pacing).
What the policy says of each decision, the log-probability of the action that was *taken*, travels with the row, so that
the update can correct for parameters that are a little older (V-trace; with the very parameters that acted it is the
n-step actor-critic of Mnih et al. 2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.agent import Agent, Decision, Learner, Noise, Policy, Seat
from reverie.data.rows import Field, State, observations
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.torsos import Torso, TorsoConfig
from reverie.ops.losses import masked_mean
from reverie.ops.returns import vtrace


@dataclass(frozen=True)
class ActorCriticConfig:
    """gamma: discount. scale: of rewards. entropy, value: weights of the two losses beside the policy's."""

    gamma: float = 0.99
    scale: float = 0.1
    entropy: float = 0.01
    value: float = 0.5
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig((16, 32, 32), layers=2, units=64, act="tanh"))
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2e-3, clip=0.5, shrink=0.0))


class ActorCriticPolicy(Policy):
    """Torso, logits and value."""

    noise = 1

    def __init__(self, agent: ActorCritic) -> None:
        super().__init__()
        self.torso = Torso(agent.env.observation, agent.config.torso)
        self.actions = int(agent.env.action.n)  # type: ignore[attr-defined]
        self.head = nn.Linear(self.torso.outputs, self.actions + 1)
        nn.init.zeros_(self.head.weight)
        self.extras = {"log_prob": Field((), np.dtype(np.float32))}

    def initial_state(self, batch: int) -> State:
        """No memory."""
        return {}

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """The log-probability is that of the taken action under what really chose it, random play included."""
        u = noise.uniform(len(rows["is_first"]), 1)
        log_probs = self.head(self.torso(observations(rows)))[:, :-1].log_softmax(-1)
        if seat.play == "random":
            log_probs = torch.full_like(log_probs, -math.log(self.actions))
        action = (log_probs.exp().cumsum(-1) <= u).sum(-1).clamp(max=self.actions - 1)
        if seat.play == "greedy":
            action = log_probs.argmax(-1)
        return Decision(action, {}, {"log_prob": log_probs.gather(-1, action[:, None]).squeeze(-1)})

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[tuple[Tensor, Tensor], State]:
        """Log-probabilities [T, B, A] and values [T, B]."""
        out = self.head(self.torso(observations(rows)))
        return (out[..., :-1].log_softmax(-1), out[..., -1]), {}


class ActorCriticLearner(Learner):
    """One loss for both."""

    policy: ActorCriticPolicy

    def __init__(self, agent: ActorCritic, policy: ActorCriticPolicy, windows: SequenceSpec, *rest: Any) -> None:
        super().__init__(policy, windows, *rest)
        self.config = agent.config
        self.optimisers = {"policy": Optimiser(policy.parameters(), self.config.opt)}

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Policy gradient, value regression, entropy; closing rows have no action and no loss."""
        rows, config, acted = batch.rows, self.config, ~batch.rows["is_last"][:-1]
        (log_probs, value), _ = self.policy.unroll({}, rows, self.noise)
        taken = log_probs.gather(-1, rows["action"].unsqueeze(-1)).squeeze(-1)
        behaviour = rows["extra.log_prob"]
        ends = config.scale * rows["reward"], rows["is_last"], rows["is_terminal"]
        target, advantage = vtrace(behaviour, taken.detach(), *ends, value.detach(), config.gamma)
        entropy = masked_mean(-(log_probs.exp() * log_probs).sum(-1)[:-1], acted)
        policy_loss = masked_mean(-taken[:-1] * advantage, acted)
        value_loss = masked_mean(0.5 * (target - value[:-1]) ** 2, acted)
        metrics["entropy"] = entropy.detach()
        metrics["ratio_error"] = masked_mean((taken[:-1] - behaviour[:-1]).abs(), acted).detach()
        yield {"policy": policy_loss + config.value * value_loss - config.entropy * entropy}


class ActorCritic(Agent):
    """The recipe."""

    config: ActorCriticConfig
    Config = ActorCriticConfig

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """One row to bootstrap from; each row is learned once."""
        return SequenceSpec(context=0, learn=asked.learn, lookahead=1, period=asked.learn)

    def policy(self) -> ActorCriticPolicy:
        """See `Agent.policy`."""
        return ActorCriticPolicy(self)

    def learner(self, policy: Any, windows: SequenceSpec, *rest: Any, **named: Any) -> ActorCriticLearner:
        """See `Agent.learner`."""
        return ActorCriticLearner(self, policy, windows, *rest, **named)
