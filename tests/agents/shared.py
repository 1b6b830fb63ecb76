"""Learners that share batches, in threads of this process, connected as processes are: by gloo, on loopback."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.agents.agent import Learner, Result
from reverie.data.parts import split, together
from reverie.data.sequences import Batch
from reverie.run.replica import update_together
from reverie.run.ring import LOOPBACK, Meeting, Ring

CPU = torch.device("cpu")
PATIENCE = 60.0


class Rings:
    """A ring of `size` threads, which lasts for many tests."""

    def __init__(self, size: int = 2) -> None:
        self.meeting = Meeting(LOOPBACK, PATIENCE)
        self.size = size
        self.rings: list[Ring] = []

        def join(rank: int) -> Ring:
            if not rank:
                return Ring(self.meeting.store, 0, size, CPU, LOOPBACK, PATIENCE)
            return Ring.join(self.meeting.address, rank, size, CPU, LOOPBACK, PATIENCE)

        self.rings = self.each(join)

    def each(self, work: Callable[[int], Any]) -> list[Any]:
        """What `work` gives for each rank, all at once; raises what the first of them raised."""
        results: list[Any] = [None] * self.size

        def run(rank: int) -> None:
            try:
                results[rank] = work(rank)
            except Exception as error:
                results[rank] = error
                for ring in self.rings[rank : rank + 1]:
                    ring.close()

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        errors = [result for result in results if isinstance(result, Exception)]
        if errors:
            raise errors[0]
        return results

    def update(self, learners: list[Any], batch: Batch) -> Result:
        """Result of one learner_step that all make, each on its part."""
        parts = split(batch, self.size)
        results = self.each(lambda rank: update_together(learners[rank], self.rings[rank], parts[rank]))
        feedback = together([result.feedback for result in results], len(parts[0].keys))
        return Result(results[0].metrics, feedback)

    def close(self) -> None:
        for end in (*self.rings, self.meeting):
            end.close()


@contextmanager
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Context in which all that is computed in float32 is computed in float64."""
    before = torch.get_default_dtype()
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        patch.setattr(torch, "float32", torch.float64)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def doubled(batch: Batch) -> Batch:
    """The batch in float64."""
    return batch.map(lambda x: x.double() if x.is_floating_point() else x)


def copies(learner: Learner, make: Callable[[], Learner], count: int) -> list[Learner]:
    """Learners that begin from the state of this one."""
    made = [make() for _ in range(count)]
    for other in made:
        other.restore(copy.deepcopy(learner.save()))
    return made


class Gradients:
    """Gradients of a learner's updates, as its optimisers step on them: group -> [n]."""

    def __init__(self, learner: Any) -> None:
        self.seen: list[tuple[str, Tensor]] = []
        reduce = learner.reduce

        def noted(group: str) -> bool:
            answer: bool = reduce(group)
            grads = [p.grad for p in learner.optimisers[group].parameters if p.grad is not None]
            self.seen.append((group, torch.cat([grad.flatten().clone() for grad in grads])))
            return answer

        learner.reduce = noted


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries by their paths."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {name: leaf for key, value in tree.items() for name, leaf in flat(value, f"{path}/{key}").items()}


def assert_same(one: Any, other: Any, tolerance: float) -> None:
    """States of two learners are the same, to a tolerance relative to the size of each number, or of 1."""
    ours, theirs = flat(one), flat(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            torch.testing.assert_close(theirs[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)
        elif isinstance(value, Tensor):
            assert torch.equal(value, theirs[name]), name
        else:
            assert value == theirs[name], name
