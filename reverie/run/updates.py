"""What all who make a run's updates have in common: the learner, means of what it tells, the watch over its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from reverie.agents.agent import Learner
from reverie.run.finite import Finite, FirstBad
from reverie.run.meter import Meter


class Updates:
    """A learner and the metrics of its updates.

    finite: looks at losses and gradients where metrics are read, and at all parameters before they are saved.
    """

    def __init__(self, learner: Learner, finite: Finite | None = None) -> None:
        self.learner = learner
        self.finite, self.first_bad = finite or Finite(), FirstBad(learner.optimisers)
        self.meter = Meter()

    def learn(self, at_most: int | None = None, stop: Callable[[], bool] = bool) -> None:
        """Make the learner_steps that can be made now, or at most so many; none for whoever is handed them.

        stop: asked before each; none is made once it says so.
        """

    def drain(self) -> None:
        """Finish what is under way; nothing, for whoever has nothing under way."""

    def note(self, metrics: Mapping[str, Tensor], number: int) -> None:
        """Take in the metrics of the run's `number`-th learner_step."""
        self.first_bad.add(metrics, number)
        self.meter.add(metrics)

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call, and what the learner tells of itself.

        Raises UserError where losses or gradients are no longer finite, see `Finite`.
        """
        means = self.meter.flush()
        self.finite.losses(self.first_bad.take(), means)
        return means | self.learner.metrics()

    def state_dict(self) -> dict[str, Any]:
        """The learner's and the open means of metrics; nothing may be under way, see `drain`.

        Raises UserError where losses, gradients or parameters are no longer finite, see `Finite`.
        """
        self.finite.losses(self.first_bad.take(), self.meter.sums)
        self.finite.parameters(self.learner)
        return {"learner": self.learner.save(), "meter": self.meter.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.learner.restore(state["learner"])
        self.meter.load_state_dict(state["meter"])
