"""The policy of every actor-critic: stacks, torso, memory, and on top of them an actor and a critic.

::

    obs ---> stack ---> torso --+--> core --+--> actor ---> parameters of the action's distribution
             k frames           |    memory +--> critic --> value
    prev_action, reward --------+ (if fed)

With each row travels ``extra.log_prob``, the log-probability (continuous actions: log-density) of the action that was
taken, under what really chose it: so a learner can correct for the difference between that and its own policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.inputs import Stacks, core_state, named, previous
from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import ACTION_MASK, OBS, TASK, Field, State
from reverie.nets.actions import Actions
from reverie.nets.cores import Core
from reverie.nets.critics import Critic
from reverie.nets.torsos import Torso
from reverie.ops.transforms import reward_transform

Evaluation = Literal["mode", "sample"]


class Body(nn.Module):
    """Torso and core. feed: what is made of rewards that the core reads beside the previous action; None: it does not.

    outputs: width of the features that heads read.
    """

    def __init__(self, torso: Torso, core: Core, actions: Actions, feed: str | None) -> None:
        super().__init__()
        self.torso, self.core, self.actions = torso, core, actions
        self.feed = None if feed is None else reward_transform(feed)
        self.outputs = core.outputs

    def inputs(self, obs: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> Tensor:
        """Inputs [*lead, F] of the core."""
        x = self.torso(obs)
        if self.feed is None:
            return x
        return torch.cat([x, previous(rows, self.actions.encode, self.feed).to(x.dtype)], -1)


class ActorCriticPolicy(Policy):
    """Actions drawn from the actor's distribution; in evaluation its mode, or drawn as well, as `evaluation` says.

    critic: values of features; who only acts has no use for it, but it is learned on the same body.
    masked: take only actions that the observation ``action_mask`` allows; the others have no probability.
    """

    def __init__(
        self,
        stacks: Stacks,
        body: Body,
        actor: nn.Linear,
        critic: Critic,
        actions: Actions,
        evaluation: Evaluation = "mode",
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.stacks, self.body, self.actor, self.critic = stacks, body, actor, critic
        self.actions, self.evaluation, self.masked = actions, evaluation, masked
        self.noise = actions.noise
        self.lookback = stacks.lookback
        self.extras = {"log_prob": Field((), np.dtype(np.float32))}

    def initial_state(self, batch: int) -> State:
        """Black frames and the core's initial state."""
        core = self.body.core.initial_state(batch, self.device)
        return self.stacks.initial_state(batch, self.device) | named(core)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream; random play is uniform, and its log-probability that of uniform actions."""
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        obs, frames = self.stacks.step(state, rows)
        x, core = self.body.core.step(core_state(state), self.body.inputs(obs, rows), rows["is_first"])
        mask = self.mask(rows)
        if seat.play == "random":
            encoded = self.actions.uniform(u, mask)
            log_prob = self.actions.uniform_log_prob(encoded, mask)
        else:
            params = self.distribution(x, mask)
            mode = seat.play == "greedy" and self.evaluation == "mode"
            encoded = self.actions.mode(params) if mode else self.actions.sample(params, u)
            log_prob = self.actions.log_prob(params, encoded)
        return Decision(self.actions.decode(encoded), frames | named(core), {"log_prob": log_prob})

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks; the core's part stays as it is."""
        return state | self.stacks.look(state, rows)

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The state after a burn-in, without the heads."""
        return self.remember(state, rows)[1]

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[tuple[Tensor, Tensor], State]:
        """Parameters of the actions' distribution [T, B, params] and values [T, B], and the last state."""
        x, state = self.remember(state, rows)
        return (self.distribution(x, self.mask(rows)), self.critic(x, self.task(rows))), state

    def mask(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        """What may be done at rows [*lead, ...], [*lead, params], or None where that is everything."""
        return rows[OBS + ACTION_MASK] if self.masked else None

    def task(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        """Tasks int64 [*lead] of rows, each with a value of its own; None where there is one. Acting asks for none."""
        return rows[OBS + TASK] if self.critic.out.out_features > 1 else None

    def distribution(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Parameters float32 [*lead, params] of the actions' distribution, at features [*lead, F] and under a mask."""
        params: Tensor = self.actor(x)
        return params if mask is None else self.actions.masked(params, mask)

    def remember(self, state: State, rows: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Features [T, B, F] that heads read, and the last state."""
        obs, frames = self.stacks.unroll(state, rows)
        x, core = self.body.core.unroll(core_state(state), self.body.inputs(obs, rows), rows["is_first"])
        return x, frames | named(core)
