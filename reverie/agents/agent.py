"""Agents: the recipe of a policy that acts and of a learner that updates it.

::

    Agent            config + EnvSpec, no tensors: the same on every machine, can be pickled
      windows(asked)   -> SequenceSpec   the windows that batches must consist of
      policy()         -> Policy         all that an actor, an evaluation or a web page needs
      learner(policy)  -> Learner        the rest of the networks, losses, optimisers

Whoever acts builds a policy and no learner; the learner is built around a policy and shares its networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reverie.agents.learner import Learner, Result
from reverie.agents.noise import Noise, Tape
from reverie.agents.policy import Decision, Play, Policy, Seat, placed
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec

__all__ = ["Agent", "Decision", "Learner", "Noise", "Play", "Policy", "Result", "Seat", "Tape", "placed"]

AnyLearner = Learner  # by another name, because an agent's own `Learner` is the class of its learner


@dataclass(frozen=True)
class Agent(ABC):
    """Recipe of a policy and a learner. config: of the class `Config`. env: what the agent sees and does."""

    config: Any
    env: EnvSpec

    Config: ClassVar[type]
    """the frozen dataclass of this agent's settings; every field has a default"""
    Learner: ClassVar[Callable[..., AnyLearner]]
    """what `learner` calls with the agent and its own arguments: the class of its learner"""
    masks: ClassVar[bool] = False
    """whether its policies take only actions that an action mask allows; others are refused where there are masks"""
    tasks: ClassVar[bool] = False
    """whether its learner tells tasks apart where streams are of several environments; others are refused there"""
    padded: ClassVar[bool] = False
    """whether its policies leave padded actions alone (`EnvSpec.widths`); others are refused where there are some"""
    learners: ClassVar[bool] = False
    """whether several learners that share batches learn what one would (`reverie.ops.world`): said by each class of
    itself and not inherited, since a child's losses are others; see `unshared`"""
    asynchronous: ClassVar[bool] = False
    """whether workers with parameters of their own send gradients, as `reverie.agents.a3c` does: then its learners have
    ``gradients`` and its settings ``workers``"""
    priorities: ClassVar[bool] = False
    """whether its learners give priorities back (`Feedback`); draws by priority are refused elsewhere"""
    reuses: ClassVar[bool] = True
    """whether its losses hold for rows that were learned before; elsewhere each row is learned once, as it is acted"""
    presets: ClassVar[Mapping[str, Any]] = {}
    """presets of agents from other packages, the default first: name -> function of a `reverie.presets.task.Task` that
    returns a whole configuration. Ours are in `reverie.presets`."""

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Any:
        """Default settings that those in `given`, by their names, can be put into: of the class `Config`.

        An agent whose settings depend on one of them (HarmonyDream's on its base) chooses the class here.
        """
        return cls.Config()

    def __post_init__(self) -> None:
        """Hook for agents that cannot work with every environment: they raise ValueError, before all is built.

        It must be here for a child's to be called: only this class is made a dataclass.
        """

    def unshared(self) -> str:
        """Why several learners cannot share its batches, in words that follow its name; empty where they can."""
        if vars(type(self)).get("learners", False):
            return ""
        return "is not known to learn the same where several learners share a batch"

    def windows(self, asked: SequenceSpec) -> SequenceSpec:
        """The windows that this agent needs, given those that ``replay.window`` asks for (which have no lookahead)."""
        return asked

    @abstractmethod
    def policy(self) -> Policy:
        """A policy on the CPU, with fresh parameters from torch's global generator."""

    def learner(
        self,
        policy: Policy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> AnyLearner:
        """A `Learner` around a fresh policy, whose parameters it may initialise anew. Arguments as in `Learner`."""
        return self.Learner(self, policy, windows, seed, device, precision)
