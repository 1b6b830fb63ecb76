"""The fleet: actors in processes of their own, each with a few rollouts under way, replaced when they are lost.

::

    start ----> [ rollout, rollout ]  --collect-->  reports        a report makes room for the next rollout
                  crash | death | silence  ------>  a new life of the actor, whose streams begin anew

How many rollouts are under way is bounded, and so is what waits to be collected: whoever does not collect holds the
actors back.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from reverie.config import Config
from reverie.envs.wrappers import Carried
from reverie.errors import UserError
from reverie.run.attention import Attention
from reverie.run.remote import ActorHost, Birth, Crash, Host, Orders, Parameters, Report, sent

Receive = Callable[[Report | Crash], None]
"""Takes what an actor reports, before it may begin a new life: rows of it come too late afterwards."""
Answered = TypeVar("Answered", Report, Crash)
Begin = Callable[[int], tuple[int, np.ndarray]]
"""Gives an actor its incarnation and the indices of its next rows, see `reverie.data.inbox.Inbox.begin`."""


@dataclass
class Member:
    """An actor as the fleet sees it. rate: env_steps per second of its last rollouts. heard: see `Attention`."""

    number: int
    handle: Any = None
    incarnation: int = 0
    pid: int = 0
    under_way: dict[Any, float] = field(default_factory=dict)
    """rollouts that were ordered, by their references -> when the actor can have begun with them, see `Attention`"""
    answered: bool = False
    """whether this life has, so that its process and its environments are there"""
    restarts: int = 0
    failures: int = 0
    """lives in a row that ended before a single whole rollout"""
    env_steps: int = 0
    rate: float = 0.0
    memory: int = 0
    version: int = -1
    heard: float = 0.0
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=50))


class Fleet:
    """Actors of a run. chunk: decisions per rollout and rows per chunk.

    begin, receive: see `Begin` and `Receive`. say: takes a line for people, or several. host: body of their processes.
    """

    def __init__(
        self,
        ray: ModuleType,
        config: Config,
        chunk: int,
        begin: Begin,
        receive: Receive,
        say: Callable[[str], None],
        host: type[Host] = ActorHost,
    ) -> None:
        self.ray, self.config, self.options, self.chunk = ray, config, config.ray, chunk
        self._begin, self._receive, self._say = begin, receive, say
        self.members = [Member(number) for number in range(config.ray.actors)]
        self._attention = Attention(self.options.silence / 10)
        self._host = ray.remote(host)
        self._settings = sent(config)
        self._parameters: Any = None
        self.carried: Carried | None = None
        """by the wrappers of the first actor's environments; what every new life begins with"""

    def publish(self, parameters: Parameters) -> None:
        """Hand out these parameters from the next rollout on; they are sent once to each machine."""
        self._parameters = self.ray.put(parameters)

    def start(self) -> None:
        """Begin a life of every actor, and wait until all are there.

        Raises UserError if an actor cannot be placed in time, or cannot be built.
        """
        for member in self.members:
            self._live(member)
        deadline = time.monotonic() + self.options.patience
        for member in self.members:
            try:
                member.pid = self.ray.get(member.handle.ping.remote(), timeout=max(0.0, deadline - time.monotonic()))
            except self.ray.exceptions.GetTimeoutError as error:
                raise UserError(
                    f"actor {member.number} of {len(self.members)} was not there after {self.options.patience:.0f} s; "
                    f"the cluster has {self.ray.cluster_resources().get('CPU', 0):.0f} CPUs in all and each actor asks "
                    f"for {self.options.threads}: ask for fewer with --actors, or be more patient with --ray.patience"
                ) from error
            except self.ray.exceptions.RayError as error:
                self._lost(member, line_of(error))

    def order(self, orders: Orders) -> None:
        """Order rollouts of all actors that have fewer than ``ray.in_flight`` under way."""
        for member in self.members:
            while len(member.under_way) < self.options.in_flight:
                self.ask(member.number, self._parameters, orders)

    def ask(self, actor: int, *order: Any) -> None:
        """Order one rollout of an actor, in the words of its host."""
        member = self.members[actor]
        member.under_way[self._ask(member, *order)] = self._attention.now()

    def _ask(self, member: Member, *order: Any) -> Any:
        """Reference to the answer of an actor to such an order."""
        return member.handle.rollout.remote(*order)

    def idle(self) -> list[int]:
        """Numbers of the actors of whom nothing is ordered, and whose answers have all been collected."""
        return [member.number for member in self.members if not member.under_way]

    def collect(self, timeout: float, more: Callable[[], bool]) -> int:
        """Number of reports that `receive` was given, one by one while `more` says so; waits up to `timeout` s for one.

        Actors that are lost begin a new life. Raises UserError if one fails again and again.
        """
        with self._attention.listening():
            return self._collect(timeout, more)

    def _collect(self, timeout: float, more: Callable[[], bool]) -> int:
        refs = [ref for member in self.members for ref in member.under_way]
        if not refs:
            return 0
        ready, _ = self.ray.wait(refs, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        done, received = set(ready), 0
        # Who was heard last comes last: where not all are taken in, nobody is left out for long.
        for member in sorted(self.members, key=lambda member: member.heard):
            # An actor answers in the order in which it was asked; the rest counts for nothing after a loss.
            while (ref := next(iter(member.under_way), None)) in done and more():
                received += self._answer(member, ref)
            if ref not in done:
                self._watch(member)
        return received

    def _answer(self, member: Member, ref: Any) -> bool:
        """Whether an answer is a report, which is then received; else its actor begins a new life."""
        try:
            answer: Report | Crash = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            self._lost(member, line_of(error))
            return False
        if isinstance(answer, Crash):
            self._crashed(member, answer)
            return False
        ordered = member.under_way.pop(ref)
        now = self._attention.now()
        if member.answered or not member.durations:  # the first of a life has its beginning in it
            member.durations.append(now - max(ordered, member.heard))
        member.heard, member.pid, member.answered = now, answer.pid, True
        member.failures = 0 if answer.whole else member.failures
        member.env_steps += answer.env_steps
        member.rate = answer.env_steps / max(answer.seconds, 1e-9)
        member.memory, member.version = answer.memory, answer.version
        self.carried = answer.carried if member.number == 0 or self.carried is None else self.carried
        self._receive(self._whole(ref, answer))
        return True

    def _whole(self, ref: Any, answer: Answered) -> Answered:
        """An answer with what came beside it."""
        return answer

    def _watch(self, member: Member) -> None:
        """Replace an actor that has said nothing for too long."""
        if not member.under_way:
            return
        limit = self.options.silence
        if member.durations:
            limit = max(limit, 10 * float(np.median(member.durations)))
        silent = self._attention.now() - max(next(iter(member.under_way.values())), member.heard)
        if silent > (limit if member.answered else max(limit, self.options.patience)):
            self._lost(member, f"said nothing for {silent:.0f} s")

    def _crashed(self, member: Member, crash: Crash) -> None:
        self._receive(self._whole(next(iter(member.under_way)), crash))
        if crash.final:
            raise UserError(f"actor {member.number} (life {crash.incarnation}, seed {crash.seed}): {crash.text}")
        self._say(
            f"reverie: actor {member.number} (life {crash.incarnation}, seed {crash.seed}) crashed in "
            f"{self.config.env.id}:\n{crash.text.rstrip()}"
        )
        self._lost(member, "crashed", crash)

    def _lost(self, member: Member, why: str, crash: Crash | None = None) -> None:
        """Give an actor up and begin a new life of it. Raises UserError after too many in a row."""
        member.failures += 1
        if member.failures > self.options.crashes:
            last = crash.text.strip().splitlines()[-1] if crash else why
            raise UserError(
                f"actor {member.number} failed {member.failures} times in a row, at last with: {last}; what was "
                "learned is saved; mend the environment and give the same command again"
            )
        member.restarts += 1
        if crash is None:
            self._say(f"reverie: actor {member.number} (life {member.incarnation}) {why}; it begins anew")
        self.ray.kill(member.handle)
        self._live(member)

    def renew(self, number: int) -> None:
        """Begin a new life of an actor whose own fault it is not."""
        member = self.members[number]
        member.restarts += 1
        self.ray.kill(member.handle)
        self._live(member)

    def _live(self, member: Member) -> None:
        member.incarnation, indices = self._begin(member.number)
        birth = Birth(member.number, member.incarnation, indices, self._settings, tuple(sys.path), self.carried)
        options = {"num_cpus": self.options.threads, "max_restarts": 0, "max_task_retries": 0}
        host = self._host.options(**options, scheduling_strategy="SPREAD")
        member.handle = host.remote(birth, len(self.members), self.chunk, self.options.threads)
        member.under_way, member.heard, member.answered = {}, self._attention.now(), False

    def metrics(self, version: int) -> dict[str, float]:
        """Numbers to be logged: actors that answer, lives that were lost, age of their parameters, memory."""
        heard = [member for member in self.members if member.version >= 0]
        ages = [version - member.version for member in heard]
        return {
            "actors": len(self.members),
            "restarts": sum(member.restarts for member in self.members),
            "under_way": sum(len(member.under_way) for member in self.members),
            "parameter_age": float(np.mean(ages)) if ages else 0.0,
            "parameter_age_max": max(ages, default=0),
            "memory": sum(member.memory for member in self.members),
        }

    def status(self, version: int) -> list[dict[str, Any]]:
        """What is known of each actor now, for people."""
        now = self._attention.now()
        return [
            {
                "actor": member.number,
                "pid": member.pid,
                "life": member.incarnation,
                "restarts": member.restarts,
                "env_steps": member.env_steps,
                "env_steps_per_s": round(member.rate, 1),
                "under_way": len(member.under_way),
                "parameter_age": version - member.version if member.version >= 0 else None,
                "heard_s_ago": round(now - member.heard, 1),
                "memory": member.memory,
            }
            for member in self.members
        ]

    def stop(self) -> None:
        """End all actors."""
        for member in self.members:
            if member.handle is not None:
                self.ray.kill(member.handle)
                member.handle, member.under_way = None, {}


def line_of(error: BaseException) -> str:
    """First line of an error of the engine, and the last of the traceback in it, if there is one."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    cause = f": {lines[-1].strip()}" if any(line.lstrip().startswith("File ") for line in lines) else ""
    return f"was lost ({lines[0]}{cause})"
