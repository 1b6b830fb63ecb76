"""Numbers that are not finite: found where they come in and where they are learned from, and said at once.

One infinity in an observation or a reward makes every parameter NaN a few updates later, and nothing that follows is
worth anything. What comes from environments, and what is done to them, is looked at row by row, on the host. Losses and
gradients stay on the device: the first update whose numbers are not finite is noted there, and read where metrics are
read anyway and before a checkpoint is written, so that the newest checkpoint is always one from before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reverie.agents.agent import Learner
from reverie.data.rows import OBS, Rows
from reverie.errors import UserError, notice

Mode = Literal["stop", "warn"]
"""``stop`` ends the run, ``warn`` says it once for each thing and goes on"""
ZERO = torch.zeros(())
NEVER = torch.iinfo(torch.int64).max


class Finite:
    """Watch for numbers that are not finite. id: of the environment. place: words before it, for an evaluation."""

    def __init__(self, mode: Mode = "stop", id: str = "", place: str = "") -> None:
        self.mode, self.id, self.place = mode, id, place
        self._said: set[str] = set()

    def rows(self, rows: Rows, streams: Iterable[int], steps: np.ndarray, env_steps: int) -> None:
        """Look at rows that an environment gave.

        streams: of the rows. steps: env_steps of the open episode of each stream. env_steps: of the run, until then.
        Raises UserError, with ``stop``, naming the first number that is not finite.
        """
        for name, value in rows.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                numbers = list(streams)
                at = np.argwhere(~np.isfinite(value))[0]
                stream, entry = numbers[at[0]], tuple(at[1:].tolist())
                of = f"observation {name.removeprefix(OBS)!r}" if name.startswith(OBS) else f"the {name}"
                where = f" at [{', '.join(map(str, entry))}]" if entry else ""
                self._found(
                    name,
                    f"{self._env(stream, steps[stream], env_steps)}: {of} is {value[tuple(at)]}{where} in float32",
                    "mend or clip it in the environment",
                )

    def action(self, action: np.ndarray, steps: np.ndarray, env_steps: int) -> None:
        """Look at actions [N, ...] that a policy took. Raises UserError as `rows` does."""
        if action.dtype.kind == "f" and not np.isfinite(action).all():
            stream = int(np.argwhere(~np.isfinite(action))[0][0])
            where = self._env(stream, steps[stream], env_steps)
            self._found("action", f"{where}: the policy's action is {action[stream].tolist()}", LEARNED)

    def losses(self, first: int, metrics: Mapping[str, float] | Mapping[str, Tensor]) -> None:
        """Look at the first update, counted from 1, whose losses or gradients are not finite (NEVER: none).

        metrics: means, or sums, since the last look, which say what it was. Raises UserError as `rows` does.
        """
        if first != NEVER:
            named = [name for name, value in metrics.items() if name.endswith(ENDINGS) and not math.isfinite(value)]
            what = ", ".join(named[:4]) or "a loss or a gradient"
            self._found("loss", f"{what} is not finite at learner_step {first}", LEARNED)

    def parameters(self, learner: Learner) -> None:
        """Look at all parameters of a learner; this waits for the device. Raises UserError as `rows` does."""
        named = {name: value.detach() for name, value in learner.named_parameters() if value.numel()}
        largest = [value.abs().amax() for value in named.values()]
        if largest and not torch.stack(largest).isfinite().all():
            name = next(name for name, value in named.items() if not value.isfinite().all())
            self._found("parameters", f"parameter {name} is not finite after {learner.learner_steps} updates", LEARNED)

    def _env(self, stream: int, step: int, env_steps: int) -> str:
        return f"{self.place}{self.id}, stream {stream}, {step} env_steps into its episode, {env_steps} into the run"

    def _found(self, kind: str, what: str, advice: str) -> None:
        if self.mode == "stop":
            raise UserError(f"{what}; {advice}, or go on all the same with run.nonfinite = warn")
        if kind not in self._said:
            self._said.add(kind)
            notice(f"{what}; the run goes on (run.nonfinite is warn), and this is not said again")


LEARNED = "the newest checkpoint is from before: lower the learning rate, or clip rewards and gradients"
ENDINGS = ("_loss", "_grad_norm")
"""of the metrics of an update that must be finite, see `reverie.agents.learner.Learner.apply_update`"""


class FirstBad:
    """Number of the first update, from 1, whose losses or gradients are not finite, kept on the device.

    groups: of the learner's optimisers.
    """

    def __init__(self, groups: Iterable[str]) -> None:
        self._names = [f"{group}{ending}" for group in groups for ending in ENDINGS]
        self._first: Tensor | None = None

    def add(self, metrics: Mapping[str, Tensor], learner_step: int) -> None:
        """Take in the metrics of an update; the host does not wait."""
        values = torch.stack([metrics[name].detach().float() for name in self._names if name in metrics] or [ZERO])
        # Finite numbers times 0 are 0, all others NaN, and a sum with a NaN is none.
        now = torch.where((values * 0).sum() == 0, NEVER, learner_step)
        self._first = now if self._first is None else torch.minimum(self._first, now)

    def take(self) -> int:
        """The number since the last call, NEVER if there was none; this waits for the device."""
        first, self._first = self._first, None
        return NEVER if first is None else int(first)
