"""DQN: learn the value of every action from replayed transitions, bootstrapping from an older copy of itself.

    target_t = r_{t+1} + gamma (1 - terminal_{t+1}) max_a Q'(o_{t+1}, a),     loss = huber(target_t - Q(o_t, a_t))

Source: Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015. Parts that later papers
added are settings, and combine freely:

- `double`: a = arg max_a Q(o', a) is chosen by the online network, its value is Q'(o', a) (van Hasselt et al. 2016);
- `dueling`: Q = V + A - mean A (Wang et al. 2016), see `reverie.nets.q_heads`;
- `n_step`: r_{t+1} + ... + gamma^(n-1) r_{t+n} + gamma^n max_a Q'(o_{t+n}, a), cut at episode ends (Sutton 1988);
- ``replay.selector = prioritised`` with `beta`: draws by the last error, importance weights (Schaul et al. 2016).

::

    rows     | lookback (k-1) | learn | lookahead (n) |      a window; k stacked frames, n steps
    online                      Q(o_t)        Q(o_{t+n})     the second for `double` only, no gradient
    target                                    Q'(o_{t+n})

The loss is summed over the learned rows of a window that have an action, ~is_last, and averaged over windows (one row
each, by default). Its gradient is Huber's with delta 1: the clipped error of the paper, not a clipped loss. `loss` may
be half the squared error instead.

Differs from the paper in: nothing that is not named in a preset.
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
from reverie.agents.exploration import Exploration
from reverie.agents.inputs import Stacks
from reverie.agents.noise import Tape
from reverie.agents.q_policy import QNetwork, QPolicy
from reverie.agents.recurrent import start_state
from reverie.agents.replayed import ReplayedConfig, average, copy_if_due, importance, windows_ahead
from reverie.data.rows import ACTION_MASK, OBS, observations
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.nets.cores import Core, Identity
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.q_heads import DuelingQ, PlainQ, QHead, Reads
from reverie.nets.torsos import Torso, TorsoConfig
from reverie.nets.values import LossKind, Scalar
from reverie.ops import world
from reverie.ops.n_step import NStep
from reverie.values import Count, Number


@dataclass(frozen=True)
class DQNConfig(ReplayedConfig):
    """Settings. Defaults are the paper's network and numbers, but for Adam in place of RMSProp.

    double: the online network chooses the action whose value the target network gives (van Hasselt et al. 2016).
    dueling: values as a state's and advantages (Wang et al. 2016).
    stack: frames that the network sees at a time; images only.
    hidden: units of the head's hidden layer (0: none).
    loss: of action values, ``huber`` (delta 1) or ``squared`` (halved).
    """

    double: bool = False
    dueling: bool = False
    stack: Count = 4
    torso: TorsoConfig = field(default_factory=TorsoConfig)
    hidden: Number = 512
    loss: LossKind = "huber"
    explore: Exploration = field(default_factory=Exploration)
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4, eps=1.5e-4, clip=10.0, shrink=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stack < 1:
            raise ValueError(f"stack must be at least 1, got {self.stack}")


FED = ("is_first", "prev_action", "reward")
"""fields of rows that a network reads which is fed the previous action and reward"""


@dataclass(frozen=True)
class Evaluated:
    """Outputs of the heads. learned: online, at the learned rows [learn, B, ...], with gradient.

    online, target: of the two networks at the rows to bootstrap from [learn, B, ...], without; online is None unless
    it chooses (Double). here: of the target network at the learned rows, None unless the head reads that.
    """

    learned: Tensor
    online: Tensor | None
    target: Tensor
    here: Tensor | None = None


class DQNLearner(Learner):
    """Learner with three hooks, in the order in which `losses` calls them: `evaluate`, `importance`, `average`.

    Which rows are trained, how far ahead targets look and what becomes a priority is the `Bellman`'s; what outputs are
    worth and cost is the head's.
    """

    policy: QPolicy
    config: DQNConfig

    def __init__(
        self,
        agent: DQN,
        policy: QPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config, self.bellman = agent.config, policy.bellman
        network = policy.network
        self.target = agent.policy_of(copy.deepcopy(network).requires_grad_(False)).to(self.device)
        # Both networks read the same inputs; statistics are no parameters, and no copy of them lags behind.
        self.target.network.torso.statistics = network.torso.statistics
        self.pairs = list(zip(self.target.parameters(), network.parameters(), strict=True))
        self.optimisers = {"q": Optimiser(network.parameters(), self.config.opt)}

    @property
    def head(self) -> QHead:
        """The online network's head."""
        return self.policy.network.head

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Generator[dict[str, Tensor], None, Feedback]:
        """Loss of the one group ``q``; priorities go back to the replay."""
        rows, head = {name: value[self.windows.context :] for name, value in batch.rows.items()}, self.head
        # One row of each window tells enough: its neighbours look like it.
        self.policy.network.torso.adapt({key: value[0] for key, value in observations(rows).items()})
        learn = self.windows.learn
        valid, action = self.bellman.trained(rows, learn), rows["action"][:learn]
        parts = self.bellman.target_parts(rows, learn, self.policy.version)
        outputs = self.evaluate(batch, parts, metrics)
        with torch.no_grad():
            mask = parts.pick(rows[OBS + ACTION_MASK]) if self.policy.masked else None
            target = head.target(Reads(outputs.target, outputs.online, outputs.here, action, mask), parts)
        loss, error = head.loss(outputs.learned, action, target)
        if loss.shape != valid.shape or error.shape != valid.shape:
            raise ValueError(f"losses and errors must be {tuple(valid.shape)}, got {tuple(loss.shape)}")
        weights = self.importance(batch.probabilities)
        with torch.no_grad():
            error = torch.where(valid, error.detach(), 0.0)
            metrics["q"] = head.q(outputs.learned).mean()
            metrics["td_error"] = world.ratio(error.abs().sum(), valid)
            metrics["importance"] = weights.mean()
        yield {"q": self.average(loss, valid, weights)}
        self.update_target()
        return Feedback(batch.keys, priorities=self.bellman.priorities(error, valid))

    def evaluate(self, batch: Batch, parts: NStep, metrics: dict[str, Tensor]) -> Evaluated:
        """Outputs of the heads. Without memory, only the learned rows and those to bootstrap from pass the networks."""
        for_learned, for_online, for_target = self.head_noise(batch.keys.shape[0])
        nothing = Tape(self.policy.version.new_empty(0))  # what warms a stack up takes no noise
        state, rows = start_state(self.policy, batch, self.windows, nothing)
        network = self.policy.network
        fed = {name: rows[name] for name in FED} if network.feed else {}
        learned_rows = {name: value[: self.windows.learn] for name, value in fed.items()}
        obs, _ = self.policy.stacks.unroll(state, rows)
        learned_obs = {name: value[: self.windows.learn] for name, value in obs.items()}
        with self.autocast():
            learned = network.head(network.features(learned_obs, learned_rows), for_learned)
        with torch.no_grad(), self.autocast():
            ahead_obs = {name: parts.pick(value) for name, value in obs.items()}
            ahead_rows = {name: parts.pick(value) for name, value in fed.items()}
            online = network.head(network.features(ahead_obs, ahead_rows), for_online) if self.config.double else None
            older = self.target.network
            target = older.head(older.features(ahead_obs, ahead_rows), for_target)
            here = older.head(older.features(learned_obs, learned_rows), for_target) if self.head.reads_here else None
        return Evaluated(learned, online, target, here)

    def head_noise(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Uniform numbers for the head, all independent, of the shapes that `QHead.shapes` says."""
        length = world.whole(batch)
        shapes = self.head.shapes((self.windows.learn, length), self.config.double)
        one, two, three = (world.part(self.noise.uniform(*shape), 1, length) for shape in shapes)
        return one, two, three

    def importance(self, probabilities: Tensor) -> Tensor:
        """Importance weights [B], see `reverie.agents.replayed.importance`."""
        return importance(probabilities, self.config.exponent(self.policy.version))

    def metrics(self) -> dict[str, float]:
        """Numbers about the learner: its learning rate, n and beta (which only counts where draws are prioritised)."""
        n = self.bellman.steps(self.policy.version)
        return super().metrics() | {"n_step": int(n), "beta": float(self.config.exponent(self.policy.version))}

    def average(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Mean over windows, see `reverie.agents.replayed.average`."""
        return average(loss, valid, weights)

    def update_target(self) -> None:
        """Copy the network after every target_every-th update."""
        copy_if_due(self.pairs, self.policy.version, self.config.target_every)


class DQN(Agent):
    """Recipe of DQN. Hooks of construction: `network` (`core`, `head`, `values`), `bellman`, `policy_of`."""

    config: DQNConfig
    Config: ClassVar[type] = DQNConfig
    learners: ClassVar[bool] = True
    masks: ClassVar[bool] = True
    priorities: ClassVar[bool] = True
    gauges_drift: ClassVar[bool] = False
    """whether its learner measures how far stored states have drifted"""
    Learner: ClassVar[type[DQNLearner]] = DQNLearner

    def __post_init__(self) -> None:
        if not isinstance(self.env.action, spaces.Discrete):
            raise ValueError(f"value-based agents need a Discrete action space, got {self.env.action!r}")

    @property
    def actions(self) -> int:
        """Number of actions."""
        assert isinstance(self.env.action, spaces.Discrete)
        return int(self.env.action.n)

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows with n rows to bootstrap from, see `windows_ahead`."""
        stacks = Stacks(self.env.observation, self.config.stack)
        return windows_ahead(asked, stacks, self.config.n_step, self.gauges_drift)

    def policy(self) -> QPolicy:
        """Policy that acts with a fresh network."""
        return self.policy_of(placed(self.network()))

    def policy_of(self, network: QNetwork) -> QPolicy:
        """A policy that acts with a network, the online or the target one."""
        config, stacks = self.config, Stacks(self.env.observation, self.config.stack)
        return QPolicy(
            network, stacks, config.explore, self.bellman(), config.actor_priorities, masked=self.env.action_mask
        )

    def bellman(self) -> Bellman:
        """Common parts of learner and actors."""
        return Bellman(self.config)

    def network(self) -> QNetwork:
        """Torso, core and head, freshly initialised."""
        torso = Torso(self.env.observation, self.config.torso, self.config.stack)
        core = self.core(torso.outputs)
        return QNetwork(torso, core, self.head(core.outputs), self.actions, feed=False)

    def core(self, inputs: int) -> Core:
        """No memory."""
        return Identity(inputs)

    def head(self, inputs: int) -> QHead:
        """A plain or a dueling head."""
        return (DuelingQ if self.config.dueling else PlainQ)(inputs, self.actions, self.config.hidden, self.values())

    def values(self) -> Scalar:
        """Meaning and cost of the head's outputs: action values, and the configured loss."""
        return Scalar(self.config.loss)
