"""Histograms of a learner's parameters while it trains."""

from __future__ import annotations

from reverie.errors import UserError
from reverie.run.callback import Callback
from reverie.run.run import Run


class Histograms(Callback):
    """Histograms ``parameters/<name>`` of each trained parameter, every so many env_steps."""

    def __init__(self, every: int = 10_000) -> None:
        if every < 1:
            raise UserError(f"histograms: every must be at least 1, got {every}")
        self.every = every

    def round(self, run: Run) -> None:
        """Show them, if it is time."""
        if run.passed(self.every):
            for name, parameter in run.learner.named_parameters():
                if parameter.requires_grad:
                    run.histogram(f"parameters/{name}", parameter)
