"""The policy of every value-based agent: frame stacks, torso, memory, head, and epsilon-greedy actions.

::

    obs ---> stack ---> torso --+--> core ---> head ---> outputs, q
             k frames           |    memory    plain, dueling, distributional
    prev_action, reward --------+ (if fed)

The stack is a core of its own, in front of the torso: its state is the last k - 1 frames, so that replay stores every
frame once and rows that only fill a stack pass no convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.bellman import Bellman
from reverie.agents.exploration import Exploration
from reverie.agents.inputs import Obs, Stacks, core_state, named, previous
from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import ACTION_MASK, OBS, Field, State
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError
from reverie.nets.actions import legal
from reverie.nets.cores import Core
from reverie.nets.layers import one_hot
from reverie.nets.q_heads import QHead, best
from reverie.nets.torsos import Torso
from reverie.nets.values import Scalar


class QNetwork(nn.Module):
    """Torso, core and head. feed: the core also reads the previous action (one-hot) and reward, zeros at first rows."""

    def __init__(self, torso: Torso, core: Core, head: QHead, actions: int, feed: bool) -> None:
        super().__init__()
        self.torso, self.core, self.head = torso, core, head
        self.actions, self.feed = actions, feed

    def features(self, obs: Obs, rows: Mapping[str, Tensor]) -> Tensor:
        """Features [*lead, F] that the core reads."""
        x = self.torso(obs)
        if not self.feed:
            return x
        return torch.cat([x, previous(rows, partial(one_hot, classes=self.actions)).to(x.dtype)], -1)


class QPolicy(Policy):
    """Greedy actions by the network's action values, but for a fraction epsilon of random ones.

    Two of the `noise` numbers of a step decide about random actions, the rest are the head's.
    bellman: for the priorities of new windows. keep_q: return the action values as the extra ``q`` float32 [A], from
    which those priorities are computed. masked: take only actions that the observation ``action_mask`` allows.
    Raises ValueError for `keep_q` with a head whose outputs are no action values, UserError for masks with a head that
    does not heed them.
    """

    def __init__(
        self,
        network: QNetwork,
        stacks: Stacks,
        exploration: Exploration,
        bellman: Bellman,
        keep_q: bool = False,
        masked: bool = False,
    ) -> None:
        super().__init__()
        if masked and not network.head.heeds_masks:
            raise UserError(
                f"{type(network.head).__name__} does not heed action masks: say --env.options.action_mask ignore, or "
                "take another agent"
            )
        self.masked = masked
        self.network, self.stacks, self.exploration, self.bellman = network, stacks, exploration, bellman
        self.noise = 2 + network.head.noise
        self.lookback = stacks.lookback
        if keep_q:
            if not isinstance(network.head.values, Scalar):
                raise ValueError(
                    f"actor_priorities need action values as outputs, which those of {type(network.head).__name__} "
                    "are not: set it to false"
                )
            self.extras = {"q": Field((network.actions,), np.dtype(np.float32))}
            self.scored = ("extra.q", "action", "reward", "is_last", "is_terminal")
            self.scored += (OBS + ACTION_MASK,) if masked else ()

    def initial_state(self, batch: int) -> State:
        """Black frames and the core's initial state."""
        core = self.network.core.initial_state(batch, self.device)
        return self.stacks.initial_state(batch, self.device) | named(core)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream. The state advances and the values are told also where the action is random."""
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        obs, frames = self.stacks.step(state, rows)
        x = self.network.features(obs, rows)
        x, core = self.network.core.step(core_state(state), x, rows["is_first"])
        q = self.network.head.q(self.network.head(x, self.head_noise(u[..., 2:], seat)))
        mask = rows[OBS + ACTION_MASK] if self.masked else None
        action = self.random(u[..., 1], mask)
        if seat.play != "random":
            epsilon = self.exploration.epsilons(seat).to(self.device)
            action = torch.where(u[..., 0] < epsilon, action, best(q, mask))
        return Decision(action, frames | named(core), {"q": q} if self.extras else {})

    def random(self, u: Tensor, mask: Tensor | None) -> Tensor:
        """Uniformly random actions int64 [B], of those that the mask [B, A] allows, from u [B]."""
        if mask is None:
            return (u * self.network.actions).long().clamp(max=self.network.actions - 1)
        allowed = legal(mask).cumsum(-1)
        number = torch.minimum((u * allowed[..., -1]).long(), allowed[..., -1] - 1)
        return (allowed > number.unsqueeze(-1)).max(-1).indices  # the first of equal maxima

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Mean epsilon of the seat's streams."""
        return {"epsilon": float(self.exploration.epsilons(seat).mean())}

    def head_noise(self, u: Tensor, seat: Seat) -> Tensor:
        """Noise [B, n] for the head as it decides: fresh numbers, in evaluation too."""
        return u

    def prepare(self, state: State, rows: Mapping[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
        """Inputs without parameters in them, for `warm` and `remember` of every network that reads rows [T, B, ...].

        Returns the state without frames, and the rows with images stacked and in floats (`Torso.prepare`).
        """
        obs = self.network.torso.prepare(self.stacks.unroll(state, rows)[0])
        memory = {name: value for name, value in state.items() if not name.startswith("frames.")}
        return memory, {**rows, **{OBS + key: value for key, value in obs.items()}}

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with filled stacks; the core's part stays as it is."""
        return state | self.stacks.look(state, rows)

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The state after a burn-in: stacks, torso and core, no head; only the stacks if the core remembers nothing."""
        if not core_state(state):
            return self.look(state, rows)
        return self.remember(state, rows)[1]

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, State]:
        """Outputs of the head for rows [T, B, ...] and the last state."""
        x, state = self.remember(state, rows)
        u = noise.uniform(*rows["is_first"].shape, self.noise)
        return self.network.head(x, u[..., 2:]), state

    def remember(self, state: State, rows: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Outputs of the core [T, B, F] and the last state."""
        obs, frames = self.stacks.unroll(state, rows)
        x, core = self.network.core.unroll(core_state(state), self.network.features(obs, rows), rows["is_first"])
        return x, frames | named(core)

    def priorities(self, rows: Mapping[str, Tensor], windows: SequenceSpec) -> Tensor:
        """Priorities [B] of new windows, see `Bellman.first_priorities`."""
        return self.bellman.first_priorities(self.network.head, rows, windows, self.version)
