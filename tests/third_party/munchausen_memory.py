"""Munchausen with a memory: DRQN's recipe and learner around Munchausen's head."""

from dataclasses import dataclass

from munchausen import MunchausenConfig, MunchausenDQN

from reverie.agents.drqn import DRQN, DRQNConfig


@dataclass(frozen=True)
class MunchausenDRQNConfig(DRQNConfig, MunchausenConfig):
    """Both; where they differ, DRQN's."""


class MunchausenDRQN(DRQN):
    Config = MunchausenDRQNConfig
    head = MunchausenDQN.head
