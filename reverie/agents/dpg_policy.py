"""The policy of deterministic policy gradients: an actor and a critic, and Gaussian noise on what the actor says.

::

    actor     obs ---> stack ---> torso ---> layers ---> tanh ---> action in [-1, 1]
    critic    obs ---> stack ---> torso --+--> layers ---> value
                                  action -+
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.bellman import Bellman
from reverie.agents.exploration import ActionNoise
from reverie.agents.inputs import Obs, Stacks
from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import Field, State
from reverie.data.sequences import SequenceSpec
from reverie.nets.actions import ContinuousActions
from reverie.nets.layers import Numbers, activation
from reverie.nets.torsos import Torso


class Layers(nn.Module):
    """Fully connected layers of these widths, an activation after each, and a linear output: [..., I] -> [..., O]."""

    def __init__(self, inputs: int, widths: tuple[int, ...], outputs: int, act: str) -> None:
        super().__init__()
        sizes = pairwise((inputs, *widths))
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in sizes)
        self.out = Numbers(widths[-1] if widths else inputs, outputs)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 outputs, also under autocast."""
        for layer in self.hidden:
            x = self.act(layer(x))
        outputs: Tensor = self.out(x)
        return outputs


class Actor(nn.Module):
    """Deterministic actions [*lead, A] in [-1, 1] of observations."""

    def __init__(self, torso: Torso, size: int, widths: tuple[int, ...], act: str) -> None:
        super().__init__()
        self.torso, self.layers = torso, Layers(torso.outputs, widths, size, act)

    def forward(self, obs: Obs) -> Tensor:
        """tanh of the layers' outputs."""
        return torch.tanh(self.layers(self.torso(obs)))


class Critic(nn.Module):
    """Values [*lead] of observations and actions [*lead, A], which enter beside the torso's features."""

    def __init__(self, torso: Torso, size: int, widths: tuple[int, ...], act: str) -> None:
        super().__init__()
        self.torso, self.layers = torso, Layers(torso.outputs + size, widths, 1, act)

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Action values."""
        features = self.torso(obs)
        return self.layers(torch.cat([features, action.to(features.dtype)], -1)).squeeze(-1)


class DPGPolicy(Policy):
    """Policy with an actor, a critic for the priorities of new windows, and noise on the actions in training.

    keep_values: return as extras what the critic says of the action that is taken (``q`` float32 []) and of the actor's
    own (``v`` float32 []), from which the priorities of new windows are computed.
    """

    def __init__(
        self,
        actor: Actor,
        critic: Critic,
        actions: ContinuousActions,
        stacks: Stacks,
        explore: ActionNoise,
        bellman: Bellman,
        keep_values: bool,
    ) -> None:
        super().__init__()
        self.actor, self.critic, self.stacks = actor, critic, stacks
        # Both read the same inputs; statistics of them are no parameters.
        actor.torso.statistics = critic.torso.statistics
        self.actions, self.explore, self.bellman = actions, explore, bellman
        self.noise, self.lookback = explore.numbers(actions), stacks.lookback
        if keep_values:
            scalar = Field((), np.dtype(np.float32))
            self.extras = {"q": scalar, "v": scalar}
            self.scored = ("extra.q", "extra.v", "reward", "is_last", "is_terminal")

    def initial_state(self, batch: int) -> State:
        """Black frames, where images are stacked."""
        return self.stacks.initial_state(batch, self.device)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream: the actor's, with noise in training, or uniform in [-1, 1]."""
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        obs, frames = self.stacks.step(state, rows)
        best = self.actor(obs)
        action = self.actions.uniform(u) if seat.play == "random" else self.explore.add(best, u, seat, self.actions)
        extras = {"q": self.critic(obs, action), "v": self.critic(obs, best)} if self.extras else {}
        return Decision(action, frames, extras)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, State]:
        """The actor's actions [T, B, A] without noise, and the last state."""
        obs, frames = self.stacks.unroll(state, rows)
        return self.actor(obs), frames

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks."""
        return self.stacks.look(state, rows)

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The same: there is no other memory."""
        return self.look(state, rows)

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Deviation of the noise on actions."""
        return {"action_noise": self.explore.now(seat)}

    def priorities(self, rows: Mapping[str, Tensor], windows: SequenceSpec) -> Tensor:
        """Priorities [B] of new windows: errors of the actor's own critic, which stands for the targets too.

        A closing row that the actor never saw has no value: a bootstrap from it (a time limit) counts as 0 here.
        """
        rows = {name: value[windows.context :] for name, value in rows.items()}
        learn = windows.learn
        parts, valid = self.bellman.target_parts(rows, learn, self.version), self.bellman.trained(rows, learn)
        error = parts.earned + parts.discount * parts.pick(rows["extra.v"]) - rows["extra.q"][:learn]
        return self.bellman.priorities(torch.where(valid, error, 0.0), valid)
