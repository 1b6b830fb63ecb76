"""The template of the dreaming line: what all Dreamers do, in one order. No paper of its own.

::

    losses         world_model_loss      see a batch, weigh what the model must say of it
                   imagine               from every state seen, `dream` on with the actor
                   actor_loss            make the actor's dreams worth more
                   critic_loss           make the critic say what they are worth
                   update_slow_critic    a target that follows

A sibling writes these five in this order with its paper's equations, so that `diff` between two siblings reads as the
later paper's list of changes. What its model is made of is said by its recipe (`objective`, `reward`, `discount`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from reverie.agents.agent import Agent, Learner, placed
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.model_losses import Losses, loss_metrics
from reverie.agents.noise import Tape
from reverie.agents.objective import Objective, side_by_side
from reverie.agents.predictors import Discount, Estimator, Reward
from reverie.agents.recurrent import probes, start_state
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import WorldModel, WorldModelConfig
from reverie.data.rows import State, observations
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import Actions, ContinuousKind, make_actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import frozen, glorot_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.rssm import RSSM


@dataclass(frozen=True)
class DreamerConfig(WorldModelConfig):
    """The world model's settings and those of every actor and critic.

    gamma, lam: discount and lambda of the returns. horizon: imagined steps H.
    """

    actor: HeadConfig = field(default_factory=HeadConfig)
    critic: HeadConfig = field(default_factory=HeadConfig)
    continuous: ContinuousKind = "trunc_normal"
    gamma: float = 0.999
    lam: float = 0.95
    horizon: int = 15
    model_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2e-4))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-5))
    critic_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4))


@dataclass(frozen=True)
class Dream:
    """N imagined trajectories. features, reward, discount, value: [H+1, N(, F)]; actions a_1..a_H: [H, N, A].

    policy: outputs of the actor's head that drew those actions, [H, N, P], with gradients to the actor.
    """

    features: Tensor
    actions: Tensor
    policy: Tensor
    reward: Tensor
    discount: Tensor
    value: Tensor


class DreamerLearner(Learner):
    """World model, actor, critic and slow critic, with one optimiser for each of the first three."""

    policy: DreamerPolicy
    pathwise: bool
    """whether gradients of dreamed returns flow through the dream into its actions"""

    def __init__(
        self,
        agent: Dreamer,
        policy: DreamerPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config = agent.config
        self.model = agent.model(policy)
        self.actor, self.actions = policy.actor, policy.actions
        features = self.model.rssm.features
        self.critic = agent.critic(features)
        self.slow_critic = agent.critic(features).requires_grad_(False)
        self.initialise()
        self.model.objective.reset_parameters()
        self.slow_critic.load_state_dict(self.critic.state_dict())
        placed(self, self.device)
        self.optimisers = self.make_optimisers()

    def initialise(self) -> None:
        """First parameters of all networks, from torch's global generator: Glorot's, with biases of zero."""
        for part in (self.model, self.actor, self.critic, self.slow_critic):
            glorot_(part)
        self.model.rssm.reset_parameters()

    def make_optimisers(self) -> dict[str, Optimiser]:
        """One for each group of losses that `losses` yields."""
        config = self.config
        return {
            "model": Optimiser(self.model.trained_parameters(), config.model_opt, self.model.rates),
            "actor": Optimiser(self.actor.parameters(), config.actor_opt),
            "critic": Optimiser(self.critic.parameters(), config.critic_opt),
        }

    def compile_parts(self) -> None:
        """Compile the steps that loops repeat, and the losses of the heads; the loops themselves stay Python.

        All posterior and prior steps unrolled into one graph would keep a compiler busy far longer than one step does.
        """
        rssm = self.model.rssm
        for owner, name in ((rssm, "observe_embedded"), (rssm, "imagine_step"), (self.model, "head_losses")):
            setattr(owner, name, torch.compile(getattr(owner, name), dynamic=False))

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Losses of the model, then of the behaviour, which dreams in the updated model from states seen before."""
        model_loss, states, terminal = self.world_model_loss(batch, metrics)
        yield {"model": model_loss}
        self.model.objective.after_update()
        start = {name: value.detach().flatten(0, 1) for name, value in states.items()}
        dream = self.imagine(start, terminal.flatten())
        returns = self.returns(dream)
        yield {
            "actor": self.actor_loss(dream, returns, metrics),
            "critic": self.critic_loss(dream, returns, metrics),
        }
        self.update_slow_critic()

    @abstractmethod
    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, State, Tensor]:
        """Loss, posterior states [T, B, ...] and is_terminal [T, B] of the learned rows. Made of `see` and `weigh`."""

    @abstractmethod
    def imagine(self, start: State, is_terminal: Tensor) -> Dream:
        """Dreams from N states; is_terminal: bool [N], of the rows they came from. Made of `dreaming` and `dream`."""

    @abstractmethod
    def returns(self, dream: Dream) -> Tensor:
        """Returns of a dream, what its states are worth."""

    @abstractmethod
    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss that makes dreams worth more."""

    @abstractmethod
    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss that makes the critic say what dreams are worth."""

    def update_slow_critic(self) -> None:
        """Move the slow critic after an update; here it stays as it is."""

    def see(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Seen, dict[str, Tensor]]:
        """Learned rows of a batch as the model filters them, and these rows."""
        objective = self.model.objective
        batch = side_by_side(batch, objective.views)
        time, width = batch.rows["is_first"].shape
        tape = self.noise.tape(time, width, self.policy.noise + objective.noise)
        with self.autocast():
            state, rows = start_state(self.policy, batch, self.windows, Tape(tape.u[..., : self.policy.noise]))
            action = self.actions.encode(rows["prev_action"])
            seen = self.model.observe(state, action, rows, tape.u[self.windows.context :], training=True)
        self.measure_drift(batch, seen.states, metrics)
        return seen, rows

    def weigh(self, losses: Losses, metrics: dict[str, Tensor]) -> Tensor:
        """One loss of the model, weighed of all its losses."""
        metrics.update(loss_metrics(losses, self.optimisers))
        total, weighed = self.model.balance(losses)
        metrics.update(weighed)
        return total

    @torch.no_grad()
    def measure_drift(self, batch: Batch, states: State, metrics: dict[str, Tensor]) -> None:
        """KL(q(z | h^, o) || q(z | h, o)) in nats at the probed rows: the counterpart of R2D2's dQ for a latent.

        h^ is the deterministic state of this update's unroll, h the one that follows from the state that the actor had
        before that row; both with today's parameters. h^ has seen other samples of the latents than the actor.
        """
        rssm = self.model.rssm
        for probe in probes(batch, self.windows):
            mask = (~probe.rows["is_first"]).float().unsqueeze(-1)
            before = {name: value * mask for name, value in probe.state.items()}
            deter = rssm.advance(before, self.actions.encode(probe.rows["prev_action"]) * mask)
            embedded = rssm.post_embed(self.model.encoder(observations(probe.rows)))
            posterior = rssm.posterior(states["deter"][probe.row - self.windows.context], embedded)
            metrics[probe.name] = probe.mean(rssm.latent.kl(*posterior, *rssm.posterior(deter, embedded)))

    @contextmanager
    def dreaming(self) -> Iterator[None]:
        """Context for dreams, in which the model's parameters get no gradient, and nothing does unless `pathwise`."""
        with torch.set_grad_enabled(self.pathwise), frozen(self.model), self.autocast():
            yield

    def dream(self, start: State) -> tuple[Tensor, Tensor, Tensor]:
        """Roll the model forward for H steps with the actor, inside `dreaming`.

        start: N states. Returns features [H+1, N, F] with those of the start, actions [H, N, A], and the outputs of the
        actor's head that drew them [H, N, P]. The actor reads detached features; only its outputs need a gradient where
        dreams are not pathwise.
        """
        model, horizon = self.model, self.config.horizon
        state, count = start, len(next(iter(start.values())))
        u = self.noise.uniform(horizon, count, self.policy.noise)
        features, actions, policy = [model.rssm.feature(state)], [], []
        for i in range(horizon):
            u_latent, u_action = u[i].split([model.rssm.latent.noise, self.actions.noise], -1)
            with torch.enable_grad():
                policy.append(self.actor(features[-1].detach()))
            actions.append(self.actions.sample(policy[-1] if self.pathwise else policy[-1].detach(), u_action))
            state = model.imagine(state, actions[-1], u_latent)
            features.append(model.rssm.feature(state))
        with torch.enable_grad():
            outputs = torch.stack(policy)
        return torch.stack(features), torch.stack(actions), outputs


class Dreamer(Agent):
    """Recipe of a Dreamer. Hooks of construction: `policy`, `model`, and what the model is made of."""

    config: DreamerConfig
    Learner: ClassVar[type[DreamerLearner]]

    def __post_init__(self) -> None:
        self.actions()

    def actions(self) -> Actions:
        """Actions as the model and the actor see them. Raises ValueError for a space that they cannot be made of."""
        return make_actions(self.env.action, continuous=self.config.continuous)

    def policy(self) -> DreamerPolicy:
        """Policy with a fresh encoder, RSSM and actor."""
        config, actions = self.config, self.actions()
        encoder = Encoder(self.env.observation, config.encoder)
        rssm = RSSM(encoder.outputs, actions.size, config.rssm)
        return DreamerPolicy(encoder, rssm, Head(rssm.features, actions.params, config.actor), actions)

    def model(self, policy: DreamerPolicy) -> WorldModel:
        """The world model around a policy's encoder and RSSM; no learner is needed to dream."""
        features = policy.rssm.features
        return WorldModel(
            self.config,
            policy.encoder,
            policy.rssm,
            policy.actions,
            self.objective(features),
            self.reward(features),
            self.discount(features),
            self.config.gamma,
        )

    @abstractmethod
    def objective(self, features: int) -> Objective:
        """Objective of the model: what it must say about observations."""

    @abstractmethod
    def reward(self, features: int) -> Reward:
        """Head of the model for rewards."""

    @abstractmethod
    def discount(self, features: int) -> Discount | None:
        """Head of the model for ends of episodes, if it has one."""

    @abstractmethod
    def critic(self, features: int) -> Estimator:
        """What says what a state is worth; asked for twice where there is a slow one."""

    def learner(
        self,
        policy: DreamerPolicy,  # type: ignore[override]
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> DreamerLearner:
        """Learner around such a policy. All parameters are initialised here, in one order (Glorot)."""
        return self.Learner(self, policy, windows, seed, device, precision)
