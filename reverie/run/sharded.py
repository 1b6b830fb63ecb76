"""The runner with many actors whose store is in shards: rows go from the actors' processes to those of the shards.

::

    actors (Ray)   rollouts --- rows ------------------------->  shards (Ray): inbox -> store, some streams each
                        |                                          ^  |
                     reports                        requests, feedback  batches
                        v                                          |  v
    this process    counts, limiter, orders, parameters          feed -> learner

Orders, pacing, logs and checkpoints are those of `reverie.run.distributed`. A shard that is lost goes on from the
newest checkpoint, and its actors begin new lives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.config import Config
from reverie.data.feed import Feed
from reverie.data.selectors import SELECTORS
from reverie.data.sequences import Batch, Feedback
from reverie.data.shard import Plan, Shipment
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.overrides import Choice
from reverie.run.build import build_limiter, derive, made, pins, row_specs
from reverie.run.distributed import Distributed
from reverie.run.remote import Message
from reverie.run.roles import Trainer
from reverie.run.sharded_store import ShardedStore, shard_seed
from reverie.run.shipping import ShippingFleet, ShippingHost


class ShardFeed(Feed):
    """Batches of a store in shards, requested ahead: those under way arrive while the learner updates.

    requests: batches that may be under way beside those that wait here. Other arguments as in `Feed`.
    Feedback goes out at once; batches that were drawn before it came count in how late it is.
    """

    store: ShardedStore

    def __init__(self, store: ShardedStore, batch: int, device: torch.device, ahead: int, requests: int) -> None:
        super().__init__(store, batch, device, ahead)
        self.requests = requests

    @property
    def busy(self) -> bool:
        """Whether there is something to be learned, here or on its way."""
        return bool(self._batches) or self.store.under_way > 0

    def next(self, drain: bool = False) -> Batch | None:
        """The next batch, waited for if it is on its way; None if the store allows none.

        drain: give out those that are on their way, and request no others.
        """
        store = self.store
        while not drain and store.under_way + len(self._batches) < self.ahead + self.requests:
            if not store.may_sample(self.batch):
                break
            store.request(self.batch)
        while len(self._batches) <= self.ahead:
            batch = store.next(wait=not self._batches)
            if batch is None:
                break
            self._batches.append(self._placed(batch))
        if self._batches:
            return self._batches.popleft()
        if drain:
            store.cancel()
        return None

    def give(self, feedback: Feedback | None) -> None:
        """Take what the learner sends back on the batch that it was given first of those it has said nothing of."""
        if feedback is None:
            self.store.no_feedback()
        else:
            self.store.feedback(feedback)


class Sharded(Distributed):
    """The parts of a run whose store is in shards. Arguments as in `Distributed`.

    Raises UserError for settings of the replay that cannot be shared out.
    """

    host = ShippingHost
    crew = ShippingFleet
    store: ShardedStore
    inbox: ShardedStore

    def preflight(self) -> None:
        """Raise UserError also where the replay cannot be shared out."""
        replay = self.config.replay
        if not replay.selector.parts:
            raise UserError(
                f"ray.shards is {self.config.ray.shards}, but replay.selector "
                f"{Choice(SELECTORS).name(replay.selector)!r} draws in the order in which rows of all streams came, "
                "which no shard knows: set ray.shards = 0, or another selector"
            )
        if replay.store.place == "device":
            raise UserError("shards keep rows in the memory of the machine: set replay.store.place = host")
        super().preflight()

    def build(self, env: EnvSpec, run_dir: Path) -> Trainer:
        """The trainer, fed by a store in shards."""
        config, seed, folder = self.config, derive(self.config.run.seed, "replay"), made(run_dir / "replay")
        self.store = ShardedStore(
            self.ray,
            plans(config, self.learner, env, folder, seed),
            config.ray,
            build_limiter(config, self.learner.windows),
            seed,
            lambda line: self.say(line),
            self._latest,
            pin_memory=pins(config, self.learner.device),
        )
        self.feed = ShardFeed(
            self.store, config.replay.batch, self.learner.device, config.run.ahead, config.ray.requests
        )
        trainer = Trainer(self.learner, self.feed, config.run.capture, self.finite)
        self.parts |= {"trainer": trainer, "store": self.store}
        self.stores.append(self.store)
        return trainer

    def receiver(self) -> ShardedStore:
        """The store, which sends rows on."""
        return self.store

    def take(self, delivery: Message) -> bool:
        """Whether a delivery is new, and its rows were sent to their shard."""
        assert isinstance(delivery, Shipment)
        return self.store.take(delivery)

    def _latest(self) -> Path | None:
        """Folder of the newest checkpoint's shards."""
        newest = self.run.checkpoints.latest()
        return None if newest is None else newest / "store.shards"

    def act(self) -> None:
        """Order rollouts and take in what has arrived, from actors and shards; waits if there is nothing to learn."""
        store = self.store
        store.poll(0.0 if self.feed.busy or not store.full else 0.2)
        for actor in sorted(store.broken):
            self.fleet.renew(actor)
        if store.may_insert():
            busy = self.feed.busy or store.may_sample(self.config.replay.batch)
            self.gather(0.0 if busy else 0.2, self._more)
        self.shown.write()

    def _more(self) -> bool:
        """Whether rows may come in; as long as there are no windows, shards are asked whether there are now."""
        if not self.store.can_sample(self.config.replay.batch):
            self.store.poll()
        return self.store.may_insert()

    def save(self) -> None:
        """Write a checkpoint of everything. Raises UserError again where that is why shards cannot go on."""
        if self.store.shards.failed is not None:
            raise self.store.shards.failed
        super().save()

    def status(self) -> dict[str, Any]:
        """As of all distributed runs, with each shard."""
        return super().status() | {"shards": self.store.shards.status(), "lost_rows": self.store.lost_rows}

    def free(self) -> None:
        """End the shards."""
        self.store.stop()


def plans(config: Config, learner: Any, env: EnvSpec, folder: Path | None, seed: int) -> list[Plan]:
    """Shares of the shards: neighbouring actors each, equally many or one more, and their streams' part of the budget.

    Raises UserError as `row_specs` does.
    """
    spec, states = row_specs(config, learner, env)
    replay, ray = config.replay, config.ray
    streams = config.env.num_envs // ray.actors
    made = []
    for shard, actors in enumerate(np.array_split(np.arange(ray.actors), ray.shards)):
        budget = replay.store.budget * len(actors) // ray.actors
        made.append(
            Plan(
                spec,
                learner.windows,
                states,
                replay.selector,
                shard_seed(seed, shard),
                int(actors[0]),
                len(actors),
                streams,
                config.env.num_envs,
                budget,
                folder,
                replay.store.chunk,
            )
        )
    return made
