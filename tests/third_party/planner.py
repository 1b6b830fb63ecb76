"""A planner in a latent space, as somebody writes it who uses the package: a world model that never draws a picture.

model      what a slow copy of the encoder says of each row, from the state    (consistency, in place of a decoder)
           reward, discount, KL of posterior and prior
critic     V(s_t) <- r(s_{t+1}) + d(s_{t+1}) V(s_{t+1}), from predicted rewards
policy     filter what is seen, then plan by CEM in imagined states; at random with probability epsilon in training
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.agents.agent import Agent, Decision, Learner, Noise, Policy, Seat, placed
from reverie.agents.imagination import Imagination
from reverie.agents.model_losses import loss_metrics
from reverie.agents.objective import Objective
from reverie.agents.plan import PlanConfig, plan, plan_noise
from reverie.agents.predictors import Discount, Reward
from reverie.agents.recurrent import start_state
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import WorldModel, WorldModelConfig
from reverie.data.rows import State
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import make_actions
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.outputs import Bernoulli, UnitNormal
from reverie.nets.rssm import RSSM, RSSMConfig

HEAD = HeadConfig(layers=1, units=64)


@dataclass(frozen=True)
class PlannerConfig(WorldModelConfig):
    """gamma: discount. epsilon: share of random actions in training. follow: of the slow encoder, per update."""

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(depth=8))
    rssm: RSSMConfig = field(default_factory=lambda: RSSMConfig(deter=48, hidden=48, stoch=4, classes=4))
    reward: HeadConfig = HEAD
    discount: HeadConfig = HEAD
    critic: HeadConfig = HEAD
    reward_transform: str = "identity"
    reward_scale: float = 10.0
    discount_scale: float = 1.0
    kl_scale: float = 0.1
    observation_scale: float = 10.0
    gamma: float = 0.95
    epsilon: float = 0.3
    follow: float = 0.02
    plan: PlanConfig = field(
        default_factory=lambda: PlanConfig(
            method="cem", horizon=3, iterations=2, candidates=24, elites=4, temperature=0.0, policy_candidates=0
        )
    )
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-3))


class Consistency(Objective):
    """1 - cos(p(features), slow(o)): the state must say what a slow copy of the encoder makes of what is seen.

    The copy centres what it says by its running mean over batches, or every state could say the same.
    """

    def __init__(self, features: int, encoder: Encoder, config: PlannerConfig) -> None:
        super().__init__()
        self.encoder = [encoder]  # in a list: its parameters are the policy's
        self.slow = deepcopy(encoder).requires_grad_(False)
        self.head = Head(features, encoder.outputs, HEAD)
        self.follow = config.follow
        self.register_buffer("centre", torch.zeros(encoder.outputs))

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            target = self.slow.encode(seen.observations)
            self.centre.lerp_(target.flatten(0, -2).mean(0), 0.05)
        return {"consistency": (1 - F.cosine_similarity(self.head(seen.features), target - self.centre, -1)).mean()}

    def reset_parameters(self) -> None:
        self.slow.load_state_dict(self.encoder[0].state_dict())

    @torch.no_grad()
    def after_update(self) -> None:
        for slow, fast in zip(self.slow.parameters(), self.encoder[0].parameters(), strict=True):
            slow.lerp_(fast, self.follow)


class PlannerPolicy(Policy):
    def __init__(self, model: WorldModel, critic: Head, config: PlannerConfig) -> None:
        super().__init__()
        self.model, self.critic, self.config, self.actions = model, critic, config, model.actions
        self.imagination = Imagination(model, critic)
        self.planning = plan_noise(config.plan, self.actions, model.latent_noise)
        self.noise = model.latent_noise + self.planning + self.actions.noise + 1

    def initial_state(self, batch: int) -> State:
        return self.model.initial_state(batch)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        u = noise.uniform(len(rows["is_first"]), self.noise)
        now = {name: value.unsqueeze(0) for name, value in rows.items()}
        state = self.model.observe(state, self.actions.encode(now["prev_action"]), now, u.unsqueeze(0)).last
        _, u_plan, u_action, u_explore = u.split([self.model.latent_noise, self.planning, self.actions.noise, 1], -1)
        action, _ = plan(self.imagination, state, self.actions, self.config.plan, u_plan)
        share = {"explore": self.config.epsilon, "random": 1.0, "greedy": 0.0}[seat.play]
        action = torch.where(u_explore < share, self.actions.uniform(u_action), action)
        return Decision(self.actions.decode(action), state)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[State, State]:
        u = noise.uniform(*rows["is_first"].shape, self.noise)
        seen = self.model.observe(state, self.actions.encode(rows["prev_action"]), rows, u)
        return seen.states, seen.last


class PlannerLearner(Learner):
    policy: PlannerPolicy

    def __init__(self, policy: PlannerPolicy, *given: object) -> None:
        super().__init__(policy, *given)
        self.model = policy.model
        self.model.objective.reset_parameters()
        placed(self, self.device)
        learned = [*self.model.trained_parameters(), *policy.critic.parameters()]
        self.optimisers = {"model": Optimiser(learned, policy.config.opt, self.model.rates)}

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        tape = self.noise.tape(*batch.rows["is_first"].shape, self.policy.noise)
        state, rows = start_state(self.policy, batch, self.windows, tape)
        action = self.model.actions.encode(rows["prev_action"])
        seen = self.model.observe(state, action, rows, tape.u[self.windows.context :], training=True)
        losses = self.model.losses(seen, rows, metrics)
        metrics |= loss_metrics(losses, self.optimisers)
        total, weighed = self.model.balance(losses)
        metrics |= weighed
        metrics["value_loss"] = (value_loss := self.value_loss(seen, rows)).detach()
        yield {"model": total + value_loss}
        self.model.objective.after_update()

    def value_loss(self, seen: Seen, rows: Mapping[str, Tensor]) -> Tensor:
        """Squared error of one step of bootstrapping, where the next row is of the same episode."""
        features = seen.features.detach()
        value = self.policy.critic(features)
        with torch.no_grad():
            target = self.model.reward.mean(features[1:]) + self.model.discounts(features[1:]) * value[1:]
        return (F.mse_loss(value[:-1], target, reduction="none") * ~rows["is_first"][1:]).mean()


class Planner(Agent):
    config: PlannerConfig
    Config: ClassVar[type] = PlannerConfig

    def policy(self) -> PlannerPolicy:
        config, actions = self.config, make_actions(self.env.action)
        encoder = Encoder(self.env.observation, config.encoder)
        rssm = RSSM(encoder.outputs, actions.size, config.rssm)
        reward = Reward(rssm.features, config.reward, UnitNormal(constant=False), config.reward_transform)
        discount = Discount(rssm.features, config.discount, Bernoulli(), config.gamma)
        objective = Consistency(rssm.features, encoder, config)
        model = WorldModel(config, encoder, rssm, actions, objective, reward, discount, config.gamma)
        return PlannerPolicy(model, Head(rssm.features, None, config.critic), config)

    def model(self, policy: PlannerPolicy) -> WorldModel:
        return policy.model

    def learner(self, policy: PlannerPolicy, windows: SequenceSpec, *given: object) -> PlannerLearner:
        return PlannerLearner(policy, windows, *given)
