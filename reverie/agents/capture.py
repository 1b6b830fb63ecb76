"""A learner's update as one CUDA graph: recorded once, then replayed without Python.

An update of a recurrent agent is thousands of small kernels, each launched by the host, which the GPU then waits for.
Shapes are static and nothing in an update waits for the host, so that the same kernels can be replayed on the same
memory::

    batch --copy--> inputs --[ losses, backward, clip, optimiser, targets ]--> outputs --copy--> result
                             one launch for all of it

The first `EAGER` updates run as always and are real updates; the one after them is recorded, which executes nothing,
and replayed. Random numbers are those that the learner's generator would have given. Learning rates that change
are numbers in memory which `Learner.schedule` writes before each replay.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reverie.agents.learner import Learner, Result
from reverie.data.sequences import Batch, Feedback
from reverie.errors import UserError

EAGER = 3
"""Updates before the recorded one: libraries choose their kernels and optimisers make their moments in these."""


class CapturedUpdate:
    """Update that is called like `Learner.update`, with results that are the caller's own.

    Restore a learner before its first call. Raises UserError where there is no GPU, or where the update waits for the
    host (as NashMTL's balancer does).
    """

    def __init__(self, learner: Learner) -> None:
        if learner.device.type != "cuda":
            raise UserError(f"run.capture records CUDA graphs, but the device is {learner.device}; set it to false")
        self.learner = learner
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager = EAGER
        # One for all updates but the replayed: each stream has memory and work spaces of its own. The usual one for a
        # recording is of the device that was present first.
        self.stream = torch.cuda.Stream(learner.device)

    def __call__(self, batch: Batch) -> Result:
        """Result of one learner_step."""
        self.learner.schedule()
        # What is recorded, and what is launched, is of the present device, which need not be the learner's.
        with torch.cuda.device(self.learner.device):
            result = self._aside(batch) if self.eager else self._replayed(batch)
        self.eager = max(self.eager - 1, 0)
        self.learner.advance()
        return result

    def _replayed(self, batch: Batch) -> Result:
        if self.graph is None:
            self._record(batch)
        assert self.graph is not None
        tensors = batch.tensors()
        torch._foreach_copy_([self.inputs[name] for name in tensors], list(tensors.values()), non_blocking=True)
        self.graph.replay()
        return self._copied()

    def _aside(self, batch: Batch) -> Result:
        """An update as always, but on the stream that records: what is set up lazily is set up for both."""
        now = torch.cuda.current_stream(self.learner.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            result = self.learner.apply_update(batch)
        now.wait_stream(self.stream)
        # Memory of the side stream must not be used again before everything that was asked of it is done.
        self.stream.synchronize()
        return result

    def _record(self, batch: Batch) -> None:
        self.batch = batch.map(torch.clone)
        self.inputs = self.batch.tensors()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.learner.noise.generator)
        try:
            # Whoever acts beside this may ask for memory of its own meanwhile.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.result = self.learner.apply_update(self.batch)
        except torch.OutOfMemoryError:
            raise  # it is not the recording that does not fit
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"an update of {type(self.learner).__name__} cannot be captured as a CUDA graph ({reason}); "
                "set run.capture = false"
            ) from error
        self.graph = graph

    def _copied(self) -> Result:
        """A copy of the result, whose own memory is written again by the next replay."""
        feedback = self.result.feedback
        if feedback is not None:
            states = None if feedback.states is None else _clones(feedback.states)
            priorities = None if feedback.priorities is None else feedback.priorities.clone()
            feedback = Feedback(feedback.keys.clone(), priorities, states)
        return Result(_clones(self.result.metrics), feedback)


def _clones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
