"""An actor in a process of its own, whoever calls it: it takes orders, acts, and delivers chunks of rows.

Nothing here knows how messages travel. What arrives is only read, never written to: engines hand out arrays that cannot
be written.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import overrides
from reverie.agents import find
from reverie.agents.agent import Agent, Play, Seat, placed
from reverie.config import Config
from reverie.data.inbox import Delivery
from reverie.data.sequences import Chunk
from reverie.data.shard import Shipment
from reverie.envs.faults import EnvFault
from reverie.envs.wrappers import Carried
from reverie.errors import UserError
from reverie.run.allocator import prepare_process
from reverie.run.build import build_agent, build_env, build_outbox, build_policy, build_windows, derive
from reverie.run.finite import Finite
from reverie.run.inference import Seen
from reverie.run.ledger import Ended
from reverie.run.owner import Gradients
from reverie.run.params import Published, install
from reverie.run.roles import Actor, Tell, rollout


@dataclass(frozen=True)
class Birth:
    """Beginning of a life of an actor. indices: of the next row in each of its streams, int64 [streams].

    settings: the run's, see `sent`. path: where this process finds modules; the actor looks there too. carried: by
    wrappers in an earlier life.
    """

    actor: int
    incarnation: int
    indices: np.ndarray
    settings: Mapping[str, Any]
    path: tuple[str, ...] = ()
    carried: Carried | None = None

    def config(self) -> Config:
        """The run's configuration; its agent may be of a module that only now can be imported."""
        return received(self.settings, self.path)


def life_seed(config: Config, actor: int, incarnation: int) -> int:
    """Seed of a life of an actor: no two have the same."""
    return derive(config.run.seed, f"actor {actor} {incarnation}")


def sent(config: Config) -> dict[str, Any]:
    """A configuration as it travels: plain values, for which no class of anybody has to be imported on the way."""
    return overrides.to_dict(config)


def received(settings: Mapping[str, Any], path: tuple[str, ...]) -> Config:
    """Inverse of `sent`. path: where the sender finds modules; this process looks there too."""
    sys.path += [folder for folder in path if folder not in sys.path]
    name, preset = settings["name"], settings["preset"]
    return overrides.from_dict(Config(name, preset, find(name).load().Config()), settings)


@dataclass(frozen=True)
class Parameters:
    """Parameters on their way: `Published`, whose bytes are an array that engines can share between processes."""

    version: int
    env_steps: int
    flat: np.ndarray

    @classmethod
    def of(cls, published: Published) -> Parameters:
        """Those that were published."""
        return cls(published.version, published.env_steps, published.flat.numpy())

    def published(self) -> Published:
        """A copy that may be written to."""
        return Published(self.version, self.env_steps, torch.from_numpy(np.array(self.flat)))


@dataclass(frozen=True)
class Orders:
    """One rollout. steps: decisions of each stream. play: see `Seat`. env_steps: of the whole run so far."""

    steps: int
    play: Play
    env_steps: int


Message = Delivery | Gradients | Seen | Shipment
"""What an actor delivers, by the kind of run."""


@dataclass(frozen=True)
class Report:
    """Outcome of a rollout.

    delivery: rows, the head of a delivery whose rows travel apart, the gradients of rows that stay there, or what
    followed on a decision. ended: episodes, their streams counted from the actor's first, and what is said of them, by
    place in `ended`. version: of the parameters that acted. env_steps: decisions that were taken. seconds: that it
    took. memory: bytes of the process, its share of what it has in common with others (Linux; elsewhere 0). carried: by
    wrappers of its first environment. whole: whether the life has come as far as a whole rollout, so that it counts as
    one that works.
    """

    delivery: Message
    ended: list[Ended]
    info: list[Mapping[str, float]]
    metrics: dict[str, float]
    version: int
    env_steps: int
    seconds: float
    memory: int
    carried: Carried | None = None
    whole: bool = True
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True)
class Crash:
    """Report of an actor that cannot go on. text: the traceback. delivery: rows of before, None if there were none.

    final: an error that is the user's to mend, in one line; a new life of the actor would not help. ended, info: as in
    `Report`, of the rollout that it ended.
    """

    actor: int
    incarnation: int
    seed: int
    text: str
    delivery: Delivery | Shipment | None = None
    final: bool = False
    ended: list[Ended] = field(default_factory=list)
    info: list[Mapping[str, float]] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)


class Host:
    """Body of a process with some of the run's environments, which says how it failed if it cannot go on.

    chunk: decisions of a rollout. threads: of torch.
    """

    def __init__(self, birth: Birth, actors: int, chunk: int, threads: int = 1) -> None:
        self.birth, self.sequence, self.seed = birth, 0, 0
        self.failed: Crash | None = None
        self.ended: list[Ended] = []
        """episodes of the rollout that is made, or was made last"""
        self.info: list[Mapping[str, float]] = []
        """what is said of each of them"""
        try:
            prepare_process(threads)
            config = birth.config()
            self.seed = life_seed(config, birth.actor, birth.incarnation)
            self.env = build_env(config, config.env.num_envs // actors)
            if birth.carried is not None:
                self.env.adopt(birth.carried, keep=False)
            self.begin(config, chunk)
        except Exception as error:
            self.failed = self._crash(error)

    def begin(self, config: Config, chunk: int) -> None:
        """Make what else there is in the process, and reset the environments."""
        raise NotImplementedError

    def ping(self) -> int:
        """Number of the process, once it is ready."""
        return os.getpid()

    def answer(self, work: Callable[[], Report]) -> Report | Crash:
        """Outcome of some work. After a crash it says the same again and does nothing."""
        if self.failed is None:
            try:
                return work()
            except Exception as error:
                self.failed = self._crash(error, self.left())
        return self.failed

    def left(self) -> Delivery | None:
        """What is to be delivered of work that ended in its midst: nothing."""
        return None

    def _crash(self, error: Exception, delivery: Delivery | None = None) -> Crash:
        raised = isinstance(error, EnvFault) and error.detail  # what an environment raises may be gone in a new life
        final = isinstance(error, UserError) and not raised
        text = str(error) if final else "".join(traceback.format_exception(error))
        if isinstance(error, EnvFault) and raised:
            text = f"{error.detail}\n{error}"
        ended, info = ([], []) if delivery is None else (self.ended, self.info)
        return Crash(self.birth.actor, self.birth.incarnation, self.seed, text, delivery, final, ended, info)


class ActorHost(Host):
    """Body of an actor's process: environments, a policy of its own, an outbox that collects what is to be sent.

    chunk: also rows of one stream per chunk.
    """

    def begin(self, config: Config, chunk: int) -> None:
        """Make the actor, and reset its environments."""
        self.chunks: list[Chunk] = []
        self.actor = self.build(config, build_agent(config, self.env.spec), chunk)
        first = self.birth.actor * self.env.num_envs
        self.streams, self.total = range(first, first + self.env.num_envs), config.env.num_envs
        self.version = -1
        self.actor.start()

    def build(self, config: Config, agent: Agent, chunk: int) -> Actor:
        """The actor, in the environments that are there, and whatever it needs."""
        policy = placed(build_policy(config, agent))
        windows = build_windows(config, agent)
        self.outbox = build_outbox(config, self, self.env.spec, self.env.num_envs, policy, windows, chunk)
        self.outbox.begin(self.birth.indices)
        return Actor(self.env, policy, self.outbox.put, self.seed, Finite(config.run.nonfinite, config.env.id))

    def rollout(self, parameters: Parameters, orders: Orders) -> Report | Crash:
        """Act, after taking over parameters that are newer, see `answer`."""
        return self.answer(lambda: self._rollout(parameters, orders))

    def _rollout(self, parameters: Parameters, orders: Orders) -> Report:
        since = time.perf_counter()
        if parameters.version > self.version:
            self.adopt(parameters)
        self.ended, self.info = [], []

        def tell(over: list[Ended], said: Mapping[int, Mapping[str, float]]) -> None:
            self.ended.extend(over)
            self.info.extend(said.get(stream, {}) for stream, _, _ in over)

        before = self.actor.env_steps
        delivery = self.work(orders.steps, Seat(self.streams, self.total, orders.env_steps, orders.play), tell)
        taken = self.actor.env_steps - before
        seconds = time.perf_counter() - since
        metrics = self.actor.metrics()
        told = self.env.carried()
        return Report(
            delivery, self.ended, self.info, metrics, self.version, taken, seconds, proportional_memory(), told
        )

    def adopt(self, parameters: Parameters) -> None:
        """Take over parameters that are newer."""
        install(parameters.published(), self.actor.policy)
        self.version = parameters.version

    def work(self, steps: int, seat: Seat, tell: Tell) -> Delivery | Gradients:
        """What is to be delivered after a rollout of so many decisions: rows."""
        rollout(self.actor, seat, self.version, self.total, lambda made: made < steps, tell)
        return self._deliver()

    def left(self) -> Delivery | None:
        """What is to be delivered of a rollout that ended in its midst: the rows before it did."""
        self.outbox.abandon()
        return self._deliver()

    def add(self, *row: object) -> None:
        """Refuse single rows: what travels between processes travels in chunks."""
        raise TypeError("an actor elsewhere sends chunks of rows")

    def add_chunk(self, chunk: Chunk) -> None:
        """Collect a chunk for the next delivery."""
        self.chunks.append(chunk)

    def _deliver(self) -> Delivery:
        delivery = Delivery(self.birth.actor, self.birth.incarnation, self.sequence, self.chunks)
        self.sequence, self.chunks = self.sequence + 1, []
        return delivery


def proportional_memory() -> int:
    """Bytes of this process, pages that it shares with others divided among them (PSS); 0 where it is not known."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
