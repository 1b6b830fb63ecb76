"""The first learner's side of learners that share batches: it hands out parts, and replaces whoever is lost.

::

    batch --split--> part 0 ------------------------ update --+-- feedback --together--> store
                     part 1 --> replica 1 (Ray) ---- update --+
                                                     one mean of gradients per group of losses

A learner_step is made by all or by none. If one is lost on the way, the first learner returns to where it was before,
all others begin anew from its state, and the step is made again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from reverie.agents.agent import Learner, Result
from reverie.config import Config
from reverie.data.parts import split, together
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.nets.schedule import Length
from reverie.run.remote import sent
from reverie.run.replica import Done, LearnerHost, Place, Undone, as_arrays, on_host, update_together
from reverie.run.ring import LOOPBACK, Broken, Meeting, Ring, first_line

GRACE = 5.0
"""seconds in which the engine must notice that a process has ended"""


class Lost(Exception):
    """A learner was lost. The message says which, and how."""


@dataclass
class Replica:
    """A learner elsewhere. memory: bytes of its process, as of an actor."""

    rank: int
    handle: Any
    pid: int = 0
    memory: int = 0


class Team:
    """Learners of a run, of which `learner` is the first. env, since: what its agent was built with.

    say: takes a line for people. host: body of the others' processes.
    """

    def __init__(
        self,
        ray: ModuleType,
        config: Config,
        learner: Learner,
        env: EnvSpec,
        since: Length | None,
        say: Callable[[str], None],
        host: type[LearnerHost] = LearnerHost,
    ) -> None:
        self.ray, self.config, self.options, self.learner = ray, config, config.ray, learner
        self.env, self.since, self._say, self._host = env, since, say, ray.remote(host)
        self.size, self.private = config.ray.learners, config.ray.address == "local"
        self.others: list[Replica] = []
        self.ring: Ring | None = None
        self.meeting: Meeting | None = None
        self.before = Before(learner)
        self.restarts = 0
        self.failures = 0
        """times in a row that a learner was lost without a learner_step between"""
        self.over = ""
        """why no other learner is asked any more, if there has been too much of it"""

    def call(self) -> None:
        """Begin the others' processes."""
        self.others = [Replica(rank, self._begin(rank)) for rank in range(1, self.size)]

    def gather(self) -> None:
        """Wait until all are there, with the first learner's state. Raises Lost if one does not come in time."""
        deadline = time.monotonic() + self.options.patience
        for other in self.others:
            pid, failed = self._answer(other, other.handle.ping.remote(), deadline)
            if failed:
                raise Lost(f"learner {other.rank} cannot be built: {failed}")
            other.pid = pid
        state = self.ray.put(on_host(self.learner.save()))
        self._finished([other.handle.restore.remote(state) for other in self.others])
        host = LOOPBACK if self.private else self.ray.util.get_node_ip_address()
        self.meeting = Meeting(host, self.options.patience)
        refs = [other.handle.join.remote(self.meeting.address) for other in self.others]
        try:
            self.ring = Ring(self.meeting.store, 0, self.size, self.learner.device, host, self.options.patience)
        except Broken as error:
            raise self._lost(refs, error) from error
        self._finished(refs)

    def start(self) -> None:
        """`gather`, at the beginning of a run. Raises UserError if one of them does not come."""
        try:
            self.gather()
        except Lost as loss:
            raise UserError(
                f"{loss}; ask for fewer with --ray.learners or --actors, or be more patient with --ray.patience"
            ) from loss

    def update(self, batch: Batch) -> Result:
        """Result of one learner_step on a batch, which all learners make; the first alone once it has no others."""
        parts = split(batch, self.size)
        while self.ring is not None:
            self.before.keep()
            try:
                result = self._update(self.ring, parts)
            except Lost as loss:
                self.before.bring_back()
                self._renew(loss)
            else:
                self.failures = 0
                return result
        return self.learner.update(batch.to(self.learner.device))

    def _update(self, ring: Ring, parts: list[Batch]) -> Result:
        refs = [other.handle.update.remote(as_arrays(part)) for other, part in zip(self.others, parts[1:], strict=True)]
        own = parts[0].to(self.learner.device)
        try:
            result = update_together(self.learner, ring, own)
        except Broken as error:
            raise self._lost(refs, error) from error
        answers = self._finished(refs)
        for other, answer in zip(self.others, answers, strict=True):
            other.memory = answer.memory
        device = self.learner.device
        feedback = [result.feedback, *(answer.feedback(device) for answer in answers)]
        return Result(result.metrics, together(feedback, len(own.keys)))

    def _finished(self, refs: list[Any]) -> list[Done]:
        """Answers of all others. Raises Lost unless all have done what they were asked for."""
        deadline = time.monotonic() + self.options.patience
        answers = [self._answer(other, ref, deadline) for other, ref in zip(self.others, refs, strict=True)]
        for other, answer in zip(self.others, answers, strict=True):
            if isinstance(answer, Undone):
                raise Lost(f"learner {other.rank} was lost ({answer.why or 'its connection was'})")
        return answers

    def _answer(self, other: Replica, ref: Any, deadline: float) -> Any:
        try:
            return self.ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
        except self.ray.exceptions.GetTimeoutError as error:
            raise Lost(f"learner {other.rank} said nothing for {self.options.patience:.0f} s") from error
        except self.ray.exceptions.RayError as error:
            raise Lost(f"learner {other.rank} was lost ({first_line(error)})") from error

    def _lost(self, refs: list[Any], broken: Broken) -> Lost:
        """Who is behind a connection that broke, as far as that can be known."""
        deadline, guess = time.monotonic() + GRACE, f"a learner was lost ({broken})"
        for other, ref in zip(self.others, refs, strict=True):
            try:
                answer = self._answer(other, ref, deadline)
            except Lost as loss:
                return loss
            if isinstance(answer, Undone) and answer.why:
                return Lost(f"learner {other.rank} was lost ({answer.why})")
        return Lost(guess)

    def _renew(self, loss: Lost) -> None:
        """Begin all others anew after a loss, unless there were too many in a row: then there are none any more."""
        while True:
            self.stop()
            self.failures += 1
            self.restarts += 1
            if self.failures > self.options.crashes:
                self.over = (
                    f"learners failed {self.failures} times in a row, at last: {loss}; what was learned is saved; give "
                    "the same command again, with --ray.learners 1 if it must be"
                )
                return
            self._say(f"reverie: {loss}; all but the first begin anew, from {self.learner.learner_steps} learner_steps")
            self.call()
            try:
                self.gather()
            except Lost as again:
                loss = again
            else:
                return

    def _begin(self, rank: int) -> Any:
        kind, here = self.learner.device.type, torch.get_num_threads()
        device, options = kind, {"num_cpus": self.options.threads, "max_restarts": 0, "max_task_retries": 0}
        if kind == "cuda" and self.private:
            # The engine does not know of the GPU that this process uses.
            device = f"cuda:{((self.learner.device.index or 0) + rank) % torch.cuda.device_count()}"
        elif kind == "cuda":
            options["num_gpus"] = 1
        path = tuple(sys.path)
        place = Place(rank, self.size, sent(self.config), path, self.env, self.since, here, device, self.private)
        return self._host.options(**options).remote(place)

    def status(self) -> list[dict[str, Any]]:
        """What is known of each learner elsewhere, for people."""
        return [{"learner": other.rank, "pid": other.pid, "memory": other.memory} for other in self.others]

    def stop(self) -> None:
        """End all others; nothing listens afterwards."""
        for other in self.others:
            self.ray.kill(other.handle)
        self.others = []
        for end in (self.ring, self.meeting):
            if end is not None:
                end.close()
        self.ring = self.meeting = None


class Before:
    """State of a learner before a learner_step, to return to if it cannot be made to its end."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.copies: list[Tensor] = []
        self.tree: Any = None

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the present state, into the memory of the last one where it fits."""
        tree = self.learner.save()
        tensors = _leaves(tree)
        alike = [(x.shape, x.dtype, x.device) for x in tensors] == [(x.shape, x.dtype, x.device) for x in self.copies]
        if not alike:
            self.copies = [torch.empty_like(x) for x in tensors]
        if tensors:
            torch._foreach_copy_(self.copies, tensors)
        copies = iter(self.copies)
        self.tree = _replaced(tree, lambda _: next(copies))

    def bring_back(self) -> None:
        """Return to the state that was kept last."""
        self.learner.restore(self.tree)
        for parameter in self.learner.parameters():
            parameter.grad = None


def _leaves(tree: Any) -> list[Tensor]:
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    return [tree.detach()] if isinstance(tree, Tensor) else []


def _replaced(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Mapping):
        return {name: _replaced(value, change) for name, value in tree.items()}
    return change(tree) if isinstance(tree, Tensor) else tree
