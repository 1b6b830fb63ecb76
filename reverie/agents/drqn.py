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
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.bellman import Bellman
from reverie.agents.dqn import DQN, DQNConfig, DQNLearner, Evaluated
from reverie.agents.noise import Tape
from reverie.agents.q_policy import QNetwork
from reverie.agents.recurrent import burn_in, open_window, probes
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.cores import GRU, LSTM, Core, Identity
from reverie.nets.torsos import Torso
from reverie.ops import world
from reverie.ops.n_step import NStep
from reverie.values import Count, Finite, Number


@dataclass(frozen=True)
class DRQNConfig(DQNConfig):
    """core: the memory (none: DQN on windows). units: its width, and the published one is 512.

    feed: the core also reads the previous action and reward.
    whole_episodes: only rows of the episode that a window begins with have a loss; windows then have no context rows.
    forget_bias: of an untrained LSTM, see `reverie.nets.cores.LSTM`; above 0 it begins with a long memory.
    """

    stack: Count = 1
    hidden: Number = 0
    core: Literal["lstm", "gru", "none"] = "lstm"
    units: Count = 512
    feed: bool = False
    whole_episodes: bool = False
    forget_bias: Finite = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget_bias and self.core != "lstm":
            raise ValueError(f"forget_bias {self.forget_bias} is of an lstm, but core is {self.core}; set it to 0")


class DRQNBellman(Bellman):
    """DQN's common parts, with `trained` for whole episodes."""

    config: DRQNConfig

    def trained(self, rows: Mapping[str, Tensor], learn: int) -> Tensor:
        """Mask of rows with an action; with `whole_episodes` of those before the first end only."""
        valid = super().trained(rows, learn)
        if not self.config.whole_episodes:
            return valid
        return valid & (rows["is_last"][:learn].int().cumsum(0) == 0)


class DRQNLearner(DQNLearner):
    """DQN's learner with another `evaluate` and `average`."""

    config: DRQNConfig

    def evaluate(self, batch: Batch, parts: NStep, metrics: dict[str, Tensor]) -> Evaluated:
        """Outputs of the heads after a burn-in and an unroll of both networks.

        Each does so with its own parameters, from the same start state. Every row passes each network once: context
        and lookahead rows without a gradient. Images are stacked and turned to floats once for both.
        """
        learn, head, older = self.windows.learn, self.head, self.target.network.head
        for_learned, for_online, for_target = self.head_noise(batch.keys.shape[0])
        nothing = Tape(self.policy.version.new_empty(0))  # memories take no noise
        with self.autocast():
            window = self.policy.prepare(*open_window(self.policy, batch, self.windows))
            state, rows = burn_in(self.policy, *window, self.windows, nothing)
            first = {name: value[:learn] for name, value in rows.items()}
            x, state = self.policy.remember(state, first)
            learned = head(x, for_learned)
        with torch.no_grad(), self.autocast():
            online = None
            if self.config.double or batch.probes is not None:
                rest = {name: value[learn:] for name, value in rows.items()}
                ahead, _ = self.policy.remember({name: value.detach() for name, value in state.items()}, rest)
                # A head without noise says of a row what it has said; one with noise reads with noise of its own.
                if head.noise:
                    x = torch.cat([x.detach(), ahead])
                    gauge = head(x, head.steady(tuple(x.shape[:2]), x)) if batch.probes is not None else None
                    online = head(parts.pick(x), for_online) if self.config.double else None
                else:
                    gauge = torch.cat([learned.detach(), head(ahead, ahead[..., :0])])
                    online = parts.pick(gauge) if self.config.double else None
                if batch.probes is not None and gauge is not None:
                    self.measure_drift(batch, gauge, metrics)
            state, rows = burn_in(self.target, *window, self.windows, nothing)
            x, _ = self.target.remember(state, rows)
            if head.noise:
                target = older(parts.pick(x), for_target)
                here = older(x[:learn], for_target) if head.reads_here else None
            else:
                outputs = older(x, x[..., :0])
                target, here = parts.pick(outputs), outputs[:learn] if head.reads_here else None
        return Evaluated(learned, online, target, here)

    def measure_drift(self, batch: Batch, outputs: Tensor, metrics: dict[str, Tensor]) -> None:
        """dQ = ||q(h^) - q(h)|| / |max_{a, j} q(h^_j, a)| at the rows `SequenceSpec.probes`, mean over windows.

        h^ is the state of this update's unroll before that row, h the one that the actor had; both are read with
        today's parameters, and j runs over the learned rows. outputs: of the head [learn + lookahead, B, ...], read
        with steady noise. Windows in which an episode begins on the way to that row are left out: there both states
        have been reset, and agree. One further step of 2 B rows.
        Source: Kapturowski et al. 2019 (R2D2), section 3.
        """
        drift_probes = probes(batch, self.windows)
        if not drift_probes:
            return
        head = self.head
        q = head.q(outputs)
        scale = q[: self.windows.learn].amax((0, 2)).abs().clamp(min=1e-8)
        state = {key: torch.cat([probe.state[key] for probe in drift_probes]) for key in drift_probes[0].state}
        rows = {
            key: torch.cat([probe.rows[key] for probe in drift_probes]).unsqueeze(0) for key in drift_probes[0].rows
        }
        features, _ = self.policy.remember(state, rows)
        q_probed = head.q(head(features, head.steady(tuple(features.shape[:2]), features)))[0].chunk(len(drift_probes))
        for probe, q_actor in zip(drift_probes, q_probed, strict=True):
            q_unrolled = q[probe.row - self.windows.context]
            metrics[probe.name] = probe.mean((q_unrolled - q_actor).norm(dim=-1) / scale)

    def average(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over all valid rows of the batch."""
        masked = torch.where(valid, loss, 0.0)
        return world.ratio((weights * masked).sum(), valid)


class DRQN(DQN):
    """DQN's recipe with a memory."""

    config: DRQNConfig
    Config: ClassVar[type] = DRQNConfig
    learners: ClassVar[bool] = True
    gauges_drift: ClassVar[bool] = True
    Learner: ClassVar[type[DQNLearner]] = DRQNLearner

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows as in `DQN`. Raises ValueError where whole episodes would begin with rows that have no loss."""
        windows = super().windows(asked)
        if self.config.whole_episodes and windows.context:
            raise ValueError(
                f"agent.whole_episodes trains episodes from their first row, but {windows.context} rows are context; "
                "set replay.window.context to 0, and agent.stack to 1 or replay.window.state to stored"
            )
        return windows

    def bellman(self) -> Bellman:
        """Common parts of learner and actors, with whole episodes."""
        return DRQNBellman(self.config)

    def network(self) -> QNetwork:
        """Torso, memory and head."""
        config = self.config
        torso = Torso(self.env.observation, config.torso, config.stack)
        core = self.core(torso.outputs + (self.actions + 1 if config.feed else 0))
        return QNetwork(torso, core, self.head(core.outputs), self.actions, config.feed)

    def core(self, inputs: int) -> Core:
        """The memory."""
        if self.config.core == "none":
            return Identity(inputs)
        if self.config.core == "gru":
            return GRU(inputs, self.config.units)
        return LSTM(inputs, self.config.units, self.config.forget_bias)
