"""A2C: an actor and a critic that learn from the last n env_steps of many environments in step, each row once.

    R_t = r_{t+1} + gamma r_{t+2} + ... + gamma^m V(o_{t+m}),   m to the end of the window or of the episode,
    loss_t = -log pi(a_t | o_t) (R_t - V(o_t)) + value (R_t - V(o_t))^2 / 2 - entropy H(pi(. | o_t))

The factor R_t - V of the policy's loss has no gradient. Within a window the first row looks n steps ahead, the last
row one. ::

    rows     | learn (n) ................... | bootstrap |      windows lie end to end: period = learn
    core     s --> x_0 --> x_1 --> ... --> x_{n-1} --> x_n      s: the state that the actor had, without a gradient

Source: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016 (A3C, algorithm S3), made
synchronous as in OpenAI Baselines' a2c (Wu et al. 2017, "ACKTR & A2C"): all environments wait for one another, and one
batch of their windows makes one update. Feed-forward, or with an LSTM whose state runs on from window to window.

Differs from the paper in: no threads (that is A3C); the row that a window bootstraps from has been acted on before the
update, and is the first that the next window learns: one row in n is of the parameters before the last update. Closing
rows, which have no action, lie in windows too, so that streams fall out of step by them, and more rows are
(``train/log_ratio`` tells how different those parameters were).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.actor_policy import ActorCriticPolicy, Body, Evaluation
from reverie.agents.agent import Agent, Learner, placed
from reverie.agents.inputs import Stacks
from reverie.agents.noise import Tape
from reverie.agents.recurrent import start_state
from reverie.data.rows import TASK, observations
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import BoundedKind, make_actions
from reverie.nets.cores import GRU, LSTM, Core, Identity
from reverie.nets.critics import Critic
from reverie.nets.initialise import INITS, Init, initialise
from reverie.nets.layers import Numbers
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.torsos import Torso, TorsoConfig
from reverie.ops import world
from reverie.ops.losses import masked_mean
from reverie.ops.precision import full
from reverie.ops.returns import gae
from reverie.ops.transforms import reward_transform
from reverie.values import Count, Finite, Positive, Scale


@dataclass(frozen=True)
class A2CConfig:
    """Settings. Defaults are those of OpenAI Baselines' a2c on Atari.

    gamma: discount. lam: lambda of the returns; 1 is n-step, below it nearer values count more (GAE).
    reward: what the learner makes of rewards: sign, clip (to [-1, 1]), identity, tanh or symlog.
    reward_scale: rewards times this, so that returns come to be of the size of 1.
    value: weight of half the squared error of values, beside the policy's loss.
    entropy: weight of the policy's entropy, which is made larger.
    average: what losses of rows become: their ``mean``, or their ``sum`` over rows and windows.
    stack: frames that the network sees at a time; images only.
    core: the memory (none: feed-forward). units: width of the memory.
    forget_bias: initial bias of an LSTM's forget gates, see `reverie.nets.cores.LSTM`; `init` sonnet has 1 more.
    feed: the core also reads the previous action and reward. feed_reward: what is made of rewards that the core reads.
    init: first parameters: ``torch``'s, ``sonnet``'s (IMPALA) or ``orthogonal`` (OpenAI Baselines).
    continuous: distribution of continuous actions, see `reverie.nets.actions`.
    evaluation: evaluations play the ``mode`` of the policy, or ``sample`` from it.
    """

    gamma: float = 0.99
    lam: float = 1.0
    reward: str = "sign"
    reward_scale: Positive = 1.0
    value: float = 1.0
    entropy: Scale = 0.01
    average: Literal["mean", "sum"] = "mean"
    stack: Count = 4
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(dense=512))
    core: Literal["none", "lstm", "gru"] = "none"
    units: Count = 256
    forget_bias: Finite = 0.0
    feed: bool = False
    feed_reward: str = "clip"
    init: Init = "orthogonal"
    continuous: BoundedKind = "trunc_normal"
    evaluation: Evaluation = "sample"
    opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(kind="rmsprop-tf", lr=7e-4, eps=1e-5, clip=0.5, shrink=0.0)
    )

    def __post_init__(self) -> None:
        for name in ("gamma", "lam"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("value", "entropy"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.reward_scale <= 0.0:
            raise ValueError(f"reward_scale must be positive, got {self.reward_scale}")
        if self.stack < 1 or self.units < 1:
            raise ValueError(f"stack and units must be at least 1, got {self.stack} and {self.units}")
        if self.forget_bias and self.core != "lstm":
            raise ValueError(f"forget_bias {self.forget_bias} is of an lstm, but core is {self.core}; set it to 0")
        if self.init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        for name in ("reward", "feed_reward"):
            reward_transform(getattr(self, name))


class A2CLearner(Learner):
    """Learner with two hooks: `estimate`, what is to be learned of each row, and `policy_term`, the actor's loss."""

    policy: ActorCriticPolicy
    config: A2CConfig

    def __init__(
        self,
        agent: A2C,
        policy: ActorCriticPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config = agent.config
        self.transform = reward_transform(self.config.reward)
        self.optimisers = {"actor_critic": Optimiser(policy.parameters(), self.config.opt)}

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Loss of the one group ``actor_critic``. Rows that are is_last have no action and no loss."""
        config, critic, actions = self.config, self.policy.critic, self.policy.actions
        nothing = Tape(self.policy.version.new_empty(0))  # neither frames nor memories take noise
        state, rows = start_state(self.policy, batch, self.windows, nothing)
        self.policy.body.torso.adapt({key: value[0] for key, value in observations(rows).items()})
        with self.autocast():
            x, _ = self.policy.remember(state, rows)
        x, acted = x.float(), ~rows["is_last"][:-1]
        mask, task = self.policy.mask(rows), self.policy.task(rows)
        of = None if task is None else task[:-1]
        params = self.policy.distribution(x[:-1], None if mask is None else mask[:-1])
        action = rows["action"][:-1]
        action = torch.where(acted.view(*acted.shape, *[1] * (action.dim() - 2)), action, 0)
        log_prob = actions.log_prob(params, actions.encode(action))
        behaviour = rows["extra.log_prob"][:-1]
        with torch.no_grad():
            value = critic(x, task)
            target, advantage = self.estimate(rows, value, behaviour, log_prob.detach(), metrics)
            critic.adapt(target, acted, of)
            advantage = advantage / critic.scale(of)
        losses = {
            "policy": self.policy_term(log_prob, advantage),
            "value": critic.loss(x[:-1], target, of),
            "entropy": actions.entropy(params),
        }
        for name, term in losses.items():
            if term.shape != acted.shape:
                raise ValueError(f"the {name} of rows must be {tuple(acted.shape)}, got {tuple(term.shape)}")
            metrics[name if name == "entropy" else f"{name}_loss"] = masked_mean(term.detach(), acted)
        metrics["value"] = masked_mean(value[:-1], acted)
        metrics["log_ratio"] = masked_mean((log_prob.detach() - behaviour).abs(), acted)
        metrics |= critic.metrics()
        total = losses["policy"] + config.value * losses["value"] - config.entropy * losses["entropy"]
        yield {"actor_critic": self.average(total, acted)}

    def estimate(
        self,
        rows: Mapping[str, Tensor],
        value: Tensor,
        behaviour: Tensor,
        log_prob: Tensor,
        metrics: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Targets of the values and advantages of the actions, [T, B] each: n-step returns (lam: GAE).

        rows: [T+1, B, ...]. value: [T+1, B]. behaviour, log_prob: [T, B] of the taken actions, of who acted and now.
        """
        ends = rows["is_last"], rows["is_terminal"]
        advantage, target = gae(self.reward(rows), *ends, value, self.config.gamma, self.config.lam)
        return target, advantage

    def reward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rewards as they are learned."""
        return self.config.reward_scale * self.transform(rows["reward"])

    def policy_term(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        """Loss [T, B] whose gradient is the policy's."""
        return -log_prob * advantage

    def average(self, loss: Tensor, acted: Tensor) -> Tensor:
        """Mean of the losses of rows with an action, or their sum."""
        if self.config.average == "mean":
            return masked_mean(loss, acted)
        return world.summed(torch.where(acted, full(loss), 0.0).sum())


class A2C(Agent):
    """Recipe of A2C. Hooks of construction: `core`, `critic`."""

    config: A2CConfig
    Config: ClassVar[type] = A2CConfig
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[A2CLearner]] = A2CLearner
    masks: ClassVar[bool] = True
    tasks: ClassVar[bool] = True
    reuses: ClassVar[bool] = False

    def __post_init__(self) -> None:
        make_actions(self.env.action)

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """Windows that lie end to end, with a row to bootstrap from.

        And k - 1 rows before them for a stack that no stored state has. Raises ValueError for another period.
        """
        if asked.period != asked.learn:
            raise ValueError(
                f"each row is learned once, so that windows of {asked.learn} rows begin at every {asked.learn}th one, "
                f"not at every {asked.period}th: set replay.window.period to {asked.learn}"
            )
        if asked.drift:
            raise ValueError("there is no gauge of drifting states: set replay.window.drift to false")
        lookback = 0 if asked.state == "stored" else Stacks(self.env.observation, self.config.stack).lookback
        return replace(asked, context=asked.context + lookback, lookahead=1)

    def policy(self) -> ActorCriticPolicy:
        """Policy that acts with fresh networks."""
        config = self.config
        actions = make_actions(self.env.action, continuous=config.continuous)
        seen = {key: space for key, space in self.env.observation.items() if not (self.env.tasks and key == TASK)}
        torso = Torso(seen, config.torso, config.stack)
        core = self.core(torso.outputs + (actions.size + 1 if config.feed else 0))
        body = Body(torso, core, actions, config.feed_reward if config.feed else None)
        actor, critic = Numbers(body.outputs, actions.params), self.critic(body.outputs)
        initialise(config.init, body, actor, critic.out, config.forget_bias)
        stacks = Stacks(self.env.observation, config.stack)
        masked = self.env.action_mask
        return placed(ActorCriticPolicy(stacks, body, actor, critic, actions, config.evaluation, masked))

    def core(self, inputs: int) -> Core:
        """The memory."""
        if self.config.core == "none":
            return Identity(inputs)
        if self.config.core == "gru":
            return GRU(inputs, self.config.units)
        return LSTM(inputs, self.config.units, self.config.forget_bias)

    def critic(self, inputs: int) -> Critic:
        """A linear value, one for each task."""
        return Critic(inputs, max(1, len(self.env.tasks)))
