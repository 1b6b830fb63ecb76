"""The part of the dreaming line that learns a world model: what PlaNet and all Dreamers share. No paper of its own.

::

    batch --start state--> rows --observe--> Seen --losses, weigh--> one loss of the model

Whoever acts by planning in the model needs no more than this; whoever learns to act in its dreams is a `Dreamer`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from reverie.agents.agent import Agent, Learner, placed
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.model_losses import Losses, loss_metrics
from reverie.agents.noise import Tape
from reverie.agents.objective import Objective, side_by_side
from reverie.agents.predictors import Discount, Reward
from reverie.agents.recurrent import probes, start_state
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import ModelLossConfig, WorldModel, WorldModelConfig
from reverie.data.rows import State, observations
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import Actions, make_actions
from reverie.nets.layers import glorot_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.state_space import OneChain
from reverie.ops import world


@dataclass(frozen=True)
class ModelOptConfig:
    """Optimiser of a world model."""

    model_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2e-4))


@dataclass(frozen=True)
class ModelLearnerConfig(ModelOptConfig, WorldModelConfig):
    """The world model's settings and those of its optimiser."""


class ModelLearner(Learner):
    """World model around a policy's encoder and memory, with one optimiser."""

    policy: FilterPolicy
    config: ModelLossConfig

    def __init__(
        self,
        agent: ModelAgent,
        policy: FilterPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config = agent.config
        self.model = agent.model(policy)
        self.actions = policy.actions
        self.build(agent)
        self.initialise()
        self.model.objective.reset_parameters()
        placed(self, self.device)
        self.optimisers = self.make_optimisers()

    def build(self, agent: ModelAgent) -> None:
        """Make what the learner has beside the model; nothing here."""

    def initialise(self) -> None:
        """First parameters of all networks, from torch's global generator: Glorot's, with biases of zero."""
        glorot_(self.model)
        self.model.rssm.reset_parameters()

    def make_optimisers(self) -> dict[str, Optimiser]:
        """One for each group of losses that `losses` yields."""
        config = self.config
        assert isinstance(config, ModelOptConfig)
        return {"model": Optimiser(self.model.trained_parameters(), config.model_opt, self.model.rates)}

    def compile_parts(self) -> None:
        """Compile the steps that loops repeat; the loops themselves stay Python.

        All posterior and prior steps unrolled into one graph would keep a compiler busy far longer than one step does.
        Not the losses of the heads: on a GPU the gradients of their transposed convolutions come in another layout
        than what is compiled expects.
        """
        rssm = self.model.rssm
        for name in ("observe_embedded", "imagine_step"):
            setattr(rssm, name, torch.compile(getattr(rssm, name), dynamic=False))

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Loss of the model: all there is to learn for who plans in it."""
        model_loss, _, _ = self.world_model_loss(batch, metrics)
        yield {"model": model_loss}
        self.model.objective.after_update()

    @abstractmethod
    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss, and the learned rows as they were seen and as they are [T, B, ...]. Made of `see` and `weigh`."""

    def see(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Seen, dict[str, Tensor]]:
        """Learned rows of a batch as the model filters them, and these rows."""
        objective, own = self.model.objective, self.policy.unroll_noise
        batch = side_by_side(batch, objective.views)
        time, width = batch.rows["is_first"].shape
        tape = Tape(world.draw(self.noise.uniform, time, width, own + objective.noise, axis=1))
        with self.autocast():
            state, rows = start_state(self.policy, batch, self.windows, Tape(tape.u[..., :own]))
            action = self.actions.encode(rows["prev_action"])
            seen = self.model.observe(state, action, rows, tape.u[self.windows.context :], training=True)
        self.measure_drift(batch, seen.states, metrics)
        return seen, rows

    @property
    def reserved(self) -> tuple[str, ...]:
        """Names whose ``<name>_loss`` in a log is none of the model's parts."""
        return tuple(self.optimisers)

    def weigh(self, losses: Losses, metrics: dict[str, Tensor]) -> Tensor:
        """One loss of the model, weighed of all its losses."""
        metrics.update(loss_metrics(losses, self.reserved))
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
            assert isinstance(rssm, OneChain)  # others say so when windows are asked for
            action, first = self.actions.encode(probe.rows["prev_action"]), rssm.first_state()
            deter = rssm.advance(*rssm.begin(probe.state, action, probe.rows["is_first"], first))
            embedded = rssm.embedded(self.model.encoder(observations(probe.rows)))
            posterior = rssm.posterior(states["deter"][probe.row - self.windows.context], embedded)
            metrics[probe.name] = probe.mean(rssm.latent.kl(*posterior, *rssm.posterior(deter, embedded)))


class ModelAgent(Agent):
    """Recipe of an agent with a world model. Hooks of construction: `policy`, and what the model is made of."""

    Learner: ClassVar[type[ModelLearner]]
    Model: ClassVar[type[WorldModel]] = WorldModel

    def __post_init__(self) -> None:
        self.actions()

    @property
    def least_learned(self) -> int:
        """Learned rows that a window must have for all losses to be defined."""
        return 1

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """As asked. Raises ValueError where they are too short for the losses."""
        if asked.learn < self.least_learned:
            raise ValueError(f"replay.window.learn must be at least {self.least_learned} here, got {asked.learn}")
        return super().windows(asked)

    def actions(self) -> Actions:
        """Actions as the model sees them. Raises ValueError for a space that they cannot be made of."""
        return make_actions(self.env.action)

    def unshared(self) -> str:
        """Also where losses are weighed by their gradients, before there is a mean of these."""
        if (reason := super().unshared()) or self.config.balance != "nashmtl":
            return reason
        return "bargains with the gradients of a whole batch (agent.balance nashmtl)"

    @property
    def gamma(self) -> float:
        """Discount where the model has no head for ends of episodes; 1: rewards are not discounted."""
        return 1.0

    @abstractmethod
    def policy(self) -> FilterPolicy:
        """Policy with a fresh encoder and RSSM."""

    def model(self, policy: FilterPolicy) -> WorldModel:
        """The world model around a policy's encoder and RSSM; no learner is needed to dream."""
        features = policy.rssm.features
        return self.Model(
            self.config,
            policy.encoder,
            policy.rssm,
            policy.actions,
            self.objective_of(policy),
            self.reward_of(policy),
            self.discount(features),
            self.gamma,
        )

    @abstractmethod
    def objective(self, features: int) -> Objective:
        """Objective of the model: what it must say about observations."""

    def objective_of(self, policy: FilterPolicy) -> Objective:
        """Objective of a model around this policy: by default one that needs no more than the size of its features."""
        return self.objective(policy.rssm.features)

    @abstractmethod
    def reward(self, features: int) -> Reward:
        """Head of the model for rewards."""

    def reward_of(self, policy: FilterPolicy) -> Reward:
        """The head for rewards of a model around this policy: a fresh one, unless the policy has it."""
        return self.reward(policy.rssm.features)

    @abstractmethod
    def discount(self, features: int) -> Discount | None:
        """Head of the model for ends of episodes, if it has one."""
