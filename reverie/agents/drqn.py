"""DRQN: DQN that sees one frame and remembers the rest.

The first fully connected layer becomes an LSTM, Q(h_t, a) with h_t = LSTM(h_{t-1}, phi(o_t)); losses are DQN's, on
windows that are unrolled::

    rows     | learn (10) ................ | lookahead |
    online   0 --> h_0 --> h_1 --> ... --> h_9     Q(h_t, a_t), gradient through all of them
    target   0 --> h'_0 -> h'_1 -> ... --> h'_9 --> h'_10     max_a Q'(h'_{t+1}, a)

Source: Hausknecht & Stone, "Deep Recurrent Q-Learning for Partially Observable MDPs", AAAI 2015 (arXiv 1507.06527).
Its two kinds of updates, both from a zero state:

- *bootstrapped random updates*: windows anywhere (the default);
- *bootstrapped sequential updates*: whole episodes from their first row, ``replay.selector = episodes`` and
  `whole_episodes`, with ``replay.window.learn`` at least the length of an episode (of longer ones, the beginning).

``replay.window.state`` and ``replay.window.context`` make other beginnings, see `reverie.agents.recurrent`.

Differs from the paper in: random windows are drawn uniformly over rows, not over episodes first, and may cross into the
next episode, where the state is reset; AdaDelta is replaced by what `opt` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.agents.dqn import DQN, DQNConfig, Evaluated
from reverie.agents.q_policy import QNetwork
from reverie.agents.recurrent import burn_in, open_window, probes
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.cores import GRU, LSTM, Core, Identity
from reverie.nets.torsos import Torso
from reverie.ops.n_step import NStep


@dataclass(frozen=True)
class DRQNConfig(DQNConfig):
    """core: the memory (none: DQN on windows). units: its width, and the published one is 512.

    feed: the core also reads the previous action and reward.
    whole_episodes: only rows of the episode that a window begins with have a loss; windows then have no context rows.
    forget_bias: of an untrained LSTM, see `reverie.nets.cores.LSTM`; above 0 it begins with a long memory.
    """

    stack: int = 1
    hidden: int = 0
    core: Literal["lstm", "gru", "none"] = "lstm"
    units: int = 512
    feed: bool = False
    whole_episodes: bool = False
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget_bias and self.core != "lstm":
            raise ValueError(f"forget_bias {self.forget_bias} is of an lstm, but core is {self.core}; set it to 0")


class DRQN(DQN):
    """DQN with a memory: overrides `evaluate`, `trained`, `reduce` and the construction of the network."""

    config: DRQNConfig

    @classmethod
    def sequence(cls, config: DQNConfig, asked: SequenceSpec, env: EnvSpec) -> SequenceSpec:
        """As in `DQN`. Raises ValueError where whole episodes would begin with rows that have no loss."""
        spec = super().sequence(config, asked, env)
        assert isinstance(config, DRQNConfig)
        if config.whole_episodes and spec.context:
            raise ValueError(
                f"agent.whole_episodes trains episodes from their first row, but {spec.context} rows are context; "
                "set replay.window.context to 0, and agent.stack to 1 or replay.window.state to stored"
            )
        return spec

    def make_network(self, env: EnvSpec, actions: int) -> QNetwork:
        """Torso, memory and head."""
        config = self.config
        torso = Torso(env.observation, config.torso, config.stack)
        core = self.make_core(torso.outputs + (actions + 1 if config.feed else 0))
        return QNetwork(torso, core, self.make_head(core.outputs, actions), actions, config.feed)

    def make_core(self, inputs: int) -> Core:
        """The memory."""
        if self.config.core == "none":
            return Identity(inputs)
        if self.config.core == "gru":
            return GRU(inputs, self.config.units)
        return LSTM(inputs, self.config.units, self.config.forget_bias)

    def trained(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows with an action; with `whole_episodes` those before the first end only."""
        valid = super().trained(rows)
        if not self.config.whole_episodes:
            return valid
        return valid & (rows["is_last"][: self.spec.learn].int().cumsum(0) == 0)

    def evaluate(self, batch: Batch, steps: NStep, metrics: dict[str, Tensor]) -> Evaluated:
        """Both networks are warmed up and unrolled, each with its own parameters from the same start state.

        Every row passes each network once: context and lookahead rows without a gradient. Images are stacked and
        turned to floats once for both.
        """
        time, width = batch.rows["is_first"].shape
        noise = self.uniform(2, time, width, self.policy.noise)
        context, learn = self.spec.context, self.spec.learn
        with self.autocast():
            window = self.policy.prepare(*open_window(self.policy, batch, self.spec))
            state, rows = burn_in(self.policy, *window, self.spec, noise[0])
            first = {name: value[:learn] for name, value in rows.items()}
            learned, state = self.policy.unroll(state, first, noise[0, context : context + learn])
        with torch.no_grad(), self.autocast():
            online = None
            if self.selects_online or batch.probes is not None:
                rest = {name: value[learn:] for name, value in rows.items()}
                state = {name: value.detach() for name, value in state.items()}
                ahead, _ = self.policy.unroll(state, rest, noise[0, context + learn :])
                online = torch.cat([learned.detach(), ahead])
                if batch.probes is not None:
                    self.measure_drift(batch, online, noise[0], metrics)
            state, rows = burn_in(self.target, *window, self.spec, noise[1])
            target, _ = self.target.unroll(state, rows, noise[1, context:])
        chosen = steps.pick(online) if online is not None and self.selects_online else None
        return Evaluated(learned, chosen, steps.pick(target))

    def measure_drift(self, batch: Batch, outputs: Tensor, noise: Tensor, metrics: dict[str, Tensor]) -> None:
        """dQ = ||q(h^) - q(h)|| / |max_{a, j} q(h^_j, a)| at the rows `SequenceSpec.probes`, mean over windows.

        h^ is the state of this update's unroll before that row, h the one that the actor had; both are read with
        today's parameters, and j runs over the learned rows. Windows in which an episode begins on the way to that row
        are left out: there both states have been reset, and agree. One further step of 2 B rows.
        Source: Kapturowski et al. 2019 (R2D2), section 3.
        """
        head, context = self.policy.network.head, self.spec.context
        q = head.q(outputs)
        scale = q[: self.spec.learn].amax((0, 2)).abs().clamp(min=1e-8)
        found = probes(batch, self.spec)
        if not found:
            return
        state = {key: torch.cat([probe.state[key] for probe in found]) for key in found[0].state}
        rows = {key: torch.cat([probe.rows[key] for probe in found]).unsqueeze(0) for key in found[0].rows}
        u = torch.cat([noise[probe.row] for probe in found]).unsqueeze(0)
        there = head.q(self.policy.unroll(state, rows, u)[0])[0].chunk(len(found))
        for probe, actors in zip(found, there, strict=True):
            metrics[probe.name] = probe.mean((q[probe.row - context] - actors).norm(dim=-1) / scale)

    def reduce(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over all valid rows of the batch."""
        kept = torch.where(valid, loss, 0.0)
        return (weights * kept).sum() / valid.sum().clamp(min=1)
