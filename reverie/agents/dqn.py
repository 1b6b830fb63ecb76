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
each, by default). Its gradient is Huber's with delta 1: the clipped error of the paper, not a clipped loss.

Differs from the paper in: nothing that is not named in a preset.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.agents.agent import Learner
from reverie.agents.exploration import Exploration
from reverie.agents.q_policy import QNetwork, QPolicy, Stacks
from reverie.agents.recurrent import start_state
from reverie.data.rows import observations
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.cores import Core, Identity
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.q_heads import DuelingQ, PlainQ, QHead, gather_actions
from reverie.nets.schedule import check, schedule
from reverie.nets.torsos import Torso, TorsoConfig
from reverie.ops.losses import huber
from reverie.ops.n_step import NStep, n_step
from reverie.ops.transforms import reward_transform


@dataclass(frozen=True)
class DQNConfig:
    """Defaults are the paper's network and settings, but for Adam in place of RMSProp.

    n_step: rows until the bootstrap. gamma: discount. double, dueling: see the module.
    n_step_end, n_step_over: n falls from n_step to n_step_end, by the same factor on each learner_step of that share of
        the run, or on as many (0: it stays), and is rounded. Many steps carry news far while all is new; few are less
        tied to what was done in old rows. Source: Schwarzer et al. 2023 (BBF, arXiv 2305.19452), section 3.
    reward: what the learner makes of rewards: sign (the paper's clipping), identity, tanh or symlog.
    reward_scale: times this, so that values come to be of the size of 1 where their sums are large.
    stack: frames that the network sees at a time; images only. hidden: units of the head's hidden layer (0: none).
    target_every: learner_steps between copies to the target network.
    actor_priorities: new windows get the error of the actor's own action values, which are stored with every row;
        otherwise the largest priority so far. For heads whose outputs are action values.
    beta, beta_end, beta_over: exponent of the importance weights, annealed linearly over that share of the run or that
        many learner_steps (0: constant). Where all windows are equally likely all weights are 1 whatever it is.
    """

    n_step: int = 1
    n_step_end: int = 1
    n_step_over: float = schedule("learner_steps")
    gamma: float = 0.99
    double: bool = False
    dueling: bool = False
    reward: str = "sign"
    reward_scale: float = 1.0
    stack: int = 4
    torso: TorsoConfig = field(default_factory=TorsoConfig)
    hidden: int = 512
    target_every: int = 2500
    actor_priorities: bool = False
    beta: float = 0.4
    beta_end: float = 1.0
    beta_over: float = schedule("learner_steps")
    explore: Exploration = field(default_factory=Exploration)
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4, eps=1.5e-4, clip=10.0, shrink=0.0))

    def __post_init__(self) -> None:
        for name in ("n_step", "n_step_end", "stack", "target_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check(self)
        if self.n_step_over and self.n_step_end > self.n_step:
            raise ValueError(f"expected n_step_end <= n_step {self.n_step}, got {self.n_step_end}")
        if self.reward_scale <= 0.0:
            raise ValueError(f"reward_scale must be positive, got {self.reward_scale}")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        if not 0.0 <= min(self.beta, self.beta_end) <= max(self.beta, self.beta_end) <= 1.0:
            raise ValueError(f"expected beta and beta_end in [0, 1], got {self.beta} and {self.beta_end}")
        reward_transform(self.reward)


@dataclass(frozen=True)
class Evaluated:
    """Outputs of the heads. learned: online, at the learned rows [learn, B, ...], with gradient.

    online, target: of the two networks at the rows to bootstrap from [learn, B, ...], without; online is None unless
    `DQN.selects_online`.
    """

    learned: Tensor
    online: Tensor | None
    target: Tensor


class DQN(Learner):
    """Hooks, in the order in which `losses` calls them: `trained`, `steps`, `evaluate` (`head_noise`), `bootstrap`
    (`select`), `targets`, `td_loss`, `importance`, `reduce`, `priorities`.

    And for construction: `make_core`, `make_head`. Outputs of a head are opaque to all but `bootstrap`, `targets` and
    `td_loss`; a distributional child overrides these three and `make_head`.
    """

    config: DQNConfig
    policy: QPolicy

    def __init__(
        self,
        config: DQNConfig,
        env: EnvSpec,
        spec: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        device = device or torch.device("cpu")
        super().__init__(seed, device, precision)
        if not isinstance(env.action, spaces.Discrete):
            raise ValueError(f"value-based agents need a Discrete action space, got {env.action!r}")
        self.config, self.spec = config, spec
        network = self.make_network(env, int(env.action.n))
        stacks = Stacks(env.observation, config.stack)
        self.to(device)
        network.to(device)
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.policy = self.make_policy(network, stacks)
        self.target = self.make_policy(copy.deepcopy(network).requires_grad_(False), stacks)
        # Both networks read the same inputs; statistics are no parameters, and no copy of them lags behind.
        self.target.network.torso.statistics = network.torso.statistics
        self.pairs = list(zip(self.target.parameters(), self.policy.parameters(), strict=True))
        self.optimisers = {"q": Optimiser(network.parameters(), config.opt)}
        self.transform = reward_transform(config.reward)
        if config.actor_priorities:
            self.priority_fields = ("extra.q", "action", "reward", "is_last", "is_terminal")

    @classmethod
    def sequence(cls, config: DQNConfig, asked: SequenceSpec, env: EnvSpec) -> SequenceSpec:
        """n rows to bootstrap from; before the burn-in the k - 1 frames of a stack, unless a stored state has them."""
        lookback = 0 if asked.state == "stored" else Stacks(env.observation, config.stack).lookback
        return replace(asked, context=asked.context + lookback, lookahead=config.n_step)

    # Construction

    def make_network(self, env: EnvSpec, actions: int) -> QNetwork:
        """Torso, core and head."""
        torso = Torso(env.observation, self.config.torso, self.config.stack)
        core = self.make_core(torso.outputs)
        return QNetwork(torso, core, self.make_head(core.outputs, actions), actions, feed=False)

    def make_core(self, inputs: int) -> Core:
        """No memory."""
        return Identity(inputs)

    def make_head(self, inputs: int, actions: int) -> QHead:
        """Plain or dueling."""
        return (DuelingQ if self.config.dueling else PlainQ)(inputs, actions, self.config.hidden)

    def make_policy(self, network: QNetwork, stacks: Stacks) -> QPolicy:
        """What acts with the network; called for the online and for the target network."""
        return QPolicy(network, stacks, self.config.explore, keep_q=self.config.actor_priorities)

    # One update

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Generator[dict[str, Tensor], None, Feedback]:
        """One loss; priorities go back to the replay."""
        rows = {name: value[self.spec.context :] for name, value in batch.rows.items()}
        # One row of each window tells enough: its neighbours look like it.
        self.policy.network.torso.adapt({key: value[0] for key, value in observations(rows).items()})
        valid, action = self.trained(rows), rows["action"][: self.spec.learn]
        steps = self.steps(rows)
        outputs = self.evaluate(batch, steps, metrics)
        with torch.no_grad():
            targets = self.targets(steps, self.bootstrap(outputs))
        loss, error = self.td_loss(outputs.learned, action, targets)
        if loss.shape != valid.shape or error.shape != valid.shape:
            raise ValueError(f"losses and errors must be {tuple(valid.shape)}, got {tuple(loss.shape)}")
        weights = self.importance(batch.probabilities)
        with torch.no_grad():
            error = torch.where(valid, error.detach(), 0.0)
            metrics["q"] = self.policy.network.head.q(outputs.learned).mean()
            metrics["td_error"] = error.abs().sum() / valid.sum().clamp(min=1)
            metrics["importance"] = weights.mean()
        yield {"q": self.reduce(loss, valid, weights)}
        self.update_target()
        return Feedback(batch.keys, priorities=self.priorities(error, valid))

    def trained(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Which of the learned rows have a loss, bool [learn, B]: those with an action. rows: without the context."""
        return ~rows["is_last"][: self.spec.learn]

    def done(self, over: float) -> Tensor:
        """How much of the first `over` learner_steps is behind, float32 [] in 0..1."""
        return (self.updates / over).clamp(max=1.0)

    def steps(self, rows: Mapping[str, Tensor]) -> NStep:
        """Rewards until the bootstrap, and where it is. rows: without the context."""
        config, fewer = self.config, None
        reward = config.reward_scale * self.transform(rows["reward"])
        if config.n_step_over:
            done = self.done(config.n_step_over)
            fewer = (config.n_step * (config.n_step_end / config.n_step) ** done).round().long()
        last, terminal = rows["is_last"], rows["is_terminal"]
        return n_step(reward, last, terminal, config.gamma, config.n_step, self.spec.learn, fewer)

    def evaluate(self, batch: Batch, steps: NStep, metrics: dict[str, Tensor]) -> Evaluated:
        """Without memory only the learned rows and those to bootstrap from pass the networks, once each."""
        for_learned, for_online, for_target = self.head_noise(batch.keys.shape[0])
        state, rows = start_state(self.policy, batch, self.spec, for_learned)
        first = {name: value[: self.spec.learn] for name, value in rows.items()}
        network = self.policy.network
        obs, _ = self.policy.stacks.unroll(state, rows)
        with self.autocast():
            seen = {name: value[: self.spec.learn] for name, value in obs.items()}
            learned = network.head(network.features(seen, first), for_learned)
        with torch.no_grad(), self.autocast():
            ahead = {name: steps.pick(value) for name, value in obs.items()}
            read = {name: steps.pick(rows[name]) for name in ("is_first", "prev_action", "reward")}
            online = network.head(network.features(ahead, read), for_online) if self.selects_online else None
            older = self.target.network
            return Evaluated(learned, online, older.head(older.features(ahead, read), for_target))

    def head_noise(self, windows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Uniform numbers for the head, all independent: [learn, windows, noise] each.

        For the learned rows, and for those to bootstrap from through the online and through the target network.
        """
        one, two, three = self.uniform(3, self.spec.learn, windows, self.policy.network.head.noise)
        return one, two, three

    @property
    def selects_online(self) -> bool:
        """Whether `bootstrap` needs the online network's outputs."""
        return self.config.double

    def select(self, outputs: Evaluated) -> Tensor:
        """Actions to bootstrap from, int64 [learn, B]: the best of the target network, or (Double) of the online."""
        head = self.policy.network.head
        return head.q(outputs.target if outputs.online is None else outputs.online).argmax(-1)

    def bootstrap(self, outputs: Evaluated) -> Tensor:
        """What the rows to bootstrap from are worth, [learn, B]: Q'(o', a*)."""
        return gather_actions(outputs.target, self.select(outputs))

    def targets(self, steps: NStep, bootstrap: Tensor) -> Tensor:
        """y = rewards earned + discount * bootstrap, [learn, B]."""
        return steps.earned + steps.discount * bootstrap

    def td_loss(self, outputs: Tensor, action: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error of every learned row, [learn, B] each; errors become priorities."""
        value = gather_actions(outputs, action)
        return huber(value, targets), targets - value

    def importance(self, probabilities: Tensor) -> Tensor:
        """w_i = (N P(i))^-beta, divided by the largest of the batch, [B].

        Source: Schaul et al. 2016, section 3.4 (which divides by the largest of the whole replay).
        """
        config = self.config
        beta: Tensor | float = config.beta
        if config.beta_over:
            beta = config.beta + (config.beta_end - config.beta) * self.done(config.beta_over)
        log = probabilities.log()
        return torch.exp(-beta * (log - log.min()))

    def reduce(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Sum over the valid rows of a window, weighted mean over windows; loss, valid: [learn, B], weights: [B]."""
        return (weights * torch.where(valid, loss, 0.0).sum(0)).mean()

    def priorities(self, error: Tensor, valid: Tensor) -> Tensor:
        """Of the windows, [B], from errors [learn, B] that are 0 where not valid: their mean size."""
        return error.abs().sum(0) / valid.sum(0).clamp(min=1)

    def initial_priorities(self, rows: Mapping[str, Tensor]) -> Tensor:
        """`priorities` as they follow from the action values that the actor had at every row (its online network's).

        A closing row that the actor never saw has no values: a bootstrap from it (a time limit) counts as 0 here.
        Source: Horgan et al. 2018 (Ape-X), section 3; Kapturowski et al. 2019 (R2D2), section 2.3.
        """
        rows = {name: value[self.spec.context :] for name, value in rows.items()}
        learn, steps, q = self.spec.learn, self.steps(rows), rows["extra.q"]
        ahead = steps.pick(q)
        targets = self.targets(steps, self.bootstrap(Evaluated(q[:learn], ahead, ahead)))
        error, valid = self.td_loss(q[:learn], rows["action"][:learn], targets)[1], self.trained(rows)
        return self.priorities(torch.where(valid, error, 0.0), valid)

    def update_target(self) -> None:
        """Copy the network after every target_every-th update; a lerp by 0 otherwise, so that shapes are static."""
        due = torch.eq((self.updates + 1) % self.config.target_every, 0).float()
        with torch.no_grad():
            for older, newer in self.pairs:
                older.lerp_(newer, due)
