"""Plan2Explore: a Dreamer that looks for what its model does not know yet, while it learns the task on the side.

::

    rows      s_t --a_{t+1}--> s_{t+1}       K members learn mu_k(s_t, a_{t+1}) -> x_{t+1}, all features detached
    reward    i_{t+1} = scale D(s_t, a_{t+1}),     D = mean over dimensions of the variance of mu_k over members

    explorer  an actor and critics of their own, in dreams that pay i_1 .. i_H: acts in training
    task      the base's actor and critics, in dreams that pay what the reward head tells: acts in evaluation

One model, two behaviours: both are the base's, from its equations. The reward head reads features without a gradient
(``agent.grad_heads`` has no ``reward``), and so do the task's critics, so that the model is learned without rewards.
The reward for the novelty of a step is paid on arrival, to the action that was taken; the rows' own is known too, but
for the first row of a window, where the explorer learns nothing.

Which Dreamer explores is said by ``agent.base``. Another one is one entry of `BASES`.

Source: Sekar, Rybkin, Daniilidis, Abbeel, Hafner, Pathak, "Planning to Explore via Self-Supervised World Models", ICML
2020 (arXiv 2005.05960), and the code of DreamerV2, which has it over that agent. Parent: the base. Hook:
`DreamerLearner.behaviour_losses`. Differs from the paper in: the base is not Dreamer V1; members differ by their first
parameters alone, not by what they see; actions enter at the first layer only. See docs/plan2explore.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.agents.based import Base, BasedAgent
from reverie.agents.behaviour import Behaviour
from reverie.agents.dreamer import Dreamer, DreamerLearner
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config, DreamerV2Learner
from reverie.agents.dreamerv3 import DreamerV3, DreamerV3Config, DreamerV3Learner
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023, DreamerV3Of2023Config, DreamerV3Of2023Learner
from reverie.agents.model_learner import ModelAgent
from reverie.agents.policy import Seat
from reverie.agents.sampling_policy import SamplingPolicy
from reverie.agents.seen import Seen
from reverie.agents.worldmodel import GradHeads
from reverie.data.sequences import SequenceSpec
from reverie.nets.actions import Actions
from reverie.nets.encoders import Encoder
from reverie.nets.ensemble import Ensemble
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import frozen
from reverie.nets.learned_start import bounded
from reverie.nets.optim import OptimConfig
from reverie.nets.outputs import UnitNormal
from reverie.nets.state_space import StateSpace
from reverie.ops import world
from reverie.ops.disagreement import Spread, disagreement
from reverie.ops.stats import StreamNorm
from reverie.values import Scale, Share

EXPLORER = "explorer_"
"""begins the names of the explorer's losses, metrics and optimisers"""


@dataclass(frozen=True)
class ExploringConfig:
    """What an explorer adds to a Dreamer's settings.

    members: of the ensemble. ensemble: each of them. predicts: what they predict of the next row: its latent
    (``stoch``), the memory's deterministic state, or the embedding of its observations (the paper).
    spread: of the members' means, what is new where they differ. intrinsic_scale: of the rewards made of it.
    intrinsic_momentum: of a running mean of these rewards that they are divided by; 1: they are not.
    evaluate: who acts in evaluation.
    """

    members: Annotated[int, Field(ge=2)] = 10
    ensemble: HeadConfig = field(default_factory=HeadConfig)
    predicts: Literal["stoch", "deter", "embed"] = "stoch"
    spread: Spread = "variance"
    intrinsic_scale: Scale = 1.0
    intrinsic_momentum: Share = 1.0
    evaluate: Literal["task", "explorer"] = "task"


@dataclass(frozen=True)
class EnsembleOptConfig:
    """Optimiser of the ensemble, where there are several; the explorer's are like the task's."""

    ensemble_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-4))


@dataclass(frozen=True)
class Plan2ExploreConfig(EnsembleOptConfig, ExploringConfig, DreamerV2Config):
    """The base's settings, with an explorer, and a model that no reward shapes.

    base: the agent that explores. Its settings are those of that agent, so that it cannot be changed afterwards.
    """

    grad_heads: GradHeads = ("decoder", "discount")
    base: Literal["dreamerv2"] = "dreamerv2"


@dataclass(frozen=True)
class Plan2ExploreV3Of2023Config(EnsembleOptConfig, ExploringConfig, DreamerV3Of2023Config):
    """The same over DreamerV3 of 2023. base: see `Plan2ExploreConfig`."""

    grad_heads: GradHeads = ("decoder", "discount")
    base: Literal["dreamerv3-2023"] = "dreamerv3-2023"


@dataclass(frozen=True)
class Plan2ExploreV3Config(ExploringConfig, DreamerV3Config):
    """The same over DreamerV3. base: see `Plan2ExploreConfig`."""

    grad_heads: GradHeads = ("decoder", "discount")
    base: Literal["dreamerv3"] = "dreamerv3"


class ExploringPolicy(DreamerPolicy):
    """Policy with two actors: the explorer in training, the task's in evaluation (``agent.evaluate``)."""

    def __init__(self, *arguments: Any, explorer: Head, evaluate: str) -> None:
        super().__init__(*arguments)
        self.explorer, self.explores_always = explorer, evaluate == "explorer"

    def actor_of(self, seat: Seat) -> Head:
        """The actor that decides from a seat."""
        return self.explorer if seat.play == "explore" or self.explores_always else self.actor


class ExploringSamplingPolicy(ExploringPolicy, SamplingPolicy):
    """The same, which samples in evaluation too."""


class ExploringLearner(DreamerLearner):
    """What a base's learner gains: the ensemble, and the explorer's behaviour beside the task's."""

    policy: ExploringPolicy
    config: Any

    def build(self, agent: ModelAgent) -> None:
        """Make both behaviours and the ensemble."""
        super().build(agent)
        assert isinstance(agent, Dreamer)
        config, model = self.config, self.model
        sizes = {"stoch": model.rssm.latent.size, "deter": model.rssm.deter, "embed": model.encoder.outputs}
        inputs = model.rssm.features + self.actions.size
        self.ensemble = Ensemble(inputs, sizes[config.predicts], config.members, config.ensemble)
        self.norm = StreamNorm(config.intrinsic_momentum, config.intrinsic_scale)
        self.exploring: Behaviour = agent.Behaviour(agent, self, self.policy.explorer, self.intrinsic_rewards)
        self.explorer = nn.ModuleDict(self.exploring.networks())

    def behaviours(self) -> list[Behaviour]:
        """The task's and the explorer's."""
        return [self.behaviour, self.exploring]

    def initialise(self) -> None:
        """First parameters of the base's networks, of the explorer's, and of the ensemble."""
        super().initialise()
        self.draw(self.ensemble)

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each group of losses."""
        explorers = {EXPLORER + group: parameters for group, parameters in self.exploring.trained().items()}
        return super().trained() | explorers | {"ensemble": list(self.ensemble.parameters())}

    def optimiser_of(self, group: str) -> OptimConfig:
        """Settings of the optimiser of a group; the explorer's are the task's."""
        return super().optimiser_of(group.removeprefix(EXPLORER))

    @property
    def reserved(self) -> tuple[str, ...]:
        """Losses beside the model's parts that a log has."""
        return (*super().reserved, *self.trained(), EXPLORER + "replay_critic")

    def behaviour_losses(self, seen: Seen, rows: dict[str, Tensor], metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the task's behaviour, of the ensemble, and of the explorer, for whom rewards are what was new."""
        apart = seen.apart()
        losses = super().behaviour_losses(seen if "reward" in self.config.grad_heads else apart, rows, metrics)
        losses["ensemble"], intrinsic = self.ensemble_loss(apart, rows, metrics)
        found: dict[str, Tensor] = {}
        later = {name: value[1:] for name, value in rows.items()} | {"reward": intrinsic}
        for name, loss in self.exploring.losses(apart.since(1), later, found).items():
            losses[EXPLORER + name] = loss
        metrics.update({EXPLORER + name: value for name, value in found.items()})
        return losses

    def ensemble_loss(
        self, seen: Seen, rows: Mapping[str, Tensor], metrics: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Loss of the ensemble, and the explorer's rewards of rows 1 .. T-1, [T-1, B]; first rows have 0.

        L = sum_k mean over steps of |x_{t+1} - mu_k(s_t, a_{t+1})|^2 / 2; a step into a first row is none.
        """
        targets = {**seen.states, "embed": seen.embed}[self.config.predicts][1:].detach()
        with self.autocast():
            means = self.ensemble(torch.cat([seen.features[:-1].detach(), seen.action[1:]], -1))
        steps = ~rows["is_first"][1:]
        losses = UnitNormal(1, constant=False).loss(means, targets.float().expand_as(means)).sum(0)
        new = torch.where(steps, disagreement(means.detach(), self.config.spread), 0.0)
        mean = world.ratio(new.sum(), steps)
        self.norm.update(mean)
        metrics["intrinsic_reward"] = mean
        return world.ratio(torch.where(steps, losses, 0.0).sum(), steps), self.norm(new)

    def intrinsic_rewards(self, features: Tensor, actions: Tensor, first: Tensor) -> Tensor:
        """Rewards of a dream: that of the row it begins from, then scale D(s_i, a_{i+1}) of every step, [H+1, N].

        Actions count as the memory takes them: beyond [-1, 1], which a normal actor dreams and no row holds, the
        ensemble would disagree about steps that change nothing.
        """
        with frozen(self.ensemble):
            means = self.ensemble(torch.cat([features[:-1], bounded(actions)], -1))
        return torch.cat([first.unsqueeze(0), self.norm(disagreement(means, self.config.spread))])


class ExploringDreamer(Dreamer):
    """What a base's recipe gains: a policy with an explorer."""

    Policy: ClassVar[type[ExploringPolicy]] = ExploringPolicy

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """As asked. Raises ValueError where they are too short for the explorer."""
        if asked.learn < 3:
            raise ValueError(f"replay.window.learn must be >= 3 (rewards are those of steps), got {asked.learn}")
        return super().windows(asked)

    def policy_of(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions) -> DreamerPolicy:
        """A policy with a fresh explorer too."""
        return self.Policy(
            encoder,
            rssm,
            actor,
            actions,
            self.env.action_mask,
            explorer=self.actor(rssm.features, actions.params),
            evaluate=self.config.evaluate,
        )


class ExploringV2Learner(ExploringLearner, DreamerV2Learner):
    """DreamerV2's learner with an explorer."""


class ExploringV2(ExploringDreamer, DreamerV2):
    """DreamerV2 with an explorer."""

    Learner: ClassVar[type[DreamerLearner]] = ExploringV2Learner
    learners: ClassVar[bool] = True


class ExploringV3Of2023Learner(ExploringLearner, DreamerV3Of2023Learner):
    """The learner of DreamerV3 of 2023 with an explorer."""


class ExploringV3Of2023(ExploringDreamer, DreamerV3Of2023):
    """DreamerV3 of 2023 with an explorer."""

    Learner: ClassVar[type[DreamerLearner]] = ExploringV3Of2023Learner
    learners: ClassVar[bool] = True
    Policy: ClassVar[type[ExploringPolicy]] = ExploringSamplingPolicy


class ExploringV3Learner(ExploringLearner, DreamerV3Learner):
    """DreamerV3's learner with an explorer."""


class ExploringV3(ExploringDreamer, DreamerV3):
    """DreamerV3 with an explorer."""

    Learner: ClassVar[type[DreamerLearner]] = ExploringV3Learner
    learners: ClassVar[bool] = True
    Policy: ClassVar[type[ExploringPolicy]] = ExploringSamplingPolicy


BASES: dict[str, Base] = {
    "dreamerv2": Base(ExploringV2, Plan2ExploreConfig),
    "dreamerv3-2023": Base(ExploringV3Of2023, Plan2ExploreV3Of2023Config),
    "dreamerv3": Base(ExploringV3, Plan2ExploreV3Config),
}
"""what ``agent.base`` may be, the default first"""


class Plan2Explore(BasedAgent):
    """Recipe of a Dreamer that explores."""

    Config: ClassVar[type] = Plan2ExploreConfig
    learners: ClassVar[bool] = True
    bases: ClassVar[Mapping[str, Base]] = BASES
    refusal: ClassVar[str] = "cannot explore"
