"""Processes of shards: each answers what it is sent in order, and is replaced when it is lost.

::

    call ----> [ call, call, ... ]  --poll-->  answers, each with how the shard stands
                 death | silence    ------->   a new life, which begins from the newest checkpoint

Nothing here knows what the messages mean (see `reverie.data.shard`).
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError

from reverie.config import RayConfig
from reverie.data.rows import bytes_of
from reverie.data.sequences import Chunk
from reverie.data.shard import Ask, Plan, Shard, Shipment, Tally
from reverie.errors import UserError
from reverie.run.allocator import prepare_process
from reverie.run.checkpoint import unsaved
from reverie.run.fleet import line_of
from reverie.run.remote import proportional_memory
from reverie.run.status import EVERY
from reverie.run.tree import load_tree, save_tree

SLOW = ("load", "save", "complete", "saved", "trim")
"""methods that may take as long as a start"""


@dataclass(frozen=True)
class Answer:
    """What a shard answers, and how it stands then."""

    value: Any
    tally: Tally


@dataclass(frozen=True)
class Fault:
    """An error in a shard. text: the traceback, or one line where it is the user's to mend (final)."""

    text: str
    final: bool


class ShardHost:
    """Body of a shard's process. threads: of torch. path: where modules are found."""

    def __init__(self, plan: Plan, threads: int = 1, path: tuple[str, ...] = ()) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        prepare_process(threads)
        self._memory, self._measured = 0, -EVERY
        self._failed: Fault | None = None
        try:
            self.shard = Shard(plan)
        except Exception as error:
            self._failed = _fault(error)

    def take(self, shipment: Shipment, chunks: list[Chunk], largest: float) -> Answer | Fault:
        """See `Shard.take`."""
        return self._do(lambda: self.shard.take(shipment, chunks, largest))

    def serve(self, asks: Sequence[Ask], largest: float) -> Answer | Fault:
        """See `Shard.serve`."""
        return self._do(lambda: self.shard.serve(asks, largest))

    def begin(self, actor: int, after: int) -> Answer | Fault:
        """See `Shard.begin`."""
        return self._do(lambda: self.shard.begin(actor, after))

    def save(self, folder: str) -> Answer | Fault:
        """Write its state, durably, into a new folder."""

        def save() -> None:
            try:
                save_tree(Path(folder), self.shard.state_dict())
            except (OSError, SafetensorError) as error:
                raise unsaved(Path(folder), error) from error

        return self._do(save)

    def load(self, folder: str | None) -> Answer | Fault:
        """Next index of each of its streams, int64 [streams], after a return to what `save` wrote (None: without)."""

        def load() -> np.ndarray:
            if folder is not None:
                self.shard.load_state_dict(load_tree(Path(folder)))
            return self.shard.replay.counts

        return self._do(load)

    def trim(self) -> Answer | Fault:
        """See `Store.resumed`."""
        return self._do(lambda: self.shard.store.resumed())

    def complete(self) -> Answer | Fault:
        """See `Store.complete`."""
        return self._do(lambda: self.shard.store.complete())

    def saved(self) -> Answer | Fault:
        """See `Store.saved`."""
        return self._do(lambda: self.shard.store.saved())

    def reseed(self, seed: int) -> Answer | Fault:
        """See `Store.reseed`."""
        return self._do(lambda: self.shard.store.reseed(seed))

    def _do(self, make: Callable[[], Any]) -> Answer | Fault:
        """The answer to a message. After a fault it says the same again and does nothing."""
        if self._failed is None:
            try:
                value = make()
                if time.monotonic() - self._measured > EVERY:
                    self._memory, self._measured = proportional_memory(), time.monotonic()
                return Answer(value, self.shard.tally(self._memory))
            except Exception as error:
                self._failed = _fault(error)
        return self._failed


def _fault(error: Exception) -> Fault:
    """What is told of an error. A full disk, a folder that is gone and too little memory are the user's to mend."""
    final = isinstance(error, UserError | OSError | MemoryError)
    told = f"out of memory ({error})" if isinstance(error, MemoryError) else str(error)
    return Fault(told if final else "".join(traceback.format_exception(error)), final)


@dataclass
class Call:
    """A message that is under way. since: when it was sent (monotonic seconds). lost: nobody will answer it.

    then: takes its answer. spoiled: called when what was to be handed over beside it is gone.
    """

    shard: int
    method: str
    then: Callable[[Any], None] | None = None
    spoiled: Callable[[], None] | None = None
    since: float = field(default_factory=time.monotonic)
    done: bool = False
    lost: bool = False
    value: Any = None


@dataclass
class Process:
    """A shard as it is seen from here."""

    number: int
    plan: Plan
    handle: Any = None
    life: int = 0
    failures: int = 0
    """lives in a row that ended before a message of rows or for batches was answered"""
    calls: dict[Any, Call] = field(default_factory=dict)
    tally: Tally | None = None
    """of its last answer; None: nobody knows yet"""
    heard: float = 0.0


class Shards:
    """Processes of shards by their plans. say: takes a line for people.

    lost: takes the number of a shard whose new life has begun, empty, and why; before anything else is sent to it.
    """

    def __init__(
        self, ray: ModuleType, plans: Sequence[Plan], options: RayConfig, lost: Callable[[int, str], None]
    ) -> None:
        self.ray, self.options, self._on_loss = ray, options, lost
        self.each = [Process(number, plan) for number, plan in enumerate(plans)]
        self._host = ray.remote(ShardHost)
        self.restarts = 0
        self.failed: UserError | None = None
        """what ended them all, if something did"""

    def call(
        self,
        shard: int,
        method: str,
        *arguments: Any,
        then: Callable[[Any], None] | None = None,
        spoiled: Callable[[], None] | None = None,
    ) -> Call:
        """Send a message; an argument that is a reference is handed over as what it stands for.

        then, spoiled: see `Call`; `poll` calls them.
        """
        process = self.each[shard]
        if process.handle is None:
            self._live(process)
        call = Call(shard, method, then, spoiled)
        process.calls[getattr(process.handle, method).remote(*arguments)] = call
        return call

    def wait(self, calls: Sequence[Call]) -> bool:
        """Whether all of these messages are answered, in the end; False if one was lost."""
        while not all(call.done or call.lost for call in calls):
            self.poll(0.2)
        return all(call.done for call in calls)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        while self.under_way:
            self.poll(0.2)

    @property
    def under_way(self) -> int:
        """Messages without an answer."""
        return sum(len(process.calls) for process in self.each)

    @property
    def longest(self) -> int:
        """The most messages of one shard without an answer."""
        return max(len(process.calls) for process in self.each)

    def poll(self, timeout: float) -> None:
        """Take in what was answered; waits up to `timeout` s for something. Shards that are lost begin a new life.

        Raises UserError for what is the user's to mend, or if a shard is lost again and again.
        """
        refs = [ref for process in self.each for ref in process.calls]
        if not refs:
            return
        ready, _ = self.ray.wait(refs, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        done = set(ready)
        for process in self.each:
            while (ref := next(iter(process.calls), None)) in done:
                self._answer(process, ref)
            if ref is not None:
                self._watch(process)

    def _answer(self, process: Process, ref: Any) -> None:
        call = process.calls[ref]
        try:
            answer: Answer | Fault = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            if call.spoiled is None or isinstance(error, self.ray.exceptions.RayActorError):
                self._lost(process, line_of(error))
                return
            del process.calls[ref]
            call.lost = True
            call.spoiled()
            return
        if isinstance(answer, Fault):
            if answer.final:
                raise self._failing(f"shard {process.number}: {answer.text}")
            raise RuntimeError(f"shard {process.number} failed:\n{answer.text}")
        del process.calls[ref]
        process.tally, process.heard = answer.tally, time.monotonic()
        if call.method in ("take", "serve"):
            process.failures = 0
        call.done, call.value = True, answer.value
        if call.then is not None:
            call.then(answer.value)

    def _watch(self, process: Process) -> None:
        """Replace a shard that has said nothing for too long."""
        call = next(iter(process.calls.values()))
        silent = time.monotonic() - max(call.since, process.heard)
        patient = process.tally is None or call.method in SLOW
        if silent > (max(self.options.silence, self.options.patience) if patient else self.options.silence):
            self._lost(process, f"said nothing for {silent:.0f} s")

    def _failing(self, line: str) -> UserError:
        self.failed = UserError(line)
        return self.failed

    def _lost(self, process: Process, why: str) -> None:
        """Give a shard up and begin a new life of it. Raises UserError after too many in a row."""
        process.failures += 1
        if process.failures > self.options.crashes:
            raise self._failing(
                f"shard {process.number} was lost {process.failures} times in a row: at last it {why}; the same "
                "command goes on from the newest checkpoint"
            )
        self.restarts += 1
        self.ray.kill(process.handle)
        calls, process.calls, process.tally = process.calls, {}, None
        for call in calls.values():
            call.lost = True
        self._live(process)
        self._on_loss(process.number, why)

    def _live(self, process: Process) -> None:
        process.life += 1
        process.heard = time.monotonic()
        # Beside the command that asked for it: what a shard writes belongs into the directory of the run.
        place = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=self.ray.get_runtime_context().get_node_id(), soft=False
        )
        options = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": place}
        threads = self.options.threads
        process.handle = self._host.options(**options).remote(process.plan, threads, tuple(sys.path))

    def status(self) -> list[dict[str, Any]]:
        """What is known of each shard now, for people."""
        now = time.monotonic()
        return [
            {
                "shard": process.number,
                "pid": process.tally.pid if process.tally else None,
                "life": process.life,
                "rows": process.tally.rows if process.tally else None,
                "queue": len(process.calls),
                "heard_s_ago": round(now - process.heard, 1),
                "bytes": process.tally.rows * bytes_of(process.plan.spec) if process.tally else None,
                "memory": process.tally.memory if process.tally else 0,
            }
            for process in self.each
        ]

    def stop(self) -> None:
        """End all processes."""
        for process in self.each:
            if process.handle is not None:
                self.ray.kill(process.handle)
                process.handle, process.calls = None, {}
