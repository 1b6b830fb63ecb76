"""A3C: A2C whose workers, each with parameters of its own, send gradients to whoever owns the parameters.

Against A2C, who steps, and on what. A worker w plays n env_steps with the parameters theta_w that it fetched last and
sends the gradient of A2C's loss of these rows at theta_w; the owner steps on it when it arrives, from whatever its own
parameters have become by then:

              loss of an update                       step
    A2C       of the windows of all environments      theta <- RMSProp(theta, clip(grad loss(theta)))
    A3C       of one worker's windows, summed         theta <- RMSProp(theta, clip(grad loss(theta_w)))
                                                      then theta_w <- theta, and the worker plays on

The squares that RMSProp divides by are the owner's: one set, which all workers' gradients go into (the paper's "shared
RMSProp"). The steps that others made between a worker's fetch and the arrival of its gradient are its *staleness*
(``train/staleness``): with W workers that take turns it is W - 1.

The hook is `reverie.agents.learner.Learner.reduce`, between a backward pass and its step: a worker's learner keeps its
gradients for the owner there and steps not at all. Losses, returns and networks are A2C's, feed-forward or with an LSTM
whose state is the worker's own and runs on from window to window, across a change of its parameters too.

Source: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016 (arXiv 1602.01783), section 4
("Optimization"), algorithm S3.

Differs from the paper in: the first row of a window was acted with the parameters that the worker had before it fetched
theta_w, as in A2C; steps are made one at a time, in order of arrival, where the paper's threads write into
shared memory without locks; workers are processes, or take turns in one; a worker's window runs across the end of an
episode, where the paper's gradient ends with it; RMSProp's squares begin at one, as in TensorFlow (the paper does not
say); gradients are clipped by their global norm, at a value that the paper tuned and does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from reverie.agents.a2c import A2C, A2CConfig, A2CLearner
from reverie.data.sequences import Batch
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig


@dataclass(frozen=True)
class A3CConfig(A2CConfig):
    """Settings. Defaults are the paper's on Atari, where it has them; see preset ``atari``.

    workers: that take turns in one process, each with an equal share of ``env.num_envs``; with ``ray.actors`` every
        actor is a worker in their place.
    """

    average: Literal["mean", "sum"] = "sum"
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(channels=(16, 32), dense=256))
    workers: int = 16
    opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(kind="rmsprop-tf", lr=7e-4, eps=0.1, clip=40.0, shrink=0.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.torso.standardise:
            raise ValueError("running statistics are not shared among workers: set torso.standardise to false")


class A3CLearner(A2CLearner):
    """A2C's learner; the gradients of `gradients` are somebody else's to step on."""

    _sent: dict[str, Tensor] | None = None
    """gradients by group while somebody else is to step on them; None: this learner steps itself"""

    def reduce(self, group: str) -> bool:
        """Keep the gradients of a group to be sent, and do not step."""
        if self._sent is None:
            return True
        self._sent[group] = self.optimisers[group].take()
        return False

    def gradients(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradients of the losses of a batch, group -> float32 [parameters], not clipped; and metrics of the batch.

        Nothing is stepped, and no learner_step is counted.
        """
        sent: dict[str, Tensor] = {}
        self._sent = sent
        try:
            metrics = self.apply_update(batch).metrics
        finally:
            self._sent = None
        return sent, metrics


class A3C(A2C):
    """A2C's recipe, whose learner is a worker's or the owner's."""

    config: A3CConfig
    Config: ClassVar[type] = A3CConfig
    Learner: ClassVar[type[A3CLearner]] = A3CLearner
    asynchronous: ClassVar[bool] = True
