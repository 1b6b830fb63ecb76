"""An engine in one process that behaves as Ray does, with faults to order: for tests of the fleet and of its runner.

Calls of an actor are carried out in order, when somebody waits; what travels is pickled, and its arrays cannot be
written to.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class EngineError(Exception):
    """Counterpart of ``RayError``."""


class ActorDied(EngineError):
    """The process of an actor is gone."""


class GetTimeoutError(EngineError):
    """Nothing came in time."""


def frozen(value: Any) -> Any:
    """A copy whose arrays cannot be written to, whatever they are in."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    copies = [bytes(buffer.raw()) for buffer in buffers]
    return pickle.loads(data, buffers=copies)


class Ref:
    """A value that is not there yet."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make, self.value, self.error, self.done = make, None, None, False

    def resolve(self) -> None:
        if not self.done:
            try:
                self.value = frozen(self.make())
            except Hangs:
                return
            except EngineError as error:
                self.error = error
            self.done = True


class Hangs(Exception):
    """A call that never comes back."""


class Handle:
    def __init__(self, engine: Engine, make: Callable[[], Any]) -> None:
        self.engine, self.make, self.body, self.dead, self.hangs = engine, make, None, False, False
        self.calls: list[Ref] = []

    def __getattr__(self, name: str) -> Any:
        def parts(num_returns: int) -> Any:
            return SimpleNamespace(remote=lambda *arguments: split(self.call(name, arguments), num_returns))

        return SimpleNamespace(remote=lambda *arguments: self.call(name, arguments), options=parts)

    def call(self, name: str, arguments: tuple[Any, ...]) -> Ref:
        def run() -> Any:
            while self.calls[0] is not ref:  # what was asked before is carried out before
                self.calls[0].resolve()
                if not self.calls[0].done:
                    raise Hangs
                self.calls.pop(0)
            if self.dead:
                raise ActorDied("The actor died unexpectedly before finishing this task.\nand more lines")
            if self.body is None:
                self.body = self.make()
            fault = self.engine.fault(self.body, name) if self.engine.fault else None
            if fault == "die":
                self.dead = True
                raise ActorDied("The actor died unexpectedly before finishing this task.\nand more lines")
            self.hangs = self.hangs or fault == "hang"
            if self.hangs:
                raise Hangs
            values = [self.engine.get(value) if isinstance(value, Ref) else value for value in arguments]
            return getattr(self.body, name)(*values)

        ref = Ref(run)
        self.calls.append(ref)
        return ref


def split(ref: Ref, parts: int) -> list[Ref]:
    """References to the parts of what a call returns."""

    def part(number: int) -> Any:
        ref.resolve()
        if not ref.done:
            raise Hangs
        if ref.error:
            raise ref.error
        return ref.value[number]

    return [Ref(lambda number=number: part(number)) for number in range(parts)]


class Engine:
    """What of Ray's module is used. fault: None, or ``die`` or ``hang``, of a body and the name of a method."""

    def __init__(self, fault: Callable[[Any, str], str | None] | None = None) -> None:
        self.fault, self.killed = fault, 0
        self.exceptions = SimpleNamespace(
            RayError=EngineError, RayActorError=ActorDied, GetTimeoutError=GetTimeoutError
        )
        self.util = SimpleNamespace(
            scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda **where: where)
        )

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, kind: type) -> Any:
        def make(*arguments: Any) -> Handle:
            sent = frozen(arguments)
            return Handle(self, lambda: kind(*sent))

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

    def put(self, value: Any) -> Ref:
        return Ref(lambda: value)

    def get(self, ref: Ref, timeout: float | None = None) -> Any:
        ref.resolve()
        if not ref.done:
            raise GetTimeoutError
        if ref.error:
            raise ref.error
        return ref.value

    def wait(self, refs: list[Ref], num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        """Everything is carried out that can be; those that are ready and those that are not."""
        for ref in refs:
            ref.resolve()
        ready = [ref for ref in refs if ref.done][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def kill(self, handle: Handle) -> None:
        handle.dead = True
        self.killed += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}
