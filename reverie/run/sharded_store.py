"""The learner's side of a store in shards: counts, pacing, and batches that are under way while the learner updates.

::

    report of an actor --> counts (env_steps, limiter) --> rows' reference --> shard of the actor
    request --> draw at every shard --> weights --> each window from a shard --> rows --> batch, joined here
    feedback --> by key, to the shard that drew it

Rows are in no hand here before they are in a batch. All that is sent is in one order, so that draws of all shards are
of one moment; see `reverie.data.shard` for why a batch is then exactly one of a single store. A new window without an
actor's priority gets the largest that was seen: what other shards have seen of actors' priorities is known here, and
sent on, one answer late.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from reverie.config import RayConfig
from reverie.data.inbox import Lives, Receiver
from reverie.data.keys import split_keys
from reverie.data.limiter import Limiter
from reverie.data.paced import Paced
from reverie.data.pool import Pool
from reverie.data.rings import Rings
from reverie.data.room import Room
from reverie.data.rows import bytes_of
from reverie.data.sequences import Batch, Feedback
from reverie.data.shard import Ask, Give, Plan, Shipment, joined
from reverie.errors import UserError
from reverie.run.build import derive
from reverie.run.draws import Draws, Then
from reverie.run.shards import Shards
from reverie.run.tree import Beside

QUEUE = 32
"""messages to one shard without an answer from which on no rows are sent"""


class ShardedStore(Paced, Receiver):
    """Store over shards in processes of their own, which are made when the first message is sent.

    plans: of the shards, in the order of their streams. limiter: the run's. seed: of draws between shards.
    say: takes a line for people. latest: folder of the newest checkpoint, from which a lost shard returns; None: none.
    """

    def __init__(
        self,
        ray: ModuleType,
        plans: Sequence[Plan],
        options: RayConfig,
        limiter: Limiter,
        seed: int,
        say: Callable[[str], None],
        latest: Callable[[], Path | None],
        pin_memory: bool = False,
    ) -> None:
        super().__init__(limiter)
        self.plans, self.options, self._say, self._latest = list(plans), options, say, latest
        self.shards = Shards(ray, plans, options, self._on_loss)
        plan = plans[0]
        self._learn, self._length = plan.windows.learn, plan.windows.length
        self._of_actor = np.repeat(np.arange(len(plans)), [plan.actors for plan in plans])
        self._of_stream = np.repeat(self._of_actor, plan.streams)
        self.lives = Lives(len(self._of_actor))
        self.counts = np.zeros(len(self._of_stream), np.int64)
        """absolute index of the next row of each stream, after all that was sent"""
        self.broken: set[int] = set()
        """actors whose rows were lost, with a shard or on their way: they must begin anew"""
        self.largest, self.lost_rows = 0.0, 0
        self._stale = self._sampled = 0
        self._queues: list[list[tuple[Ask, Then | None]]] = [[] for _ in plans]
        self._draws = Draws(len(plans), self._queue, self._lives, seed)
        self._given: deque[tuple[int, ...]] = deque()
        rings = Rings(plan.spec, 1, torch.device("cpu"))
        self._pool = Pool(lambda batch: rings.buffers((self._length, batch), pin_memory), 3)

    # Rows

    def begin(self, actor: int) -> tuple[int, np.ndarray]:
        """As `reverie.data.inbox.Inbox.begin`."""
        shard = int(self._of_actor[actor])
        self.broken.add(actor)  # what is heard meanwhile of rows of its last life ends no other one
        self._flush(shard)
        while not self.shards.wait([call := self.shards.call(shard, "begin", actor, int(self.incarnation[actor]))]):
            pass
        incarnation, indices = call.value
        self.lives.begin(actor, incarnation - 1)
        self.broken.discard(actor)
        streams = self.plans[shard].streams
        self.counts[actor * streams : (actor + 1) * streams] = indices
        return incarnation, np.array(indices)

    def take(self, shipment: Shipment) -> bool:
        """Whether a shipment is new and of its actor's present life; only then its rows are sent to their shard."""
        if not self.lives.due(shipment):
            return False
        self.lives.taken(shipment)
        self.env_steps += shipment.env_steps
        actor, shard = shipment.actor, int(self._of_actor[shipment.actor])
        first = actor * self.plans[shard].streams
        rows = 0
        for stream, end in shipment.ends.items():
            rows += end - int(self.counts[first + stream])
            self.counts[first + stream] = end
        self._flush(shard)
        head = Shipment(actor, shipment.incarnation, shipment.sequence, shipment.env_steps, shipment.ends)
        taken = partial(self._taken, actor, shipment.incarnation, rows)
        spoiled = partial(taken, False)
        self.shards.call(shard, "take", head, shipment.rows, self.largest, then=taken, spoiled=spoiled)
        return True

    def may_insert(self) -> bool:
        """As `Paced.may_insert`, and no shard has too much to do."""
        return not self.full and super().may_insert()

    @property
    def full(self) -> bool:
        """Whether a shard has too much to do."""
        return self.shards.longest >= QUEUE

    def poll(self, timeout: float = 0.0) -> None:
        """Send what waits, and take in what shards have answered. Raises UserError as `Shards.poll` does."""
        for shard in range(len(self.plans)):
            self._flush(shard)
        self.shards.poll(timeout)
        for process in self.shards.each:
            if process.tally is not None:
                self.largest = max(self.largest, process.tally.largest)

    def _taken(self, actor: int, incarnation: int, rows: int, taken: bool) -> None:
        """Take notice of whether a shard has taken rows of a life of an actor; without them it cannot go on."""
        if taken:
            return
        self.lost_rows += rows
        if incarnation == self.incarnation[actor] and actor not in self.broken:
            self._say(f"reverie: rows of actor {actor} were lost on their way to their shard; it begins anew")
            self._end(actor)

    def _end(self, actor: int) -> None:
        """End the present life of an actor; nothing that comes from it is taken."""
        self.lives.begin(actor)
        self.broken.add(actor)

    # Batches

    @property
    def sampled_rows(self) -> int:
        """Trained rows of all batches that were requested."""
        return self._sampled

    @property
    def under_way(self) -> int:
        """Batches that were requested and not given out."""
        return len(self._draws.requests)

    @property
    def pool(self) -> Pool:
        """The buffers that batches are joined in."""
        return self._pool

    def can_sample(self, batch: int) -> bool:
        """Whether a shard has said that it has windows."""
        return any(process.tally is not None and process.tally.drawable for process in self.shards.each)

    def request(self, batch: int) -> None:
        """Have a batch of so many windows drawn. Ask `may_sample` before each."""
        self._sampled += batch * self._learn
        self._draws.request(batch)

    def next(self, wait: bool = True) -> Batch | None:
        """The batch that was requested first; None if there is none, if shards have no windows, or if it is not here.

        wait: until it is here.
        """
        if not self._draws.requests:
            return None
        request = self._draws.requests[0]
        if request.empty:
            self.poll()
            if not self.can_sample(request.width):
                return None
            self._draws.draw(request)
        self.poll()
        while wait and not (request.whole or request.empty):
            self.poll(0.2)
        if not request.whole:
            return None
        self._draws.requests.popleft()
        self._given.append(request.lives)
        assert request.places is not None
        return joined(request.parts, request.places, request.total, self._pool.next(request.width))

    def cancel(self) -> None:
        """Forget the batches that are under way; they count as never drawn."""
        self._sampled -= self._draws.cancel() * self._learn

    def _lives(self) -> tuple[int, ...]:
        """Present lives of the shards."""
        return tuple(process.life for process in self.shards.each)

    def sample(self, batch: int) -> Batch:
        """A batch, at once. Raises RuntimeError if shards have no windows."""
        self.poll()
        self.request(batch)
        made = self.next()
        if made is None:
            self.cancel()
            raise RuntimeError(f"the shards cannot give {batch} windows yet ({self.rows} rows stored)")
        return made

    # Feedback

    def feedback(self, feedback: Feedback) -> None:
        """Send feedback on the batch that was given out first and has none yet to the shards of its keys.

        Windows of a shard's earlier life are skipped, and counted as stale: their keys may be others' by now.
        """
        lives = self._given.popleft()
        keys = feedback.keys.detach().cpu().numpy().astype(np.int64, copy=False)
        streams, starts = split_keys(keys)
        shards = self._of_stream[streams]
        same = (np.array(self._lives()) == np.array(lives))[shards]
        self._stale += int((~same).sum())
        priorities = states = None
        if feedback.priorities is not None:
            priorities = feedback.priorities.detach().to("cpu", torch.float64).numpy()
            told = priorities[same & self._legal(streams, starts) & ~np.isnan(priorities)]
            self.largest = max([self.largest, *told[np.isfinite(told)].tolist()])
        if feedback.states is not None:
            states = {name: _host(value) for name, value in feedback.states.items()}
        for shard in range(len(self.plans)):
            mine = np.flatnonzero(same & (shards == shard))
            if len(mine):
                ours = None if states is None else {name: value[mine] for name, value in states.items()}
                self._queue(shard, Give(keys[mine], None if priorities is None else priorities[mine], ours))

    def no_feedback(self) -> None:
        """Note that there is none on the batch that was given out first."""
        self._given.popleft()

    def _legal(self, streams: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Mask of windows that are stored, after all that was sent."""
        tallies = [process.tally for process in self.shards.each]
        room = np.array([0 if tally is None else tally.rows_per_stream for tally in tallies])
        ends = self.counts[streams]
        legal: np.ndarray = (starts >= ends - room[self._of_stream[streams]]) & (starts + self._length <= ends)
        return legal

    # Messages

    def _queue(self, shard: int, ask: Ask, then: Then | None = None) -> None:
        """Have something asked with the next message."""
        self._queues[shard].append((ask, then))

    def _flush(self, shard: int) -> None:
        """Send what waits for a shard."""
        if not self._queues[shard]:
            return
        asks, self._queues[shard] = self._queues[shard], []

        def answered(values: list[Any]) -> None:
            for (_, then), value in zip(asks, values, strict=True):
                if then is not None:
                    then(value)

        self.shards.call(shard, "serve", [ask for ask, _ in asks], self.largest, then=answered)

    def _on_loss(self, shard: int, why: str) -> None:
        """Bring a shard back to the newest checkpoint; its actors begin anew, and batches of it are drawn anew."""
        self._queues[shard] = []
        plan = self.plans[shard]
        for actor in range(plan.first_actor, plan.first_actor + plan.actors):
            self._end(actor)
        self._draws.again()
        latest = self._latest()
        folder = None if latest is None else str(latest / str(shard))
        self.shards.call(shard, "load", folder, then=partial(self._returned, shard, why, folder is not None))
        self.shards.call(shard, "trim")

    def _returned(self, shard: int, why: str, restored: bool, counts: np.ndarray) -> None:
        plan, life = self.plans[shard], self.shards.each[shard].life
        ours = slice(plan.first, plan.first + plan.actors * plan.streams)
        lost = int(np.maximum(self.counts[ours] - counts, 0).sum())
        self.counts[ours] = counts
        self.lost_rows += lost
        has = "what the newest checkpoint has" if restored else "nothing, since there is no checkpoint yet"
        self._say(f"reverie: shard {shard} (life {life - 1}) {why}; its new life has {has}, and {lost} rows are lost")

    # Upkeep

    @property
    def room(self) -> Room:
        """That of all shards; bytes of rows alone."""
        rows = sum(plan.room for plan in self.plans)
        return Room(rows, rows * bytes_of(self.plans[0].spec), "host")

    @property
    def rows(self) -> int:
        """Rows stored now, as far as shards have told."""
        return sum(process.tally.rows for process in self.shards.each if process.tally is not None)

    def metrics(self) -> dict[str, float]:
        """Counts to be logged: those of `Store.metrics`, and how the shards are."""
        tallies = [process.tally for process in self.shards.each if process.tally is not None]
        return {
            "ratio": self.limiter.achieved(self.env_steps, self.sampled_rows),
            "rows": self.rows,
            "bytes": self.rows * bytes_of(self.plans[0].spec),
            "stale_keys": self._stale + sum(tally.stale_keys for tally in tallies),
            "shards": len(self.plans),
            "shard_restarts": self.shards.restarts,
            "shard_memory": sum(tally.memory for tally in tallies),
            "shard_queue": self.shards.longest,
            "lost_rows": self.lost_rows,
        }

    def reseed(self, seed: int) -> None:
        """Begin the generators of draws anew, in all shards and between them."""
        self._draws.reseed(seed)
        for shard in range(len(self.plans)):
            self.shards.call(shard, "reseed", shard_seed(seed, shard))

    def state_dict(self) -> dict[str, Any]:
        """What is counted here; shards write theirs beside it, all at the same moment. Nothing may be under way."""
        if self.under_way:
            raise ValueError("a batch is under way: drain the trainer before the state is taken")
        self.poll()
        self.shards.settle()
        return {
            "env_steps": self.env_steps,
            "sampled_rows": self._sampled,
            "stale_keys": self._stale,
            "lost_rows": self.lost_rows,
            "largest": self.largest,
            "counts": self.counts.copy(),
            "generator": self._draws.generator,
            "lives": self.lives.state_dict(),
            "shards": Beside(self._write),
        } | ({} if (pacing := self.limiter.state_dict()) is None else {"pacing": pacing})

    def _write(self, folder: Path) -> None:
        """Have all shards write their states. Raises UserError if they are lost again and again."""
        self.poll()
        while not self.shards.wait(
            [self.shards.call(shard, "save", str(folder / str(shard))) for shard in range(len(self.plans))]
        ):
            self.shards.settle()
            for path in folder.iterdir():
                shutil.rmtree(path)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`; every actor must `begin` before it sends."""
        folder = Path(state["shards"])
        saved = sum(path.name.isdigit() for path in folder.iterdir()) if folder.is_dir() else 0
        if saved != len(self.plans):
            raise UserError(
                f"the checkpoint has the rows of {saved} shards, this run {len(self.plans)}: set ray.shards = {saved}"
            )
        calls = [self.shards.call(shard, "load", str(folder / str(shard))) for shard in range(saved)]
        if not self.shards.wait(calls):
            raise UserError(f"shards were lost while they read {folder}: give the same command again")
        self.env_steps, self._sampled = int(state["env_steps"]), int(state["sampled_rows"])
        self._stale, self.lost_rows = int(state["stale_keys"]), int(state["lost_rows"])
        self.largest, self.counts[:] = float(state["largest"]), state["counts"]
        self._draws.generator = state["generator"]
        self.lives.load_state_dict(state["lives"])
        self.limiter.load_state_dict(state.get("pacing"))

    def resumed(self) -> None:
        """See `Store.resumed`."""
        self._everywhere("trim")

    def complete(self) -> None:
        """See `Store.complete`."""
        self._everywhere("complete")

    def saved(self) -> None:
        """See `Store.saved`."""
        self._everywhere("saved")

    def _everywhere(self, method: str) -> None:
        """Have every shard do something, all at once, and wait; a life that begins meanwhile does it too."""
        self.poll()
        missing = list(range(len(self.plans)))
        while missing:
            calls = [self.shards.call(shard, method) for shard in missing]
            self.shards.wait(calls)
            missing = [call.shard for call in calls if not call.done]

    def stop(self) -> None:
        """End all shards."""
        self.shards.stop()


def shard_seed(seed: int, shard: int) -> int:
    """Seed of a shard's draws. seed: of the draws between shards."""
    return derive(seed, f"shard {shard}")


def _host(value: torch.Tensor) -> np.ndarray:
    value = value.detach().cpu()
    array: np.ndarray = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array
