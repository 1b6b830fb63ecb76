"""Agents that are built on another one: which of several, one setting says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reverie.agents.agent import Agent, AnyLearner
from reverie.agents.dreamer import Dreamer, DreamingConfig
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.predictors import Estimator
from reverie.agents.worldmodel import WorldModel
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError, suggest


@dataclass(frozen=True)
class Base:
    """An agent to build on. recipe: that does what is to be done with these settings. config: the class of settings."""

    recipe: type[Dreamer]
    config: type[DreamingConfig]


class BasedAgent(Agent):
    """Recipe of the agent that ``agent.base`` names, with settings of a class of its own. Settings have `base`."""

    bases: ClassVar[Mapping[str, Base]]
    """what ``agent.base`` may be, the default first"""
    refusal: ClassVar[str] = "is not there"
    """what is said of another one"""
    masks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise ValueError where the base cannot work."""
        self.base  # noqa: B018

    @classmethod
    def base_of(cls, name: str) -> Base:
        """The base of that name. Raises UserError for another one."""
        if name not in cls.bases:
            raise UserError(f"agent.base = {name!r} {cls.refusal}{suggest(name, cls.bases)}")
        return cls.bases[name]

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> DreamingConfig:
        """Default settings over the base that is named among those that are given."""
        return cls.base_of(str(given.get("base", next(iter(cls.bases))))).config()

    def unshared(self) -> str:
        """Also what is to be said of its base."""
        return super().unshared() or self.base.unshared()

    @property
    def base(self) -> Dreamer:
        """The recipe of the base, with these settings."""
        return self.base_of(self.config.base).recipe(self.config, self.env)

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """The base's windows."""
        return self.base.windows(asked)

    def policy(self) -> DreamerPolicy:
        """The base's policy."""
        return self.base.policy()

    def model(self, policy: DreamerPolicy) -> WorldModel:
        """The base's model."""
        return self.base.model(policy)

    def critic(self, features: int) -> Estimator:
        """The base's critic."""
        return self.base.critic(features)

    def learner(
        self,
        policy: DreamerPolicy,  # type: ignore[override]
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> AnyLearner:
        """The base's learner."""
        return self.base.learner(policy, windows, seed, device, precision)
