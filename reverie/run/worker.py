"""Role that acts and learns without a step of its own: it plays, computes gradients of its rows, sends, fetches.

::

    fetch ---> parameters of its own ---> actor ---> outbox ---> store ---> batch ---> learner ---> gradients ---> owner
                                             +--- plays until its store has a batch ----+

Environments, recurrent states, rows and parameters are the worker's own; only gradients leave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from reverie.agents.agent import Agent, Learner, Seat
from reverie.agents.learner import load_tensors, tensors_of
from reverie.config import Config
from reverie.data.feed import Feed
from reverie.data.sequences import Batch
from reverie.data.store import Store
from reverie.envs.env import VectorEnv
from reverie.errors import UserError
from reverie.run.build import build_learner, build_outbox, build_store, derive
from reverie.run.finite import Finite
from reverie.run.owner import Gradients
from reverie.run.params import Published, install
from reverie.run.roles import Actor, Tell, rollout


class Sender(Protocol):
    """Learner whose gradients can be sent, such as `reverie.agents.a3c.A3CLearner`."""

    def gradients(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradients by group, which nobody has stepped on, and metrics."""


class Worker:
    """An actor, a store and a learner that belong together, in environments of their own.

    number, incarnation: of this worker, see `Gradients`. seed: of its actor. store: must use windows up.
    learner: of its own; its policy acts.
    """

    def __init__(
        self, config: Config, env: VectorEnv, learner: Learner, store: Store, number: int, incarnation: int, seed: int
    ) -> None:
        self.env, self.learner, self.store = env, learner, store
        self.number, self.incarnation, self.sequence = number, incarnation, 0
        self.batch = config.replay.batch
        self.feed = Feed(store, self.batch, learner.device)
        self.outbox = build_outbox(config, store, env.spec, env.num_envs, learner.policy, learner.windows)
        finite = Finite(config.run.nonfinite, config.env.id)
        self.actor = Actor(env, learner.policy, self.outbox.put, seed, finite)
        self.version = -1
        """of its parameters; -1: it has not fetched any"""
        self._told = 0

    def fetch(self, published: Published) -> None:
        """Take over parameters."""
        install(published, self.learner.policy)
        self.version = published.version

    def work(self, seat: Seat, stride: int, tell: Tell) -> Gradients:
        """Gradients of the next batch of own rows, for which it plays on if there is none. Arguments as in `rollout`.

        env_steps of them are those since the last ones, whatever batch their rows are in.
        """
        rollout(self.actor, seat, self.version, stride, lambda _: not self.store.may_sample(self.batch), tell)
        batch = self.feed.next()
        assert batch is not None
        groups, metrics = cast(Sender, self.learner).gradients(batch)
        self.feed.settle()
        made, self._told = self.store.env_steps - self._told, self.store.env_steps
        gradients = Gradients(
            self.number,
            self.incarnation,
            self.sequence,
            self.version,
            made,
            {group: flat.float().cpu().numpy() for group, flat in groups.items()},
            dict(zip(metrics, torch.stack([x.double() for x in metrics.values()]).tolist(), strict=True)),
        )
        self.sequence += 1
        return gradients

    def state_dict(self) -> dict[str, Any]:
        """All but the environments: parameters, rows that wait, recurrent states, generators."""
        return {
            "version": self.version,
            "sequence": self.sequence,
            "told": self._told,
            "tensors": tensors_of(self.learner),
            "noise": self.learner.noise.state(),
            "store": self.store.state_dict(),
            "outbox": self.outbox.state_dict(),
            "actor": self.actor.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.version, self.sequence, self._told = (int(state[name]) for name in ("version", "sequence", "told"))
        load_tensors(self.learner, state["tensors"])
        self.learner.noise.restore(state["noise"])
        self.store.load_state_dict(state["store"])
        self.outbox.load_state_dict(state["outbox"])
        self.actor.load_state_dict(state["actor"])


def build_worker(
    config: Config,
    agent: Agent,
    env: VectorEnv,
    number: int,
    incarnation: int,
    seed: int,
    device: torch.device,
    folder: Path | None = None,
) -> Worker:
    """Worker in these environments. folder: where its rows are kept; None: nowhere.

    Its share of the replay's budget is that of its streams. Raises UserError if a batch does not fit into it.
    """
    streams, replay = env.num_envs, config.replay
    share = replace(replay.store, budget=max(1, replay.store.budget * streams // config.env.num_envs))
    own = replace(
        config,
        env=replace(config.env, num_envs=streams),
        replay=replace(replay, store=share),
        run=replace(config.run, seed=derive(seed, "worker")),
        ray=replace(config.ray, actors=0),
    )
    learner = build_learner(own, agent, device)
    if missing := set(learner.parameters()) - set(learner.policy.parameters()):
        raise ValueError(f"{len(missing)} trained parameters are not the policy's: workers would not fetch them")
    try:
        store = build_store(own, learner, env.spec, folder)
    except UserError as error:
        of = f"that of a worker with {streams} of {config.env.num_envs} streams, which share replay.store.budget"
        raise UserError(f"{error} (the replay is {of})") from error
    return Worker(own, env, learner, store, number, incarnation, seed)


def check_workers(config: Config, workers: int) -> None:
    """Raise UserError with settings that mean nothing where workers send gradients, or streams not to be shared."""
    run, name = config.run, config.name
    for key, given, wanted, why in (
        ("run.train_ratio", run.train_ratio, None, "a worker makes a gradient of every batch, as it comes"),
        ("run.prefill", run.prefill, 0, "no row is acted at random"),
        ("run.publish_every", run.publish_every, 0, "a worker fetches parameters after each of its gradients"),
        ("run.overlap", run.overlap, 0, "a worker plays until it has a batch"),
        ("run.ahead", run.ahead, 0, "a worker's batch is there when it has been played"),
        ("run.capture", run.capture, False, "an update is of two processes"),
        ("ray.inference", config.ray.inference, "actor", "each acts with parameters of its own"),
        ("ray.rows", config.ray.rows, 0, "a worker plays until it has a batch"),
        ("ray.shards", config.ray.shards, 0, "a worker keeps its rows"),
        ("ray.learners", config.ray.learners, 1, "one process steps on each of them"),
    ):
        if given != wanted:
            wants = str(wanted).lower()
            raise UserError(f"{key} is {given}, but {name}'s workers send gradients: {why}; set {key} = {wants}")
    if config.env.num_envs % workers:
        nearest = -(-config.env.num_envs // workers) * workers
        raise UserError(
            f"{config.env.num_envs} streams cannot be shared equally by {workers} workers: "
            f"set env.num_envs = {nearest}, or another agent.workers"
        )
